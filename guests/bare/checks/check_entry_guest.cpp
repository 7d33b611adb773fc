// VM entries that fail on the guest state: an exit with reason 33 and the entry-failure flag. SDM
// 3C 27.3.1, 27.8.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/mutation.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t not_canonical = 0x8000'0000'0000'0000;
constexpr std::uint64_t interruption = field::vm_entry_interruption_information.encoding;
constexpr std::uint64_t valid = 1U << 31;
constexpr std::uint64_t interruptibility = field::guest_interruptibility_state.encoding;
constexpr std::uint64_t activity = field::guest_activity_state.encoding;

// clang-format off
constexpr Mutation bad_control_registers[] = {
    {"entry-with-guest-cr0-pg-but-no-pe-is-an-invalid-guest-state", {{field::guest_cr0.encoding, 1, 0}}},
    {"entry-with-guest-cr0-ne-clear-is-an-invalid-guest-state", {{field::guest_cr0.encoding, 0x20, 0}}},
    {"entry-with-guest-cr4-vmxe-clear-is-an-invalid-guest-state", {{field::guest_cr4.encoding, 1U << 13, 0}}},
    {"entry-with-a-reserved-guest-cr4-bit-is-an-invalid-guest-state", {{field::guest_cr4.encoding, 0, 1U << 31}}},
    {"entry-with-guest-cr4-pae-clear-in-ia-32e-mode-is-an-invalid-guest-state", {{field::guest_cr4.encoding, 1U << 5, 0}}},
    {"entry-with-guest-cr3-beyond-the-physical-width-is-an-invalid-guest-state",
     {{field::guest_cr3.encoding, 0, 1ULL << 60}}},
    {"entry-with-guest-efer-lma-clear-in-ia-32e-mode-is-an-invalid-guest-state",
     {{field::guest_ia32_efer.encoding, 1U << 10, 0}}},
    {"entry-with-a-reserved-guest-efer-bit-is-an-invalid-guest-state", {{field::guest_ia32_efer.encoding, 0, 1U << 20}}},
    {"entry-with-a-reserved-guest-pat-type-is-an-invalid-guest-state", {{field::guest_ia32_pat.encoding, 7, 3}}},
    {"entry-with-a-noncanonical-guest-sysenter-esp-is-an-invalid-guest-state",
     {{field::guest_ia32_sysenter_esp.encoding, 0, not_canonical}}},
};

constexpr Mutation bad_segments[] = {
    {"entry-with-an-unusable-guest-tr-is-an-invalid-guest-state", {{field::guest_tr_access_rights.encoding, 0, 0x10000}}},
    {"entry-with-an-available-guest-tss-is-an-invalid-guest-state", {{field::guest_tr_access_rights.encoding, 2, 0}}},
    {"entry-with-a-guest-tr-of-the-local-table-is-an-invalid-guest-state", {{field::guest_tr_selector.encoding, 0, 4}}},
    {"entry-with-a-data-segment-as-guest-cs-is-an-invalid-guest-state",
     {{field::guest_cs_access_rights.encoding, 0xF, 0x1}}},
    {"entry-with-guest-cs-l-and-d-both-set-is-an-invalid-guest-state", {{field::guest_cs_access_rights.encoding, 0, 0x4000}}},
    {"entry-with-guest-cs-not-present-is-an-invalid-guest-state", {{field::guest_cs_access_rights.encoding, 0x80, 0}}},
    {"entry-with-guest-cs-granularity-against-its-limit-is-an-invalid-guest-state",
     {{field::guest_cs_limit.encoding, 0xFFF, 0}}},
    {"entry-with-a-code-segment-as-guest-ss-is-an-invalid-guest-state",
     {{field::guest_ss_access_rights.encoding, 0xF, 0xB}}},
    {"entry-with-an-unaccessed-guest-ds-is-an-invalid-guest-state", {{field::guest_ds_access_rights.encoding, 1, 0}}},
    {"entry-with-reserved-guest-es-rights-is-an-invalid-guest-state", {{field::guest_es_access_rights.encoding, 0, 0x100}}},
    {"entry-with-a-usable-guest-ldtr-of-another-type-is-an-invalid-guest-state",
     {{field::guest_ldtr_access_rights.encoding, all_bits, 0x89}}},
    {"entry-with-a-noncanonical-guest-fs-base-is-an-invalid-guest-state",
     {{field::guest_fs_base.encoding, 0, not_canonical}}},
    {"entry-with-a-noncanonical-guest-gdtr-base-is-an-invalid-guest-state",
     {{field::guest_gdtr_base.encoding, 0, not_canonical}}},
    {"entry-with-a-guest-idtr-limit-above-16-bits-is-an-invalid-guest-state",
     {{field::guest_idtr_limit.encoding, 0, 0x10000}}},
};

