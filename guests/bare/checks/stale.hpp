// Translations that an L2 has used, and that are then changed beneath it: what a processor with tags may keep
// until it is told otherwise, and must not keep any longer. Each probe plants one, changes it, does what the
// SDM says makes it go, and lets L2 read: the old value there is a stale translation. SDM 3C 29.4.3.
#pragma once

#include <cstdint>
#include <string_view>

#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2.hpp"
#include "guests/bare/l1/linear_tables.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {

constexpr std::uint64_t old_word = 0x01D'01D0;
constexpr std::uint64_t new_word = 0x4E3'4E30;

// A page with the word at its beginning.
Page* page_with(std::uint64_t word);

// Enters L2, which reads at free_window (or where `address` says), and expects what it finds.
void expect_word(Check& check, L2& l2, std::uint64_t want, std::uint64_t address = free_window);

// An L2 that walks page tables of its own, with EPT (identity) or without; VPID 0: "enable VPID" clear.
VmcsPlan paged_plan(std::uint64_t root, std::uint16_t vpid, bool with_ept);

// The translation of free_window in an L2's own page tables.
class PlantedLinear final {
public:
    PlantedLinear(bool with_ept, std::uint16_t vpid);

    // The entry leads to the old word, nothing is cached, and L2 has read it (under each VPID and EPTP that
    // the probe has used before, it may be cached again: read there too).
    void plant(Check& check, std::uint64_t bits = 0);
    // The entry leads to the new word. Nothing is told to the processor.
    void change();

    L2& l2() { return l2_; }
    LinearTables& tables() { return tables_; }
    bool with_ept() const { return with_ept_; }
    std::uint64_t old_entry() const { return physical(old_) | 3; }
    std::uint64_t new_entry() const { return physical(new_) | 3; }

private:
    bool with_ept_;
    LinearTables tables_;
    Page* old_;
    Page* new_;
    std::uint64_t bits_ = 0;
    L2 l2_;
};

// The translation of free_window in an EPT12.
class PlantedPhysical final {
public:
    PlantedPhysical();

    void plant(Check& check);
    void change(std::uint64_t rights = ept::all_rights);

    L2& l2() { return l2_; }
    Ept12& hierarchy() { return hierarchy_; }
    std::uint64_t pointer() const { return hierarchy_.pointer(); }
    Page* old_page() const { return old_; }
    Page* new_page() const { return new_; }

private:
    Ept12 hierarchy_;
    Page* old_;
    Page* new_;
    L2 l2_;
};

// An entry that fails: on a control (VMfail) or on the guest state (exit with reason 33).
void fail_an_entry(Check& check, L2& l2, bool on_controls);

// VMXOFF and VMXON; the L2 is cleared before, and current again.
void leave_and_enter_vmx_operation(Check& check, L2& l2);

}  // namespace flatback::guests
