#include "machine/price/processor_costs.hpp"

#include <algorithm>
#include <array>

namespace flatback::machine::price {

namespace {

// No publication was found that gives the bare cost for one of the processors here. The two that were found
// bound it: KVM's fastest exit, whose software is subtracted, and what was measured on an older processor.
constexpr Cost world_switch = {
    .cycles = {700, 2000},
    .basis = Basis::derived,
    .source =
        "low: 1,181 cycles for KVM's VMCALL (Linux commit b7ffc44d5b2e, \"x86/kvm/vmx: Defer TR reload "
        "after VM exit\", 2017, processor not named) less about 950 instructions of KVM's own at two a "
        "cycle; high: 2,000 cycles direct cost on a Xeon X5570 (Landau et al., \"SplitX\", WIOV 2011)"};

constexpr Cost flush_instruction = {
    .cycles = {100, 1000},
    .basis = Basis::assumed,
    .source =
        "no measurement of INVVPID was found; INVPCID is called considerably slower than INVLPG "
        "(N. Amit, RFC v2 of deferred TLB flushes with PTI, linux-kernel, 2019: mail-archive.com, "
        "msg2086904)"};

constexpr std::array<ProcessorCosts, 3> costs = {{
    {.name = "haswell",
     .world_switch = world_switch,
     .flush_instruction = flush_instruction,
     .page_walk_reference = {.cycles = {12, 34},
                             .basis = Basis::derived,
                             .source =
                                 "paging structures in the second- or last-level cache: 12 and 26 to 34 "
                                 "cycles, measured on Haswell's predecessor (7-cpu.com, Ivy Bridge, "
                                 "i7-3770)"}},
    {.name = "skylake-x",
     .world_switch = world_switch,
     .flush_instruction = flush_instruction,
     .page_walk_reference = {.cycles = {11, 77},
                             .basis = Basis::published,
                             .source =
                                 "paging structures in the second- or last-level cache: 11 to 13 and 77 "
                                 "cycles (AnandTech, \"The Intel Skylake-X Review\", 2017, article "
                                 "11550, page 4)"}},
    {.name = "ice-lake",
     .world_switch = world_switch,
     .flush_instruction = flush_instruction,
     .page_walk_reference = {.cycles = {11, 77},
                             .basis = Basis::assumed,
                             .source = "paging structures in the second- or last-level cache: taken to cost "
                                       "what they do on Skylake-X"}},
}};

}  // namespace

std::string_view name_of(Basis basis) {
    switch (basis) {
        case Basis::published:
            return "published";
        case Basis::derived:
            return "derived";
        case Basis::assumed:
            return "assumed";
    }
    return {};
}

std::span<const ProcessorCosts> known_costs() {
    return costs;
}

const ProcessorCosts* find_costs(std::string_view name) {
    const auto found = std::ranges::find(costs, name, &ProcessorCosts::name);
    return found == costs.end() ? nullptr : &*found;
}

}  // namespace flatback::machine::price
