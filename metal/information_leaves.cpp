// What L1 may know of Flatback: CPUID leaves 4000_0000H to 4000_0005H.
#include <optional>

#include "metal/l1_exits.hpp"
#include "metal/recorder.hpp"
#include "metal/version.hpp"

namespace flatback::metal {

namespace {

// Their numbers are an interface: guests/ and users' own tools read them. New ones go to the end.
std::optional<std::uint64_t> counter(Cpu& cpu, std::uint32_t number) {
    const nested::Counters& counters = cpu.vcpu.counters();
    const auto statistics = cpu.vcpu.statistics();
    switch (number) {
        case 0:
            return counters.exits();
        case 1:
            return counters.l2_entries;
        case 2:
            return counters.l2_reentries;
        case 3:
            return counters.exits() - counters.exits_from_l2;
        case 4:
            return counters.exits_from_l2;
        case 5:
            return counters.exits_reflected;
        case 6:
            return counters.exits_from_l2 - counters.exits_reflected;
        case 7:
            return counters.vmread_exits;
        case 8:
            return counters.vmwrite_exits;
        case 9:
            return counters.invvpid[0];
        case 10:
            return counters.invvpid[1];
        case 11:
            return counters.invvpid[2];
        case 12:
            return counters.invvpid[3];
        case 13:
            return counters.invept[1];
        case 14:
            return counters.invept[2];
        case 15:
            return statistics.tags.hits;
        case 16:
            return statistics.tags.misses;
        case 17:
            return statistics.tags.evictions;
        case 18:
            return counters.l2_tag_flushes;
        case 19:
            return counters.l1_tag_flushes;
        case 20:
            return statistics.hardware_invepts;
        case 21:
            return statistics.ept02_leaves_filled;
        case 22:
            return statistics.ept02_pages;
        case 23:
            return counters.vmreads;
        case 24:
            return counters.vmwrites;
        case 25:
            return counters.vmptrlds;
        default:
            return std::nullopt;
    }
}

}  // namespace

host::CpuidRegisters information_leaf(Cpu& cpu, std::uint32_t leaf, std::uint32_t index) {
    const auto answer = [](std::uint64_t eax, std::uint64_t ebx, std::uint64_t ecx, std::uint64_t edx) {
        return host::CpuidRegisters{eax & 0xffffffff, ebx & 0xffffffff, ecx & 0xffffffff, edx & 0xffffffff};
    };
    const nested::Counters& counters = cpu.vcpu.counters();
    switch (leaf & 0xff) {
        case 0:
            return answer(trace::leaf, 0x74616c46, 0x6b636162, 0x74616c46);  // "Flat", "back", "Flat"
        case 1:
            return answer(version_number, static_cast<std::uint32_t>(cpu.mode),
                          cpu.vcpu.shadows_vmcs() ? 1 : 0, cpu.vcpu.tag_capacity());
        case 2: {
            const auto value = counter(cpu, index);
            return answer(value.value_or(0), value ? 1 : 0, 0, value.value_or(0) >> 32);
        }
        case 3:
        case 4: {
            if (index >= nested::exit_reason_count) return answer(0, 0, 0, 0);
            const std::uint64_t value =
                (leaf & 0xff) == 3 ? counters.handled_by_l0[index] : counters.reflected[index];
            return answer(value, 1, 0, value >> 32);
        }
        case 5: {
            const auto [eax, ebx, ecx, edx] = recorder::answer(index);
            return answer(eax, ebx, ecx, edx);
        }
        default:
            return answer(0, 0, 0, 0);
    }
}

}  // namespace flatback::metal
