// Follows a trace: who runs, under which tags and by which structures, and what is invalidated.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "watch/tagged_tlbs.hpp"
#include "watch/trace_line.hpp"

namespace flatback::watch {

enum class Level : std::uint8_t { l0, l1, l2 };
inline constexpr std::array<std::string_view, 3> level_names{"l0", "l1", "l2"};

/// What was counted of one level, or of all.
struct LevelCounts {
    std::uint64_t instructions = 0;
    std::uint64_t entries = 0;  // by VM entry; of L0: VM exits
    std::uint64_t mov_to_cr3 = 0;
    std::uint64_t flushes = 0;  // by its own MOVs to CR3 and CR4 and its INVPCIDs: of all, or of a PCID
    machine::TlbCounters tlb{};

    friend LevelCounts operator-(const LevelCounts& a, const LevelCounts& b) {
        return {a.instructions - b.instructions, a.entries - b.entries, a.mov_to_cr3 - b.mov_to_cr3,
                a.flushes - b.flushes, a.tlb - b.tlb};
    }
};

/// What was counted of one window, behind its warming up.
struct WindowCounts {
    std::array<LevelCounts, 3> levels{};
    std::uint64_t ticks = 0;
};

struct Counts {
    std::array<LevelCounts, 3> levels{};
    std::uint64_t windows = 0;       // that came to be counted
    std::uint64_t instructions = 0;  // of the windows, what was not counted among them
    std::uint64_t stale = 0;
    std::uint64_t unexplained = 0;
    std::uint64_t unknown_context =
        0;  // accesses in a paging mode that is not modelled, or before the first entry
    // Hardware operations, all levels.
    std::uint64_t invvpid = 0;
    std::uint64_t invept = 0;
    std::uint64_t invlpg = 0;
    std::uint64_t invpcid = 0;

    [[nodiscard]] LevelCounts& of(Level level) { return levels[static_cast<std::size_t>(level)]; }
    [[nodiscard]] const LevelCounts& of(Level level) const { return levels[static_cast<std::size_t>(level)]; }
};

class Follower {
public:
    struct Options {
        /// The geometry of the TLB that counts misses.
        const machine::TlbGeometry* geometry = nullptr;
        /// The region of the VMCS by which L0 runs L1; without it, a VMCS with VPID 1 is.
        std::optional<std::uint64_t> vmcs01{};
        /// Host-physical address of a quadword in which the guest counts its steps; without it, its progress
        /// is not known.
        std::optional<std::uint64_t> progress{};
        /// Of each window, so many L2 entries are for warming up: misses are counted behind them.
        std::uint64_t warming_l2_entries = 2;
        /// Not 0: so many instructions are, from the first entry on, in their place; of a window that ends
        /// before, the L2 entries.
        std::uint64_t warming_instructions = 0;
    };

    explicit Follower(const Options& options);

    void take(const TraceLine& line);
    /// The type of the next INVVPID or INVEPT that takes effect, where somebody knows it: the trace does not
    /// show it.
    void know_type(std::uint8_t type) { known_type_ = type; }
    /// What comes next is of another window: nothing that was known holds.
    WindowCounts end_window();

    /// How many instructions of this window have been counted behind its warming up.
    [[nodiscard]] std::uint64_t counted_behind_warming() const;

    [[nodiscard]] const Counts& counts();
    [[nodiscard]] const TaggedTlbs& tlbs() const { return tlbs_; }

private:
    /// What a VM entry has read of the VMCS, or the last one read.
    struct VmcsView {
        std::uint64_t region = 0;
        std::uint64_t vpid = 0;
        std::uint64_t ept_pointer = 0;
        std::uint64_t primary_controls = 0;
        std::uint64_t secondary_controls = 0;
        std::uint64_t entry_controls = 0;
        std::uint64_t guest_cr0 = 0;
        std::uint64_t guest_cr3 = 0;
        std::uint64_t guest_cr4 = 0;
        std::uint64_t host_cr0 = 0;
        std::uint64_t host_cr3 = 0;
        std::uint64_t host_cr4 = 0;
        bool guest_read = false;
    };
    /// An instruction that was printed and may not have taken effect yet.
    struct Pending {
        Operation operation = Operation::none;
        bool has_descriptor = false;
        bool failed = false;
        bool keeps_translations = false;  // MOV to CR3 with bit 63
        bool accessed = false;            // of a hidden one: it has read or written memory
        std::uint64_t descriptor_low = 0;
        std::uint64_t descriptor_high = 0;
    };
    struct Exit {
        bool seen = false;
        std::uint64_t reason = 0;
        std::uint64_t qualification = 0;
        std::uint64_t guest_linear = 0;
        std::uint64_t guest_cr3 = 0;
        bool has_cr3 = false;
    };
    /// The EPT walk that was printed last, to know the guest-physical address of a table by it.
    struct EptWay {
        std::uint64_t guest_physical = 0;
        std::uint64_t host_page = 0;
        unsigned shift = 0;  // of the page; 0: not at its end
    };

    void take_instruction(const TracedInstruction& instruction);
    void note_bit_63(std::string_view text);
    void take_access(const TracedAccess& access);
    void take_vmcs(const TracedAccess& access);
    void take_structure(const TracedAccess& access);
    /// What the last instruction does has been done before what is printed now.
    void settle();
    void complete_entry();
    void enter();
    void leave();
    void finish_operation();
    [[nodiscard]] static machine::Invalidation invvpid(std::optional<std::uint8_t> type,
                                                       const Pending& pending);
    void use_guest();
    void use_host();
    void use_root(std::uint64_t cr3);
    void set_level(Level level);
    void begin_counting_when_warm();
    void count_until_here();
    void count_flush();
    [[nodiscard]] std::uint16_t pcid_of(std::uint64_t root);
    [[nodiscard]] bool usable() const { return known_ && modelled_; }

    Options options_;
    TaggedTlbs tlbs_;
    Counts counts_;

    bool known_ = false;     // an entry has been seen
    bool modelled_ = false;  // the current paging mode is
    bool in_guest_ = false;
    bool counting_ = false;
    bool warm_ = false;  // it began to count, and not only in case that the window ends soon
    std::uint64_t l2_entries_of_window_ = 0;
    std::uint64_t instructions_of_window_ = 0;  // since it is known who runs
    std::uint64_t tick_ = 0;
    std::uint64_t counting_since_ = 0;                   // the tick
    std::array<LevelCounts, 3> counted_at_its_begin_{};  // of the window
    Level level_ = Level::l0;
    machine::TranslationContext context_{};
    VmcsView vmcs_{};
    bool entering_ = false;
    Exit exit_{};
    Pending pending_{};
    std::optional<std::uint8_t> known_type_{};
    bool root_awaited_ = false;
    bool flush_awaited_ = false;  // of the root's PCID
    EptWay ept_way_{};
    std::unordered_map<std::uint64_t, std::uint16_t> pcids_;  // by root
    machine::TlbCounters counted_until_{};
    std::uint64_t bit_63_set_at_ = 0;  // the number of the instruction that did; 0: none
    std::array<char, 4> bit_63_register_{};
    std::uint64_t instruction_number_ = 0;
};

}  // namespace flatback::watch
