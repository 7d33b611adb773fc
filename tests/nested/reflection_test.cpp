// An exit of L2's as L1 sees it: L1's state from its host-state area (SDM 3C 28.5), and what L2 leaves.
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "tests/nested/virtual_cpu.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::reflection_test {
namespace {

namespace in = vmx::entry_control;
namespace out = vmx::exit_control;

class Reflection : public ::testing::TestWithParam<bool> {
protected:
    Reflection() { l1.prepare(); }
    void enter() { ASSERT_EQ(l1.counters().l2_entries == 0 ? l1.vmlaunch() : l1.vmresume(), l2_runs); }
    void round_trip() {
        enter();
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    VirtualCpu l1{{.shadow_vmcs = GetParam()}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, Reflection, ::testing::Bool());

// L1 cannot see it in a register that is loaded.
constexpr std::uint32_t available = x86::AccessRights::available_bit;

TEST_P(Reflection, LoadsEveryHostStateField) {
    l1.write(field::host_cr0, 0x8005'003b);
    l1.write(field::host_cr3, 0x12'3000);
    l1.write(field::host_cr4, 0x26b0);
    l1.write(field::host_ia32_pat, 0x0006'0606'0606'0606);
    round_trip();
    FakeVmcs& v = l1.vmcs01();
    EXPECT_EQ(v.get(field::guest_rip), layout::host_rip);
    EXPECT_EQ(v.get(field::guest_rsp), 0xffff'8000'0000'b000U);
    EXPECT_EQ(v.get(field::guest_rflags), 2U);
    EXPECT_EQ(v.get(field::guest_cr0), 0x8005'003bU);
    EXPECT_EQ(v.get(field::guest_cr3), 0x12'3000U);
    EXPECT_EQ(v.get(field::guest_cr4), 0x26b0U);
    EXPECT_EQ(v.get(field::guest_dr7), 0x400U);
    EXPECT_EQ(v.get(field::guest_ia32_debugctl), 0U);
    EXPECT_EQ(v.get(field::guest_ia32_sysenter_cs), 0x10U);
    EXPECT_EQ(v.get(field::guest_ia32_sysenter_esp), 0xffff'8000'0000'9000U);
    EXPECT_EQ(v.get(field::guest_ia32_sysenter_eip), 0xffff'8000'0000'a000U);
    EXPECT_EQ(v.get(field::guest_ia32_efer), 0xd01U);
    EXPECT_EQ(v.get(field::guest_ia32_pat), 0x0006'0606'0606'0606U);
    EXPECT_EQ(v.get(field::guest_fs_base), 0x1'f000U);
    EXPECT_EQ(v.get(field::guest_gs_base), 0xffff'8000'0000'5000U);
    EXPECT_EQ(v.get(field::guest_tr_base), 0xffff'8000'0000'6000U);
    EXPECT_EQ(v.get(field::guest_gdtr_base), 0xffff'8000'0000'7000U);
    EXPECT_EQ(v.get(field::guest_idtr_base), 0xffff'8000'0000'8000U);
    EXPECT_EQ(v.get(field::guest_gdtr_limit), 0xffffU);
    EXPECT_EQ(v.get(field::guest_idtr_limit), 0xffffU);
    EXPECT_EQ(v.get(field::guest_cs_selector), 0x10U);
    EXPECT_EQ(v.get(field::guest_cs_access_rights), 0xa09bU);
    EXPECT_EQ(v.get(field::guest_tr_selector), 0x40U);
    EXPECT_EQ(v.get(field::guest_tr_limit), 0x67U);
    EXPECT_EQ(v.get(field::guest_tr_access_rights) & ~available, 0x8bU);
    EXPECT_EQ(v.get(field::guest_ldtr_selector), 0U);
    EXPECT_EQ(v.get(field::guest_ldtr_access_rights), 0x1'0000U);
    for (const std::uint32_t segment : {0U, 2U, 3U, 4U, 5U}) {  // all but CS
        EXPECT_EQ(v.word(field::guest_es_selector.encoding + 2 * segment), 0x18U);
        EXPECT_EQ(v.word(field::guest_es_limit.encoding + 2 * segment), 0xffff'ffffU);
        EXPECT_EQ(v.word(field::guest_es_access_rights.encoding + 2 * segment) & ~std::uint64_t{available},
                  0xc093U);
    }
    EXPECT_EQ(v.get(field::guest_interruptibility_state), 0U);
    EXPECT_EQ(v.get(field::guest_activity_state), 0U);
    EXPECT_EQ(v.get(field::guest_pending_debug_exceptions), 0U);
}

// What L1 may change by itself between its VM entry and the next exit: the exit puts it right again.
TEST_P(Reflection, LoadsWhatL1ChangedSinceTheLastExit) {
    round_trip();
    FakeVmcs& v = l1.vmcs01();
    const auto good = v.words;
    const auto spoil = [&](auto which, std::uint64_t value) { v.word(which.encoding) = value; };
    spoil(field::guest_rsp, 0x5000);
    spoil(field::guest_cr0, 0x8005'0033 ^ x86::cr0::task_switched);
    spoil(field::guest_cr3, 0x5000 | layout::page_tables);
    l1.port.memory.write<std::uint64_t>(0x5000, l1.port.memory.read<std::uint64_t>(layout::page_tables));
    spoil(field::guest_cr4, 0x26b0);
    spoil(field::guest_fs_selector, 0x28);
    spoil(field::guest_fs_access_rights, 0xc093);
    spoil(field::guest_fs_base, 0x77'0000);
    spoil(field::guest_gs_base, 0x88'0000);
    spoil(field::guest_gdtr_base, 0x99'0000);
    spoil(field::guest_gdtr_limit, 0x7f);
    spoil(field::guest_idtr_base, 0xaa'0000);
    spoil(field::guest_idtr_limit, 0x1ff);
    spoil(field::guest_dr7, 0x401);
    spoil(field::guest_ia32_debugctl, 1);
    spoil(field::guest_ldtr_selector, 0x50);
    spoil(field::guest_ldtr_access_rights, 0x82);
    spoil(field::guest_ldtr_limit, 0xf);
    spoil(field::guest_tr_selector, 0x58);
    spoil(field::guest_tr_base, 0xbb'0000);
    spoil(field::guest_tr_limit, 0xffff);
    spoil(field::guest_tr_access_rights, 0x8b);  // LTR takes all of it from the descriptor
    spoil(field::guest_ds_selector, 0);
    spoil(field::guest_ds_access_rights, 0x1'0000);
    spoil(field::guest_ss_selector, 0x68);
    spoil(field::guest_ss_limit, 0xfff);
    spoil(field::guest_ss_access_rights, 0x4093);
    spoil(field::guest_cs_selector, 0x70);
    spoil(field::guest_es_selector, 0x78);
    spoil(field::guest_es_access_rights, 0xc0f3);
    round_trip();
    for (const vmx::NamedField& named : vmx::all_fields) {
        if (vmx::kind(named.encoding) != vmx::FieldKind::guest_state) continue;
        if (named.encoding == field::guest_ldtr_limit.encoding) continue;  // of an unusable LDTR
        EXPECT_EQ(v.word(named.encoding), good.at(static_cast<std::size_t>(vmx::dense_index(named.encoding))))
            << named.name;
    }
}

// A selector says nothing of the descriptor that was loaded through it: L1 may have changed that meanwhile.
TEST_P(Reflection, LoadsSegmentsWhoseDescriptorL1Changed) {
    round_trip();
    FakeVmcs& v = l1.vmcs01();
    const auto good = v.words;
    for (const std::uint32_t segment : {0U, 2U, 3U, 4U, 5U}) {
        v.word(field::guest_es_base.encoding + 2 * segment) = 0x3000;
        v.word(field::guest_es_limit.encoding + 2 * segment) = 0xfff;
        v.word(field::guest_es_access_rights.encoding + 2 * segment) = 0x4093;
    }
    v.set(field::guest_tr_limit, 0x20ff);  // a TSS with an I/O bitmap
    v.set(field::guest_tr_access_rights, 0x83);
    round_trip();
    for (const vmx::NamedField& named : vmx::all_fields) {
        if (vmx::kind(named.encoding) != vmx::FieldKind::guest_state) continue;
        EXPECT_EQ(v.word(named.encoding), good.at(static_cast<std::size_t>(vmx::dense_index(named.encoding))))
            << named.name;
    }
}

TEST_P(Reflection, LeavesSegmentsAloneThatL1DidNotTouch) {
    round_trip();
    l1.port.forget_writes();
    round_trip();
    for (const auto& [encoding, count] : l1.vmcs01().writes) {
        EXPECT_NE(encoding, field::guest_ds_selector.encoding);
        EXPECT_NE(encoding, field::guest_ss_access_rights.encoding);
    }
}

// Two virtual CPUs of L1's guest by turns.
class TwoOfOneHost : public Reflection {
protected:
    TwoOfOneHost() {
        l1.make_vmcs(1);
        run(1, true);
        run(0, true);
    }
    void run(unsigned number, bool launch = false) {
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(number)), vm_succeed);
        ASSERT_EQ(launch ? l1.vmlaunch() : l1.vmresume(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, TwoOfOneHost, ::testing::Bool());

TEST_P(TwoOfOneHost, WriteSegmentsOfL1OnceForBoth) {
    l1.port.forget_writes();
    run(1);
    run(0);
    for (const auto& [encoding, count] : l1.vmcs01().writes) {
        for (const std::uint32_t segment : {0U, 1U, 2U, 3U, 4U, 5U, 6U, 7U})
            EXPECT_NE(encoding, field::guest_es_access_rights.encoding + 2 * segment);
        EXPECT_NE(encoding, field::guest_ia32_sysenter_esp.encoding);
        EXPECT_NE(encoding, field::guest_ia32_pat.encoding);
    }
}

// Each field alone: L1 finds what the VMCS has whose guest exited.
TEST_P(TwoOfOneHost, LoadWhatOnlyOneOfThemHas) {
    struct Difference {
        std::uint32_t host;
        std::uint64_t value;
        std::uint32_t guest;
    };
    const auto of = [](auto host, std::uint64_t value, auto guest) {
        return Difference{host.encoding, value, guest.encoding};
    };
    const std::vector<Difference> differences{
        of(field::host_es_selector, 0x20, field::guest_es_selector),
        of(field::host_cs_selector, 0x28, field::guest_cs_selector),
        of(field::host_ss_selector, 0x20, field::guest_ss_selector),
        of(field::host_ds_selector, 0x20, field::guest_ds_selector),
        of(field::host_fs_selector, 0x20, field::guest_fs_selector),
        of(field::host_gs_selector, 0x20, field::guest_gs_selector),
        of(field::host_tr_selector, 0x48, field::guest_tr_selector),
        of(field::host_tr_base, 0x77'0000, field::guest_tr_base),
        of(field::host_fs_base, 0x78'0000, field::guest_fs_base),
        of(field::host_gs_base, 0x79'0000, field::guest_gs_base),
        of(field::host_gdtr_base, 0x7a'0000, field::guest_gdtr_base),
        of(field::host_idtr_base, 0x7b'0000, field::guest_idtr_base),
        of(field::host_ia32_sysenter_cs, 0x30, field::guest_ia32_sysenter_cs),
        of(field::host_ia32_sysenter_esp, 0x7c'0000, field::guest_ia32_sysenter_esp),
        of(field::host_ia32_sysenter_eip, 0x7d'0000, field::guest_ia32_sysenter_eip),
        of(field::host_ia32_pat, 0x0006'0606'0606'0606, field::guest_ia32_pat),
        of(field::host_ia32_efer, 0x501, field::guest_ia32_efer),
    };
    FakeVmcs& v = l1.vmcs01();
    for (const Difference& difference : differences) {
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
        const std::uint64_t usual = l1.read_raw(difference.host);
        ASSERT_NE(usual, difference.value) << vmx::name_of(difference.host);
        l1.write_raw(difference.host, difference.value);
        run(1);
        EXPECT_EQ(v.word(difference.guest), usual) << vmx::name_of(difference.host);
        run(0);
        EXPECT_EQ(v.word(difference.guest), difference.value) << vmx::name_of(difference.host);
        run(1);
        EXPECT_EQ(v.word(difference.guest), usual) << vmx::name_of(difference.host);
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
        l1.write_raw(difference.host, usual);
    }
}

// The host state of a VMCS that comes with its region, without a VMWRITE, into the place of another.
TEST_P(Reflection, LoadsTheHostStateOfAVmcsThatTakesAnothersPlace) {
    l1.write(field::host_ds_selector, 0x20);
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    l1.make_vmcs(1);
    round_trip();
    EXPECT_EQ(l1.vmcs01().get(field::guest_ds_selector), 0x18U);
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(1)), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.vmcs01().get(field::guest_ds_selector), 0x20U);
}

TEST_P(Reflection, LoadsAHostSelectorThatL1Changed) {
    round_trip();
    l1.write(field::host_ds_selector, 0x48);
    round_trip();
    EXPECT_EQ(l1.vmcs01().get(field::guest_ds_selector), 0x48U);
    l1.write(field::host_ds_selector, 0);
    round_trip();
    EXPECT_NE(l1.vmcs01().get(field::guest_ds_access_rights) & x86::AccessRights::unusable_bit, 0U);
    l1.write(field::host_ds_selector, 0x48);
    round_trip();
    EXPECT_EQ(l1.vmcs01().get(field::guest_ds_access_rights) & ~available, 0xc093U);
}

// What L1 has once read of an exit stays, with and without an exit of its VMREADs.
TEST_P(Reflection, LeavesExitInformationAsItIsUntilTheNextExit) {
    round_trip();
    ASSERT_EQ(l1.vmresume(), l2_runs);
    // L0 takes an exit that defines the addresses, and L1 one that does not.
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation,
                           .guest_physical = 0x1234'5000,
                           .guest_linear = 0x7777'5000}),
              l2_runs);
    ASSERT_EQ(l1.l2_exits(
                  {.reason = ExitReason::vmcall, .guest_physical = 0x1234'5000, .guest_linear = 0x7777'5000}),
              l1_sees(ExitReason::vmcall));
    const auto every_field = [&] {
        std::vector<std::uint64_t> values;
        for (const vmx::NamedField& named : vmx::all_fields) {
            if (vmx::kind(named.encoding) != vmx::FieldKind::exit_information ||
                named.encoding == field::vm_instruction_error.encoding) {
                continue;
            }
            values.push_back(l1.vmread(named.encoding) == vm_succeed ? l1.value_read() : 0);
        }
        return values;
    };
    const auto before = every_field();
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    EXPECT_EQ(every_field(), before);
}

TEST_P(Reflection, LoadsTheHostStateThatL1Rewrote) {
    round_trip();
    l1.write(field::host_ia32_sysenter_cs, 0x20);
    l1.write(field::host_ia32_sysenter_esp, 0x1111'0000);
    l1.write(field::host_ia32_sysenter_eip, 0x2222'0000);
    l1.write(field::host_ia32_pat, 0x0101'0101'0101'0101);
    l1.write(field::host_ia32_efer, 0x500);
    l1.write(field::host_rip, 0xffff'8000'0033'0000);
    round_trip();
    FakeVmcs& v = l1.vmcs01();
    EXPECT_EQ(v.get(field::guest_ia32_sysenter_cs), 0x20U);
    EXPECT_EQ(v.get(field::guest_ia32_sysenter_esp), 0x1111'0000U);
    EXPECT_EQ(v.get(field::guest_ia32_sysenter_eip), 0x2222'0000U);
    EXPECT_EQ(v.get(field::guest_ia32_pat), 0x0101'0101'0101'0101U);
    EXPECT_EQ(v.get(field::guest_ia32_efer), 0x500U);
    EXPECT_EQ(v.get(field::guest_rip), 0xffff'8000'0033'0000U);
}

TEST_P(Reflection, LoadsTheMsrsThatL1Wrote) {
    round_trip();
    ASSERT_TRUE(l1.write_guest_msr(x86::msr::ia32_sysenter_esp, 0x6666'0000));
    ASSERT_TRUE(l1.write_guest_msr(x86::msr::ia32_pat, 0x0404'0404'0404'0404));
    ASSERT_TRUE(l1.write_guest_msr(x86::msr::ia32_efer, 0xd00));
    l1.l1_msr_changed();
    round_trip();
    FakeVmcs& v = l1.vmcs01();
    EXPECT_EQ(v.get(field::guest_ia32_sysenter_esp), 0xffff'8000'0000'9000U);
    EXPECT_EQ(v.get(field::guest_ia32_pat), 0x0007'0406'0007'0406U);
    EXPECT_EQ(v.get(field::guest_ia32_efer), 0xd01U);
}

TEST_P(Reflection, GivesNullSelectorsUnusableSegments) {
    for (const auto which : {field::host_ds_selector, field::host_es_selector, field::host_fs_selector,
                             field::host_gs_selector, field::host_ss_selector}) {
        l1.write(which, 0);
    }
    round_trip();
    for (const std::uint32_t segment : {0U, 2U, 3U, 4U, 5U}) {
        EXPECT_EQ(l1.vmcs01().word(field::guest_es_selector.encoding + 2 * segment), 0U);
        EXPECT_NE(l1.vmcs01().word(field::guest_es_access_rights.encoding + 2 * segment) & 0x1'0000, 0U);
    }
}

// --- EFER, PAT and the debug controls: loaded on entry, inherited, saved, loaded on exit, passed on

struct Register {
    const char* name;
    std::uint32_t load;       // VM-entry control
    std::uint32_t save;       // VM-exit control
    std::uint32_t load_host;  // VM-exit control; 0: always
    vmx::field::Bits64Guest guest;
    std::uint64_t l1s;      // what L1 has at its VMRESUME
    std::uint64_t l2s;      // in L1's VMCS
    std::uint64_t changed;  // what L2 makes of it
    std::uint64_t host;     // in L1's VMCS, or what every exit sets
};
const Register pat{"PAT",
                   in::load_ia32_pat,
                   out::save_ia32_pat,
                   out::load_ia32_pat,
                   field::guest_ia32_pat,
                   0x0101'0101'0101'0101,
                   0x0404'0404'0404'0404,
                   0x0505'0505'0505'0505,
                   0x0606'0606'0606'0606};
const Register efer{"EFER",
                    in::load_ia32_efer,
                    out::save_ia32_efer,
                    out::load_ia32_efer,
                    field::guest_ia32_efer,
                    0xd00,
                    0xd01,
                    0x500,
                    0x501};
const Register debugctl{"DEBUGCTL",
                        in::load_debug_controls,
                        out::save_debug_controls,
                        0,
                        field::guest_ia32_debugctl,
                        0x1,
                        0x2,
                        0x3,
                        0};

using InheritanceCase = std::tuple<const Register*, bool, bool, bool>;
class Inheritance : public ::testing::TestWithParam<InheritanceCase> {};
std::string name_of_case(const ::testing::TestParamInfo<InheritanceCase>& info) {
    const auto& [which, load, save, host] = info.param;
    return std::string(which->name) + (load ? "Loaded" : "Inherited") + (save ? "Saved" : "NotSaved") +
           (host ? "HostLoaded" : "PassedOn");
}
INSTANTIATE_TEST_SUITE_P(All, Inheritance,
                         ::testing::Combine(::testing::Values(&pat, &efer, &debugctl), ::testing::Bool(),
                                            ::testing::Bool(), ::testing::Bool()),
                         name_of_case);

TEST_P(Inheritance, IsAsTheControlsSay) {
    const auto& [which, loads, saves, loads_host] = GetParam();
    VirtualCpu l1;
    l1.prepare();
    l1.write(field::host_ia32_pat, pat.host);
    l1.write(field::host_ia32_efer, efer.host);
    if (!loads) l1.lower(field::vm_entry_controls, which->load);
    if (!saves) l1.lower(field::vm_exit_controls, which->save);
    if (!loads_host) l1.lower(field::vm_exit_controls, which->load_host);
    l1.write(which->guest, which->l2s);
    for (unsigned round = 0; round < 3; ++round) {
        l1.vmcs01().set(which->guest, which->l1s);
        l1.l1_msr_changed();
        ASSERT_EQ(round == 0 ? l1.vmlaunch() : l1.vmresume(), l2_runs);
        const std::uint64_t in_vmcs12 = round != 0 && saves ? which->changed : which->l2s;
        EXPECT_EQ(l1.vmcs02().get(which->guest), loads ? in_vmcs12 : which->l1s) << "round " << round;
        l1.vmcs02().set(which->guest, which->changed);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        const bool passed_on = !loads_host && which->load_host != 0;
        EXPECT_EQ(l1.vmcs01().get(which->guest), passed_on ? which->changed : which->host)
            << "round " << round;
        EXPECT_EQ(l1.read(which->guest), saves ? which->changed : which->l2s) << "round " << round;
    }
}

TEST_P(Reflection, ACopyThatWasNotSavedIsLoadedOnceItIsSavedAgain) {
    l1.lower(field::vm_exit_controls, out::save_debug_controls | out::save_ia32_pat);
    l1.write(field::guest_dr7, 0x401);
    round_trip();
    ASSERT_EQ(l1.vmresume(), l2_runs);
    l1.vmcs02().set(field::guest_dr7, 0x4ff);
    l1.vmcs02().set(field::guest_ia32_pat, 0x0404'0404'0404'0404);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::vm_exit_controls, out::save_debug_controls | out::save_ia32_pat);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_dr7), 0x401U);
    EXPECT_EQ(l1.vmcs02().get(field::guest_ia32_pat), 0x0007'0406'0007'0406U);
}

TEST_P(Reflection, ARegisterThatWasPassedOnIsLoadedOnceTheExitLoadsIt) {
    l1.lower(field::vm_exit_controls, out::load_ia32_pat);
    enter();
    l1.vmcs02().set(field::guest_ia32_pat, 0x0404'0404'0404'0404);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.vmcs01().get(field::guest_ia32_pat), 0x0404'0404'0404'0404U);
    l1.raise(field::vm_exit_controls, out::load_ia32_pat);
    round_trip();
    EXPECT_EQ(l1.vmcs01().get(field::guest_ia32_pat), 0x0007'0406'0007'0406U);
}

TEST_P(Reflection, AnInheritedEferFollowsTheModeThatL2IsIn) {
    l1.lower(field::vm_entry_controls, in::load_ia32_efer);
    enter();
    EXPECT_EQ(l1.vmcs02().get(field::guest_ia32_efer), 0xd01U);
    // L2 left IA-32e mode; the exit stores that (SDM 3C 28.2.4).
    FakeVmcs& v = l1.vmcs02();
    v.set(field::vm_entry_controls, v.get(field::vm_entry_controls) & ~in::ia32e_mode_guest);
    v.set(field::guest_cs_access_rights, 0xc09b);
    v.set(field::guest_rip, 0x1000);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::vm_entry_controls) & in::ia32e_mode_guest, 0U);
    l1.port.memory.write<std::uint64_t>(0x70'0000, 0);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(v.get(field::guest_ia32_efer), 0x801U);
    EXPECT_EQ(v.get(field::vm_entry_controls) & in::ia32e_mode_guest, 0U);
}

TEST_P(Reflection, ThePreemptionTimerIsSavedWhereL1AsksForIt) {
    // It counts by the time-stamp counter, which the fake processor does not move.
    const auto counts = [this](std::uint64_t units) {
        l1.port.tsc += units << l1.capabilities.promised.misc.preemption_timer_rate();
    };
    l1.raise(field::pin_based_vm_execution_controls, vmx::pin::activate_vmx_preemption_timer);
    l1.write(field::vmx_preemption_timer_value, 1000);
    enter();
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 1000U);
    counts(400);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation}), l2_runs) << "L0's own";
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 600U) << "it goes on";
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 1000U) << "not saved";
    enter();
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 1000U) << "and so started anew";
    counts(700);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.raise(field::vm_exit_controls, out::save_vmx_preemption_timer_value);
    enter();
    EXPECT_EQ(l1.vmcs02().get(field::vmx_preemption_timer_value), 1000U);
    counts(993);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 7U);
    enter();
    counts(7);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::vmx_preemption_timer_expired}),
              l1_sees(ExitReason::vmx_preemption_timer_expired));
    EXPECT_EQ(l1.read(field::vmx_preemption_timer_value), 0U);
}

// --- a 32-bit L1

TEST(ReflectionTo32Bits, LoadsTheHostStateOfA32BitL1) {
    VirtualCpu l1;
    // L1 in PAE paging, at privilege level 0.
    FakeVmcs& v = l1.vmcs01();
    v.set(field::guest_cs_access_rights, 0xc09b);
    v.set(field::guest_ia32_efer, 0x800);
    v.set(field::vm_entry_controls, v.get(field::vm_entry_controls) & ~in::ia32e_mode_guest);
    v.set(field::guest_rip, 0x10'0000);
    constexpr std::uint64_t pdpt = 0x5'0020;
    for (std::uint64_t n = 0; n < 4; ++n)
        l1.port.memory.write<std::uint64_t>(pdpt + 8 * n, 0x5'1001 + n * 0x1000);
    l1.port.memory.write<std::uint64_t>(0x5'1000, 0x83);  // the first 2 MB as they are
    v.set(field::guest_cr3, pdpt);
    v.set(field::guest_pdpte0, 0x5'1001);
    l1.prepare();
    l1.write_raw(field::vmcs_link_pointer.encoding | 1, 0xffff'ffff);  // its VMWRITEs have 32 bits
    l1.write(field::vm_exit_controls,
             (l1.read(field::vm_exit_controls) & ~std::uint64_t{out::host_address_space_size}) &
                 ~std::uint64_t{out::load_ia32_efer});
    l1.write(field::vm_entry_controls,
             l1.read(field::vm_entry_controls) & ~std::uint64_t{in::ia32e_mode_guest});
    l1.write(field::guest_ia32_efer, 0x800);
    l1.write(field::guest_cs_access_rights, 0xc09b);
    l1.write(field::guest_rip, 0x2000);
    l1.write(field::guest_cr4, 0x2010);
    for (const auto which :
         {field::host_gs_base, field::host_tr_base, field::host_gdtr_base, field::host_idtr_base,
          field::host_ia32_sysenter_esp, field::host_ia32_sysenter_eip, field::host_rsp}) {
        l1.write(which, 0x6000);
    }
    l1.write(field::host_rip, 0x8'0000);
    l1.write(field::host_cr3, pdpt);
    for (unsigned round = 0; round < 2; ++round) {
        ASSERT_EQ(round == 0 ? l1.vmlaunch() : l1.vmresume(), l2_runs) << l1.refused_rule;
        l1.vmcs02().set(field::guest_ia32_efer, 0x801);
        l1.port.memory.write<std::uint64_t>(pdpt + 24, 0x5'8001 + round * 0x1000);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        EXPECT_EQ(v.get(field::guest_rip), 0x8'0000U);
        EXPECT_EQ(v.get(field::guest_cs_access_rights), 0xc09bU);
        EXPECT_EQ(v.get(field::guest_ia32_efer), 0x801U) << "passed on, but for the mode";
        EXPECT_EQ(v.get(field::vm_entry_controls) & in::ia32e_mode_guest, 0U);
        EXPECT_EQ(v.get(field::guest_pdpte3), 0x5'8001U + round * 0x1000) << "from memory, at every exit";
    }
    l1.port.memory.write<std::uint64_t>(pdpt + 8, 0x5'0003);  // a reserved bit
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_THROW((void)l1.l2_executes_cpuid(), L1Shutdown);
    EXPECT_EQ(l1.port.memory.read<std::uint32_t>(layout::vmcs_region(0) + 4), 2U)
        << "the VMX-abort indicator";
}

}  // namespace
}  // namespace flatback::nested_test::reflection_test
