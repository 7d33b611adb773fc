// VM entries that fail on the host state: VMfailValid 8. SDM 3C 27.2.2 to 27.2.4.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/mutation.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t not_canonical = 0x8000'0000'0000'0000;

// clang-format off
constexpr Mutation bad_host_states[] = {
    {"entry-with-host-cr0-ne-clear-fails-with-error-8", {{field::host_cr0.encoding, 0x20, 0}}},
    {"entry-with-host-cr0-pe-clear-fails-with-error-8", {{field::host_cr0.encoding, 1, 0}}},
    {"entry-with-host-cr4-vmxe-clear-fails-with-error-8", {{field::host_cr4.encoding, 1U << 13, 0}}},
    {"entry-with-host-cr4-pae-clear-for-a-64-bit-host-fails-with-error-8", {{field::host_cr4.encoding, 1U << 5, 0}}},
    {"entry-with-host-cr3-beyond-the-physical-width-fails-with-error-8", {{field::host_cr3.encoding, 0, 1ULL << 60}}},
    {"entry-with-a-noncanonical-host-rip-fails-with-error-8", {{field::host_rip.encoding, 0, not_canonical}}},
    {"entry-with-a-noncanonical-host-fs-base-fails-with-error-8", {{field::host_fs_base.encoding, 0, not_canonical}}},
    {"entry-with-a-noncanonical-host-gs-base-fails-with-error-8", {{field::host_gs_base.encoding, 0, not_canonical}}},
    {"entry-with-a-noncanonical-host-tr-base-fails-with-error-8", {{field::host_tr_base.encoding, 0, not_canonical}}},
    {"entry-with-a-noncanonical-host-gdtr-base-fails-with-error-8", {{field::host_gdtr_base.encoding, 0, not_canonical}}},
    {"entry-with-a-noncanonical-host-idtr-base-fails-with-error-8", {{field::host_idtr_base.encoding, 0, not_canonical}}},
    {"entry-with-a-noncanonical-host-sysenter-esp-fails-with-error-8",
     {{field::host_ia32_sysenter_esp.encoding, 0, not_canonical}}},
    {"entry-with-a-noncanonical-host-sysenter-eip-fails-with-error-8",
     {{field::host_ia32_sysenter_eip.encoding, 0, not_canonical}}},
    {"entry-with-a-null-host-cs-fails-with-error-8", {{field::host_cs_selector.encoding, all_bits, 0}}},
    {"entry-with-a-null-host-tr-fails-with-error-8", {{field::host_tr_selector.encoding, all_bits, 0}}},
    {"entry-with-a-host-cs-of-privilege-3-fails-with-error-8", {{field::host_cs_selector.encoding, 0, 3}}},
    {"entry-with-a-host-ds-of-the-local-table-fails-with-error-8", {{field::host_ds_selector.encoding, 0, 4}}},
    {"entry-with-a-host-fs-of-privilege-1-fails-with-error-8", {{field::host_fs_selector.encoding, 0, 1}}},
    {"entry-with-a-host-tr-of-privilege-2-fails-with-error-8", {{field::host_tr_selector.encoding, 0, 2}}},
    {"entry-with-a-reserved-host-pat-type-fails-with-error-8", {{field::host_ia32_pat.encoding, 7, 2}}},
    {"entry-with-a-reserved-host-efer-bit-fails-with-error-8", {{field::host_ia32_efer.encoding, 0, 1ULL << 20}}},
    {"entry-with-host-efer-lma-clear-for-a-64-bit-host-fails-with-error-8",
     {{field::host_ia32_efer.encoding, 1U << 10, 0}}},
    {"entry-with-host-efer-lme-clear-for-a-64-bit-host-fails-with-error-8",
     {{field::host_ia32_efer.encoding, 1U << 8, 0}}},
    {"entry-from-64-bit-mode-to-a-32-bit-host-fails-with-error-8",
     {{field::vm_exit_controls.encoding, exit_control::host_address_space_size, 0}}},
};
// clang-format on

constexpr std::uint32_t host_state_does_not_hold = 8;

}  // namespace

void check_entry_host() {
    const RuleScope rule{
        {"3C 27.2.2", "an entry with a host state that does not hold is VMfail with error 8"}};
    const PageScope scope;
    L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    check_refused(current_rule(), bad_host_states, host_state_does_not_hold);
    {
        // SDM 3C 27.2: the processor may find either first; both are what a failing VMCS gets.
        Check check{"entry-with-bad-controls-and-bad-host-state-fails-with-error-7-or-8"};
        const Mutation both{
            "", {{field::host_rip.encoding, 0, not_canonical}, {field::cr3_target_count.encoding, 0, 5}}};
        const Mutated mutated{both};
        const Outcome got = try_enter(true);
        check.holds("error 7 or 8", got == vm_fail_valid(7) || got == vm_fail_valid(8));
    }
    Check{"after-failures-of-its-host-state-the-same-vmcs-enters-once-it-is-good"}.runs_to(l2,
                                                                                           reason::vmcall);
}

}  // namespace flatback::guests