constexpr Mutation bad_rip_and_state[] = {
    {"entry-with-a-noncanonical-guest-rip-is-an-invalid-guest-state", {{field::guest_rip.encoding, 0, 0x0100'0000'0000'0000}},
     {"it enters, and the fetch is a general-protection fault", Deviation::Seen::beneath}},
    {"entry-with-guest-rflags-bit-1-clear-is-an-invalid-guest-state", {{field::guest_rflags.encoding, 2, 0}}},
    {"entry-with-a-reserved-guest-rflags-bit-is-an-invalid-guest-state", {{field::guest_rflags.encoding, 0, 1U << 15}}},
    {"entry-with-guest-rflags-vm-in-ia-32e-mode-is-an-invalid-guest-state", {{field::guest_rflags.encoding, 0, 1U << 17}}},
    {"entry-with-activity-state-4-is-an-invalid-guest-state", {{activity, all_bits, 4}}},
    {"entry-with-a-reserved-interruptibility-bit-is-an-invalid-guest-state", {{interruptibility, 0, 1U << 6}}},
    {"entry-blocked-by-sti-and-by-mov-ss-is-an-invalid-guest-state",
     {{interruptibility, 0, 3}, {field::guest_rflags.encoding, 0, 0x200}}},
    {"entry-blocked-by-sti-with-interrupts-off-is-an-invalid-guest-state", {{interruptibility, 0, 1}}},
    {"injecting-an-external-interrupt-with-interrupts-off-is-an-invalid-guest-state",
     {{interruption, all_bits, valid | 32}}},
    {"injecting-an-external-interrupt-while-blocked-by-sti-is-an-invalid-guest-state",
     {{interruption, all_bits, valid | 32}, {interruptibility, 0, 1}, {field::guest_rflags.encoding, 0, 0x200}}},
    {"injecting-an-nmi-while-blocked-by-mov-ss-is-an-invalid-guest-state",
     {{interruption, all_bits, valid | 2U << 8 | 2}, {interruptibility, 0, 2}}},
    {"entry-with-reserved-pending-debug-exceptions-is-an-invalid-guest-state",
     {{field::guest_pending_debug_exceptions.encoding, 0, 1U << 5}}},
    // The second is no change, but there only where EFER can be loaded.
    {"entry-that-leaves-ia-32e-mode-with-efer-lma-set-is-an-invalid-guest-state",
     {{field::vm_entry_controls.encoding, entry_control::ia32e_mode_guest, 0},
      {field::guest_ia32_efer.encoding, 1U << 10, 1U << 10}}},
};

// Behind all others: an L0 that lets this L2 halt does not come back.
constexpr Mutation bad_halt[] = {
    {"entry-halted-while-blocked-by-mov-ss-is-an-invalid-guest-state", {{activity, all_bits, 1}, {interruptibility, 0, 2}}},
};
// clang-format on

constexpr std::uint32_t invalid_guest_state = reason::entry_failure_guest_state | reason::entry_failure;

template <std::size_t Count>
void check_all(std::string_view section, const Mutation (&mutations)[Count]) {
    const RuleScope rule{{section, current_rule().words}};
    for (const Mutation& mutation : mutations) {
        if (!is_offered(mutation)) continue;
        const Mutated mutated{mutation};
        if (!mutated.is_kept()) continue;
        Check check{mutation.name};
        check.outcome("VMLAUNCH", try_enter(true), vm_exit);
        const std::uint32_t got = read(field::exit_reason);
        check.equal("exit reason", got, invalid_guest_state);
        check.equal("qualification", read(field::exit_qualification), 0).known(mutation.deviation);
        if ((got & reason::entry_failure) == 0) make_clear();
    }
}

void check_link_pointer() {
    const RuleScope rule{
        {"3C 27.3.1.5", "a VMCS link pointer that does not hold is told by qualification 4"}};
    const Mutation misaligned{"entry-with-a-misaligned-link-pointer-fails-with-qualification-4",
                              {{field::vmcs_link_pointer.encoding, all_bits, 0x1234}}};
    const Mutated mutated{misaligned};
    Check check{misaligned.name};
    check.outcome("VMLAUNCH", try_enter(true), vm_exit);
    check.equal("exit reason", read(field::exit_reason), invalid_guest_state);
    check.equal("qualification", read(field::exit_qualification), 4);
}

void check_nothing_else_changes(L2& l2) {
    const RuleScope rule{
        {"3C 27.8", "a failed entry writes exit reason and qualification and no other exit information"}};
    constexpr std::uint64_t kept[] = {
        field::guest_rip.encoding,
        field::guest_rsp.encoding,
        field::guest_rflags.encoding,
        field::guest_cr0.encoding,
        field::guest_cr3.encoding,
        field::guest_cr4.encoding,
        field::guest_cs_access_rights.encoding,
        field::guest_tr_access_rights.encoding,
        field::guest_ia32_efer.encoding,
        field::guest_interruptibility_state.encoding,
        field::guest_activity_state.encoding,
        field::vm_entry_interruption_information.encoding,
        field::vm_exit_interruption_information.encoding,
        field::vm_exit_instruction_length.encoding,
        field::idt_vectoring_information.encoding,
        field::vm_instruction_error.encoding,
        field::guest_physical_address.encoding,
        field::guest_linear_address.encoding,
    };
    constexpr std::size_t count = sizeof kept / sizeof kept[0];
    Check check{"a-failed-entry-changes-nothing-but-exit-reason-and-qualification"};
    const Mutation bad{"",
                       {{field::guest_rflags.encoding, 2, 0},
                        {interruption, all_bits, valid | 3U << 8 | 6},
                        {field::guest_rsp.encoding, all_bits, 0x1234567890}}};
    const Mutated mutated{bad};
    std::uint64_t before[count]{};
    // First which there are: a VMREAD of no field sets the error number.
    bool there[count];
    for (std::size_t i = 0; i < count; ++i) there[i] = try_vmread(kept[i], before[i]) == vm_succeed;
    for (std::size_t i = 0; i < count; ++i) before[i] = there[i] ? read_raw(kept[i]) : 0;
    check.outcome("VMRESUME", try_enter(false), vm_exit);
    check.equal("exit reason", read(field::exit_reason), invalid_guest_state);
    for (std::size_t i = 0; i < count; ++i) {
        Line what;
        what << "field ";
        what.hexadecimal(kept[i]);
        if (there[i]) check.equal(what.text(), read_raw(kept[i]), before[i]);
    }
    static_cast<void>(l2);
}

}  // namespace

void check_entry_guest() {
    const RuleScope rule{
        {"3C 27.3.1", "an entry with a guest state that does not hold is an exit with reason 33"}};
    const PageScope scope;
    L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    check_all("3C 27.3.1.1", bad_control_registers);
    check_all("3C 27.3.1.2", bad_segments);
    check_all("3C 27.3.1.4, 27.3.1.5", bad_rip_and_state);
    check_link_pointer();
    {
        Check check{"a-failed-first-entry-leaves-the-vmcs-clear"};
        check.outcome("VMRESUME", try_enter(false), vm_fail_valid(5));
        check.runs_to(l2, reason::vmcall);
    }
    check_nothing_else_changes(l2);
    Check{"after-failures-of-its-guest-state-the-same-vmcs-enters-once-it-is-good"}.runs_to(l2,
                                                                                            reason::vmcall);
    l2.clear();
    l2.make_current();
    check_all("3C 27.3.1.4, 27.3.1.5", bad_halt);
}

}  // namespace flatback::guests
