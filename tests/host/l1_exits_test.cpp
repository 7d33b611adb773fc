// L1's own exits, with the engine above a processor that is a table of VMCSs.
#include "host/l1_exits.hpp"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <type_traits>
#include <vector>

#include "tests/nested/engine.hpp"
#include "vmx/exit_qualification.hpp"

namespace flatback::host::l1_exits_test {
namespace {

namespace field = vmx::field;
using nested_test::FakePort;
using vmx::ExitReason;

struct ProcessorOfTests {
    static CpuidRegisters cpuid(std::uint32_t leaf, std::uint32_t subleaf) { return {leaf, subleaf, 0, 0}; }
    static CpuidRegisters hypervisor_leaf(std::uint32_t, std::uint32_t) { return {}; }
    static bool apic_enabled() { return true; }
    void set_cache_control(std::uint64_t bits) { cache_control = bits; }
    bool write_xcr0(std::uint64_t value) {
        xcr0 = value;
        return true;
    }
    void write_back_caches() { ++write_backs; }

    std::optional<std::uint64_t> cache_control;
    std::uint64_t xcr0 = 0;
    unsigned write_backs = 0;
};
static_assert(Processor<ProcessorOfTests>);

constexpr std::uint64_t rip = 0xffff'8000'0000'1000;
constexpr std::uint32_t user_data = 0xc0f3;

vmx::Capabilities hardware() {
    vmx::Capabilities all;
    all.cr0 = {.fixed0 = 0x8000'0021, .fixed1 = 0xffff'ffff};
    all.cr4 = {.fixed0 = x86::cr4::vmx_enable, .fixed1 = 0x7f'ffff};
    return all;
}

// 64-bit L1 at `rip`, before an instruction of three bytes.
class Guest {
public:
    Guest() {
        port.clear_vmcs(vmcs01);
        port.load_vmcs(vmcs01);
        put(field::guest_rip, rip);
        put(field::guest_rflags, x86::rflags::fixed_one);
        put(field::guest_cr0,
            x86::cr0::protection_enable | x86::cr0::paging | x86::cr0::extension_type | held_cr0);
        put(field::guest_cr4, x86::cr4::physical_address_extension | held_cr4);
        put(field::guest_ia32_efer, x86::efer::long_mode_enable | x86::efer::long_mode_active);
        put(field::guest_cs_access_rights, flat_code_64);
        put(field::guest_ss_access_rights, 0xc093);
        put(field::vm_exit_instruction_length, 3);
        vcpu.prepare_first_entry();
    }
    // As the processor leaves it: exit information too.
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void put(vmx::Field<W, K> what, std::type_identity_t<vmx::field_value_t<W>> value) {
        port.current_vmcs().set(what, value);
    }
    [[nodiscard]] bool exit(ExitReason reason) {
        L1 l1{vcpu, port, processor};
        return handle_l1_exit(l1, reason);
    }
    void expect_done() {
        EXPECT_EQ(vmcs.get(field::guest_rip), rip + 3);
        EXPECT_FALSE(injected().is_valid());
    }
    void expect_fault(x86::Vector vector) {
        EXPECT_EQ(vmcs.get(field::guest_rip), rip);
        EXPECT_TRUE(injected().is_valid());
        EXPECT_EQ(injected().vector(), static_cast<std::uint8_t>(vector));
        EXPECT_EQ(injected().has_error_code(), vector == x86::Vector::general_protection);
        EXPECT_NE(vmcs.get(field::guest_rflags) & x86::rflags::resume, 0U) << "SDM 3B 18.3.1.1";
    }
    [[nodiscard]] vmx::InterruptionInformation injected() const {
        return vmx::InterruptionInformation{vmcs.get(field::vm_entry_interruption_information)};
    }

    static constexpr std::uint32_t flat_code_64 = 0xa09b;
    FakePort port;
    ProcessorOfTests processor;
    nested::Capabilities promised = nested::make_capabilities(hardware(), 40, false);
    tag::VpidPool pool{0};
    x86::Hpa vmcs01 = [this] {
        const x86::Hpa page = *port.allocate_page();
        *port.page(page) = FakePort::revision;
        return page;
    }();
    nested::NestedVcpu<FakePort> vcpu{port, promised, pool, vmcs01, {.tags = tag::Policy::off}};
    nested::CurrentVmcs<FakePort> vmcs{port};
};

TEST(L1Exits, AnInstructionThatIsDoneMovesOn) {
    Guest guest;
    guest.port.registers[0] = 2;
    guest.port.registers[1] = 7;
    ASSERT_TRUE(guest.exit(ExitReason::cpuid));
    guest.expect_done();
    EXPECT_EQ(guest.port.registers[0], 2U);
    EXPECT_EQ(guest.port.registers[3], 7U);
}

// SDM 3B 18.3.1.4, 18.4.3 and 3A 6.8.3: the trap of a single step is due after the instruction, but with BTF
// not; and what blocked interrupts for one instruction is over.
TEST(L1Exits, AnInstructionThatIsDoneLeavesASingleStepDue) {
    for (const bool only_branches : {false, true}) {
        Guest guest;
        guest.put(field::guest_rflags, x86::rflags::fixed_one | x86::rflags::trap);
        guest.put(field::guest_ia32_debugctl, only_branches ? x86::debugctl::branch_single_step : 0);
        guest.put(field::guest_interruptibility_state, vmx::interruptibility::blocking_by_sti);
        ASSERT_TRUE(guest.exit(ExitReason::cpuid));
        EXPECT_EQ(guest.vmcs.get(field::guest_pending_debug_exceptions),
                  only_branches ? 0 : vmx::pending_debug::single_step);
        EXPECT_EQ(guest.vmcs.get(field::guest_interruptibility_state), 0U);
    }
}

TEST(L1Exits, AFaultLeavesNoSingleStepDue) {
    Guest guest;
    guest.put(field::guest_rflags, x86::rflags::fixed_one | x86::rflags::trap);
    ASSERT_TRUE(guest.exit(ExitReason::getsec));
    guest.expect_fault(x86::Vector::invalid_opcode);
    EXPECT_EQ(guest.vmcs.get(field::guest_pending_debug_exceptions), 0U);
}

// SDM 3A table 6-5.
TEST(L1Exits, AFaultInADeliveryIsADoubleFaultThenTheEnd) {
    Guest guest;
    guest.port.ept01_grants = false;
    const auto first =
        vmx::InterruptionInformation::make(vmx::InterruptionType::hardware_exception,
                                           static_cast<std::uint8_t>(x86::Vector::general_protection), true);
    guest.put(field::idt_vectoring_information, first.value);
    ASSERT_TRUE(guest.exit(ExitReason::ept_violation));
    EXPECT_EQ(guest.injected().vector(), static_cast<std::uint8_t>(x86::Vector::double_fault));
    guest.put(field::idt_vectoring_information, guest.injected().value);
    EXPECT_THROW(static_cast<void>(guest.exit(ExitReason::ept_violation)), nested_test::L1Shutdown);
}

TEST(L1Exits, AnEptViolationThatIsMadeGoodIsTriedAgain) {
    Guest guest;
    guest.put(field::guest_physical_address, 0x5000);
    const auto interrupt =
        vmx::InterruptionInformation::make(vmx::InterruptionType::external_interrupt, 0x40, false);
    guest.put(field::idt_vectoring_information, interrupt.value);
    ASSERT_TRUE(guest.exit(ExitReason::ept_violation));
    EXPECT_EQ(guest.vmcs.get(field::guest_rip), rip);
    EXPECT_EQ(guest.injected(), interrupt) << "the delivery begins again";
    EXPECT_EQ(guest.port.ept01_violations, std::vector<std::uint64_t>{0x5000});
}

TEST(L1Exits, MsrsAreReadAndWrittenInTwoHalves) {
    Guest guest;
    guest.port.msrs[x86::msr::ia32_lstar] = 0x1234'5678'9abc'def0;
    guest.port.registers[1] = 0xffff'ffff'0000'0000 | x86::msr::ia32_lstar;
    ASSERT_TRUE(guest.exit(ExitReason::rdmsr));
    guest.expect_done();
    EXPECT_EQ(guest.port.registers[0], 0x9abc'def0U);
    EXPECT_EQ(guest.port.registers[2], 0x1234'5678U);
    guest.port.registers[0] = 0xffff'ffff'0000'0001;
    guest.port.registers[2] = 0xffff'ffff'0000'0002;
    ASSERT_TRUE(guest.exit(ExitReason::wrmsr));
    EXPECT_EQ(guest.port.msrs[x86::msr::ia32_lstar], 0x2'0000'0001U);
    guest.port.msrs.clear();
    guest.put(field::guest_rip, rip);
    guest.port.registers[1] = 0x1fff'0000;
    ASSERT_TRUE(guest.exit(ExitReason::rdmsr));
    guest.expect_fault(x86::Vector::general_protection);
}

TEST(L1Exits, ControlRegistersAreLoaded) {
    Guest guest;
    guest.port.registers[9] = x86::cr4::physical_address_extension | x86::cr4::vmx_enable;
    guest.put(field::exit_qualification,
              vmx::ControlRegisterAccess{.control_register = 4, .general_register = 9}.encode());
    ASSERT_TRUE(guest.exit(ExitReason::control_register_access));
    guest.expect_done();
    EXPECT_EQ(guest.vmcs.get(field::cr4_read_shadow), guest.port.registers[9]);
    guest.put(field::guest_rip, rip);
    guest.port.registers[9] = 1ULL << 63;
    ASSERT_TRUE(guest.exit(ExitReason::control_register_access));
    guest.expect_fault(x86::Vector::general_protection);
    guest.put(field::exit_qualification, vmx::ControlRegisterAccess{.control_register = 8}.encode());
    EXPECT_FALSE(guest.exit(ExitReason::control_register_access)) << "the host alone knows CR8";
}

TEST(L1Exits, XsetbvAndInvdAreOfPrivilegeLevel0) {
    Guest guest;
    guest.port.registers[0] = 3;
    ASSERT_TRUE(guest.exit(ExitReason::xsetbv));
    guest.expect_done();
    EXPECT_EQ(guest.processor.xcr0, 3U);
    ASSERT_TRUE(guest.exit(ExitReason::invd));
    EXPECT_EQ(guest.processor.write_backs, 1U);
    for (const ExitReason reason : {ExitReason::xsetbv, ExitReason::invd}) {
        Guest user;
        user.port.registers[0] = 3;
        user.put(field::guest_ss_access_rights, user_data);
        ASSERT_TRUE(user.exit(reason));
        user.expect_fault(x86::Vector::general_protection);
        EXPECT_EQ(user.processor.xcr0, 0U);
        EXPECT_EQ(user.processor.write_backs, 0U);
    }
}

// SGX is not shown.
TEST(L1Exits, EnclsIsInvalid) {
    Guest guest;
    ASSERT_TRUE(guest.exit(ExitReason::encls));
    guest.expect_fault(x86::Vector::invalid_opcode);
}

// SEAMCALL and TDCALL, and whatever comes after them.
TEST(L1Exits, AnInstructionOfNoProcessorOfL1sIsInvalid) {
    Guest guest;
    ASSERT_TRUE(guest.exit(static_cast<ExitReason>(76)));
    guest.expect_fault(x86::Vector::invalid_opcode);
}

TEST(L1Exits, AnNmiThatComesWhileAnotherWaitsIsTheHosts) {
    Guest guest;
    guest.put(field::vm_exit_interruption_information, vmx::InterruptionInformation::nmi().value);
    ASSERT_TRUE(guest.exit(ExitReason::exception_or_nmi));
    EXPECT_TRUE(guest.port.nmi_pending);
    EXPECT_EQ(guest.vmcs.get(field::guest_rip), rip);
}

TEST(L1Exits, WhatIsTheHypervisorsOwnIsLeftAlone) {
    for (const ExitReason reason :
         {ExitReason::triple_fault, ExitReason::init_signal, ExitReason::task_switch,
          ExitReason::exception_or_nmi, ExitReason::mov_dr, ExitReason::hlt}) {
        Guest guest;
        EXPECT_FALSE(guest.exit(reason)) << name_of(reason);
        guest.put(field::guest_rip, rip);
        EXPECT_FALSE(guest.injected().is_valid());
    }
}

}  // namespace
}  // namespace flatback::host::l1_exits_test
