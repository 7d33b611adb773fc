// Two bare L1s beside each other on one processor, each with guests of its own: the run, and what it told.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "tools/emulator/transcript.hpp"
#include "tools/ground/error.hpp"
#include "tools/stack/run_queue.hpp"

namespace flatback::tools {

// What the second VM has no devices for: interrupts, and string instructions at ports; and what asks of
// memory that is not there more than it has (docs/metal.md).
inline constexpr std::string_view second_vm_skips =
    "skip=io-exits,interrupts,nmi-times,memory,no-memory,local-apic,processors";

// first, second: the words of each. The first has the machine.
[[nodiscard]] QueuedRun two_vms_run(std::string name, std::string_view first, std::string_view second,
                                    std::chrono::seconds limit);

struct VmChecks {
    unsigned passed = 0;
    unsigned failed = 0;
    bool ended = false;      // it came to its end
    std::string first_lack;  // of the failed ones the first, and why
};

struct TwoVms {
    VmChecks vm1;
    VmChecks vm2;
    // L0's count; none: it did not tell.
    std::uint64_t switches = 0;
    std::uint64_t switch_ticks = 0;  // mean of one switch, from inside L0 to inside L0
    std::uint64_t flushes = 0;       // that L0 executed in all of them
    std::uint64_t tags_reused = 0;   // how often a VM ran under a tag that the other had before
};

[[nodiscard]] TwoVms two_vms_of(const Transcript& transcript);
// Empty where both have passed all their checks, and the processor was shared.
[[nodiscard]] std::string what_two_vms_lack(const TwoVms& run);
[[nodiscard]] std::string two_vms_text(const TwoVms& run);
[[nodiscard]] std::string two_vms_json(const TwoVms& run);

}  // namespace flatback::tools
