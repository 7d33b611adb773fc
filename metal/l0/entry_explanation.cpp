#include "metal/l0/entry_explanation.hpp"

#include <cstddef>

#include "metal/ground/log.hpp"
#include "metal/ground/vmx_instructions.hpp"
#include "nested/entry/check_fields.hpp"
#include "nested/entry/checks_guest.hpp"
#include "vmx/exit_reason.hpp"
#include "vmx/field_table.hpp"

namespace flatback::metal {
namespace {

// The current VMCS. What the processor lacks is 0, as its rules are then about nothing.
struct CurrentVmcs {
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard]] vmx::field_value_t<W> get(vmx::Field<W, K> what) const {
        return static_cast<vmx::field_value_t<W>>(try_vmread(what.encoding).value_or(0));
    }
};

void write_rule(const char* who, nested::EntryCheck check) {
    log::write("[L0] ");
    log::write(who);
    log::write(nested::name_of(check));
    log::write(" (");
    log::write(nested::section_of(check));
    log::write(")");
}

void write_field(std::uint32_t encoding, std::uint64_t value, bool first) {
    log::write(first ? ": " : ", ");
    log::write(vmx::name_of(encoding));
    log::write(" ");
    log::write(log::hex(value));
}

constexpr const char* of_l1 = "a VM entry of L1's breaks the rule ";

void write_guest_check(const char* who, nested::EntryCheck check) {
    write_rule(who, check);
    bool first = true;
    for (const std::uint32_t encoding : nested::fields_of(check)) {
        const auto value = try_vmread(encoding);
        if (!value) continue;
        write_field(encoding, *value, first);
        first = false;
    }
    log::write("\n");
}

}  // namespace

void explain_entry_check(nested::EntryCheck check, const nested::Vmcs12& vmcs12) {
    if (log::level() < LogLevel::debug) return;
    write_rule(of_l1, check);
    bool first = true;
    for (const std::uint32_t encoding : nested::fields_of(check)) {
        write_field(encoding, vmcs12.word(static_cast<std::size_t>(vmx::dense_index(encoding))), first);
        first = false;
    }
    log::write("\n");
}

void explain_refused_msr(nested::Notice what, const nested::RefusedMsr& refused) {
    if (log::level() < LogLevel::debug) return;
    const bool entry = what == nested::Notice::entry_msr_refused;
    log::line("[L0] ", entry ? "a VM entry" : "a VM exit", " of L1's breaks the rules of its MSR list (",
              entry ? "SDM 3C 27.4" : "SDM 3C 28.4, 28.6", ") with entry ", refused.number, ": MSR ",
              log::hex(refused.entry.index), ", reserved bits ", log::hex(refused.entry.reserved), ", value ",
              log::hex(refused.entry.value));
}

void explain_refused_entry(std::uint32_t exit_reason, const BootResult& boot) {
    if (log::level() < LogLevel::debug) return;
    const auto basic = vmx::ExitReasonField{exit_reason}.basic();
    if (basic == vmx::ExitReason::entry_failure_guest_state) {
        const nested::EntryRules rules{.promised = boot.processor.capabilities,
                                       .physical_address_width = boot.processor.physical_address_width};
        const auto verdict = nested::check_guest_state(CurrentVmcs{}, rules);
        if (!verdict) {
            write_guest_check("the processor refused L2's guest state, which breaks the rule ",
                              verdict.error());
            return;
        }
    }
    log::line("[L0] the processor refused the entry into L2, and none of the rules that L0 knows is broken: ",
              vmx::name_of(basic), ", exit qualification ",
              log::hex(try_vmread(vmx::field::exit_qualification.encoding).value_or(0)));
}

}  // namespace flatback::metal
