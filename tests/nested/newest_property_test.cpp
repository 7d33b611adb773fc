// Random lives of L1's VMCSs against a model that has one word a field: whatever way a value took (VMWRITE,
// the shadow VMCS, an exit of L2's, what an exit does not save, a failed entry, VMCLEAR and VMPTRLD, a state
// that is saved and restored elsewhere), L1's VMREADs and the next entry find the newest.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <map>
#include <vector>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/controls.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::newest_property_test {
namespace {

namespace efer = x86::efer;
constexpr std::uint64_t long_mode = efer::long_mode_active | efer::long_mode_enable;
constexpr std::uint32_t ia32e = vmx::entry_control::ia32e_mode_guest;

using Words = std::map<std::uint32_t, std::uint64_t>;

struct Choice {
    std::uint32_t encoding;
    std::vector<std::uint64_t> values;
};

// Guest state that an exit always saves and an entry always loads. Some values are good only beside some of
// the others: see is_good().
const std::vector<Choice> always_saved = {
    {field::guest_cr3.encoding, {0x70'0000, 0x71'0000, 0x72'0000}},
    {field::guest_rsp.encoding, {0x7f'0000, 0x7f'1000, 0x7f'2000}},
    {field::guest_rflags.encoding, {0x202, 0x602, 0x203, 0}},
    {field::guest_gdtr_base.encoding, {0x1000, 0x2000, 0xffff'8000'0000'0000}},
    {field::guest_ia32_sysenter_esp.encoding, {0x3000, 0x4000}},
    {field::guest_fs_base.encoding, {0x5000, 0x6000}},
    {field::guest_interruptibility_state.encoding, {0, 0, 1, 2, 8}},
    {field::guest_activity_state.encoding, {0, 0, 0, 2}},
    {field::guest_pending_debug_exceptions.encoding, {0, 0x1000}},
};
// What an exit saves only where a control says so.
const std::vector<Choice> saved_by_control = {
    {field::guest_dr7.encoding, {0x400, 0x401, 0x455}},
    {field::guest_ia32_debugctl.encoding, {0, 1}},
    {field::guest_ia32_pat.encoding, {0x0007'0406'0007'0406, 0x0606'0606'0606'0606, 0x0404'0404'0404'0404}},
    {field::vmx_preemption_timer_value.encoding, {100, 200, 300}},
};
const std::vector<Choice> plain_controls = {
    {field::tsc_offset.encoding, {0, 5, 7}},
    {field::exception_bitmap.encoding, {0, 0x4000}},
    {field::cr3_target_count.encoding, {0, 0, 0, 1, 5}},
    {field::host_cs_selector.encoding, {0x10, 0x10, 0x10, 0}},
    {field::host_ia32_pat.encoding, {0x0007'0406'0007'0406, 0x0505'0505'0505'0505}},
    {field::vmcs_link_pointer.encoding, {~0ULL, ~0ULL, ~0ULL, 5}},
    {field::vm_entry_interruption_information.encoding, {0, 0, 0x8000'0030}},
};

struct Model {
    unsigned number = 0;
    bool launched = false;
    Words words;

    std::uint64_t& operator[](const auto& which) { return words[which.encoding]; }
    [[nodiscard]] bool has(const auto& which, std::uint64_t bits) { return ((*this)[which] & bits) != 0; }
};

class World {
public:
    explicit World(bool shadow_vmcs, const nested::LearningRule& learning)
        : l1{{.shadow_vmcs = shadow_vmcs, .learning = learning}} {
        l1.enter_vmx_operation();
        for (unsigned n = 0; n < 2; ++n) {
            l1.make_vmcs(n);
            vmcs_[n].number = n;
            for (const auto* group : {&always_saved, &saved_by_control, &plain_controls}) {
                for (const Choice& choice : *group) remember(n, choice.encoding);
            }
            for (const auto encoding :
                 {field::vm_entry_controls.encoding, field::vm_exit_controls.encoding,
                  field::pin_based_vm_execution_controls.encoding,
                  field::primary_processor_based_vm_execution_controls.encoding, field::guest_cr4.encoding,
                  field::guest_cs_access_rights.encoding, field::guest_rip.encoding,
                  field::guest_ia32_efer.encoding, field::exit_reason.encoding,
                  field::exit_qualification.encoding, field::vm_exit_instruction_information.encoding,
                  field::vm_entry_msr_load_count.encoding}) {
                remember(n, encoding);
            }
        }
        l1.port.tsc = std::uint64_t{1} << 40;
        l1_pat_ = l1.vmcs01().get(field::guest_ia32_pat);
        l1_efer_ = l1.vmcs01().get(field::guest_ia32_efer);
        l1_dr7_ = l1.vmcs01().get(field::guest_dr7);
    }

    void step() {
        switch (*rc::gen::inRange(0, 13)) {
            case 12:
                return l1.begin_anew();
            case 0:
            case 1:
                return write_one_of(always_saved);
            case 2:
                return write_one_of(saved_by_control);
            case 3:
                return write_one_of(plain_controls);
            case 4:
                return change_control();
            case 5:
                return write_mode(*rc::gen::arbitrary<bool>());
            case 6:
                return read_some();
            case 7:
                return change_vmcs();
            case 8:
                return choose_msr_list();
            default:
                repair();
                return enter();
        }
    }
    void read_everything() {
        for (const unsigned n : {0U, 1U}) {
            load(n);
            for (const auto& [encoding, value] : now().words) check(encoding);
        }
    }

private:
    Model& now() { return vmcs_.at(current_); }
    void remember(unsigned n, std::uint32_t encoding) { vmcs_.at(n).words[encoding] = l1.read_raw(encoding); }
    void write(std::uint32_t encoding, std::uint64_t value) {
        l1.write_raw(encoding, value);
        now().words[encoding] = value;
    }
    void check(std::uint32_t encoding) {
        const std::uint64_t found = l1.read_raw(encoding);
        if (found != now().words.at(encoding)) {
            RC_FAIL(std::string{vmx::name_of(encoding)} + " is " + std::to_string(found) + ", not " +
                    std::to_string(now().words.at(encoding)));
        }
    }

    void write_one_of(const std::vector<Choice>& group) {
        const Choice& choice = *rc::gen::elementOf(group);
        write(choice.encoding, *rc::gen::elementOf(choice.values));
    }
    void change_control() {
        namespace in = vmx::entry_control;
        namespace out = vmx::exit_control;
        const auto toggle = [&](const auto& which, std::uint32_t bit) {
            write(which.encoding, now()[which] ^ bit);
        };
        switch (*rc::gen::inRange(0, 11)) {
            case 0:
                return toggle(field::vm_entry_controls, in::load_debug_controls);
            case 1:
                return toggle(field::vm_entry_controls, in::load_ia32_pat);
            case 2:
                return toggle(field::vm_entry_controls, in::load_ia32_efer);
            case 3:
                return toggle(field::vm_exit_controls, out::save_debug_controls);
            case 4:
                return toggle(field::vm_exit_controls, out::save_ia32_pat);
            case 5:
                return toggle(field::vm_exit_controls, out::load_ia32_pat);
            case 6:
                return toggle(field::vm_exit_controls, out::save_ia32_efer);
            case 7:
                return toggle(field::vm_exit_controls, out::load_ia32_efer);
            case 8:
                toggle(field::pin_based_vm_execution_controls, vmx::pin::activate_vmx_preemption_timer);
                return write(field::vm_exit_controls.encoding,
                             now()[field::vm_exit_controls] & ~out::save_vmx_preemption_timer_value);
            case 9:
                if (now().has(field::pin_based_vm_execution_controls,
                              vmx::pin::activate_vmx_preemption_timer))
                    toggle(field::vm_exit_controls, out::save_vmx_preemption_timer_value);
                return;
            default:  // by the shadow VMCS, where there is one
                return toggle(
                    field::primary_processor_based_vm_execution_controls,
                    *rc::gen::element(vmx::primary::rdtsc_exiting, vmx::primary::interrupt_window_exiting));
        }
    }
    // 64-bit code, or 32-bit code with 32-bit paging.
    static Words mode(bool wide) {
        return {{field::guest_cr4.encoding, wide ? 0x26a0U : 0x2680U},
                {field::guest_cs_access_rights.encoding, wide ? 0xa09bU : 0xc09bU},
                {field::guest_rip.encoding, wide ? 0xffff'8000'0040'0000ULL : 0x2000U},
                {field::guest_ia32_efer.encoding, wide ? 0xd01U : 1U}};
    }
    void write_mode(bool wide) {
        for (const auto& [encoding, value] : mode(wide)) write(encoding, value);
        write(field::vm_entry_controls.encoding,
              (now()[field::vm_entry_controls] & ~std::uint64_t{ia32e}) | (wide ? ia32e : 0));
    }
    void read_some() {
        const auto& words = now().words;
        for (int n = *rc::gen::inRange(1, 6); n > 0; --n) {
            check(std::next(words.begin(), *rc::gen::inRange(0, static_cast<int>(words.size())))->first);
        }
    }
    void load(unsigned n) {
        RC_ASSERT(l1.vmptrld(layout::vmcs_region(n)) == vm_succeed);
        current_ = n;
    }
    void change_vmcs() {
        if (*rc::gen::arbitrary<bool>()) {
            RC_ASSERT(l1.vmclear(layout::vmcs_region(current_)) == vm_succeed);
            now().launched = false;
        }
        load(*rc::gen::inRange(0U, 2U));
    }
    // None, one that loads PAT, or one that no processor takes.
    void choose_msr_list() {
        const auto kind = *rc::gen::inRange(0U, 3U);
        l1.port.memory.write<std::uint64_t>(layout::msr_list + 0x100ULL * current_,
                                            kind == 2 ? x86::msr::ia32_fs_base : x86::msr::ia32_pat);
        l1.port.memory.write<std::uint64_t>(layout::msr_list + 0x100ULL * current_ + 8, list_pat);
        l1.write(field::vm_entry_msr_load_address, layout::msr_list + 0x100ULL * current_);
        write(field::vm_entry_msr_load_count.encoding, kind == 0 ? 0 : 1);
        list_is_bad_.at(current_) = kind == 2;
    }
    // Most programs would otherwise never enter again.
    void repair() {
        if (*rc::gen::inRange(0, 4) == 0) return;
        write(field::cr3_target_count.encoding, 0);
        write(field::host_cs_selector.encoding, 0x10);
        write(field::vmcs_link_pointer.encoding, ~0ULL);
        if (now()[field::guest_rflags] == 0) write(field::guest_rflags.encoding, 0x202);
        if (*rc::gen::arbitrary<bool>()) {
            write(field::guest_interruptibility_state.encoding, 0);
            write(field::guest_activity_state.encoding, 0);
            write_mode(*rc::gen::arbitrary<bool>());
        }
    }

    // SDM 3C 27.3.1, as far as the values here can break it.
    bool guest_state_is_good() {
        Model& v = now();
        const bool event = v.has(field::vm_entry_interruption_information, 0x8000'0000);
        const bool blocked = v.has(field::guest_interruptibility_state, 3);
        if (v[field::guest_rflags] == 0) return false;
        if (v.has(field::vm_entry_controls, vmx::entry_control::load_ia32_efer) &&
            (v[field::guest_ia32_efer] & long_mode) !=
                (v.has(field::vm_entry_controls, ia32e) ? long_mode : 0))
            return false;
        if (event && blocked) return false;
        if (v[field::guest_activity_state] != 0 && (event || blocked)) return false;
        return v[field::vmcs_link_pointer] == ~0ULL;
    }

    void enter() {
        Model& v = now();
        const Outcome outcome = v.launched ? l1.vmresume() : l1.vmlaunch();
        if (v[field::cr3_target_count] > 4) {
            RC_ASSERT(outcome == vm_fail(InstructionError::entry_with_invalid_control_fields));
            return;
        }
        if (v[field::host_cs_selector] == 0) {
            RC_ASSERT(outcome == vm_fail(InstructionError::entry_with_invalid_host_state_fields));
            return;
        }
        const bool loads_pat = v.has(field::vm_exit_controls, vmx::exit_control::load_ia32_pat);
        const bool loads_efer = v.has(field::vm_exit_controls, vmx::exit_control::load_ia32_efer);
        const auto fail = [&](ExitReason reason, std::uint64_t qualification) {
            RC_ASSERT(outcome == l1_sees(reason));
            v[field::exit_reason] = vmx::ExitReasonField::entry_failure(reason).value;
            v[field::exit_qualification] = qualification;
            leave_to_l1();
        };
        if (!guest_state_is_good()) {
            if (loads_pat) l1_pat_ = v[field::host_ia32_pat];
            if (loads_efer) l1_efer_ = 0xd01;
            const bool link = v[field::vmcs_link_pointer] != ~0ULL;
            const std::uint64_t found = l1.read(field::exit_qualification);
            if (link) RC_ASSERT(found == 4U || found == 0U);
            return fail(ExitReason::entry_failure_guest_state, link ? found : 0);
        }
        Words l2 = what_l2_starts_with();
        if (v[field::vm_entry_msr_load_count] != 0 && list_is_bad_.at(current_)) {
            take_l1_state_from(l2);
            return fail(ExitReason::entry_failure_msr_loading, 1);
        }
        if (outcome != l2_runs) RC_FAIL("refused: " + std::string{l1.refused_rule});
        v.launched = true;
        if (v[field::vm_entry_msr_load_count] != 0) l2[field::guest_ia32_pat.encoding] = list_pat;
        for (const auto& [encoding, value] : l2) expect_in_vmcs02(encoding, value);
        RC_ASSERT((l1.vmcs02().get(field::vm_entry_controls) & ia32e) ==
                  (v[field::vm_entry_controls] & ia32e));
        for (const auto& which : {field::tsc_offset.encoding, field::exception_bitmap.encoding})
            expect_in_vmcs02(which, v.words.at(which));
        run_l2(l2);
    }
    void expect_in_vmcs02(std::uint32_t encoding, std::uint64_t value) {
        if (l1.vmcs02().word(encoding) != value) {
            RC_FAIL("L2 starts with " + std::string{vmx::name_of(encoding)} + " " +
                    std::to_string(l1.vmcs02().word(encoding)) + ", not " + std::to_string(value));
        }
    }

    Words what_l2_starts_with() {
        Model& v = now();
        Words l2;
        timer_ends_ = (l1.port.tsc >> timer_rate()) + v[field::vmx_preemption_timer_value];
        for (const Choice& choice : always_saved) l2[choice.encoding] = v.words.at(choice.encoding);
        for (const auto& which : {field::guest_cr4, field::guest_rip}) l2[which.encoding] = v[which];
        l2[field::guest_cs_access_rights.encoding] = v[field::guest_cs_access_rights];
        const auto loads = [&](std::uint32_t bit) { return v.has(field::vm_entry_controls, bit); };
        const bool debug = loads(vmx::entry_control::load_debug_controls);
        l2[field::guest_dr7.encoding] = debug ? v[field::guest_dr7] : l1_dr7_;
        l2[field::guest_ia32_debugctl.encoding] = debug ? v[field::guest_ia32_debugctl] : 0;
        l2[field::guest_ia32_pat.encoding] =
            loads(vmx::entry_control::load_ia32_pat) ? v[field::guest_ia32_pat] : l1_pat_;
        // SDM 3C 27.3.2.1
        l2[field::guest_ia32_efer.encoding] = loads(vmx::entry_control::load_ia32_efer)
                                                  ? v[field::guest_ia32_efer]
                                                  : (l1_efer_ & ~long_mode) | (loads(ia32e) ? long_mode : 0);
        if (v.has(field::pin_based_vm_execution_controls, vmx::pin::activate_vmx_preemption_timer))
            l2[field::vmx_preemption_timer_value.encoding] = v[field::vmx_preemption_timer_value];
        return l2;
    }

    void run_l2(Words& l2) {
        const bool active = l2[field::guest_activity_state.encoding] == 0;
        for (int n = active ? *rc::gen::inRange(0, 6) : 0; n > 0; --n) {
            switch (*rc::gen::inRange(0, 5)) {
                case 4:
                    l1.begin_anew();
                    break;
                case 0: {  // L2 changes its mode
                    const bool wide = *rc::gen::arbitrary<bool>();
                    for (const auto& [encoding, value] : mode(wide)) set(l2, encoding, value);
                    auto& controls = l1.vmcs02().word(field::vm_entry_controls.encoding);
                    controls = (controls & ~std::uint64_t{ia32e}) | (wide ? ia32e : 0);
                    break;
                }
                case 1: {  // an exit that L1 does not see
                    const Outcome outcome = l1.l2_exits({.reason = ExitReason::ept_violation,
                                                         .qualification = 0x181,
                                                         .instruction_information = 0x77,
                                                         .guest_physical = 0x1234});
                    RC_ASSERT(outcome == l2_runs);
                    break;
                }
                default: {
                    const auto& group = *rc::gen::arbitrary<bool>() ? always_saved : saved_by_control;
                    const Choice& choice = *rc::gen::elementOf(group);
                    const auto value = *rc::gen::elementOf(choice.values);
                    if (!l2.contains(choice.encoding)) break;
                    if (choice.encoding == field::guest_activity_state.encoding) break;
                    if (choice.encoding == field::guest_rflags.encoding && value == 0) break;
                    set(l2, choice.encoding, value);
                }
            }
        }
        const auto mark = *rc::gen::inRange(1U, 1000U);
        const Outcome outcome = l1.l2_exits({.reason = ExitReason::io_instruction,
                                             .qualification = mark,
                                             .instruction_information = mark + 1});
        RC_ASSERT(outcome == l1_sees(ExitReason::io_instruction));
        Model& v = now();
        v[field::exit_reason] = static_cast<std::uint32_t>(ExitReason::io_instruction);
        v[field::exit_qualification] = mark;
        v[field::vm_exit_instruction_information] = mark + 1;
        save(l2);
        take_l1_state_from(l2);
        leave_to_l1();
    }
    void set(Words& l2, std::uint32_t encoding, std::uint64_t value) {
        l2[encoding] = value;
        if (encoding == field::vmx_preemption_timer_value.encoding) {
            // It goes by the clock.
            l1.port.tsc = (timer_ends_ - value) << timer_rate();
            return;
        }
        l1.vmcs02().word(encoding) = value;
    }
    [[nodiscard]] unsigned timer_rate() const {
        return l1.capabilities.promised.misc.preemption_timer_rate();
    }
    // SDM 3C 28.3
    void save(const Words& l2) {
        Model& v = now();
        const auto saves = [&](std::uint32_t bit) { return v.has(field::vm_exit_controls, bit); };
        for (const auto& [encoding, value] : l2) {
            if ((encoding == field::guest_dr7.encoding || encoding == field::guest_ia32_debugctl.encoding) &&
                !saves(vmx::exit_control::save_debug_controls))
                continue;
            if (encoding == field::guest_ia32_pat.encoding && !saves(vmx::exit_control::save_ia32_pat))
                continue;
            if (encoding == field::guest_ia32_efer.encoding && !saves(vmx::exit_control::save_ia32_efer))
                continue;
            if (encoding == field::vmx_preemption_timer_value.encoding &&
                !saves(vmx::exit_control::save_vmx_preemption_timer_value))
                continue;
            v.words[encoding] = value;
        }
        v[field::vm_entry_controls] = (v[field::vm_entry_controls] & ~std::uint64_t{ia32e}) |
                                      (l1.vmcs02().get(field::vm_entry_controls) & ia32e);
        v[field::vm_entry_interruption_information] &= 0x7fff'ffff;
    }
    // SDM 3C 28.5.1
    void take_l1_state_from(const Words& l2) {
        Model& v = now();
        l1_pat_ = v.has(field::vm_exit_controls, vmx::exit_control::load_ia32_pat)
                      ? v[field::host_ia32_pat]
                      : l2.at(field::guest_ia32_pat.encoding);
        l1_efer_ = v.has(field::vm_exit_controls, vmx::exit_control::load_ia32_efer)
                       ? 0xd01
                       : (l2.at(field::guest_ia32_efer.encoding) & ~long_mode) | long_mode;
    }
    void leave_to_l1() {
        l1_dr7_ = 0x400;
        RC_ASSERT(l1.vmcs01().get(field::guest_ia32_pat) == l1_pat_);
        RC_ASSERT(l1.vmcs01().get(field::guest_ia32_efer) == l1_efer_);
    }

    static constexpr std::uint64_t list_pat = 0x0101'0101'0101'0101;
    VirtualCpu l1;
    std::array<Model, 2> vmcs_;
    std::array<bool, 2> list_is_bad_{};
    unsigned current_ = 1;
    std::uint64_t timer_ends_ = 0;  // in its units
    std::uint64_t l1_pat_ = 0;
    std::uint64_t l1_efer_ = 0;
    std::uint64_t l1_dr7_ = 0;
};

void live(bool shadow_vmcs, const nested::LearningRule& learning = {}) {
    World world{shadow_vmcs, learning};
    for (int steps = *rc::gen::inRange(10, 150); steps > 0; --steps) world.step();
    world.read_everything();
}

RC_GTEST_PROP(NewestValue, IsWhatL1AndTheEntryFind, ()) {
    live(false);
}
RC_GTEST_PROP(NewestValue, IsWhatL1AndTheEntryFindWithAShadowVmcs, ()) {
    live(true);
}
// Every field that is used twice is learned, and soon forgotten.
RC_GTEST_PROP(NewestValue, IsWhatL1AndTheEntryFindWhereFieldsAreLearned, ()) {
    live(true, {.uses = *rc::gen::element<std::uint8_t>(1, 2),
                .within = 1000,
                .trial_every = *rc::gen::element<std::uint32_t>(1, 3, 1000)});
}

}  // namespace
}  // namespace flatback::nested_test::newest_property_test
