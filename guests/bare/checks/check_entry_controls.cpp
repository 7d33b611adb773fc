// VM entries that fail on their controls: VMfailValid 7. SDM 3C 27.2.1.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/mutation.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t pin_controls = field::pin_based_vm_execution_controls.encoding;
constexpr std::uint64_t primary_controls = field::primary_processor_based_vm_execution_controls.encoding;
constexpr std::uint64_t secondary_controls = field::secondary_processor_based_vm_execution_controls.encoding;
constexpr std::uint64_t exit_controls = field::vm_exit_controls.encoding;
constexpr std::uint64_t entry_controls = field::vm_entry_controls.encoding;
constexpr std::uint64_t interruption = field::vm_entry_interruption_information.encoding;
constexpr std::uint64_t eptp = field::ept_pointer.encoding;

// clang-format off
constexpr Mutation bad_execution_controls[] = {
    {"entry-with-a-reserved-pin-control-fails-with-error-7", {{pin_controls, 0, 1U << 31}}},
    {"entry-with-a-default1-pin-control-clear-fails-with-error-7", {{pin_controls, 1U << 1, 0}}},
    {"entry-with-a-default1-primary-control-clear-fails-with-error-7", {{primary_controls, 1U << 1, 0}}},
    {"entry-with-a-reserved-primary-control-fails-with-error-7", {{primary_controls, 0, 1U << 0}}},
    {"entry-with-a-reserved-secondary-control-fails-with-error-7", {{secondary_controls, 0, 1U << 31}}},
    {"entry-with-five-cr3-targets-fails-with-error-7", {{field::cr3_target_count.encoding, 0, 5}}},
    {"entry-with-a-misaligned-io-bitmap-a-fails-with-error-7",
     {{primary_controls, 0, primary::use_io_bitmaps}, {field::address_of_io_bitmap_a.encoding, 0, 0x800}}},
    {"entry-with-io-bitmap-b-beyond-the-physical-width-fails-with-error-7",
     {{primary_controls, 0, primary::use_io_bitmaps}, {field::address_of_io_bitmap_b.encoding, 0, 1ULL << 60}}},
    {"entry-with-misaligned-msr-bitmaps-fails-with-error-7",
     {{primary_controls, 0, primary::use_msr_bitmaps}, {field::address_of_msr_bitmaps.encoding, 0, 0x10}}},
    {"entry-with-a-misaligned-virtual-apic-page-fails-with-error-7",
     {{primary_controls, 0, primary::use_tpr_shadow}, {field::virtual_apic_address.encoding, 0, 0x8}}},
    {"entry-with-virtual-nmis-but-no-nmi-exiting-fails-with-error-7",
     {{pin_controls, pin::nmi_exiting, pin::virtual_nmis}}},
    {"entry-with-nmi-window-exiting-but-no-virtual-nmis-fails-with-error-7",
     {{primary_controls, 0, primary::nmi_window_exiting}}},
    {"entry-with-vpid-zero-while-vpid-is-enabled-fails-with-error-7",
     {{secondary_controls, 0, secondary::enable_vpid}, {field::virtual_processor_identifier.encoding, all_bits, 0}}, {}, 0, 12},
    {"entry-with-a-tsc-multiplier-of-zero-fails-with-error-7", {{secondary_controls, 0, secondary::use_tsc_scaling}, {field::tsc_multiplier.encoding, all_bits, 0}},
     {}, secondary::use_tsc_scaling},
    {"entry-with-page-modification-log-but-no-ept-fails-with-error-7", {{secondary_controls, secondary::enable_ept | secondary::unrestricted_guest, secondary::enable_pml}},
     {}, secondary::enable_pml | secondary::enable_ept},
    {"entry-with-page-modification-log-at-a-misaligned-address-fails-with-error-7", {{secondary_controls, 0, secondary::enable_pml}, {field::pml_address.encoding, all_bits, 0x1001}},
     {}, secondary::enable_pml | secondary::enable_ept},
    {"entry-with-unrestricted-guest-but-no-ept-fails-with-error-7", {{secondary_controls, secondary::enable_ept, 0}},
     {}, secondary::unrestricted_guest | secondary::enable_ept},
    {"entry-with-an-uncached-reserved-ept-memory-type-fails-with-error-7", {{eptp, 7, 3}}},
    {"entry-with-an-ept-walk-of-three-levels-fails-with-error-7", {{eptp, 0x38, 2 << 3}}},
    {"entry-with-a-reserved-eptp-bit-fails-with-error-7", {{eptp, 0, 0x800}}},
    {"entry-with-an-eptp-beyond-the-physical-width-fails-with-error-7", {{eptp, 0, 1ULL << 62}}},
};

