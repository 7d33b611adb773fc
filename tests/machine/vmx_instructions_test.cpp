// Success and failure of every VMX instruction (SDM 3C chapter 31), told as programs of an L1.
#include "tests/machine/scenario_fixture.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "vmx/field_table.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine::vmx_instructions_test {
namespace {

using namespace test;
namespace field = vmx::field;
using vmx::ExitReason;

constexpr unsigned invalid_opcode = 6;
constexpr unsigned general_protection = 13;
constexpr unsigned page_fault = 14;
constexpr std::uint64_t v0 = layout::vmcs_region(0);
constexpr std::uint64_t v1 = layout::vmcs_region(1);
constexpr std::uint64_t far_away = std::uint64_t{1} << 46;
constexpr std::uint64_t unmapped = 0x7000'0000;

struct VmxInstructions : BareScenario {};

TEST_F(VmxInstructions, AreUndefinedOutsideVmxOperation) {
    say.l1()
        .vmclear(v0)
        .vmptrld(v0)
        .vmptrst()
        .vmread(0)
        .vmwrite(0, 0)
        .vmlaunch()
        .vmresume()
        .vmcall()
        .vmxoff();
    say.invept(1, 0).invvpid(1, 1).vmfunc(0, 0);
    now();
    for (const Observation& it : seen) EXPECT_TRUE(faulted(it, invalid_opcode)) << describe(it);
}

TEST_F(VmxInstructions, VmxonEntersVmxOperation) {
    say.l1().vmxon();
    EXPECT_TRUE(succeeded(now()));
    say.vmptrst();
    EXPECT_EQ(now().value, ~std::uint64_t{0}) << "no VMCS is current";
}

TEST_F(VmxInstructions, VmxonNeedsCr4Vmxe) {
    say.l1().mov_to_cr4(x86::cr4::physical_address_extension | x86::cr4::page_global_enable).vmxon();
    EXPECT_TRUE(faulted(now(), invalid_opcode));
}

TEST_F(VmxInstructions, VmxonNeedsItsFeatureAndFixedBits) {
    world.registers(0, 0).feature_control = 1;
    say.l1().vmxon();
    EXPECT_TRUE(faulted(now(), general_protection));
    world.registers(0, 0).feature_control = 5;
    world.registers(0, 0).cr0 &= ~x86::cr0::numeric_error;
    say.vmxon();
    EXPECT_TRUE(faulted(now(), general_protection));
}

TEST_F(VmxInstructions, VmxonRefusesBadPointersAndRevisions) {
    say.l1().vmxon(0x1'0008);
    EXPECT_TRUE(failed_invalid(now())) << "not aligned";
    say.vmxon(far_away);
    EXPECT_TRUE(failed_invalid(now())) << "past MAXPHYADDR";
    say.vmxon(layout::data_page(0));
    EXPECT_TRUE(failed_invalid(now())) << "no revision identifier";
    say.edit().poke(layout::vmxon_region(0), world.model().vmx.revision() | 1U << 31);
    say.l1().vmxon();
    EXPECT_TRUE(failed_invalid(now())) << "bit 31 of the revision";
}

TEST_F(VmxInstructions, VmxonTwiceFails) {
    say.l1().vmxon().vmxon();
    EXPECT_TRUE(failed_invalid(now())) << "no current VMCS";
    say.vmptrld(v0).vmxon();
    EXPECT_TRUE(failed_with(now(), 15));
}

TEST_F(VmxInstructions, VmxoffLeavesVmxOperation) {
    say.l1().vmxon().vmxoff();
    EXPECT_TRUE(succeeded(now()));
    say.vmptrst();
    EXPECT_TRUE(faulted(now(), invalid_opcode));
}

TEST_F(VmxInstructions, NeedPrivilegeLevelZero) {
    say.l1().vmxon();
    now();
    world.registers(0, 0).segment(SegmentName::ss).access_rights |= 3 << 5;
    // An operand page that user mode may read is not needed: the check of CPL comes first.
    say.vmclear(v0).vmptrld(v0).vmptrst().vmread(0).vmwrite(0, 0).vmlaunch().vmresume().vmcall().vmxoff();
    say.invept(1, 0).invvpid(1, 1).vmxon();
    now();
    for (std::size_t index = 1; index < seen.size(); ++index) {
        EXPECT_TRUE(faulted(seen[index], general_protection)) << index << " " << describe(seen[index]);
    }
}

TEST_F(VmxInstructions, AreUndefinedInCompatibilityMode) {
    say.l1().vmxon();
    now();
    world.registers(0, 0).segment(SegmentName::cs).access_rights &= ~std::uint32_t{1U << 13};
    say.vmptrst().invvpid(1, 1).vmread(0);
    now();
    for (std::size_t index = 1; index < seen.size(); ++index)
        EXPECT_TRUE(faulted(seen[index], invalid_opcode));
}

TEST_F(VmxInstructions, VmclearChecksItsPointer) {
    say.l1().vmxon().vmptrld(v0);
    say.vmclear(v1 + 8);
    EXPECT_TRUE(failed_with(now(), 2));
    say.vmclear(far_away);
    EXPECT_TRUE(failed_with(now(), 2));
    say.vmclear(layout::vmxon_region(0));
    EXPECT_TRUE(failed_with(now(), 3));
    say.vmclear(v1);
    EXPECT_TRUE(succeeded(now()));
}

TEST_F(VmxInstructions, VmclearOfTheCurrentVmcsLeavesNone) {
    say.l1().vmxon().vmptrld(v0).vmclear(v0).vmptrst();
    EXPECT_EQ(now().value, ~std::uint64_t{0});
    say.vmptrld(v0).vmclear(v1).vmptrst();
    EXPECT_EQ(now().value, v0);
}

TEST_F(VmxInstructions, VmptrldChecksItsPointerAndRevision) {
    say.l1().vmxon().vmptrld(v0);
    say.vmptrld(v1 + 1);
    EXPECT_TRUE(failed_with(now(), 9));
    say.vmptrld(far_away);
    EXPECT_TRUE(failed_with(now(), 9));
    say.vmptrld(layout::vmxon_region(0));
    EXPECT_TRUE(failed_with(now(), 10));
    say.vmptrld(layout::data_page(0));
    EXPECT_TRUE(failed_with(now(), 11));
    say.vmptrst();
    EXPECT_EQ(now().value, v0) << "a failure changes nothing";
}

TEST_F(VmxInstructions, VmptrldTakesAShadowOnlyWithVmcsShadowing) {
    say.edit().poke(v1, world.model().vmx.revision() | 1U << 31);
    say.l1().vmxon().vmptrld(v0).vmptrld(v1);
    EXPECT_TRUE(succeeded(now()));
    say.vmlaunch();
    EXPECT_TRUE(failed_invalid(now())) << "a shadow VMCS is not entered";
    ProcessorModel model = full_processor_model();
    model.vmx.secondary.allowed1 &= ~vmx::secondary::vmcs_shadowing;
    BareWorld other({.machine = {.model = model}});
    Runner other_runner(other);
    std::vector<Observation> all = other_runner.run(say.program());
    EXPECT_TRUE(failed_with(all[3], 11));
}

TEST_F(VmxInstructions, VmreadGivesWhatVmwriteWrote) {
    say.l1().vmxon().vmptrld(v0).vmwrite(field::guest_rsp, 0x1234'5678'9ABC'DEF0).vmread(field::guest_rsp);
    EXPECT_EQ(now().value, 0x1234'5678'9ABC'DEF0U);
    say.vmwrite(field::guest_cs_selector, 0x12345).vmread(field::guest_cs_selector);
    EXPECT_EQ(now().value, 0x2345U) << "16 bits";
    say.vmwrite(field::exception_bitmap, 0x1'2345'6789).vmread(field::exception_bitmap);
    EXPECT_EQ(now().value, 0x2345'6789U) << "32 bits";
}

TEST_F(VmxInstructions, TheHighAccessTypeIsTheUpperHalf) {
    const std::uint64_t encoding = field::tsc_offset.encoding;
    say.l1().vmxon().vmptrld(v0).vmwrite(encoding, 0x1111'2222'3333'4444).vmread(encoding + 1);
    EXPECT_EQ(now().value, 0x1111'2222U);
    say.vmwrite(encoding + 1, 0x5555'6666).vmread(encoding);
    EXPECT_EQ(now().value, 0x5555'6666'3333'4444U);
}

TEST_F(VmxInstructions, VmreadAndVmwriteRefuseFieldsThatAreNone) {
    say.l1().vmxon().vmread(field::guest_rip);
    EXPECT_TRUE(failed_invalid(now())) << "no current VMCS";
    say.vmptrld(v0);
    for (const std::uint64_t encoding :
         {std::uint64_t{0x7000}, std::uint64_t{1} << 32, std::uint64_t{0x0801}}) {
        say.vmread(encoding);
        EXPECT_TRUE(failed_with(now(), 12)) << encoding;
        say.vmwrite(encoding, 1);
        EXPECT_TRUE(failed_with(now(), 12)) << encoding;
    }
}

TEST_F(VmxInstructions, ExitInformationIsReadOnlyWhereTheProcessorSaysSo) {
    say.l1().vmxon().vmptrld(v0).vmwrite(field::exit_reason, 5);
    EXPECT_TRUE(succeeded(now()));
    ProcessorModel model = full_processor_model();
    model.vmx.misc &= ~rules::misc::vmwrite_any_field;
    BareWorld other({.machine = {.model = model}});
    Runner other_runner(other);
    EXPECT_TRUE(failed_with(other_runner.run(say.program()).back(), 13));
}

TEST_F(VmxInstructions, VmlaunchAndVmresumeGoByTheLaunchState) {
    say.l1().vmxon().vmlaunch();
    EXPECT_TRUE(failed_invalid(now())) << "no current VMCS";
    say.prepare(v0, {.vpid = 1, .ept = {}, .tables = 1}).vmresume();
    EXPECT_TRUE(failed_with(now(), 5));
    say.vmlaunch();
    EXPECT_EQ(now().status, Observation::Status::entry);
    say.l2().vmcall();
    EXPECT_TRUE(exited(now(), ExitReason::vmcall));
    say.l1().vmlaunch();
    EXPECT_TRUE(failed_with(now(), 4));
    say.vmresume();
    EXPECT_EQ(now().status, Observation::Status::entry);
    say.l2().vmcall();
    say.l1().vmclear(v0).vmptrld(v0).vmresume();
    EXPECT_TRUE(failed_with(now(), 5)) << "VMCLEAR makes it clear";
    say.vmlaunch();
    EXPECT_EQ(now().status, Observation::Status::entry) << "and keeps what was written";
}

TEST_F(VmxInstructions, AFailedEntryLeavesTheLaunchStateClear) {
    one_guest();
    say.vmwrite(field::virtual_processor_identifier, 0).vmlaunch();
    EXPECT_TRUE(failed_with(now(), 7));
    say.vmwrite(field::virtual_processor_identifier, 1).vmresume();
    EXPECT_TRUE(failed_with(now(), 5));
    say.vmlaunch();
    EXPECT_EQ(now().status, Observation::Status::entry);
}

TEST_F(VmxInstructions, VmcallInRootFails) {
    say.l1().vmxon().vmcall();
    EXPECT_TRUE(failed_invalid(now()));
    say.vmptrld(v0).vmcall();
    EXPECT_TRUE(failed_with(now(), 1));
}

TEST_F(VmxInstructions, EachExitsFromNonRootWithItsReason) {
    one_guest();
    launch();
    const auto exits = [&](ExitReason reason) {
        EXPECT_TRUE(exited(now(), reason)) << describe(now());
        const std::uint64_t length = now().exit.instruction_length;
        say.l1().vmresume();
        EXPECT_EQ(now().status, Observation::Status::entry);
        say.l2();
        return length;
    };
    say.l2().vmcall();
    EXPECT_EQ(exits(ExitReason::vmcall), 3U);
    say.vmlaunch();
    EXPECT_EQ(exits(ExitReason::vmlaunch), 3U);
    say.vmresume();
    exits(ExitReason::vmresume);
    say.vmxoff();
    exits(ExitReason::vmxoff);
    say.vmread(field::guest_rip);
    exits(ExitReason::vmread);
    say.vmwrite(field::guest_rip, 0);
    exits(ExitReason::vmwrite);
    say.vmclear(v0);
    exits(ExitReason::vmclear);
    say.vmptrld(v0);
    exits(ExitReason::vmptrld);
    say.vmptrst();
    exits(ExitReason::vmptrst);
    say.vmxon();
    exits(ExitReason::vmxon);
    say.invept(1, 0);
    exits(ExitReason::invept);
    say.invvpid(1, 1);
    EXPECT_EQ(exits(ExitReason::invvpid), 8U);
    say.cpuid();
    EXPECT_EQ(exits(ExitReason::cpuid), 2U);
}

TEST_F(VmxInstructions, ExitsSayWhereTheOperandIs) {
    one_guest();
    launch();
    say.l2().invvpid_at(3, 0x1234);
    now();
    EXPECT_EQ(now().exit.qualification, 0x1234U);
    // Type in RBX (3) at bits 31:28; no base, no index, 64-bit address, DS.
    EXPECT_EQ(now().exit.instruction_information, 3U << 28 | 1U << 27 | 1U << 22 | 3U << 15 | 2U << 7);
    say.l1().vmresume();
    say.l2().vmread(field::guest_rip);
    // Register operand RAX (0), encoding in RBX (3).
    EXPECT_EQ(now().exit.instruction_information, 3U << 28 | 1U << 10);
}

struct Invvpid : BareScenario {
    void SetUp() override {
        say.l1().vmxon().vmptrld(v0);
        now();
    }
};

TEST_F(Invvpid, TakesAllFourTypes) {
    for (const std::uint64_t type : {0U, 1U, 2U, 3U}) {
        say.invvpid(type, 1, page_a);
        EXPECT_TRUE(succeeded(now())) << type;
    }
}

TEST_F(Invvpid, RefusesTypesThatAreNone) {
    for (const std::uint64_t type :
         {std::uint64_t{4}, std::uint64_t{5}, std::uint64_t{63}, std::uint64_t{64}, std::uint64_t{127},
          ~std::uint64_t{0}, ~std::uint64_t{126}, std::uint64_t{1} << 63, std::uint64_t{1} << 32}) {
        say.invvpid(type, 1);
        EXPECT_TRUE(failed_with(now(), 28)) << type;
    }
}

TEST_F(Invvpid, RefusesEveryReservedBit) {
    for (unsigned bit = 16; bit < 64; ++bit) {
        for (const std::uint64_t type : {0U, 1U, 2U, 3U}) {
            say.invvpid(type, 1 | std::uint64_t{1} << bit);
            EXPECT_TRUE(failed_with(now(), 28)) << "type " << type << " bit " << bit;
        }
    }
}

TEST_F(Invvpid, RefusesVpidZeroButForAllContexts) {
    for (const std::uint64_t type : {0U, 1U, 3U}) {
        say.invvpid(type, 0);
        EXPECT_TRUE(failed_with(now(), 28)) << type;
    }
    say.invvpid(2, 0);
    EXPECT_TRUE(succeeded(now()));
}

TEST_F(Invvpid, RefusesAddressesThatAreNotCanonicalForType0Only) {
    constexpr std::uint64_t lam_tagged = 0x7F00'0000'0000'1000;
    constexpr std::uint64_t hole = 0x0000'8000'0000'0000;
    for (const std::uint64_t address : {lam_tagged, hole}) {
        say.invvpid(0, 1, address);
        EXPECT_TRUE(failed_with(now(), 28));
        say.invvpid(1, 1, address);
        EXPECT_TRUE(succeeded(now()));
    }
    say.invvpid(0, 1, 0xFFFF'8000'0000'0000);
    EXPECT_TRUE(succeeded(now())) << "the upper half is canonical";
}

TEST_F(Invvpid, ReadsItsDescriptorForEveryTypeButAfterTheType) {
    say.invvpid_at(2, unmapped);
    EXPECT_TRUE(faulted(now(), page_fault, 0));
    say.invvpid_at(1, layout::identity_bytes - 8);
    EXPECT_TRUE(faulted(now(), page_fault, 0)) << "the descriptor's second half is not mapped";
    say.invvpid_at(1, 0x0000'8000'0000'0000);
    EXPECT_TRUE(faulted(now(), general_protection, 0));
    say.invvpid_at(9, unmapped);
    EXPECT_TRUE(failed_with(now(), 28)) << "the type comes first";
}

TEST_F(Invvpid, FailsInvalidWithoutACurrentVmcs) {
    say.vmclear(v0).invvpid(7, 1);
    EXPECT_TRUE(failed_invalid(now()));
    say.invvpid(1, 1);
    EXPECT_TRUE(succeeded(now()));
}

TEST_F(Invvpid, IsUndefinedWhereItIsNotOffered) {
    ProcessorModel model = full_processor_model();
    model.vmx.ept_vpid &= ~rules::ept_vpid::invvpid;
    BareWorld other({.machine = {.model = model}});
    Runner other_runner(other);
    Scenario program;
    program.l1().vmxon().vmptrld(v0).invvpid(1, 1).invept(2, 0);
    const std::vector<Observation> all = other_runner.run(program.program());
    EXPECT_TRUE(faulted(all[2], invalid_opcode));
    EXPECT_TRUE(succeeded(all[3]));
}

TEST_F(Invvpid, RefusesATypeThatIsNotListed) {
    ProcessorModel model = full_processor_model();
    model.vmx.ept_vpid &= ~rules::ept_vpid::invvpid_but_globals;
    BareWorld other({.machine = {.model = model}});
    Runner other_runner(other);
    Scenario program;
    program.l1().vmxon().vmptrld(v0).invvpid(3, 1).invvpid(1, 1);
    const std::vector<Observation> all = other_runner.run(program.program());
    EXPECT_TRUE(failed_with(all[2], 28));
    EXPECT_TRUE(succeeded(all[3]));
}

struct Invept : Invvpid {};

TEST_F(Invept, TakesBothTypes) {
    say.invept(1, layout::eptp(0));
    EXPECT_TRUE(succeeded(now()));
    say.invept(2, ~std::uint64_t{0});
    EXPECT_TRUE(succeeded(now())) << "type 2 does not look at the EPTP";
}

TEST_F(Invept, RefusesTypesAndEptpsThatAreNone) {
    for (const std::uint64_t type :
         {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
        say.invept(type, layout::eptp(0));
        EXPECT_TRUE(failed_with(now(), 28)) << type;
    }
    for (const std::uint64_t eptp : {layout::ept_root(0) | 0x1C, layout::ept_root(0) | 0x16,
                                     layout::ept_root(0) | 0x19E, layout::eptp(0) | std::uint64_t{1} << 50}) {
        say.invept(1, eptp);
        EXPECT_TRUE(failed_with(now(), 28)) << eptp;
    }
}

TEST_F(Invept, ReadsItsDescriptorForEveryType) {
    say.invept_at(2, unmapped);
    EXPECT_TRUE(faulted(now(), page_fault, 0));
}

TEST_F(VmxInstructions, AShadowVmcsServesVmreadAndVmwriteOfTheGuest) {
    one_guest();
    constexpr std::uint64_t bitmap = layout::data_page(5);
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                vmx::secondary::vmcs_shadowing | vmx::secondary::enable_vpid);
    // All of VMREAD and VMWRITE to the shadow, but for guest RSP.
    say.edit().poke(bitmap + field::guest_rsp.encoding / 8 / 8 * 8,
                    std::uint64_t{1} << (field::guest_rsp.encoding % 64));
    say.poke(v1, world.model().vmx.revision());
    say.l1().vmwrite(field::vmread_bitmap_address, bitmap).vmwrite(field::vmwrite_bitmap_address, bitmap);
    // The shadow is filled as an ordinary VMCS, then marked.
    say.vmclear(v1).vmptrld(v1).vmwrite(field::guest_rip, 0xFEED).vmclear(v1);
    say.edit().poke(v1, world.model().vmx.revision() | 1U << 31);
    say.l1().vmptrld(v1).vmptrld(v0).vmwrite(field::vmcs_link_pointer, v1).vmlaunch();
    EXPECT_EQ(now().status, Observation::Status::entry) << describe(now());
    say.l2().vmread(field::guest_rip);
    EXPECT_EQ(now().status, Observation::Status::done);
    EXPECT_EQ(now().value, 0xFEEDU);
    say.vmwrite(field::guest_cr3, 0x77).vmread(field::guest_cr3);
    EXPECT_EQ(now().value, 0x77U);
    say.vmread(0x7000);
    EXPECT_EQ(now().status, Observation::Status::done) << describe(now());
    EXPECT_EQ(now().flags, x86::rflags::zero) << "bit clear in the bitmap: it fails as in root";
    say.vmread(field::guest_rsp);
    EXPECT_TRUE(exited(now(), ExitReason::vmread));
    say.l1().vmread(field::vm_instruction_error);
    EXPECT_EQ(now().value, 12U) << "the error is the current VMCS's, that the guest runs under";
    say.vmread(field::guest_cr3);
    EXPECT_NE(now().value, 0x77U) << "the entered VMCS was not written";
}

TEST_F(VmxInstructions, AShadowVmcsBecomesActiveByTheEntryThatLinksIt) {
    one_guest();
    constexpr std::uint64_t bitmap = layout::data_page(5);
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                vmx::secondary::vmcs_shadowing | vmx::secondary::enable_vpid);
    say.edit().poke(v1, world.model().vmx.revision() | 1U << 31);
    say.l1().vmwrite(field::vmread_bitmap_address, bitmap).vmwrite(field::vmwrite_bitmap_address, bitmap);
    say.vmwrite(field::vmcs_link_pointer, v1).vmlaunch();
    EXPECT_EQ(now().status, Observation::Status::entry) << describe(now());
    say.l2().vmwrite(field::guest_cr3, 0x77).vmread(field::guest_cr3);
    EXPECT_EQ(now().value, 0x77U);
    say.vmcall().l1().vmwrite(field::vmcs_link_pointer, v0).vmresume();
    EXPECT_EQ(now().exit.qualification, 4U) << "not the VMCS itself";
}

TEST_F(VmxInstructions, VmfuncSwitchesTheEptp) {
    one_guest({.vpid = 1, .ept = 0, .tables = 1});
    constexpr std::uint64_t list = layout::data_page(6);
    say.edit().ept_map(1, layout::data_page(0), layout::data_page(2));
    say.poke(list, layout::eptp(0)).poke(list + 8, layout::eptp(1)).poke(list + 16, 0x123);
    say.l1().vmwrite(
        field::secondary_processor_based_vm_execution_controls,
        vmx::secondary::enable_ept | vmx::secondary::enable_vpid | vmx::secondary::enable_vm_functions);
    say.vmwrite(field::vm_function_controls, 1).vmwrite(field::eptp_list_address, list);
    launch();
    say.l2().load(page_a);
    EXPECT_EQ(now().value, 0xA0U);
    say.vmfunc(0, 1).load(page_a);
    EXPECT_EQ(now().value, 0xA2U);
    say.vmfunc(0, 0).load(page_a);
    EXPECT_EQ(now().value, 0xA0U);
    say.vmfunc(0, 2);
    EXPECT_TRUE(exited(now(), ExitReason::vmfunc)) << "an EPTP that VM entry would refuse";
    say.l1().vmresume();
    say.l2().vmfunc(1, 0);
    EXPECT_TRUE(exited(now(), ExitReason::vmfunc));
    say.l1().vmfunc(0, 0);
    EXPECT_TRUE(faulted(now(), invalid_opcode));
}

TEST_F(VmxInstructions, AVmcsActiveOnTwoProcessorsIsMisuse) {
    say.on(0, 0).l1().vmxon().vmptrld(v0);
    say.on(0, 1).l1().vmxon(layout::vmxon_region(1)).vmptrld(v0);
    now();
    ASSERT_EQ(world.machine().misuse().size(), 1U);
    EXPECT_EQ(world.machine().misuse()[0],
              "VMPTRLD on CPU 1 of the VMCS at 0x40000, which is active on CPU 0");
}

TEST_F(VmxInstructions, AVmcsMovesToAnotherProcessorByVmclear) {
    one_guest();
    launch();
    say.l2().vmcall();
    say.l1().vmclear(v0);
    say.on(0, 1).vmxon(layout::vmxon_region(1)).vmptrld(v0).vmlaunch();
    EXPECT_EQ(now().status, Observation::Status::entry);
    EXPECT_TRUE(world.machine().misuse().empty());
    say.l2().load(page_a);
    EXPECT_EQ(now().value, 0xA0U);
}

}  // namespace
}  // namespace flatback::machine::vmx_instructions_test
