// NMIs, L1's own events and interrupted deliveries in any order, with entries that fail in every way: none is
// lost, none made up, and none given where it is blocked.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <optional>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::nmi_model_test {
namespace {

namespace bit = vmx::interruptibility;
constexpr std::uint32_t valid = vmx::InterruptionInformation::valid_bit;
constexpr std::uint32_t nmi = 0x8000'0202;
constexpr std::uint32_t external_30 = 0x8000'0030;
constexpr std::uint32_t general_protection_event = 0x8000'0b0d;

class NmiModel {
public:
    explicit NmiModel(bool shadow) : l1_{{.shadow_vmcs = shadow}} { l1_.prepare(); }

    void step() {
        switch (*rc::gen::inRange(0, 6)) {
            case 0:
                nmi_comes();
                break;
            case 1:
                if (!l1_.in_l2()) l1_sets_up_l2();
                break;
            case 2:
                // L1 is done with an NMI, or does something that L0 sees.
                if (!l1_.in_l2()) l1_.vmcs01().set(field::guest_interruptibility_state, 0);
                if (!l1_.in_l2()) (void)l1_.vmcall();
                break;
            default:
                l1_.in_l2() ? l2_exits() : l1_enters_l2();
        }
        check_totals();
    }

private:
    void nmi_comes() {
        if (!l1_.port.nmi_pending) ++came_;  // the processor keeps one
        l1_.port.nmi_pending = true;
    }

    void l1_sets_up_l2() {
        pin_ = *rc::gen::element<std::uint32_t>(0, vmx::pin::nmi_exiting,
                                                vmx::pin::nmi_exiting | vmx::pin::virtual_nmis);
        l1_.lower(field::pin_based_vm_execution_controls, vmx::pin::nmi_exiting | vmx::pin::virtual_nmis);
        l1_.raise(field::pin_based_vm_execution_controls, pin_);
        const auto state =
            *rc::gen::element(0U, bit::blocking_by_sti, bit::blocking_by_mov_ss, bit::blocking_by_nmi);
        l1_.write(field::guest_interruptibility_state, state);
        l1_.write(field::guest_cr0,
                  *rc::gen::weightedElement<std::uint64_t>({{7, 0x8005'0033}, {1, 0x8005'0032}}));
    }

    void l1_enters_l2() {
        const auto event = *rc::gen::element(0U, 0U, external_30, nmi, general_protection_event);
        if (*rc::gen::arbitrary<bool>()) l1_.write(field::vm_entry_interruption_information, event);
        const auto own = static_cast<std::uint32_t>(l1_.read(field::vm_entry_interruption_information));
        const auto state = static_cast<std::uint32_t>(l1_.read(field::guest_interruptibility_state));
        l1_.refusal = any_refusal();
        const bool waited = l1_.port.nmi_pending;
        const unsigned before = l1_.nmis_in_l2;
        const Outcome outcome = launched_ ? l1_.vmresume() : l1_.vmlaunch();
        l1_.refusal.reset();
        const bool nmi_exit = outcome == l1_sees(ExitReason::exception_or_nmi);
        if (outcome == l2_runs || nmi_exit) launched_ = true;
        entered(outcome, own, state, waited, before);
        if (outcome != l2_runs && !nmi_exit) {
            RC_ASSERT(l1_.read(field::vm_entry_interruption_information) == own);
        }
    }

    void l2_exits() {
        FakeVmcs& v = l1_.vmcs02();
        auto state =
            *rc::gen::element(0U, 0U, bit::blocking_by_sti, bit::blocking_by_mov_ss, bit::blocking_by_nmi);
        std::uint32_t vectoring = 0;
        if (state == 0) vectoring = *rc::gen::element(0U, external_30, nmi, general_protection_event);
        if (vectoring == nmi) state = bit::blocking_by_nmi;
        v.set(field::guest_interruptibility_state, state);
        const bool waited = l1_.port.nmi_pending;
        const unsigned before = l1_.nmis_in_l2;
        if (const auto window = open_window(); window && *rc::gen::arbitrary<bool>()) {
            v.set(field::guest_interruptibility_state, 0);
            entered(l1_.l2_exits({.reason = *window}), 0, 0, waited, before);
            return;
        }
        if (open_window() == ExitReason::nmi_window && *rc::gen::arbitrary<bool>()) {
            // Another, which the processor would have kept with the one that waits.
            v.set(field::guest_interruptibility_state, state);
            entered(l1_.l2_exits({.reason = ExitReason::exception_or_nmi, .interruption = nmi}), 0, state,
                    waited, before);
            return;
        }
        if (*rc::gen::arbitrary<bool>()) {
            RC_ASSERT(l1_.l2_exits({.reason = ExitReason::cpuid, .vectoring = vectoring}) ==
                      l1_sees(ExitReason::cpuid));
            RC_ASSERT(l1_.read(field::idt_vectoring_information) == vectoring);
            RC_ASSERT((l1_.read(field::vm_entry_interruption_information) & valid) == 0U);
            return;
        }
        l1_.refusal = any_refusal();
        const bool refused = l1_.refusal.has_value();
        const Outcome outcome = l1_.l2_exits({.reason = ExitReason::ept_violation, .vectoring = vectoring});
        const bool entry_tried = !l1_.refusal;
        l1_.refusal.reset();
        if (refused && entry_tried) {
            RC_ASSERT(outcome == l1_sees(ExitReason::triple_fault));
            return;
        }
        entered(outcome, vectoring, vectoring == nmi ? 0 : state, waited, before);
    }