constexpr Mutation bad_exit_and_entry_controls[] = {
    {"entry-with-a-default1-exit-control-clear-fails-with-error-7", {{exit_controls, 1U << 0, 0}}},
    {"entry-with-a-reserved-exit-control-fails-with-error-7", {{exit_controls, 0, 1U << 30}}},
    {"entry-saving-the-preemption-timer-without-activating-it-fails-with-error-7",
     {{exit_controls, 0, exit_control::save_vmx_preemption_timer_value}}},
    {"entry-with-a-misaligned-exit-msr-store-list-fails-with-error-7",
     {{field::vm_exit_msr_store_count.encoding, 0, 1}, {field::vm_exit_msr_store_address.encoding, 0, 8}}},
    {"entry-with-an-exit-msr-load-list-that-ends-beyond-the-physical-width-fails-with-error-7",
     {{field::vm_exit_msr_load_count.encoding, 0, 2},
      {field::vm_exit_msr_load_address.encoding, 0, 0xF'FFFF'FFFF'FFF0}}},
    {"entry-with-a-default1-entry-control-clear-fails-with-error-7", {{entry_controls, 1U << 0, 0}}},
    {"entry-with-a-reserved-entry-control-fails-with-error-7", {{entry_controls, 0, 1U << 31}}},
    {"entry-to-smm-outside-smm-fails-with-error-7", {{entry_controls, 0, entry_control::entry_to_smm}},
     {"it is not refused with an error number"}},
    {"entry-with-a-misaligned-entry-msr-load-list-fails-with-error-7",
     {{field::vm_entry_msr_load_count.encoding, 0, 1}, {field::vm_entry_msr_load_address.encoding, 0, 4}}},
};

constexpr std::uint64_t valid = 1U << 31;
constexpr std::uint64_t deliver_error_code = 1U << 11;
constexpr Mutation bad_injections[] = {
    {"injecting-the-reserved-type-1-fails-with-error-7", {{interruption, all_bits, valid | 1U << 8 | 32}}},
    {"injecting-an-nmi-of-a-vector-other-than-2-fails-with-error-7", {{interruption, all_bits, valid | 2U << 8 | 3}}},
    {"injecting-an-exception-of-vector-32-fails-with-error-7", {{interruption, all_bits, valid | 3U << 8 | 32}}},
    {"injecting-another-event-of-vector-1-fails-with-error-7", {{interruption, all_bits, valid | 7U << 8 | 1}},
     {"injection of other events is not emulated", Deviation::Seen::panic}},
    {"injecting-an-error-code-with-an-external-interrupt-fails-with-error-7",
     {{interruption, all_bits, valid | deliver_error_code | 32}}},
    {"injecting-with-a-reserved-bit-fails-with-error-7", {{interruption, all_bits, valid | 1U << 12 | 3U << 8 | 6}}},
    {"injecting-an-error-code-above-15-bits-fails-with-error-7",
     {{interruption, all_bits, valid | deliver_error_code | 3U << 8 | 13},
      {field::vm_entry_exception_error_code.encoding, all_bits, 0x10000}}},
    {"injecting-a-software-exception-of-length-16-fails-with-error-7",
     {{interruption, all_bits, valid | 6U << 8 | 3}, {field::vm_entry_instruction_length.encoding, all_bits, 16}}},
};
// Where IA32_VMX_BASIC[56] is 0: else a hardware exception may have an error code or not (SDM 3D A.1).
constexpr Mutation bad_error_codes[] = {
    {"injecting-a-page-fault-without-its-error-code-fails-with-error-7", {{interruption, all_bits, valid | 3U << 8 | 14}}},
    {"injecting-an-undefined-opcode-with-an-error-code-fails-with-error-7",
     {{interruption, all_bits, valid | deliver_error_code | 3U << 8 | 6}}},
};
// clang-format on

constexpr std::uint32_t controls_do_not_hold = 7;

}  // namespace

void check_entry_controls() {
    const PageScope scope;
    L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    check_refused({"3C 27.2.1.1", "VM-execution controls that do not hold are VMfail with error 7"},
                  bad_execution_controls, controls_do_not_hold);
    check_refused(
        {"3C 27.2.1.2, 27.2.1.3", "exit and entry controls that do not hold are VMfail with error 7"},
        bad_exit_and_entry_controls, controls_do_not_hold);
    const RuleScope rule{{"3C 27.2.1.3", "an event to inject that does not hold is VMfail with error 7"}};
    check_refused(current_rule(), bad_injections, controls_do_not_hold);
    if ((capabilities.basic >> 56 & 1) == 0) {
        check_refused(current_rule(), bad_error_codes, controls_do_not_hold);
    } else {
        report_not_offered("the rule that an exception has its error code");
    }
    Check{"after-failures-of-its-controls-the-same-vmcs-enters-once-it-is-good"}.runs_to(l2, reason::vmcall);
}

}  // namespace flatback::guests
