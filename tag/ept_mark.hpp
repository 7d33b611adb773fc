// Whether a virtual CPU's EPT contexts are flushed on the CPU it runs on.
#pragma once

#include <atomic>
#include <cstdint>

#include "cpu.hpp"
#include "flush_cause.hpp"

namespace flatback::tag {

class Snapshot;

// INVVPID leaves guest-physical mappings alone (SDM 3C 29.4.3.1), so the EPT contexts have a mark of their
// own. One mark stands for a set of contexts: all the EPT02 roots of a virtual CPU, or its EPT01. The whole
// set is flushed at once, because a context that is not running now may be the next one under the same tag.
//
// Sharing: mark_stale may be called by any CPU. All else belongs to the CPU that runs the virtual CPU.
// Whoever takes a page away changes the EPT, then calls mark_stale, then makes the CPU that may be running
// the guest leave it (an interrupt will do), and only after that reuses the page.
class EptMark final {
public:
    struct Receipt {
        std::uint64_t generation;
        std::uint32_t ticket;
    };

    EptMark() = default;
    EptMark(const EptMark&) = delete;
    EptMark& operator=(const EptMark&) = delete;

    [[nodiscard]] bool valid_on(Cpu cpu) const {
        return cpu_ == cpu && valid_ == content_.load(std::memory_order_acquire);
    }
    // Where the contexts were last flushed: the only CPU whose cached translations of them may be used.
    [[nodiscard]] Cpu cpu() const { return cpu_; }
    // Why they are to be flushed on this CPU, where they are.
    [[nodiscard]] FlushCause cause_on(Cpu cpu) const {
        if (cpu_ == cpu) return FlushCause::ept_contexts_stale;
        return cpu_ == Cpu::none ? FlushCause::ept_contexts_new : FlushCause::cpu_changed;
    }

    void mark_stale() { content_.fetch_add(1, std::memory_order_acq_rel); }

    [[nodiscard]] Receipt take() { return {content_.load(std::memory_order_acquire), ++ticket_}; }
    void commit(Receipt receipt, Cpu cpu) {
        if (receipt.ticket != ticket_) return;
        cpu_ = cpu;
        valid_ = receipt.generation;
    }

private:
    friend class Snapshot;

    std::atomic<std::uint64_t> content_{1};
    std::uint64_t valid_ = 0;
    Cpu cpu_ = Cpu::none;
    std::uint32_t ticket_ = 0;
};

}  // namespace flatback::tag
