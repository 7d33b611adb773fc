// RDMSR and WRMSR of L2, with MSR bitmaps and without. SDM 3C 25.6.9.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_read_msr[];
extern char l2_write_msr[];
}

asm(R"(
.pushsection .text
.globl l2_read_msr, l2_write_msr
l2_read_msr:
    rdmsr
    vmcall
l2_write_msr:
    wrmsr
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint32_t msr_sysenter_cs = 0x174;
constexpr std::uint32_t msr_lstar = 0xC0000082;

class MsrBitmaps final {
public:
    std::uint64_t address() const { return physical(bytes_); }

    void intercept(std::uint32_t msr, bool write, bool exits) {
        const std::uint32_t offset =
            (msr >= 0xC0000000 ? 1024U : 0U) + (write ? 2048U : 0U) + (msr & 0x1FFF) / 8;
        const auto bit = static_cast<std::uint8_t>(1U << (msr % 8));
        bytes_[offset] = static_cast<std::uint8_t>(exits ? bytes_[offset] | bit : bytes_[offset] & ~bit);
    }

private:
    std::uint8_t* bytes_ = reinterpret_cast<std::uint8_t*>(allocate_page());
};

VmcsPlan plan_with(const MsrBitmaps& bitmaps) {
    VmcsPlan plan = usual_plan(0, usual_ept().pointer());
    plan.primary |= primary::use_msr_bitmaps;
    plan.msr_bitmaps = bitmaps.address();
    return plan;
}

void start(L2& l2, const char* program, std::uint32_t msr) {
    write(field::guest_rip, physical(program));
    l2.registers.rcx = msr;
}

void check_without_bitmaps() {
    const RuleScope rule{{"3C 26.1.3", "without MSR bitmaps every RDMSR and WRMSR exits"}};
    L2 l2{usual_plan(0, usual_ept().pointer())};
    Check check{"without-msr-bitmaps-every-rdmsr-and-wrmsr-exits"};
    for (const std::uint32_t msr : {msr_sysenter_cs, msr_lstar, 0x10U, 0x1234567U}) {
        start(l2, l2_read_msr, msr);
        check.runs_to(l2, reason::rdmsr);
        check.equal("length", read(field::vm_exit_instruction_length), 2);
        check.equal("RCX", l2.registers.rcx, msr);
        start(l2, l2_write_msr, msr);
        l2.registers.rax = 0xAAAA;
        l2.registers.rdx = 0x5555;
        check.runs_to(l2, reason::wrmsr);
        check.equal("RAX", l2.registers.rax, 0xAAAA);
        check.equal("RDX", l2.registers.rdx, 0x5555);
    }
}

void check_bitmaps() {
    const RuleScope rule{{"3C 25.6.9", "with MSR bitmaps the bit of the MSR and direction decides"}};
    MsrBitmaps bitmaps;
    L2 l2{plan_with(bitmaps)};
    const std::uint64_t lstar = read_msr(msr_lstar);
    {
        Check check{"with-empty-msr-bitmaps-l2-reads-and-writes-its-own-msrs-without-an-exit"};
        start(l2, l2_write_msr, msr_lstar);
        l2.registers.rax = 0x9ABCDEF0;
        l2.registers.rdx = 0x00001234;
        check.runs_to(l2, reason::vmcall);
        start(l2, l2_read_msr, msr_lstar);
        check.runs_to(l2, reason::vmcall);
        check.equal("IA32_LSTAR, as L2 reads it", l2.registers.rax | l2.registers.rdx << 32, 0x1234'9ABCDEF0);
        // No VMCS field holds this MSR: what L2 wrote is there after the exit.
        check.equal("IA32_LSTAR, as L1 reads it", read_msr(msr_lstar), 0x1234'9ABCDEF0);
        start(l2, l2_write_msr, msr_sysenter_cs);
        l2.registers.rax = 0x77;
        l2.registers.rdx = 0;
        check.runs_to(l2, reason::vmcall);
        // This one is guest state: saved in the VMCS, and the host's is loaded.
        check.equal("guest IA32_SYSENTER_CS", read(field::guest_ia32_sysenter_cs), 0x77);
        check.equal("host IA32_SYSENTER_CS", read_msr(msr_sysenter_cs), 0);
    }
    write_msr(msr_lstar, lstar);
    {
        Check check{"bits-of-the-msr-bitmaps-are-told-apart-by-range-and-direction"};
        bitmaps.intercept(msr_lstar, false, true);
        start(l2, l2_read_msr, msr_lstar);
        check.runs_to(l2, reason::rdmsr);
        start(l2, l2_write_msr, msr_lstar);
        l2.registers.rax = l2.registers.rdx = 0;
        check.runs_to(l2, reason::vmcall);
        bitmaps.intercept(msr_sysenter_cs, true, true);
        start(l2, l2_write_msr, msr_sysenter_cs);
        check.runs_to(l2, reason::wrmsr);
        start(l2, l2_read_msr, msr_sysenter_cs);
        check.runs_to(l2, reason::vmcall);
        bitmaps.intercept(msr_lstar, false, false);
        start(l2, l2_read_msr, msr_lstar);
        check.runs_to(l2, reason::vmcall);
    }
    write_msr(msr_lstar, lstar);
    Check check{"msrs-outside-the-bitmaps-ranges-exit"};
    for (const std::uint32_t msr : {0x2000U, 0xBFFFFFFFU, 0xC0002000U, 0x40000000U}) {
        start(l2, l2_read_msr, msr);
        check.runs_to(l2, reason::rdmsr);
        start(l2, l2_write_msr, msr);
        check.runs_to(l2, reason::wrmsr);
    }
}

// An L1 cannot hand L2 what it does not have: MSRs that L0 keeps for itself stay L0's.
void check_l0_keeps_its_msrs() {
    const RuleScope rule{{"3C 26.3", "RDMSR without an exit returns the guest's MSR"}};
    MsrBitmaps bitmaps;
    L2 l2{plan_with(bitmaps)};
    constexpr std::uint32_t msr_vmx_basic = 0x480;
    constexpr std::uint32_t msr_apic_base = 0x1B;
    constexpr std::uint32_t msr_ept_vpid = 0x48C;
    const bool has_ept_vpid =
        ((capabilities.secondary.allowed1 & (secondary::enable_ept | secondary::enable_vpid)) != 0);
    Check check{"msrs-read-through-empty-bitmaps-show-l2-what-l1-sees"};
    for (const std::uint32_t msr :
         {msr_vmx_basic, msr_apic_base, msr_feature_control, 0x48BU, msr_ept_vpid}) {
        if (msr == msr_ept_vpid && !has_ept_vpid) continue;
        start(l2, l2_read_msr, msr);
        check.runs_to(l2, reason::vmcall);
        check.equal("value", (l2.registers.rax & 0xFFFFFFFF) | l2.registers.rdx << 32, read_msr(msr));
    }
}

}  // namespace

void check_msr_exits() {
    const PageScope scope;
    check_without_bitmaps();
    check_bitmaps();
    check_l0_keeps_its_msrs();
}

}  // namespace flatback::guests
