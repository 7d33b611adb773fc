#include "guests/bare/l1/capabilities.hpp"

#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "interface/information_leaves.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint32_t msr_basic = 0x480;
constexpr std::uint32_t msr_pin = 0x481;
constexpr std::uint32_t msr_primary = 0x482;
constexpr std::uint32_t msr_exit = 0x483;
constexpr std::uint32_t msr_entry = 0x484;
constexpr std::uint32_t msr_misc = 0x485;
constexpr std::uint32_t msr_cr0_fixed0 = 0x486;
constexpr std::uint32_t msr_cr0_fixed1 = 0x487;
constexpr std::uint32_t msr_cr4_fixed0 = 0x488;
constexpr std::uint32_t msr_cr4_fixed1 = 0x489;
constexpr std::uint32_t msr_secondary = 0x48B;
constexpr std::uint32_t msr_ept_vpid = 0x48C;
constexpr std::uint32_t msr_true_pin = 0x48D;

bool told_of_bochs = false;

vmx::ControlCapability allowed(std::uint32_t msr) {
    return vmx::ControlCapability::from_msr(read_msr(msr));
}

}  // namespace

constinit Capabilities capabilities{};

Capabilities read_capabilities() {
    Capabilities result{};
    result.basic = read_msr(msr_basic);
    result.misc = read_msr(msr_misc);
    result.cr0_fixed0 = read_msr(msr_cr0_fixed0);
    result.cr0_fixed1 = read_msr(msr_cr0_fixed1);
    result.cr4_fixed0 = read_msr(msr_cr4_fixed0);
    result.cr4_fixed1 = read_msr(msr_cr4_fixed1);
    // Bit 55: the TRUE MSRs exist, in the same order as the older ones.
    const bool has_true_msrs = (result.basic >> 55 & 1) != 0;
    const std::uint32_t first = has_true_msrs ? msr_true_pin : msr_pin;
    result.pin = allowed(first);
    result.primary = allowed(first + (msr_primary - msr_pin));
    result.exit = allowed(first + (msr_exit - msr_pin));
    result.entry = allowed(first + (msr_entry - msr_pin));
    if (result.primary.may_set(primary::activate_secondary_controls)) {
        result.secondary = allowed(msr_secondary);
        if (result.secondary.may_set(secondary::enable_ept) ||
            result.secondary.may_set(secondary::enable_vpid)) {
            result.ept_vpid = read_msr(msr_ept_vpid);
        }
    }
    return result;
}

bool under_flatback() {
    const CpuidResult leaf = cpuid(interface::information_leaf);
    return leaf.ebx == interface::signature_ebx && leaf.ecx == interface::signature_ecx &&
           leaf.edx == interface::signature_edx;
}

bool under_a_hypervisor() {
    return (cpuid(1).ecx >> 31 & 1) != 0;
}

void tell_of_bochs() {
    told_of_bochs = true;
}

bool beneath_is_bochs() {
    if (told_of_bochs) return true;
    // CPUID tells the model that Bochs emulates, and no more. Its debug port answers with its own number.
    std::uint8_t answer;
    asm volatile("inb $0xE9, %0" : "=a"(answer));
    return answer == 0xE9;
}

bool directly_on_bochs() {
    return !under_a_hypervisor() && !under_flatback() && beneath_is_bochs();
}

}  // namespace flatback::guests