    // What became of an entry with `own` to deliver, into a guest blocked so.
    void entered(const Outcome& outcome, std::uint32_t own, std::uint32_t state, bool waited,
                 unsigned before) {
        constexpr std::uint32_t one_instruction = bit::blocking_by_sti | bit::blocking_by_mov_ss;
        const bool by_nmi = (state & bit::blocking_by_nmi) != 0 && (pin_ & vmx::pin::virtual_nmis) == 0;
        const bool open = (own & valid) == 0 && (state & one_instruction) == 0 && !by_nmi;
        if (outcome == l2_runs) {
            const bool given = waited && open;
            RC_ASSERT(!given || (pin_ & vmx::pin::nmi_exiting) == 0U);
            RC_ASSERT(l1_.port.nmi_pending == (waited && !open));
            RC_ASSERT(open_window() == expected_window(waited && !open, own, state, by_nmi));
            if ((own & valid) != 0) {
                RC_ASSERT(l1_.injected() == own);
            } else {
                RC_ASSERT((l1_.injected() & valid) == (given ? valid : 0U));
            }
            RC_ASSERT(l1_.nmis_in_l2 - before == (given || own == nmi ? 1U : 0U));
            given_to_l2_ += given ? 1 : 0;
        } else if (outcome == l1_sees(ExitReason::exception_or_nmi)) {
            RC_ASSERT(waited);
            RC_ASSERT(open);
            RC_ASSERT((pin_ & vmx::pin::nmi_exiting) != 0U);
            RC_ASSERT(l1_.read(field::vm_exit_interruption_information) == nmi);
            RC_ASSERT(l1_.read(field::idt_vectoring_information) == 0U);
            RC_ASSERT(l1_.vmcs01().get(field::guest_interruptibility_state) == bit::blocking_by_nmi);
            ++exits_;
        }
    }

    // SDM 3C 26.2: which exit tells that the NMI can be given. L1 asks for neither window.
    [[nodiscard]] std::optional<ExitReason> expected_window(bool waits, std::uint32_t own,
                                                            std::uint32_t state, bool by_nmi) const {
        if (!waits) return std::nullopt;
        const bool l1_takes_nmis = (pin_ & vmx::pin::nmi_exiting) != 0;
        if (by_nmi && (l1_takes_nmis || own == nmi)) return std::nullopt;
        const std::uint32_t shadow =
            (own & valid) != 0 ? 0 : state & (bit::blocking_by_sti | bit::blocking_by_mov_ss);
        if (!l1_takes_nmis && (shadow & bit::blocking_by_sti) == 0) return ExitReason::nmi_window;
        return shadow != 0 ? ExitReason::interrupt_window : ExitReason::vmx_preemption_timer_expired;
    }

    std::optional<ExitReason> open_window() {
        const auto primary = l1_.vmcs02().get(field::primary_processor_based_vm_execution_controls);
        const auto pin = l1_.vmcs02().get(field::pin_based_vm_execution_controls);
        constexpr std::uint32_t both = vmx::pin::nmi_exiting | vmx::pin::virtual_nmis;
        const bool for_nmis = (primary & vmx::primary::nmi_window_exiting) != 0;
        RC_ASSERT((pin & both) == (for_nmis ? both : pin_));
        if (for_nmis) return ExitReason::nmi_window;
        if ((primary & vmx::primary::interrupt_window_exiting) != 0) return ExitReason::interrupt_window;
        if ((pin & vmx::pin::activate_vmx_preemption_timer) != 0)
            return ExitReason::vmx_preemption_timer_expired;
        return std::nullopt;
    }

    void check_totals() {
        RC_ASSERT(came_ == l1_.nmis_in_l1 + given_to_l2_ + exits_ + (l1_.port.nmi_pending ? 1U : 0U));
    }

    static std::optional<VirtualCpu::Refusal> any_refusal() {
        using Refusal = VirtualCpu::Refusal;
        return *rc::gen::weightedElement<std::optional<Refusal>>(
            {{9, std::nullopt}, {1, Refusal::vmfail}, {1, Refusal::guest_state}, {1, Refusal::msr_list}});
    }

    VirtualCpu l1_;
    std::uint32_t pin_ = 0;
    bool launched_ = false;
    unsigned came_ = 0;
    unsigned given_to_l2_ = 0;
    unsigned exits_ = 0;
};

RC_GTEST_PROP(NmiModel, EachReachesOneGuestOnceInAnyOrder, (bool shadow)) {
    NmiModel model{shadow};
    const int steps = *rc::gen::inRange(1, 60);
    for (int n = 0; n < steps; ++n) model.step();
}

}  // namespace
}  // namespace flatback::nested_test::nmi_model_test
