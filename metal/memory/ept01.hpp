// The EPT of L1: guest-physical is host-physical, except for L0's own region.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "metal/ground/memory_map.hpp"
#include "metal/ground/processor.hpp"
#include "metal/memory/memory_types.hpp"
#include "vmx/ept.hpp"
#include "x86/address.hpp"
#include "x86/msr.hpp"

namespace flatback::metal {

class PagePool;

struct HostMapping {
    x86::Hpa address;                                           // of the byte asked for
    unsigned page_shift = 12;                                   // of the leaf: 12, 21 or 30
    x86::MemoryType memory_type = x86::MemoryType::write_back;  // of the leaf
    bool is_hole = false;                                       // a page of ones stands here, read-only
};

// Identity map of all physical addresses that the processor has (SDM 3C 29.3.2: 48 bits, or 52 with five
// levels) with the largest pages whose bytes share one memory type of the MTRRs. The first 512 GB are there
// from the beginning; what lies above, devices' registers on most machines, is filled where it is first
// touched. L0's region, and a page that L0 takes away otherwise, are holes: mapped to a page of ones,
// read-only (metal/l0/hole_writes.hpp).
class Ept01 final {
public:
    // l0_region: 2 MB-aligned, below 512 GB. Panics if the pool has no pages for the tables (some dozen,
    // unless the MTRRs are very mixed).
    Ept01(PagePool& pages, const MemoryTypes& types, PhysicalRange l0_region, const Processor& processor);
    Ept01(const Ept01&) = delete;
    Ept01& operator=(const Ept01&) = delete;

    // The EPTP for a VMCS: WB, 4 or 5 levels, accessed and dirty flags where the processor has them.
    [[nodiscard]] vmx::Eptp pointer() const;
    // Where an address of L1's leads, as the hardware would walk once it was touched; absent from size() on,
    // and where the caller of leaf_of_4k took the page away. page_shift: of the page as it was before
    // leaf_of_4k split it.
    [[nodiscard]] std::optional<HostMapping> lookup(x86::Gpa<x86::L1> address) const;

    enum class Touched : std::uint8_t {
        filled,          // the processor finds it now
        filled_instead,  // and what was filled earlier is given up: the caller owes the INVEPT of pointer()
        outside,         // nothing is to be filled there: from size() on, or in the first 512 GB
    };
    // For an EPT violation under this EPT: fills the GB around the address. The tables for it are a fixed
    // number; where they are used up, all that was filled so far is given up, to be filled again at its next
    // touch.
    [[nodiscard]] Touched touch(std::uint64_t address);

    // Whether writes to holes are let through, to the pages of ones that stand there, which are filled with
    // ones again when they are not any longer: then the caller owes the INVEPT. Closed at first.
    void open_holes(bool open);
    void refill_holes();
    // What stands where EPT01 has nothing.
    [[nodiscard]] x86::Hpa hole_page() const { return scratch_; }
    // Makes an entry of leaf_of_4k a hole, with a page of ones of its own; the one that was made so before
    // must be none any longer. The caller owes the INVEPT.
    void make_hole(std::uint64_t& leaf);

    enum class Use : std::uint8_t {
        to_change,  // lookup() goes by the 4 KB entries from then on
        to_watch,  // its flags are read and cleared, the mapping stays: lookup() goes on to tell of the large
                   // page
    };
    // The entry of the 4 KB page, for a change by the caller (who owes the INVEPT); larger pages on the way
    // are split first. Null if the address lies in L0's region or above the first 512 GB, or if no page is
    // left for a table.
    [[nodiscard]] std::uint64_t* leaf_of_4k(x86::Gpa<x86::L1> address, Use use = Use::to_change);
    // The same, but null where it is not split to 4 KB.
    [[nodiscard]] std::uint64_t* found_leaf_of_4k(x86::Gpa<x86::L1> address) const;
    [[nodiscard]] bool sets_dirty_flags() const { return accessed_dirty_; }
    // The end of the guest-physical addresses that are mapped, or will be when they are touched.
    [[nodiscard]] std::uint64_t size() const { return size_; }

private:
    // In an entry that refers to a table, a bit that the processor ignores: the table is a large page in
    // pieces, all alike.
    static constexpr std::uint64_t split_mark = 1ULL << 52;
    // What one entry of an EPT PML4 maps; the first is filled for good.
    static constexpr std::uint64_t permanent_size = 1ULL << 39;
    static constexpr std::size_t most_touched_tables = 64;

    [[nodiscard]] std::uint64_t* new_table();
    std::uint64_t* child_table(std::uint64_t& entry);
    void fill(std::uint64_t* table, unsigned level, std::uint64_t start);
    [[nodiscard]] std::uint64_t* spare_table(std::uint64_t& entry);
    [[nodiscard]] bool fill_touched(std::uint64_t address);
    void fill_touched_table(std::uint64_t* table, unsigned level, std::uint64_t start);
    void give_up_touched();
    [[nodiscard]] HostMapping untouched(std::uint64_t address) const;
    [[nodiscard]] bool split(std::uint64_t& entry, unsigned level);

    PagePool& pages_;
    MemoryTypes types_;
    PhysicalRange l0_region_;
    unsigned levels_;        // 4 or 5
    unsigned largest_leaf_;  // the level of the largest page: 2 or 3
    bool accessed_dirty_;
    std::uint64_t size_;
    std::uint64_t* root_;  // the EPT PML5 or PML4
    std::uint64_t* pml4_;  // of the lowest addresses
    std::array<std::uint64_t*, most_touched_tables> touched_tables_{};
    std::size_t touched_tables_used_ = 0;
    std::uint64_t* hole_table_ =
        nullptr;  // one page table for every 2 MB of L0's region, all of the scratch page
    x86::Hpa scratch_;
    x86::Hpa other_hole_page_;
    std::uint64_t* other_hole_ = nullptr;
};

}  // namespace flatback::metal
