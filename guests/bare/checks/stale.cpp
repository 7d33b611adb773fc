#include "guests/bare/checks/stale.hpp"

#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/forget.hpp"

namespace flatback::guests {

Page* page_with(std::uint64_t word) {
    Page* const page = allocate_page();
    page->words[0] = word;
    return page;
}

void expect_word(Check& check, L2& l2, std::uint64_t want, std::uint64_t address) {
    start(l2, l2_load, address);
    if (check.runs_to(l2, reason::vmcall)) check.equal("what L2 read", l2.registers.rax, want);
}

VmcsPlan paged_plan(std::uint64_t root, std::uint16_t vpid, bool with_ept) {
    VmcsPlan plan = usual_plan(0, with_ept ? usual_ept().pointer() : 0);
    if (!with_ept) plan.secondary &= ~(secondary::enable_ept | secondary::unrestricted_guest);
    plan.cr3 = root;
    plan.vpid = vpid;
    if (vpid == 0) plan.secondary &= ~secondary::enable_vpid;
    return plan;
}

PlantedLinear::PlantedLinear(bool with_ept, std::uint16_t vpid)
    : with_ept_{with_ept},
      old_{page_with(old_word)},
      new_{page_with(new_word)},
      l2_{paged_plan(tables_.root(), vpid, with_ept)} {
    tables_.map_image();
}

void PlantedLinear::plant(Check& check, std::uint64_t bits) {
    bits_ = bits;
    tables_.entry(free_window) = old_entry() | bits;
    forget_all_vpids();
    expect_word(check, l2_, old_word);
}

void PlantedLinear::change() {
    tables_.entry(free_window) = new_entry() | bits_;
}

PlantedPhysical::PlantedPhysical()
    : old_{page_with(old_word)}, new_{page_with(new_word)}, l2_{usual_plan(0, hierarchy_.pointer())} {
    map_image(hierarchy_);
}

void PlantedPhysical::plant(Check& check) {
    hierarchy_.map(free_window, physical(old_), EptLevel::page_4k);
    forget_all_epts();
    expect_word(check, l2_, old_word);
}

void PlantedPhysical::change(std::uint64_t rights) {
    hierarchy_.map(free_window, physical(new_), EptLevel::page_4k, rights);
}

void fail_an_entry(Check& check, L2& l2, bool on_controls) {
    if (on_controls) {
        const auto before = read(field::cr3_target_count);
        write(field::cr3_target_count, 0x1FF);
        check.equal("entry", l2.run(), L2::no_exit);
        check.outcome("entry", l2.failure, vm_fail_valid(7));
        write(field::cr3_target_count, before);
        return;
    }
    const auto before = read(field::guest_rflags);
    write(field::guest_rflags, before & ~std::uint64_t{2});
    check.equal("exit reason", l2.run(), reason::entry_failure_guest_state | reason::entry_failure);
    write(field::guest_rflags, before);
}

void leave_and_enter_vmx_operation(Check& check, L2& l2) {
    const std::uint64_t region = physical(vmxon_region());
    l2.clear();
    check.outcome("VMXOFF", try_vmxoff(), vm_succeed);
    check.outcome("VMXON", try_vmxon(&region), vm_succeed);
    l2.make_current();
}

}  // namespace flatback::guests
