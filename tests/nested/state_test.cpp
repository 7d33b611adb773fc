// The nested state as bytes: what comes back from save() and restore(), and what is refused, without effect.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "tests/nested/engine.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/controls.hpp"
#include "vmx/interruption.hpp"

namespace flatback::nested_test::state_test {
namespace {

using nested::StateError;
using Bytes = std::vector<std::byte>;

// Offsets of docs/state.md, written a second time.
constexpr std::size_t version_at = 4;
constexpr std::size_t size_at = 8;
constexpr std::size_t flags_at = 12;
constexpr std::size_t vmxon_pointer_at = 16;
constexpr std::size_t current_pointer_at = 24;
constexpr std::size_t vmcs_count_at = 32;
constexpr std::size_t capabilities_at = 36;
constexpr std::size_t first_vmcs_at = 180;
constexpr std::size_t field_bytes = 12;

template <typename Word>
Word read_at(const Bytes& state, std::size_t at) {
    Word word{};
    std::memcpy(&word, &state.at(at), sizeof word);
    return word;
}
template <typename Word>
void write_at(Bytes& state, std::size_t at, Word word) {
    std::memcpy(&state.at(at), &word, sizeof word);
}
void set_size(Bytes& state) {
    write_at(state, size_at, static_cast<std::uint32_t>(state.size()));
}
// Of the list that begins at `list` with so many fields: where this one is; the end where it is not there.
std::size_t find_field(const Bytes& state, std::size_t list, std::uint32_t count, std::uint32_t encoding) {
    std::size_t at = list;
    for (std::uint32_t i = 0; i < count && read_at<std::uint32_t>(state, at) != encoding; ++i)
        at += field_bytes;
    return at;
}
// Of the first VMCS.
std::size_t field_of_vmcs(const Bytes& state, const auto& which) {
    const auto count = read_at<std::uint32_t>(state, first_vmcs_at + 12);
    const std::size_t at = find_field(state, first_vmcs_at + 16, count, which.encoding);
    EXPECT_LT(at, first_vmcs_at + 16 + field_bytes * count);
    return at;
}
// Of the running L2, with one VMCS.
std::size_t list_of_l2(const Bytes& state) {
    return first_vmcs_at + 16 + field_bytes * read_at<std::uint32_t>(state, first_vmcs_at + 12);
}
std::size_t field_of_l2(const Bytes& state, const auto& which) {
    const std::size_t list = list_of_l2(state);
    return find_field(state, list + 4, read_at<std::uint32_t>(state, list), which.encoding);
}

void expect_refused(VirtualCpu& l1, const Bytes& state, StateError error) {
    const Bytes before = l1.save_state();
    l1.forget_flushes();
    const auto found = l1.restore_state(state);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(static_cast<int>(*found), static_cast<int>(error));
    EXPECT_EQ(l1.save_state(), before);
    EXPECT_TRUE(l1.port.flushes.empty());
}

TEST(State, OfAVirtualCpuOutsideVmxOperationIsAHeader) {
    VirtualCpu l1;
    const Bytes state = l1.save_state();
    EXPECT_EQ(state.size(), first_vmcs_at);
    EXPECT_EQ(read_at<std::uint32_t>(state, 0), 0x534e'4246U);
    EXPECT_EQ(read_at<std::uint32_t>(state, version_at), 1U);
    EXPECT_EQ(read_at<std::uint32_t>(state, flags_at), 0U);
    EXPECT_EQ(read_at<std::uint64_t>(state, vmxon_pointer_at), ~0ULL);
    EXPECT_EQ(read_at<std::uint64_t>(state, current_pointer_at), ~0ULL);
    EXPECT_EQ(read_at<std::uint32_t>(state, vmcs_count_at), 0U);
    EXPECT_EQ(read_at<std::uint64_t>(state, capabilities_at), l1.capabilities.promised.basic.value);
    l1.begin_anew();
    l1.prepare_and_launch();
}

TEST(State, IsTooLargeForABufferOneByteShort) {
    VirtualCpu l1;
    l1.prepare_and_launch();
    const Bytes whole = l1.save_state();
    EXPECT_EQ(l1.save_state(), whole);
    for (const std::size_t size : {whole.size() - 1, std::size_t{100}, std::size_t{0}}) {
        Bytes shorter(size);
        const auto error = l1.save_error(shorter);
        ASSERT_TRUE(error.has_value());
        EXPECT_EQ(*error, StateError::no_room);
    }
    Bytes exact(whole.size());
    EXPECT_EQ(l1.save_error(exact), std::nullopt);
    EXPECT_EQ(exact, whole);
}

TEST(State, IsNotToBeHadWhileTheHostHasAnExit) {
    VirtualCpu l1;
    ASSERT_TRUE(l1.set_demands({.instructions = vmx::primary::rdtsc_exiting}));
    l1.prepare_and_launch();
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::rdtsc, .instruction_length = 2}), hosts_exit);
    Bytes state(100'000);
    EXPECT_EQ(l1.save_error(state), StateError::hosts_exit);
    ASSERT_EQ(l1.resume_behind_instruction(), l2_runs);
    EXPECT_EQ(l1.save_error(state), std::nullopt);
}

TEST(State, KeepsSeveralVmcssAndWhichIsCurrent) {
    for (const bool shadow : {false, true}) {
        VirtualCpu l1{{.shadow_vmcs = shadow}};
        l1.enter_vmx_operation();
        for (unsigned n = 0; n < 5; ++n) {
            l1.make_vmcs(n);
            l1.write(field::guest_rip, 0x1000 * (n + 1));
            l1.write(field::tsc_offset, n + 7);
        }
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(2)), vm_succeed);
        ASSERT_EQ(l1.vmlaunch(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        l1.begin_anew();
        ASSERT_EQ(l1.vmptrst(), vm_succeed);
        EXPECT_EQ(l1.operand(), layout::vmcs_region(2));
        EXPECT_EQ(l1.read(field::exit_reason), static_cast<std::uint32_t>(ExitReason::cpuid));
        for (unsigned n = 0; n < 5; ++n) {
            ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
            EXPECT_EQ(l1.read(field::tsc_offset), n + 7);
            // Which were launched, it knows too.
            EXPECT_EQ(l1.vmlaunch(),
                      n == 2 ? vm_fail(InstructionError::vmlaunch_with_non_clear_vmcs) : l2_runs);
            if (n != 2) l1.l2_executes_cpuid();
        }
    }
}

TEST(State, KeepsAnEventThatWaitsForL2) {
    VirtualCpu l1;
    l1.prepare_and_launch();
    // An exit of L0's own met the delivery of an interrupt, which is to begin again.
    Bytes state;
    l1.before_entry = [&] { state = l1.save_state(); };
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation,
                           .qualification = 0x181,
                           .vectoring = 0x8000'0041,
                           .guest_physical = 0x1234}),
              l2_runs);
    l1.before_entry = {};
    ASSERT_FALSE(state.empty());
    EXPECT_EQ(read_at<std::uint32_t>(state, flags_at), 7U);
    EXPECT_EQ(read_at<std::uint64_t>(state, field_of_l2(state, field::vm_entry_interruption_information) + 4),
              0x8000'0041U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.restore_state(state), std::nullopt);
    EXPECT_EQ(l1.injected(), 0x8000'0041U);
    EXPECT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
}

TEST(State, OfAnEntryThatIsStillToBeMadeLetsItFail) {
    for (const bool launch : {true, false}) {
        VirtualCpu l1;
        l1.prepare();
        // L2 would get L1's DR7, which its own VMCS has not.
        l1.lower(field::vm_entry_controls, vmx::entry_control::load_debug_controls);
        l1.write(field::guest_dr7, 0x455);
        if (!launch) {
            ASSERT_EQ(l1.vmlaunch(), l2_runs);
            l1.l2_executes_cpuid();
            l1.write(field::guest_dr7, 0x455);
        }
        Bytes state;
        l1.before_entry = [&] {
            if (state.empty()) state = l1.save_state();
        };
        l1.refusal = VirtualCpu::Refusal::guest_state;
        ASSERT_EQ(launch ? l1.vmlaunch() : l1.vmresume(), l1_sees(ExitReason::entry_failure_guest_state));
        l1.before_entry = {};
        EXPECT_EQ(read_at<std::uint32_t>(state, flags_at), launch ? 11U : 3U);
        l1.refusal = VirtualCpu::Refusal::guest_state;
        ASSERT_EQ(l1.restore_and_enter(state), l1_sees(ExitReason::entry_failure_guest_state));
        EXPECT_EQ(l1.read(field::guest_dr7), 0x455U);
        EXPECT_EQ(launch ? l1.vmlaunch() : l1.vmresume(), l2_runs);
    }
}

// vmcs01 was cleared when the virtual CPU left its processor, and L1 has not run since.
TEST(State, OfAnL2ThatHasMovedLaunchesL1) {
    for (const bool shadow : {false, true}) {
        VirtualCpu l1{{.shadow_vmcs = shadow}};
        l1.prepare_and_launch();
        ASSERT_EQ(l1.move_to(1), l2_runs);
        ASSERT_EQ(l1.restore_state(l1.save_state()), std::nullopt);
        // An exit of L0's own does not lose it.
        ASSERT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation}), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        ASSERT_EQ(l1.vmresume(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        // The same where the entry of L2 behind it fails, and where L1 itself is what has moved.
        ASSERT_EQ(l1.vmresume(), l2_runs);
        ASSERT_EQ(l1.move_to(0), l2_runs);
        const Bytes state = l1.save_state();
        l1.refusal = VirtualCpu::Refusal::guest_state;
        ASSERT_EQ(l1.restore_and_enter(state).kind, Outcome::Kind::l1_sees_exit);
        ASSERT_EQ(l1.move_to(1), vm_succeed);
        ASSERT_EQ(l1.restore_state(l1.save_state()), std::nullopt);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
}

// A virtual CPU that has run, and restores its own state in place.
TEST(State, LaunchesAVmcs01ThatWasLaunchedBefore) {
    VirtualCpu l1;
    l1.prepare();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const Bytes in_l2 = l1.save_state();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_TRUE(l1.vmcs01().launched);
    ASSERT_EQ(l1.restore_state(in_l2), std::nullopt);
    EXPECT_FALSE(l1.vmcs01().launched);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_TRUE(l1.vmcs01().launched);
}

TEST(State, OwesEveryFlush) {
    VirtualCpu l1;
    l1.prepare();
    l1.use_vpid(5);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const Bytes state = l1.save_state();
    l1.forget_flushes();
    ASSERT_EQ(l1.restore_state(state), std::nullopt);
    EXPECT_EQ(l1.invvpids(), std::vector{whole_tag(l1.l2_tag())});
    EXPECT_FALSE(l1.invepts().empty());
    l1.forget_flushes();
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.invvpids(), std::vector{whole_tag(l1.vpid01())});
}

TEST(State, MayBeRestoredWhereMoreIsPromised) {
    vmx::Capabilities fewer = processor();
    fewer.secondary_processor_based.allowed1 &= ~vmx::secondary::pause_loop_exiting;
    VirtualCpu from{{.hardware = fewer}};
    from.prepare_and_launch();
    const Bytes state = from.save_state();
    VirtualCpu to{{.shadow_vmcs = true}};
    ASSERT_EQ(to.restore_state(state), std::nullopt);
    EXPECT_EQ(to.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    // Not the other way round.
    expect_refused(from, to.save_state(), StateError::promise_not_kept);
}

TEST(State, AsksTheHostForNoBitOfDebugctlThatL1WasPromised) {
    VirtualCpu l1;
    l1.prepare();
    l1.write(field::guest_ia32_debugctl, x86::debugctl::branch_single_step);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const Bytes state = l1.save_state();
    l1.port.msrs.erase(x86::msr::ia32_debugctl);  // it would refuse
    ASSERT_EQ(l1.restore_state(state), std::nullopt);
    EXPECT_EQ(l1.vmcs02().get(field::guest_ia32_debugctl), x86::debugctl::branch_single_step);
}

// L2 had another word than its VMCS, which an exit would have saved, and has not run.
TEST(State, OfAnEntryThatFailsLeavesL1sWordsWhereExitsSaveThem) {
    VirtualCpu l1;
    l1.prepare();
    l1.lower(field::vm_entry_controls, vmx::entry_control::load_debug_controls);
    l1.write(field::guest_dr7, 0x455);
    Bytes state;
    l1.before_entry = [&] { state = l1.save_state(); };
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.before_entry = {};
    EXPECT_EQ(l1.vmcs02().get(field::guest_dr7), 0x400U);
    l1.refusal = VirtualCpu::Refusal::guest_state;
    ASSERT_EQ(l1.restore_and_enter(state), l1_sees(ExitReason::entry_failure_guest_state));
    EXPECT_EQ(l1.read(field::guest_dr7), 0x455U);
    l1.raise(field::vm_entry_controls, vmx::entry_control::load_debug_controls);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_dr7), 0x455U);
}

