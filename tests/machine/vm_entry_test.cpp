// VM entries: each check by itself, then what an entry loads and an exit saves (SDM 3C chapters 27 and 28).
#include <functional>

#include "tests/machine/scenario_fixture.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::vm_entry_test {
namespace {

using namespace test;
namespace field = vmx::field;
using vmx::ExitReason;

struct VmEntry : BareScenario {
    /// One field of a good guest changed to one bad value: what VMLAUNCH gives.
    template <vmx::AnyField Field>
    const Observation& with(Field changed, std::uint64_t value) {
        say.l1().vmwrite(changed, value).vmlaunch();
        return now();
    }
};

constexpr std::uint64_t far_away = std::uint64_t{1} << 46;

struct BadField {
    std::uint64_t encoding;
    std::uint64_t value;
    const char* check;
};

std::string name_of_case(const testing::TestParamInfo<BadField>& info) {
    std::string name = std::string(vmx::name_of(info.param.encoding)) + "_" + std::to_string(info.index);
    return name;
}

class BadControl : public VmEntry, public testing::WithParamInterface<BadField> {};

TEST_P(BadControl, FailsWithError7) {
    one_guest({.vpid = 1, .ept = 0, .tables = 1});
    say.vmwrite(GetParam().encoding, GetParam().value).vmlaunch();
    EXPECT_TRUE(failed_with(now(), 7)) << describe(now());
    EXPECT_STREQ(now().failed_check, GetParam().check);
}

INSTANTIATE_TEST_SUITE_P(
    Sdm27_2_1, BadControl,
    testing::Values(
        BadField{field::pin_based_vm_execution_controls.encoding, 0,
                 "pin-based controls: a reserved setting (27.2.1.1)"},
        BadField{field::pin_based_vm_execution_controls.encoding, 0x96,
                 "pin-based controls: a reserved setting (27.2.1.1)"},
        BadField{field::primary_processor_based_vm_execution_controls.encoding, 0,
                 "primary processor-based controls: a reserved setting (27.2.1.1)"},
        BadField{field::secondary_processor_based_vm_execution_controls.encoding, 1,
                 "secondary processor-based controls: a reserved setting (27.2.1.1)"},
        BadField{field::cr3_target_count.encoding, 5,
                 "CR3-target count: more than the processor has (27.2.1.1)"},
        BadField{field::pin_based_vm_execution_controls.encoding, 0x16 | vmx::pin::virtual_nmis,
                 "virtual NMIs without NMI exiting (27.2.1.1)"},
        BadField{field::virtual_processor_identifier.encoding, 0, "enable VPID with VPID 0000H (27.2.1.1)"},
        BadField{field::virtual_processor_identifier.encoding, 0x1'0000,
                 "enable VPID with VPID 0000H (27.2.1.1)"},
        BadField{field::ept_pointer.encoding, 0, "EPTP (27.2.1.1)"},
        BadField{field::ept_pointer.encoding, layout::ept_root(0) | 0x16, "EPTP (27.2.1.1)"},
        BadField{field::ept_pointer.encoding, layout::ept_root(0) | 0x1C, "EPTP (27.2.1.1)"},
        BadField{field::ept_pointer.encoding, layout::eptp(0) | 1U << 8, "EPTP (27.2.1.1)"},
        BadField{field::ept_pointer.encoding, layout::eptp(0) | far_away, "EPTP (27.2.1.1)"},
        BadField{field::secondary_processor_based_vm_execution_controls.encoding,
                 vmx::secondary::unrestricted_guest | vmx::secondary::enable_vpid,
                 "unrestricted guest without EPT (27.2.1.1)"},
        BadField{field::vm_exit_controls.encoding, 0, "VM-exit controls: a reserved setting (27.2.1.2)"},
        BadField{field::vm_entry_controls.encoding, 0, "VM-entry controls: a reserved setting (27.2.1.3)"},
        BadField{field::vm_entry_interruption_information.encoding, 0x8000'0100,
                 "entry interruption information: type 1 is reserved (27.2.1.3)"},
        BadField{field::vm_entry_interruption_information.encoding, 0x8000'0700,
                 "entry interruption information: no monitor trap flag (27.2.1.3)"},
        BadField{field::vm_entry_interruption_information.encoding, 0x8000'0203,
                 "entry interruption information: an NMI has vector 2 (27.2.1.3)"},
        BadField{field::vm_entry_interruption_information.encoding, 0x8000'0320,
                 "entry interruption information: an exception's vector is at most 31 (27.2.1.3)"},
        BadField{field::vm_entry_interruption_information.encoding, 0x8000'030E,
                 "entry interruption information: error code where there is none, or none where there is one "
                 "(27.2.1.3)"},
        BadField{field::vm_entry_interruption_information.encoding, 0x8000'0B06,
                 "entry interruption information: error code where there is none, or none where there is one "
                 "(27.2.1.3)"},
        BadField{field::vm_entry_interruption_information.encoding, 0x8000'1306,
                 "entry interruption information: reserved bits (27.2.1.3)"}),
    name_of_case);

class BadHost : public VmEntry, public testing::WithParamInterface<BadField> {};

TEST_P(BadHost, FailsWithError8) {
    one_guest();
    say.vmwrite(GetParam().encoding, GetParam().value).vmlaunch();
    EXPECT_TRUE(failed_with(now(), 8)) << describe(now());
    EXPECT_STREQ(now().failed_check, GetParam().check);
}

constexpr std::uint64_t hole = 0x0000'8000'0000'0000;

INSTANTIATE_TEST_SUITE_P(
    Sdm27_2_2, BadHost,
    testing::Values(
        BadField{field::host_cr0.encoding, 0, "host CR0 (27.2.2)"},
        BadField{field::host_cr4.encoding, 0, "host CR4 (27.2.2)"},
        BadField{field::host_cr4.encoding, x86::cr4::vmx_enable | 1U << 23, "host CR4 (27.2.2)"},
        BadField{field::host_cr3.encoding, far_away, "host CR3 (27.2.2)"},
        BadField{field::host_ia32_sysenter_esp.encoding, hole,
                 "host IA32_SYSENTER_ESP and _EIP are canonical (27.2.2)"},
        BadField{field::host_ia32_efer.encoding, 0x501 | 2, "host IA32_EFER: reserved bits (27.2.2)"},
        BadField{field::host_ia32_efer.encoding, 0,
                 "host IA32_EFER: LMA and LME are as host address-space size (27.2.2)"},
        BadField{field::host_ds_selector.encoding, 0x13, "host selectors: RPL and TI are 0 (27.2.3)"},
        BadField{field::host_cs_selector.encoding, 0, "host CS is not 0000H (27.2.3)"},
        BadField{field::host_tr_selector.encoding, 0, "host TR is not 0000H (27.2.3)"},
        BadField{field::host_fs_base.encoding, hole, "host base addresses are canonical (27.2.3)"},
        BadField{field::host_idtr_base.encoding, hole, "host base addresses are canonical (27.2.3)"},
        BadField{field::host_cr4.encoding, x86::cr4::vmx_enable, "host CR4.PAE with a 64-bit host (27.2.4)"},
        BadField{field::host_rip.encoding, hole, "host RIP is canonical (27.2.4)"}),
    name_of_case);

class BadGuest : public VmEntry, public testing::WithParamInterface<BadField> {};

TEST_P(BadGuest, ExitsWithReason33) {
    one_guest();
    say.vmwrite(GetParam().encoding, GetParam().value).vmlaunch();
    EXPECT_EQ(now().status, Observation::Status::exit) << describe(now());
    EXPECT_EQ(now().exit.reason, 0x8000'0021U);
    EXPECT_STREQ(now().failed_check, GetParam().check);
    say.vmread(GetParam().encoding);
    EXPECT_EQ(now().value, GetParam().value) << "the guest-state area stays as it was";
}

INSTANTIATE_TEST_SUITE_P(
    Sdm27_3_1, BadGuest,
    testing::Values(
        BadField{field::guest_cr0.encoding, 0x1, "guest CR0 (27.3.1.1)"},
        BadField{field::guest_cr4.encoding, 0x20, "guest CR4 (27.3.1.1)"},
        BadField{field::guest_cr4.encoding, x86::cr4::vmx_enable,
                 "IA-32e mode guest without PG and PAE (27.3.1.1)"},
        BadField{field::guest_cr3.encoding, far_away, "guest CR3 (27.3.1.1)"},
        BadField{field::guest_ia32_sysenter_eip.encoding, hole,
                 "guest IA32_SYSENTER_ESP and _EIP are canonical (27.3.1.1)"},
        BadField{field::guest_ia32_efer.encoding, 0x502, "guest IA32_EFER: reserved bits (27.3.1.1)"},
        BadField{field::guest_ia32_efer.encoding, 0x1,
                 "guest IA32_EFER.LMA is as IA-32e mode guest (27.3.1.1)"},
        BadField{field::guest_ia32_efer.encoding, 0x401, "guest IA32_EFER.LME is as LMA (27.3.1.1)"},
        BadField{field::guest_tr_selector.encoding, 0x1C, "TR selector: TI is 0 (27.3.1.2)"},
        BadField{field::guest_ss_selector.encoding, 0x11, "SS RPL is CS RPL (27.3.1.2)"},
        BadField{field::guest_tr_base.encoding, hole, "TR, FS and GS bases are canonical (27.3.1.2)"},
        BadField{field::guest_cs_base.encoding, std::uint64_t{1} << 32, "CS base has 32 bits (27.3.1.2)"},
        BadField{field::guest_ds_base.encoding, std::uint64_t{1} << 32,
                 "SS, DS and ES bases have 32 bits (27.3.1.2)"},
        BadField{field::guest_cs_access_rights.encoding, 0x1'A09B, "CS is a code segment (27.3.1.2)"},
        BadField{field::guest_cs_access_rights.encoding, 0xA093, "CS type (27.3.1.2)"},
        BadField{field::guest_cs_access_rights.encoding, 0xA0FB, "CS DPL is SS DPL (27.3.1.2)"},
        BadField{field::guest_cs_access_rights.encoding, 0xE09B, "CS D/B in 64-bit mode (27.3.1.2)"},
        BadField{field::guest_cs_access_rights.encoding, 0xA01B, "segment is present (27.3.1.2)"},
        BadField{field::guest_cs_access_rights.encoding, 0xA19B,
                 "segment access rights: reserved bits (27.3.1.2)"},
        BadField{field::guest_cs_limit.encoding, 0xFFFF'F000, "segment limit and granularity (27.3.1.2)"},
        BadField{field::guest_ss_access_rights.encoding, 0xC091, "SS type (27.3.1.2)"},
        BadField{field::guest_ss_access_rights.encoding, 0xC0F3, "CS DPL is SS DPL (27.3.1.2)"},
        BadField{field::guest_ds_access_rights.encoding, 0xC092, "data segment is accessed (27.3.1.2)"},
        BadField{field::guest_es_access_rights.encoding, 0xC099,
                 "code segment used for data is readable (27.3.1.2)"},
        BadField{field::guest_fs_selector.encoding, 0x13, "data segment DPL is at least its RPL (27.3.1.2)"},
        BadField{field::guest_gs_access_rights.encoding, 0xC083,
                 "data segments are no system segments (27.3.1.2)"},
        BadField{field::guest_tr_access_rights.encoding, 0x83, "TR type (27.3.1.2)"},
        BadField{field::guest_tr_access_rights.encoding, 0x1'008B,
                 "TR is a usable system segment (27.3.1.2)"},
        BadField{field::guest_ldtr_access_rights.encoding, 0x83, "LDTR type (27.3.1.2)"},
        BadField{field::guest_gdtr_base.encoding, hole, "GDTR and IDTR bases are canonical (27.3.1.3)"},
        BadField{field::guest_idtr_limit.encoding, 0x1'0000, "GDTR and IDTR limits have 16 bits (27.3.1.3)"},
        BadField{field::guest_rip.encoding, std::uint64_t{1} << 48, "guest RIP: bits 63:48 (27.3.1.4)"},
        BadField{field::guest_rflags.encoding, 0, "guest RFLAGS: reserved bits (27.3.1.4)"},
        BadField{field::guest_rflags.encoding, 0x8002, "guest RFLAGS: reserved bits (27.3.1.4)"},
        BadField{field::guest_activity_state.encoding, 4, "guest activity state (27.3.1.5)"},
        BadField{field::guest_activity_state.encoding, 2, "guest activity state (27.3.1.5)"},
        BadField{field::guest_interruptibility_state.encoding, 3, "blocking by STI and by MOV SS (27.3.1.5)"},
        BadField{field::guest_interruptibility_state.encoding, 1,
                 "blocking by STI with RFLAGS.IF = 0 (27.3.1.5)"},
        BadField{field::guest_interruptibility_state.encoding, 1U << 5,
                 "guest interruptibility state: reserved bits (27.3.1.5)"},
        BadField{field::guest_interruptibility_state.encoding, 4,
                 "blocking by SMI outside SMM, or an enclave (27.3.1.5)"},
        BadField{field::guest_pending_debug_exceptions.encoding, 0x10,
                 "guest pending debug exceptions: reserved bits (27.3.1.5)"},
        BadField{field::vmcs_link_pointer.encoding, 0x123, "VMCS link pointer (27.3.1.5)"},
        BadField{field::vmcs_link_pointer.encoding, layout::data_page(5),
                 "the VMCS that the link pointer names (27.3.1.5)"}),
    name_of_case);

TEST_F(VmEntry, SaysWhichKindOfFailureItWas) {
    one_guest();
    EXPECT_EQ(with(field::vmcs_link_pointer, 0x123).exit.qualification, 4U);
}

TEST_F(VmEntry, ChecksControlsThenHostThenGuest) {
    one_guest();
    say.vmwrite(field::guest_rflags, 0).vmwrite(field::host_cs_selector, 0);
    say.vmwrite(field::virtual_processor_identifier, 0).vmlaunch();
    EXPECT_TRUE(failed_with(now(), 7));
    say.vmwrite(field::virtual_processor_identifier, 1).vmlaunch();
    EXPECT_TRUE(failed_with(now(), 8));
    say.vmwrite(field::host_cs_selector, 8).vmlaunch();
    EXPECT_EQ(now().exit.reason, 0x8000'0021U);
}

TEST_F(VmEntry, LoadsTheMsrListAndFailsAtItsBadEntry) {
    one_guest();
    constexpr std::uint64_t list = layout::data_page(3);
    say.edit().poke(list, 0xC000'0082).poke(list + 8, 0x1234);  // IA32_LSTAR
    say.poke(list + 16, 0xC000'0100).poke(list + 24, 0);        // IA32_FS_BASE may not be here
    say.l1().vmwrite(field::vm_entry_msr_load_address, list).vmwrite(field::vm_entry_msr_load_count, 1);
    launch();
    EXPECT_EQ(world.registers(0, 0).lstar, 0x1234U);
    say.l2().vmcall();
    say.l1().vmwrite(field::vm_entry_msr_load_count, 2).vmresume();
    EXPECT_EQ(now().exit.reason, 0x8000'0022U);
    EXPECT_EQ(now().exit.qualification, 2U) << "the second entry";
}

TEST_F(VmEntry, InjectsAnEventOnce) {
    one_guest();
    say.vmwrite(field::vm_entry_interruption_information, 0x8000'0B0D);
    say.vmwrite(field::vm_entry_exception_error_code, 0x18).vmlaunch();
    EXPECT_EQ(now().status, Observation::Status::entry);
    EXPECT_EQ(now().event, (Event{13, true, 0x18}));
    say.l2().vmcall();
    say.l1().vmread(field::vm_entry_interruption_information);
    EXPECT_EQ(now().value, 0x0B0DU) << "a VM exit clears the valid bit";
    say.vmresume();
    EXPECT_EQ(now().event, Event{});
}

TEST_F(VmEntry, LoadsGuestStateAndExitsSaveIt) {
    one_guest();
    say.vmwrite(field::guest_rip, 0x5555'0000).vmwrite(field::guest_rsp, 0x6666'0000);
    launch();
    EXPECT_EQ(world.registers(0, 0).rip, 0x5555'0000U);
    EXPECT_EQ(world.registers(0, 0).general[4], 0x6666'0000U);
    EXPECT_EQ(world.registers(0, 0).cr3, layout::page_root(1));
    say.l2().mov_to_cr3(layout::page_root(2)).vmcall();
    EXPECT_EQ(now().exit.guest_cr3, layout::page_root(2));
    EXPECT_EQ(now().exit.guest_rip, 0x5555'0003U) << "past the MOV, at the VMCALL";
    EXPECT_EQ(world.registers(0, 0).cr3, layout::page_root(0)) << "the host's";
    EXPECT_EQ(world.registers(0, 0).rip & ~std::uint64_t{0xFFF}, 0x10'0000U)
        << "the host's, a few VMREADs on";
}

TEST_F(VmEntry, StoresAndLoadsMsrListsAtExit) {
    one_guest();
    constexpr std::uint64_t stored = layout::data_page(3);
    constexpr std::uint64_t loaded = layout::data_page(4);
    say.edit().poke(stored, 0xC000'0081).poke(loaded, 0xC000'0081).poke(loaded + 8, 0x77);
    say.l1().vmwrite(field::vm_exit_msr_store_address, stored).vmwrite(field::vm_exit_msr_store_count, 1);
    say.vmwrite(field::vm_exit_msr_load_address, loaded).vmwrite(field::vm_exit_msr_load_count, 1);
    launch();
    world.registers(0, 0).star = 0x55;
    say.l2().vmcall();
    now();
    EXPECT_EQ(world.read(0, stored + 8), 0x55U);
    EXPECT_EQ(world.registers(0, 0).star, 0x77U);
}

struct Exits : BareScenario {};

TEST_F(Exits, HltExitsOnlyWhereAsked) {
    one_guest();
    launch();
    say.l2().hlt();
    EXPECT_TRUE(exited(now(), ExitReason::hlt));
    say.l1().vmread(field::primary_processor_based_vm_execution_controls);
    const std::uint64_t controls = now().value;
    say.vmwrite(field::primary_processor_based_vm_execution_controls, controls & ~vmx::primary::hlt_exiting);
    say.vmresume();
    say.l2().hlt().load(page_a);
    EXPECT_EQ(now().status, Observation::Status::idle);
}

TEST_F(Exits, ControlRegistersGoByMasksAndShadows) {
    one_guest();
    say.vmwrite(field::cr4_guest_host_mask, x86::cr4::vmx_enable | x86::cr4::page_global_enable);
    say.vmwrite(field::cr4_read_shadow, x86::cr4::page_global_enable);
    launch();
    say.l2().mov_from_cr4();
    EXPECT_EQ(now().value, x86::cr4::page_global_enable | x86::cr4::physical_address_extension);
    say.mov_to_cr4(x86::cr4::page_global_enable | x86::cr4::physical_address_extension |
                   x86::cr4::smep_enable);
    EXPECT_EQ(now().status, Observation::Status::done) << "the masked bits are as the shadow's";
    say.mov_to_cr4(x86::cr4::physical_address_extension);
    EXPECT_TRUE(exited(now(), ExitReason::control_register_access));
    EXPECT_EQ(now().exit.qualification, 4U) << "MOV to CR4 from RAX";
}

TEST_F(Exits, Cr3LoadsExitWhereAskedButForTargets) {
    one_guest();
    say.vmread(field::primary_processor_based_vm_execution_controls);
    const std::uint64_t controls = now().value;
    say.vmwrite(field::primary_processor_based_vm_execution_controls,
                controls | vmx::primary::cr3_load_exiting);
    say.vmwrite(field::cr3_target_count, 1).vmwrite(field::cr3_target_value_0, layout::page_root(2));
    launch();
    say.l2().mov_to_cr3(layout::page_root(2));
    EXPECT_EQ(now().status, Observation::Status::done);
    say.mov_to_cr3(layout::page_root(1));
    EXPECT_TRUE(exited(now(), ExitReason::control_register_access));
    EXPECT_EQ(now().exit.qualification, 3U);
}

TEST_F(Exits, PageFaultsGoByTheBitmapMaskAndMatch) {
    one_guest();
    say.vmwrite(field::exception_bitmap, 1U << 14);
    say.vmwrite(field::page_fault_error_code_mask, 2).vmwrite(field::page_fault_error_code_match, 2);
    launch();
    say.l2().load(0x5000'0000);
    EXPECT_TRUE(faulted(now(), 14, 0)) << "not a write: delivered";
    EXPECT_EQ(world.registers(0, 0).cr2, 0x5000'0000U);
    say.store(0x5000'1000, 1);
    EXPECT_TRUE(exited(now(), ExitReason::exception_or_nmi));
    EXPECT_EQ(now().exit.interruption_information, 0x8000'0B0EU);
    EXPECT_EQ(now().exit.interruption_error_code, 2U);
    EXPECT_EQ(now().exit.qualification, 0x5000'1000U);
    EXPECT_EQ(world.registers(0, 0).cr2, 0x5000'0000U) << "CR2 stays";
}

TEST_F(Exits, MsrBitmapsDecide) {
    one_guest();
    constexpr std::uint64_t bitmap = layout::data_page(7);
    say.vmread(field::primary_processor_based_vm_execution_controls);
    const std::uint64_t controls = now().value;
    say.vmwrite(field::primary_processor_based_vm_execution_controls,
                controls | vmx::primary::use_msr_bitmaps);
    say.vmwrite(field::address_of_msr_bitmaps, bitmap);
    // Reads of IA32_LSTAR (high, bit 82H) exit.
    say.edit().poke(bitmap + 1024 + 0x80 / 8, std::uint64_t{1} << 2);
    launch();
    say.l2().rdmsr(0xC000'0082);
    EXPECT_TRUE(exited(now(), ExitReason::rdmsr));
    say.l1().vmresume();
    say.l2().wrmsr(0xC000'0082, 0x99);
    EXPECT_EQ(now().status, Observation::Status::done);
    EXPECT_EQ(world.registers(0, 0).lstar, 0x99U);
    say.rdmsr(0x4000'0000);
    EXPECT_TRUE(exited(now(), ExitReason::rdmsr)) << "outside both ranges";
}

TEST_F(Exits, InterruptWindowExitsBeforeTheNextInstruction) {
    one_guest();
    say.vmread(field::primary_processor_based_vm_execution_controls);
    const std::uint64_t controls = now().value;
    say.vmwrite(field::primary_processor_based_vm_execution_controls,
                controls | vmx::primary::interrupt_window_exiting);
    launch();
    say.l2().nop();
    EXPECT_EQ(now().status, Observation::Status::done) << "IF is 0";
    say.vmcall();
    say.l1().vmwrite(field::guest_rflags, 0x202).vmresume();
    say.l2().nop();
    EXPECT_TRUE(exited(now(), ExitReason::interrupt_window));
}

TEST_F(Exits, EptViolationsSayWhereAndWhy) {
    one_guest({.vpid = 1, .ept = 0, .tables = 1});
    say.edit().ept_unmap(0, layout::data_page(0));
    launch();
    say.l2().load(page_a + 0x18);
    EXPECT_TRUE(exited(now(), ExitReason::ept_violation)) << describe(now());
    EXPECT_EQ(now().exit.qualification, 0x181U);
    EXPECT_EQ(now().exit.guest_physical_address, layout::data_page(0) + 0x18);
    EXPECT_EQ(now().exit.guest_linear_address, page_a + 0x18);
    say.edit().ept_map(0, layout::data_page(0), layout::data_page(2));
    say.l1().vmresume();
    say.l2().load(page_a);
    EXPECT_EQ(now().value, 0xA2U);
    say.edit().ept_map(0, layout::data_page(1), layout::data_page(1), 0x32);
    say.l2().load(page_b);
    EXPECT_TRUE(exited(now(), ExitReason::ept_misconfiguration));
    EXPECT_EQ(now().exit.guest_physical_address, layout::data_page(1));
}

TEST_F(Exits, AnEntryIntoRealModeIsPossibleForAnUnrestrictedGuest) {
    one_guest({.vpid = 1, .ept = 0, .tables = 1});
    say.vmread(field::secondary_processor_based_vm_execution_controls);
    const std::uint64_t secondary = now().value;
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                secondary | vmx::secondary::unrestricted_guest);
    say.vmread(field::vm_entry_controls);
    const std::uint64_t entry = now().value;
    say.vmwrite(field::vm_entry_controls, entry & ~std::uint64_t{vmx::entry_control::ia32e_mode_guest});
    say.vmwrite(field::guest_ia32_efer, 0).vmwrite(field::guest_cr0, x86::cr0::numeric_error);
    say.vmwrite(field::guest_cs_access_rights, 0xC09B);
    launch();
    say.l2().load(layout::data_page(1));
    EXPECT_EQ(now().value, 0xA1U) << "the linear address is the guest-physical one";
    say.invvpid(1, 1);
    EXPECT_TRUE(faulted(now(), 6)) << "no VMX instruction in real-address mode";
}

}  // namespace
}  // namespace flatback::machine::vm_entry_test
