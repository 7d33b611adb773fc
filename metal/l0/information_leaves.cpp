// What L1 may know of Flatback: CPUID leaves 4000_0000H to 4000_0005H.
#include "interface/information_leaves.hpp"

#include <optional>

#include "metal/ground/version.hpp"
#include "metal/l0/l1_exits.hpp"
#include "metal/l0/recorder.hpp"
#include "metal/l0/second_vm.hpp"
#include "metal/processors/given_processors.hpp"

namespace flatback::metal {

namespace {

using interface::Counter;

template <typename V>
std::optional<std::uint64_t> counter(V& vcpu, std::uint32_t number) {
    const nested::Counters& counters = vcpu.counters();
    const auto statistics = vcpu.statistics();
    switch (Counter{number}) {
        case Counter::l0_exits:
            return counters.exits();
        case Counter::l2_entries:
            return counters.l2_entries;
        case Counter::l2_reentries:
            return counters.l2_reentries;
        case Counter::exits_from_l1:
            return counters.exits() - counters.exits_from_l2;
        case Counter::exits_from_l2:
            return counters.exits_from_l2;
        case Counter::exits_reflected_to_l1:
            return counters.exits_reflected;
        case Counter::exits_of_l2_handled:
            return counters.exits_from_l2 - counters.exits_reflected;
        case Counter::vmread_exits:
            return counters.vmread_exits;
        case Counter::vmwrite_exits:
            return counters.vmwrite_exits;
        case Counter::invvpid_address:
            return counters.invvpid[0];
        case Counter::invvpid_single:
            return counters.invvpid[1];
        case Counter::invvpid_all:
            return counters.invvpid[2];
        case Counter::invvpid_single_retaining_globals:
            return counters.invvpid[3];
        case Counter::invept_single:
            return counters.invept[1];
        case Counter::invept_all:
            return counters.invept[2];
        case Counter::tag_hits:
            return statistics.tags.hits;
        case Counter::tag_misses:
            return statistics.tags.misses;
        case Counter::tag_evictions:
            return statistics.tags.evictions;
        case Counter::l2_tag_flushes:
            return counters.l2_tag_flushes;
        case Counter::l1_tag_flushes:
            return counters.l1_tag_flushes;
        case Counter::hardware_invepts:
            return statistics.hardware_invepts;
        case Counter::ept02_leaves_filled:
            return statistics.ept02_leaves_filled;
        case Counter::ept02_pages:
            return statistics.ept02_pages;
        case Counter::vmreads_by_l0:
            return counters.vmreads;
        case Counter::vmwrites_by_l0:
            return counters.vmwrites;
        case Counter::vmptrlds_by_l0:
            return counters.vmptrlds;
        case Counter::fields_learned:
            return counters.fields_learned;
        case Counter::fields_forgotten:
            return counters.fields_forgotten;
        default:
            return std::nullopt;
    }
}

template <typename V>
std::optional<std::uint64_t> count_of(V& vcpu, std::uint32_t leaf, std::uint32_t index) {
    if ((leaf & 0xff) == (interface::counter_leaf & 0xff)) return counter(vcpu, index);
    if (index >= nested::exit_reason_count) return std::nullopt;
    const nested::Counters& counters = vcpu.counters();
    return (leaf & 0xff) == (interface::handled_leaf & 0xff) ? counters.handled_by_l0[index]
                                                             : counters.reflected[index];
}

// The upper half of ECX says whose. Others go on counting meanwhile: each word is read whole, and what is
// made of several may be of different moments.
std::optional<std::uint64_t> count_of_processors(Cpu& own, std::uint32_t leaf, std::uint32_t what) {
    const std::uint32_t whose = what >> 16;
    const std::uint32_t index = what & 0xffff;
    if (whose == interface::of_this_processor) return count_of(own.vcpu, leaf, index);
    std::optional<std::uint64_t> sum;
    for (const ProcessorLocal* const each : given_processors()) {
        const bool asked =
            whose == interface::of_all_processors || whose == interface::of_processor(each->number);
        if (!asked || each->cpu == nullptr) continue;
        const auto value = count_of(each->cpu->vcpu, leaf, index);
        if (!value) return std::nullopt;
        sum = sum.value_or(0) + *value;
    }
    return sum;
}

host::CpuidRegisters answer_count(std::optional<std::uint64_t> value) {
    return {value.value_or(0) & 0xffffffff, value ? 1U : 0U, 0, value.value_or(0) >> 32};
}

template <typename V>
host::CpuidRegisters leaf_of(V& vcpu, NestedVpid mode, std::uint32_t leaf, std::uint32_t index) {
    const auto answer = [](std::uint64_t eax, std::uint64_t ebx, std::uint64_t ecx, std::uint64_t edx) {
        return host::CpuidRegisters{eax & 0xffffffff, ebx & 0xffffffff, ecx & 0xffffffff, edx & 0xffffffff};
    };
    switch (interface::information_leaf | (leaf & 0xff)) {
        case interface::information_leaf:
            return answer(trace::leaf, interface::signature_ebx, interface::signature_ecx,
                          interface::signature_edx);
        case interface::identity_leaf:
            return answer(version_number, static_cast<std::uint32_t>(mode), vcpu.shadows_vmcs() ? 1 : 0,
                          vcpu.tag_capacity());
        case interface::counter_leaf:
        case interface::handled_leaf:
        case interface::reflected_leaf:
            return answer_count(count_of(vcpu, leaf, index));
        case trace::leaf: {
            const auto [eax, ebx, ecx, edx] = recorder::answer(index);
            return answer(eax, ebx, ecx, edx);
        }
        default:
            return answer(0, 0, 0, 0);
    }
}

}  // namespace

host::CpuidRegisters information_leaf(Cpu& cpu, std::uint32_t leaf, std::uint32_t index) {
    const std::uint32_t which = interface::information_leaf | (leaf & 0xff);
    if (which >= interface::counter_leaf && which <= interface::reflected_leaf)
        return answer_count(count_of_processors(cpu, leaf, index));
    return leaf_of(cpu.vcpu, cpu.mode, leaf, index);
}
// Not the trace, which is the machine's.
host::CpuidRegisters information_leaf(SecondVm& vm, std::uint32_t leaf, std::uint32_t index) {
    if ((leaf & 0xff) == (trace::leaf & 0xff)) return {};
    return leaf_of(vm.vcpu, vm.mode, leaf, index);
}

}  // namespace flatback::metal