TEST(State, NeedsNoVmcsShadowingForOrdinaryVmcss) {
    VirtualCpu::Options options;
    options.hardware.secondary_processor_based.allowed1 &= ~vmx::secondary::vmcs_shadowing;
    VirtualCpu l1{options};
    l1.prepare_and_launch();
    EXPECT_EQ(l1.restore_state(l1.save_state()), std::nullopt);
}

// What L1 injects by an entry that is still to be made goes by the rules of then.
TEST(State, OfAnEntryThatIsStillToBeMadeHasAnEventThatL1MayInject) {
    VirtualCpu l1;
    l1.prepare();
    l1.write(field::vm_entry_interruption_information, 0x8000'0030);
    Bytes state;
    l1.before_entry = [&] { state = l1.save_state(); };
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.before_entry = {};
    Bytes bad = state;
    for (const std::size_t at : {field_of_vmcs(bad, field::vm_entry_interruption_information),
                                 field_of_l2(bad, field::vm_entry_interruption_information)})
        write_at(bad, at + 4, std::uint64_t{0x8000'0130});  // a type that there is not
    expect_refused(l1, bad, StateError::impossible);
    ASSERT_EQ(l1.restore_and_enter(state), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0030U);
}

TEST(State, ResetLeavesVmxOperationAndWritesNothing) {
    VirtualCpu l1{{.shadow_vmcs = true}};
    l1.prepare_and_launch();
    const auto region = l1.port.memory.read<std::uint64_t>(layout::vmcs_region(0) + 16);
    l1.reset_engine();
    EXPECT_FALSE(l1.in_vmx_operation());
    EXPECT_FALSE(l1.in_l2());
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(layout::vmcs_region(0) + 16), region);
    EXPECT_EQ(l1.vmcs01().get(field::cr0_guest_host_mask), x86::cr0::numeric_error);
    EXPECT_EQ(l1.pool().owned(), 1U);
    EXPECT_EQ(l1.save_state().size(), first_vmcs_at);
}

// --- what is refused

class BadState : public ::testing::Test {
protected:
    BadState() {
        l1.prepare_and_launch();
        state = l1.save_state();
    }
    void refused(StateError error) { expect_refused(l1, state, error); }
    VirtualCpu l1;
    Bytes state;
};

TEST_F(BadState, CutAnywhere) {
    const Bytes whole = state;
    for (std::size_t size = 0; size < whole.size(); ++size) {
        state.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        // Without the version it is of no version.
        EXPECT_EQ(l1.restore_state(state),
                  size >= 4 && size < 8 ? StateError::other_version : StateError::not_a_state)
            << size;
        if (size < 12) continue;
        set_size(state);
        EXPECT_EQ(l1.restore_state(state), StateError::not_a_state) << size;
    }
    EXPECT_EQ(l1.save_state(), whole);
}

TEST_F(BadState, WithSomethingBehindIt) {
    state.push_back({});
    refused(StateError::not_a_state);
    set_size(state);
    refused(StateError::not_a_state);
}

TEST_F(BadState, OfSomethingElseOrAnotherVersion) {
    write_at(state, version_at, 2U);
    refused(StateError::other_version);
    write_at(state, 0, 0U);
    refused(StateError::not_a_state);
}

TEST_F(BadState, WithFlagsThatAreNoneOrContradict) {
    for (const std::uint32_t flags : {0x10U, 1U << 31, 4U, 8U, 5U, 9U, 15U}) {
        write_at(state, flags_at, flags);
        refused(StateError::not_a_state);
    }
    write_at(state, flags_at, 2U);
    refused(StateError::impossible);
}

TEST_F(BadState, WithPointersThatL1CouldNotLoad) {
    const Bytes good = state;
    for (const std::size_t at : {vmxon_pointer_at, current_pointer_at, first_vmcs_at}) {
        for (const std::uint64_t pointer :
             {std::uint64_t{0x1'0001}, std::uint64_t{1} << 40, ~std::uint64_t{0} - 0xfff}) {
            state = good;
            write_at(state, at, pointer);
            refused(StateError::bad_pointer);
        }
    }
    state = good;
    write_at(state, vmxon_pointer_at, layout::vmcs_region(0));
    refused(StateError::bad_pointer);
    state = good;
    write_at(state, current_pointer_at, layout::vmcs_region(1));
    refused(StateError::bad_pointer);
}

TEST_F(BadState, WithTwoVmcssOfOneRegionOrTooMany) {
    l1.l2_executes_cpuid();
    l1.make_vmcs(1);
    state = l1.save_state();
    const std::size_t second = list_of_l2(state);
    ASSERT_EQ(read_at<std::uint64_t>(state, second), layout::vmcs_region(1));
    write_at(state, second, layout::vmcs_region(0));
    refused(StateError::bad_pointer);
    write_at(state, current_pointer_at, layout::vmcs_region(0));
    refused(StateError::bad_pointer);  // and not only since there is no current one
    write_at(state, vmcs_count_at, 33U);
    refused(StateError::not_a_state);
}

TEST_F(BadState, WithAPointerOfAVmcsThatIsNotCurrent) {
    l1.l2_executes_cpuid();
    l1.make_vmcs(1);
    const Bytes good = l1.save_state();
    for (const std::uint64_t pointer :
         {std::uint64_t{0x1'0001}, std::uint64_t{1} << 40, layout::vmxon_region}) {
        state = good;
        write_at(state, first_vmcs_at, pointer);
        refused(StateError::bad_pointer);
    }
}

TEST(State, HasAsManyVmcssAsCanBeActive) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    for (unsigned n = 0; n < 32; ++n) {
        l1.make_vmcs(n);
        l1.write(field::tsc_offset, n + 7);
    }
    l1.begin_anew();
    for (unsigned n = 0; n < 32; ++n) {
        ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
        EXPECT_EQ(l1.read(field::tsc_offset), n + 7);
    }
}

TEST_F(BadState, WithFieldsThatAreNoneOrNotThisL1s) {
    const Bytes good = state;
    const std::size_t at = field_of_vmcs(state, field::host_rip);
    for (const std::uint32_t encoding : {0x7fffU, field::host_rip.encoding | 0x1'0000, ~0U,
                                         field::posted_interrupt_descriptor_address.encoding}) {
        state = good;
        write_at(state, at, encoding);
        refused(StateError::unknown_field);
    }
    state = good;
    write_at(state, field_of_vmcs(state, field::guest_ia32_efer), field::guest_ia32_efer.encoding + 1);
    refused(StateError::unknown_field);
    // A control in the list of the running L2.
    state = good;
    write_at(state, field_of_l2(state, field::guest_ia32_efer), field::ept_pointer.encoding);
    refused(StateError::unknown_field);
}

TEST(State, OfARunningL2HasNoFieldThatL1Lacks) {
    VirtualCpu::Options options;
    options.hardware.pin_based.allowed1 &= ~vmx::pin::activate_vmx_preemption_timer;
    options.hardware.vm_exit.allowed1 &= ~vmx::exit_control::save_vmx_preemption_timer_value;
    VirtualCpu l1{options};
    l1.prepare_and_launch();
    Bytes state = l1.save_state();
    constexpr std::uint32_t timer = field::vmx_preemption_timer_value.encoding;
    // In the place of the last field before it.
    std::size_t at = list_of_l2(state) + 4;
    while (at + field_bytes < state.size() && read_at<std::uint32_t>(state, at + field_bytes) < timer)
        at += field_bytes;
    ASSERT_LT(read_at<std::uint32_t>(state, at), timer);
    write_at(state, at, timer);
    expect_refused(l1, state, StateError::unknown_field);
}

TEST_F(BadState, WithAFieldTwiceOrInAnotherOrder) {
    const Bytes good = state;
    for (const std::size_t at :
         {field_of_vmcs(state, field::host_cr3), field_of_l2(state, field::guest_cr3)}) {
        state = good;
        write_at(state, at + field_bytes, read_at<std::uint32_t>(state, at));
        refused(StateError::fields_not_sorted);
        state = good;
        std::swap_ranges(state.begin() + static_cast<std::ptrdiff_t>(at),
                         state.begin() + static_cast<std::ptrdiff_t>(at + field_bytes),
                         state.begin() + static_cast<std::ptrdiff_t>(at + field_bytes));
        refused(StateError::fields_not_sorted);
    }
}

TEST_F(BadState, WithMoreBitsThanAFieldHas) {
    const Bytes good = state;
    write_at(state, field_of_vmcs(state, field::host_cs_selector) + 4, std::uint64_t{0x1'0010});
    refused(StateError::value_too_wide);
    state = good;
    write_at(state, field_of_l2(state, field::guest_tr_limit) + 4, std::uint64_t{1} << 32);
    refused(StateError::value_too_wide);
}

// What L1 could not have entered with.
TEST_F(BadState, WithControlsOfARunningL2ThatNoEntryTakes) {
    const Bytes good = state;
    const auto set = [&](const auto& which, std::uint64_t bits) {
        const std::size_t at = field_of_vmcs(state, which) + 4;
        write_at(state, at, read_at<std::uint64_t>(state, at) | bits);
        refused(StateError::impossible);
        state = good;
    };
    set(field::pin_based_vm_execution_controls, vmx::pin::process_posted_interrupts);
    set(field::primary_processor_based_vm_execution_controls, vmx::primary::monitor_trap_flag);
    set(field::vm_exit_controls, vmx::exit_control::clear_ia32_bndcfgs);
    set(field::vm_entry_controls, vmx::entry_control::entry_to_smm);
    set(field::host_cr4, std::uint64_t{1} << 40);
    // It was not launched, or is not there.
    write_at(state, first_vmcs_at + 8, 0U);
    refused(StateError::impossible);
    state = good;
    write_at(state, current_pointer_at, ~std::uint64_t{0});
    refused(StateError::impossible);
}

TEST_F(BadState, WithAnL2ThatL0WouldNotHaveLetRun) {
    const Bytes good = state;
    const auto refused_with = [&](const auto& which, std::uint64_t value) {
        std::size_t at = field_of_l2(state, which);
        if (at >= state.size() || read_at<std::uint32_t>(state, at) != which.encoding) {
            // Zero until now: put in, in order.
            const std::size_t list = list_of_l2(state);
            at = list + 4;
            while (at < state.size() && read_at<std::uint32_t>(state, at) < which.encoding) at += field_bytes;
            state.insert(state.begin() + static_cast<std::ptrdiff_t>(at), field_bytes, std::byte{});
            write_at(state, at, which.encoding);
            write_at(state, list, read_at<std::uint32_t>(state, list) + 1);
            set_size(state);
        }
        write_at(state, at + 4, value);
        refused(StateError::impossible);
        state = good;
    };
    refused_with(field::guest_cr4, 0x26a0 | x86::cr4::smx_enable);
    l1.port.msrs.erase(x86::msr::ia32_debugctl);  // no WRMSR sets it
    refused_with(field::guest_ia32_debugctl, x86::debugctl::branch_trace_store);
    refused_with(field::guest_activity_state, 4);
    refused_with(field::vm_entry_controls, vmx::entry_control::load_ia32_pat);
}

TEST_F(BadState, OfAnL1ThatWasPromisedSomethingElse) {
    const Bytes good = state;
    const auto refused_with = [&](unsigned msr, std::uint64_t set, std::uint64_t clear) {
        const std::size_t at = capabilities_at + 8 * (msr - 0x480);
        write_at(state, at, (read_at<std::uint64_t>(state, at) | set) & ~clear);
        refused(StateError::promise_not_kept);
        state = good;
    };
    refused_with(0x480, 0, 1);                             // revision identifier
    refused_with(0x48d, std::uint64_t{1} << (32 + 7), 0);  // posted interrupts
    refused_with(0x48d, 0, 2);                             // a control that need not be 1
    refused_with(0x48e, std::uint64_t{1} << (32 + 27), 0);
    refused_with(0x48b, std::uint64_t{1} << (32 + 13), 0);  // VM functions
    refused_with(0x48f, std::uint64_t{1} << (32 + 23), 0);
    refused_with(0x490, std::uint64_t{1} << (32 + 16), 0);
    refused_with(0x485, 1, 0x1e);                    // the rate of the timer
    refused_with(0x485, std::uint64_t{7} << 25, 0);  // longer MSR lists
    refused_with(0x486, 0, 1);                       // CR0.PE may be 0
    refused_with(0x489, std::uint64_t{1} << 40, 0);
    refused_with(0x48a, 0x3fe, 0);
    refused_with(0x48c, std::uint64_t{1} << 7, 0);
}

// Entry in an activity state that the host keeps from this L1.
TEST_F(BadState, OfAnL1ThatMayEnterItsGuestsHalted) {
    VirtualCpu without{{.withheld_misc = vmx::MiscCapability::activity_hlt}};
    without.prepare_and_launch();
    expect_refused(without, state, StateError::promise_not_kept);
    EXPECT_EQ(l1.restore_state(without.save_state()), std::nullopt) << "less was promised there";
}

}  // namespace
}  // namespace flatback::nested_test::state_test
