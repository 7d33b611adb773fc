// SDM 3C 27.3.1: the checks of the guest-state area. A failure here is a VM exit with reason 33.
#include <array>

#include "machine/cpu/machine.hpp"
#include "machine/rules/address.hpp"
#include "machine/rules/event.hpp"
#include "machine/rules/registers.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/paging_bits.hpp"
#include "x86/segment_bits.hpp"

namespace flatback::machine {

namespace field = vmx::field;
using x86::AccessRights;

namespace {

/// Exit qualifications of entry failures (SDM 3C 27.8).
constexpr std::uint64_t bad_pdpte = 2;
constexpr std::uint64_t nmi_under_sti = 3;
constexpr std::uint64_t bad_link_pointer = 4;

/// The guest's modes, as the checks below ask for them.
struct Modes {
    bool virtual_8086 = false;
    bool long_mode = false;
    bool unrestricted = false;
};

struct GuestSegment {
    std::uint16_t selector = 0;
    std::uint64_t base = 0;
    std::uint32_t limit = 0;
    AccessRights rights{0};

    [[nodiscard]] bool usable() const { return !rights.is_unusable(); }
};

GuestSegment segment_of(const Vmcs& vmcs, SegmentName name) {
    const auto index = static_cast<std::uint32_t>(name);
    return {static_cast<std::uint16_t>(vmcs.read(field::guest_es_selector.encoding + 2 * index)),
            vmcs.read(field::guest_es_base.encoding + 2 * index),
            static_cast<std::uint32_t>(vmcs.read(field::guest_es_limit.encoding + 2 * index)),
            AccessRights(
                static_cast<std::uint32_t>(vmcs.read(field::guest_es_access_rights.encoding + 2 * index)))};
}

/// 27.3.1.2 for ES, CS, SS, DS, FS or GS in virtual-8086 mode.
const char* check_virtual_8086_segment(const GuestSegment& segment) {
    if (segment.base != std::uint64_t{segment.selector} << 4) return "virtual-8086 segment base (27.3.1.2)";
    if (segment.limit != 0xFFFF) return "virtual-8086 segment limit (27.3.1.2)";
    if (segment.rights.value() != 0xF3) return "virtual-8086 access rights (27.3.1.2)";
    return nullptr;
}

const char* check_code_segment(const GuestSegment& cs, const GuestSegment& ss, const Modes& modes) {
    const std::uint32_t type = cs.rights.type();
    const bool code = type == 9 || type == 11 || type == 13 || type == 15;
    if (!code && !(modes.unrestricted && type == 3)) return "CS type (27.3.1.2)";
    const std::uint32_t level = cs.rights.privilege_level();
    if (type == 3 && level != 0) return "CS DPL (27.3.1.2)";
    if ((type == 9 || type == 11) && level != ss.rights.privilege_level())
        return "CS DPL is SS DPL (27.3.1.2)";
    if ((type == 13 || type == 15) && level > ss.rights.privilege_level()) {
        return "conforming CS DPL is at most SS DPL (27.3.1.2)";
    }
    if (modes.long_mode && cs.rights.is_long_mode() && cs.rights.is_default_big()) {
        return "CS D/B in 64-bit mode (27.3.1.2)";
    }
    return nullptr;
}

const char* check_data_segment(SegmentName name, const GuestSegment& segment, const Modes& modes,
                               std::uint64_t cr0) {
    const std::uint32_t type = segment.rights.type();
    if (name == SegmentName::ss) {
        if (segment.usable() && type != 3 && type != 7) return "SS type (27.3.1.2)";
        const std::uint32_t level = segment.rights.privilege_level();
        if (!modes.unrestricted && level != (segment.selector & 3U)) return "SS DPL is its RPL (27.3.1.2)";
        if ((cr0 & x86::cr0::protection_enable) == 0 && level != 0)
            return "SS DPL in real-address mode (27.3.1.2)";
        return nullptr;
    }
    if (!segment.usable()) return nullptr;
    if ((type & x86::segment_type::accessed) == 0) return "data segment is accessed (27.3.1.2)";
    if ((type & x86::segment_type::code) != 0 && (type & x86::segment_type::readable) == 0) {
        return "code segment used for data is readable (27.3.1.2)";
    }
    if (!modes.unrestricted && type <= 11 && segment.rights.privilege_level() < (segment.selector & 3U)) {
        return "data segment DPL is at least its RPL (27.3.1.2)";
    }
    return nullptr;
}

const char* check_rights_and_limit(const GuestSegment& segment) {
    if (!segment.rights.is_present()) return "segment is present (27.3.1.2)";
    if ((segment.rights.value() & rules::access_rights_clear) != 0)
        return "segment access rights: reserved bits (27.3.1.2)";
    if (!rules::limit_agrees_with_granularity(segment.limit, segment.rights.has_page_granularity())) {
        return "segment limit and granularity (27.3.1.2)";
    }
    return nullptr;
}

const char* check_segments(const Vmcs& vmcs, const Modes& modes) {
    constexpr std::array data_segments = {SegmentName::ss, SegmentName::ds, SegmentName::es, SegmentName::fs,
                                          SegmentName::gs};
    const GuestSegment cs = segment_of(vmcs, SegmentName::cs);
    const GuestSegment ss = segment_of(vmcs, SegmentName::ss);
    const GuestSegment tr = segment_of(vmcs, SegmentName::tr);
    const GuestSegment ldtr = segment_of(vmcs, SegmentName::ldtr);
    if ((tr.selector & x86::selector::table_indicator) != 0) return "TR selector: TI is 0 (27.3.1.2)";
    if (ldtr.usable() && (ldtr.selector & x86::selector::table_indicator) != 0) {
        return "LDTR selector: TI is 0 (27.3.1.2)";
    }
    if (!modes.virtual_8086 && !modes.unrestricted && (ss.selector & 3) != (cs.selector & 3)) {
        return "SS RPL is CS RPL (27.3.1.2)";
    }
    for (const SegmentName name : {SegmentName::tr, SegmentName::fs, SegmentName::gs}) {
        if (!rules::is_canonical(segment_of(vmcs, name).base))
            return "TR, FS and GS bases are canonical (27.3.1.2)";
    }
    if (ldtr.usable() && !rules::is_canonical(ldtr.base)) return "LDTR base is canonical (27.3.1.2)";
    if (modes.virtual_8086) {
        for (const SegmentName name : {SegmentName::cs, SegmentName::ss, SegmentName::ds, SegmentName::es,
                                       SegmentName::fs, SegmentName::gs}) {
            if (const char* failed = check_virtual_8086_segment(segment_of(vmcs, name))) return failed;
        }
    } else {
        if (cs.base >> 32 != 0) return "CS base has 32 bits (27.3.1.2)";
        for (const SegmentName name : {SegmentName::ss, SegmentName::ds, SegmentName::es}) {
            const GuestSegment segment = segment_of(vmcs, name);
            if (segment.usable() && segment.base >> 32 != 0)
                return "SS, DS and ES bases have 32 bits (27.3.1.2)";
        }
        if (cs.rights.is_unusable() || !cs.rights.is_code_or_data()) return "CS is a code segment (27.3.1.2)";
        if (const char* failed = check_code_segment(cs, ss, modes)) return failed;
        if (const char* failed = check_rights_and_limit(cs)) return failed;
        for (const SegmentName name : data_segments) {
            const GuestSegment segment = segment_of(vmcs, name);
            if (const char* failed = check_data_segment(name, segment, modes, vmcs.get(field::guest_cr0))) {
                return failed;
            }
            if (!segment.usable()) continue;
            if (!segment.rights.is_code_or_data()) return "data segments are no system segments (27.3.1.2)";
            if (const char* failed = check_rights_and_limit(segment)) return failed;
        }
    }
    const std::uint32_t task = tr.rights.type();
    if (task != 11 && !(task == 3 && !modes.long_mode)) return "TR type (27.3.1.2)";
    if (tr.rights.is_code_or_data() || tr.rights.is_unusable())
        return "TR is a usable system segment (27.3.1.2)";
    if (const char* failed = check_rights_and_limit(tr)) return failed;
    if (ldtr.usable()) {
        if (ldtr.rights.type() != 2 || ldtr.rights.is_code_or_data()) return "LDTR type (27.3.1.2)";
        if (const char* failed = check_rights_and_limit(ldtr)) return failed;
    }
    // 27.3.1.3
    if (!rules::is_canonical(vmcs.get(field::guest_gdtr_base)) ||
        !rules::is_canonical(vmcs.get(field::guest_idtr_base))) {
        return "GDTR and IDTR bases are canonical (27.3.1.3)";
    }
    if (vmcs.get(field::guest_gdtr_limit) >> 16 != 0 || vmcs.get(field::guest_idtr_limit) >> 16 != 0) {
        return "GDTR and IDTR limits have 16 bits (27.3.1.3)";
    }
    return nullptr;
}

}  // namespace

Machine::EntryFailure Machine::check_guest_state(const Vmcs& vmcs) const {
    const std::uint32_t entry = vmcs.get(field::vm_entry_controls);
    const std::uint32_t secondary = secondary_controls(vmcs);
    const std::uint64_t cr0 = vmcs.get(field::guest_cr0);
    const std::uint64_t cr4 = vmcs.get(field::guest_cr4);
    const std::uint64_t rflags = vmcs.get(field::guest_rflags);
    Modes modes;
    modes.long_mode = (entry & vmx::entry_control::ia32e_mode_guest) != 0;
    modes.unrestricted = (secondary & vmx::secondary::unrestricted_guest) != 0;
    modes.virtual_8086 = (rflags & x86::rflags::virtual_8086) != 0;
    const bool paging = (cr0 & x86::cr0::paging) != 0;

    // 27.3.1.1: control registers, debug registers, MSRs.
    const std::uint64_t exempt = modes.unrestricted ? x86::cr0::protection_enable | x86::cr0::paging : 0;
    // CR0.NW and CR0.CD are never checked.
    if (!model_.vmx.cr0.permits(cr0, exempt | x86::cr0::not_write_through | x86::cr0::cache_disable)) {
        return {"guest CR0 (27.3.1.1)"};
    }
    if (paging && (cr0 & x86::cr0::protection_enable) == 0) return {"guest CR0: PG without PE (27.3.1.1)"};
    if (!model_.vmx.cr4.permits(cr4)) return {"guest CR4 (27.3.1.1)"};
    if ((entry & vmx::entry_control::load_debug_controls) != 0) {
        if ((vmcs.get(field::guest_ia32_debugctl) & ~rules::debugctl_bits) != 0) {
            return {"guest IA32_DEBUGCTL: reserved bits (27.3.1.1)"};
        }
        if (vmcs.get(field::guest_dr7) >> 32 != 0) return {"guest DR7 has 32 bits (27.3.1.1)"};
    }
    if (modes.long_mode && (!paging || (cr4 & x86::cr4::physical_address_extension) == 0)) {
        return {"IA-32e mode guest without PG and PAE (27.3.1.1)"};
    }
    if (!modes.long_mode && (cr4 & x86::cr4::pcid_enable) != 0) {
        return {"guest CR4.PCIDE outside IA-32e mode (27.3.1.1)"};
    }
    if (!rules::within_width(vmcs.get(field::guest_cr3), model_.physical_address_bits)) {
        return {"guest CR3 (27.3.1.1)"};
    }
    if (!rules::is_canonical(vmcs.get(field::guest_ia32_sysenter_esp)) ||
        !rules::is_canonical(vmcs.get(field::guest_ia32_sysenter_eip))) {
        return {"guest IA32_SYSENTER_ESP and _EIP are canonical (27.3.1.1)"};
    }
    if ((entry & vmx::entry_control::load_ia32_pat) != 0 &&
        !rules::is_page_attribute_table(vmcs.get(field::guest_ia32_pat))) {
        return {"guest IA32_PAT (27.3.1.1)"};
    }
    if ((entry & vmx::entry_control::load_ia32_efer) != 0) {
        const std::uint64_t efer = vmcs.get(field::guest_ia32_efer);
        if ((efer & ~rules::efer_bits) != 0) return {"guest IA32_EFER: reserved bits (27.3.1.1)"};
        const bool active = (efer & x86::efer::long_mode_active) != 0;
        if (active != modes.long_mode) return {"guest IA32_EFER.LMA is as IA-32e mode guest (27.3.1.1)"};
        if (paging && active != ((efer & x86::efer::long_mode_enable) != 0)) {
            return {"guest IA32_EFER.LME is as LMA (27.3.1.1)"};
        }
    }
    if (const char* failed = check_segments(vmcs, modes)) return {failed};

    // 27.3.1.4: RIP and RFLAGS.
    const bool code_64 =
        modes.long_mode && AccessRights(vmcs.get(field::guest_cs_access_rights)).is_long_mode();
    const std::uint64_t rip = vmcs.get(field::guest_rip);
    if (!code_64 && rip >> 32 != 0) return {"guest RIP has 32 bits (27.3.1.4)"};
    // Bits 63:48 alone are equal, not 63:47: an instruction may end where the lower half does.
    if (code_64 && rip >> 48 != 0 && rip >> 48 != 0xFFFF) return {"guest RIP: bits 63:48 (27.3.1.4)"};
    if ((rflags & rules::rflags_clear) != 0 || (rflags & rules::rflags_set) == 0) {
        return {"guest RFLAGS: reserved bits (27.3.1.4)"};
    }
    if (modes.virtual_8086 && (modes.long_mode || (cr0 & x86::cr0::protection_enable) == 0)) {
        return {"guest RFLAGS.VM in this mode (27.3.1.4)"};
    }
    const rules::EventInformation event{vmcs.get(field::vm_entry_interruption_information)};
    const bool interrupts = (rflags & x86::rflags::interrupt_enable) != 0;
    const bool injects_interrupt = event.is(vmx::InterruptionType::external_interrupt);
    if (injects_interrupt && !interrupts)
        return {"an external interrupt is injected with RFLAGS.IF = 0 (27.3.1.4)"};

    // 27.3.1.5: non-register state.
    const std::uint32_t activity = vmcs.get(field::guest_activity_state);
    const rules::Capabilities& has = model_.vmx;
    // A guest whose HLT does not exit may be found halted, and entered so again, whatever IA32_VMX_MISC says.
    const bool may_halt =
        (vmcs.get(field::primary_processor_based_vm_execution_controls) & vmx::primary::hlt_exiting) == 0;
    const bool activity_supported =
        activity == 0 || (activity == 1 && (may_halt || has.has_misc(rules::misc::activity_hlt))) ||
        (activity == 2 && has.has_misc(rules::misc::activity_shutdown)) ||
        (activity == 3 && has.has_misc(rules::misc::activity_wait_for_sipi));
    if (!activity_supported) return {"guest activity state (27.3.1.5)"};
    if (activity == 1 && AccessRights(vmcs.get(field::guest_ss_access_rights)).privilege_level() != 0) {
        return {"HLT activity state with CPL > 0 (27.3.1.5)"};
    }
    const std::uint32_t blocking = vmcs.get(field::guest_interruptibility_state);
    namespace block = vmx::interruptibility;
    const bool sti = (blocking & block::blocking_by_sti) != 0;
    const bool mov_ss = (blocking & block::blocking_by_mov_ss) != 0;
    if (activity != 0 && (sti || mov_ss)) return {"activity state under STI or MOV SS blocking (27.3.1.5)"};
    if (activity == 1 && event.is_valid()) {
        // A halted guest may be woken by an interrupt, an NMI, #DB or #MC.
        const bool exception = event.is(vmx::InterruptionType::hardware_exception);
        const bool wakes = injects_interrupt || event.is(vmx::InterruptionType::nmi) ||
                           (exception && (event.vector() == 1 || event.vector() == 18));
        if (!wakes) return {"this event is not injected into a halted guest (27.3.1.5)"};
    }
    if (activity == 3 && event.is_valid()) return {"an event is injected in wait-for-SIPI (27.3.1.5)"};
    if ((blocking & rules::interruptibility_clear) != 0)
        return {"guest interruptibility state: reserved bits (27.3.1.5)"};
    if (sti && mov_ss) return {"blocking by STI and by MOV SS (27.3.1.5)"};
    if (sti && !interrupts) return {"blocking by STI with RFLAGS.IF = 0 (27.3.1.5)"};
    if (injects_interrupt && (sti || mov_ss)) return {"an interrupt is injected under blocking (27.3.1.5)"};
    if (event.is(vmx::InterruptionType::nmi)) {
        // A processor may ask for this one (27.3.1.5); this one does.
        if (sti) return {"an NMI is injected under blocking by STI (27.3.1.5)", nmi_under_sti};
        if (mov_ss) return {"an NMI is injected under blocking by MOV SS (27.3.1.5)"};
        const bool virtual_nmis =
            (vmcs.get(field::pin_based_vm_execution_controls) & vmx::pin::virtual_nmis) != 0;
        if (virtual_nmis && (blocking & block::blocking_by_nmi) != 0) {
            return {"an NMI is injected under blocking by NMI (27.3.1.5)"};
        }
    }
    if ((blocking & (block::blocking_by_smi | block::enclave_interruption)) != 0) {
        return {"blocking by SMI outside SMM, or an enclave (27.3.1.5)"};
    }
    const std::uint64_t debug = vmcs.get(field::guest_pending_debug_exceptions);
    if ((debug & (rules::pending_debug_clear | vmx::pending_debug::in_transaction)) != 0) {
        return {"guest pending debug exceptions: reserved bits (27.3.1.5)"};
    }
    if (sti || mov_ss || activity == 1) {
        const bool single_step =
            (rflags & x86::rflags::trap) != 0 &&
            (vmcs.get(field::guest_ia32_debugctl) & x86::debugctl::branch_single_step) == 0;
        if (((debug & vmx::pending_debug::single_step) != 0) != single_step) {
            return {"guest pending debug exceptions: BS (27.3.1.5)"};
        }
    }
    const std::uint64_t link = vmcs.get(field::vmcs_link_pointer);
    if (link != ~std::uint64_t{0}) {
        if (!valid_vmx_pointer(link)) return {"VMCS link pointer (27.3.1.5)", bad_link_pointer};
        const std::uint64_t first = memory_.read(link) & 0xFFFF'FFFF;
        const bool shadow = (first >> 31) != 0;
        const bool shadowing = (secondary & vmx::secondary::vmcs_shadowing) != 0;
        if ((first & rules::basic::revision_bits) != model_.vmx.revision() || shadow != shadowing) {
            return {"the VMCS that the link pointer names (27.3.1.5)", bad_link_pointer};
        }
        if (find_vmcs(link) == &vmcs)
            return {"the link pointer is the VMCS's own (27.3.1.5)", bad_link_pointer};
    }
    // 27.3.1.6: the PDPTEs of a guest that uses PAE paging, with EPT those of the VMCS, else those in memory.
    const bool pae = paging && !modes.long_mode && (cr4 & x86::cr4::physical_address_extension) != 0;
    if (pae) {
        if (!are_loadable(guest_pdptes(vmcs))) return {"guest PDPTEs (27.3.1.6)", bad_pdpte};
    }
    return {};
}

Machine::Pdptes Machine::guest_pdptes(const Vmcs& vmcs) const {
    if ((secondary_controls(vmcs) & vmx::secondary::enable_ept) != 0) {
        return {vmcs.get(field::guest_pdpte0), vmcs.get(field::guest_pdpte1), vmcs.get(field::guest_pdpte2),
                vmcs.get(field::guest_pdpte3)};
    }
    // Bits 31:5 of CR3 name the table (SDM 3A table 4-7).
    return pdptes_at(vmcs.get(field::guest_cr3) & 0xFFFF'FFE0);
}

}  // namespace flatback::machine
