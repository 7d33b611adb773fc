// What CPUID tells this guest, leaf by leaf.

#include "guests/bare/checks/registers.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/report.hpp"

namespace flatback::guests {
namespace {

// More than any leaf of the processors that this is compared on has.
constexpr std::uint32_t subleaves = 8;
constexpr std::uint32_t extended = 0x80000000;

void record(std::uint32_t leaf, std::uint32_t subleaf) {
    const CpuidResult result = cpuid(leaf, subleaf);
    Line key;
    Line text;
    (key << "registers.cpuid-").hexadecimal(leaf);
    if (subleaf != 0) key << "-" << std::uint64_t{subleaf};
    (text << "eax=").hexadecimal(result.eax);
    (text << " ebx=").hexadecimal(result.ebx);
    (text << " ecx=").hexadecimal(result.ecx);
    (text << " edx=").hexadecimal(result.edx);
    report_text(key.text(), text.text());
}

bool same(const CpuidResult& left, const CpuidResult& right) {
    return left.eax == right.eax && left.ebx == right.ebx && left.ecx == right.ecx && left.edx == right.edx;
}

void record_range(std::uint32_t first) {
    const std::uint32_t last = cpuid(first).eax;
    for (std::uint32_t leaf = first; leaf <= last && leaf - first < 0x100; ++leaf) {
        record(leaf, 0);
        for (std::uint32_t subleaf = 1; subleaf < subleaves; ++subleaf) {
            if (!same(cpuid(leaf, subleaf), cpuid(leaf, 0))) record(leaf, subleaf);
        }
    }
}

}  // namespace

void record_cpuid() {
    record_range(0);
    record_range(extended);
}

}  // namespace flatback::guests
