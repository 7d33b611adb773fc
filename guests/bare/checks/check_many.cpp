// Many VMCSs and many VPIDs by turns: each keeps what is its own.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/rule.hpp"
#include "vmx/field_table.hpp"

namespace flatback::guests {
namespace {

constexpr unsigned vmcs_count = 40;

// A value for a field that differs from field to field and from VMCS to VMCS, cut to the field's width. Of
// access rights without the bits that the SDM reserves: there are processors that keep none of them, and KVM
// keeps none anywhere.
std::uint64_t value_for(std::uint64_t encoding, std::uint64_t which) {
    std::uint64_t value = (encoding + 1) * 0x9E37'79B9'7F4A'7C15 + which * 0x1'0001'0001'0001;
    if (encoding >= field::guest_es_access_rights.encoding &&
        encoding <= field::guest_tr_access_rights.encoding)
        value &= 0x1'F0FF;
    switch (vmx::width(encoding)) {
        case vmx::FieldWidth::bits16:
            return value & 0xFFFF;
        case vmx::FieldWidth::bits32:
            return value & 0xFFFFFFFF;
        default:
            return value;
    }
}

// Fields that a VMCS of this processor has and L1 may write, but for the error number, which a failing VMREAD
// sets.
template <typename Visit>
void each_writable_field(Visit visit) {
    const bool may_write_all = (capabilities.misc >> 29 & 1) != 0;
    for (const vmx::NamedField& named : vmx::all_fields) {
        if (named.encoding == field::vm_instruction_error.encoding) continue;
        std::uint64_t value = 0;
        if (try_vmread(named.encoding, value) != vm_succeed) continue;
        if (!may_write_all && vmx::kind(named.encoding) == vmx::FieldKind::exit_information) continue;
        visit(named);
    }
}

void check_round_trips() {
    const RuleScope rule{{"3C 25.11", "each field of each VMCS keeps what was written"}};
    std::uint64_t addresses[3];
    for (std::uint64_t& address : addresses) {
        address = physical(new_vmcs_region());
        vmclear(address);
    }
    unsigned fields = 0;
    for (unsigned which = 0; which < 3; ++which) {
        vmptrld(addresses[which]);
        each_writable_field([&](const vmx::NamedField& named) {
            write_raw(named.encoding, value_for(named.encoding, which));
            ++fields;
        });
    }
    Check check{"every-field-of-three-vmcss-survives-vmclear-and-vmptrld"};
    check.holds("a VMCS has at least 100 fields", fields >= 300);
    for (unsigned round = 0; round < 2; ++round) {
        for (unsigned which = 0; which < 3; ++which) {
            vmclear(addresses[2 - which]);
            vmptrld(addresses[which]);
            each_writable_field([&](const vmx::NamedField& named) {
                check.equal(named.name, read_raw(named.encoding), value_for(named.encoding, which));
            });
        }
    }
    for (const std::uint64_t address : addresses) vmclear(address);
}

void check_many_vmcss() {
    const RuleScope rule{{"3C 25.1", "each VMCS keeps its own state"}};
    std::uint64_t addresses[vmcs_count];
    bool launched[vmcs_count] = {};
    Ept12& hierarchy = usual_ept();
    const bool has_vpid = capabilities.secondary.may_set(secondary::enable_vpid);
    for (unsigned i = 0; i < vmcs_count; ++i) {
        addresses[i] = physical(new_vmcs_region());
        vmclear(addresses[i]);
        vmptrld(addresses[i]);
        VmcsPlan plan = usual_plan(physical(l2_cpuid_loop), hierarchy.pointer());
        plan.vpid = static_cast<std::uint16_t>(i + 1);
        fill_vmcs(plan);
        write(field::guest_rsp, 0x10000 + i);
        write(field::guest_ia32_sysenter_esp, 0x20000 + i);
        write(field::tsc_offset, i);
    }
    Check check{"forty-vmcss-entered-by-turns-each-keep-their-own-state"};
    GuestRegisters registers{};
    for (unsigned round = 0; round < 3; ++round) {
        for (unsigned step = 0; step < vmcs_count; ++step) {
            const unsigned i = round == 1 ? vmcs_count - 1 - step : step;
            vmptrld(addresses[i]);
            check.equal("entry", enter_l2(&registers, !launched[i]), 0);
            launched[i] = true;
            check.equal("exit reason", read(field::exit_reason), reason::cpuid);
            check.equal("guest RIP", read(field::guest_rip), physical(l2_cpuid_loop) + 2);
            check.equal("guest RSP", read(field::guest_rsp), 0x10000 + i + round);
            check.equal("SYSENTER_ESP", read(field::guest_ia32_sysenter_esp), 0x20000 + i);
            if (has_vpid) check.equal("VPID", read(field::virtual_processor_identifier), i + 1);
            check.equal("TSC offset", read(field::tsc_offset), i);
            write(field::guest_rsp, 0x10000 + i + round + 1);
            if (round == 1 && i % 3 == 0) {
                vmclear(addresses[i]);
                launched[i] = false;
            }
        }
    }
    for (const std::uint64_t address : addresses) vmclear(address);
}

// What L1 uses at every entry the hypervisor beneath may give it in another way than what it uses once.
void check_fields_in_use() {
    const RuleScope rule{{"3C 25.11.2", "a field that L1 uses at every entry is what was written last"}};
    constexpr unsigned count = 2;
    std::uint64_t addresses[count];
    bool launched[count] = {};
    for (unsigned i = 0; i < count; ++i) {
        addresses[i] = physical(new_vmcs_region());
        vmclear(addresses[i]);
        vmptrld(addresses[i]);
        fill_vmcs(usual_plan(physical(l2_cpuid_loop), usual_ept().pointer()));
    }
    Check check{"fields-used-at-every-entry-of-two-vmcss-keep-their-values"};
    GuestRegisters registers{};
    for (std::uint64_t round = 0; round < 40; ++round) {
        for (unsigned i = 0; i < count; ++i) {
            // The second has half of these fields in use, and of one of them every second value is the old
            // one.
            const std::uint64_t value = 0x1000 * (round + 1) + i;
            vmptrld(addresses[i]);
            write(field::guest_fs_base, value);
            write(field::guest_ia32_sysenter_eip, 0x100 * (round / 2) + i);
            if (i == 0) {
                write(field::guest_gs_base, value + 8);
                write(field::tsc_offset, value + 16);
            }
            check.equal("entry", enter_l2(&registers, !launched[i]), 0);
            launched[i] = true;
            check.equal("exit reason", read(field::exit_reason), reason::cpuid);
            check.equal("guest FS base", read(field::guest_fs_base), value);
            check.equal("SYSENTER_EIP", read(field::guest_ia32_sysenter_eip), 0x100 * (round / 2) + i);
            check.equal("guest GS base", read(field::guest_gs_base), i == 0 ? value + 8 : 0);
            check.equal("TSC offset", read(field::tsc_offset), i == 0 ? value + 16 : 0);
            if (round == 20) {
                vmclear(addresses[i]);
                launched[i] = false;
                vmptrld(addresses[i]);
                check.equal("guest FS base behind VMCLEAR", read(field::guest_fs_base), value);
            }
        }
    }
    for (const std::uint64_t address : addresses) vmclear(address);
}

void check_vpids_in_turn() {
    const RuleScope rule{{"3C 29.1", "any VPID from 1 to FFFFH may be used"}};
    if (!capabilities.secondary.may_set(secondary::enable_vpid)) {
        report_not_offered("VPIDs");
        return;
    }
    Ept12 hierarchy;
    map_image(hierarchy);
    Page* const page = allocate_page();
    hierarchy.map(free_window, physical(page), EptLevel::page_4k);
    L2 l2{usual_plan(0, hierarchy.pointer())};
    Check check{"vpids-1-to-40-in-turn-all-run-l2-and-see-its-memory"};
    std::uint64_t expected = 0;
    for (unsigned round = 0; round < 3; ++round) {
        for (std::uint64_t vpid = 1; vpid <= 40; ++vpid) {
            write(field::virtual_processor_identifier, vpid);
            start(l2, l2_add, free_window, vpid);
            check.runs_to(l2, reason::vmcall);
            expected += vpid;
            check.equal("sum", page->words[0], expected);
            if (vpid % 7 == 0) invvpid(invvpid_type::single_context, {vpid / 7, 0});
        }
    }
    write(field::virtual_processor_identifier, 0xFFFF);
    start(l2, l2_add, free_window, 1);
    check.runs_to(l2, reason::vmcall);
    check.equal("sum with VPID FFFFH", page->words[0], expected + 1);
}

// VMXOFF forgets which VMCS is current, and nothing that VMCLEAR had saved.
void check_vmxoff_between() {
    const RuleScope rule{{"3C 25.11.1", "what VMCLEAR saved outlives VMXOFF"}};
    const std::uint64_t vmxon = physical(vmxon_region());
    const std::uint64_t address = physical(new_vmcs_region());
    vmclear(address);
    vmptrld(address);
    fill_vmcs(usual_plan(physical(l2_cpuid_loop), usual_ept().pointer()));
    GuestRegisters registers{};
    Check check{"an-l2-runs-on-after-vmclear-vmxoff-vmxon"};
    check.equal("entry", enter_l2(&registers, true), 0);
    write(field::guest_rsp, 0x4321);
    vmclear(address);
    check.outcome("VMXOFF", try_vmxoff(), vm_succeed);
    check.outcome("VMXON", try_vmxon(&vmxon), vm_succeed);
    check.outcome("VMPTRLD", try_vmptrld(&address), vm_succeed);
    check.equal("guest RSP", read(field::guest_rsp), 0x4321);
    check.equal("entry", enter_l2(&registers, true), 0);
    check.equal("exit reason", read(field::exit_reason), reason::cpuid);
    vmclear(address);
}

}  // namespace

void check_many() {
    const PageScope scope;
    check_round_trips();
    check_many_vmcss();
    check_fields_in_use();
    check_vpids_in_turn();
    check_vmxoff_between();
}

}  // namespace flatback::guests
