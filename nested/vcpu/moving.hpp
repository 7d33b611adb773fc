// A virtual CPU and the processor that it runs on: it leaves one, enters another, and begins anew.
//
// A VMCS is active on one processor at most, and what a processor has cached of it goes to memory by VMCLEAR
// (SDM 3C 25.11.1). So a virtual CPU that leaves clears all that the engine ever loaded there, and whichever
// it enters again must be launched again. What its tags may hold is marked for the processor they ran on, so
// that the flushes that another one owes come by themselves, at the first entry there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nested_vcpu.hpp"

namespace flatback::nested {

template <Port P>
void NestedVcpu<P>::leave_processor() {
    if (!on_processor_) return;
    close_window();
    for (Slot& slot : slots_) {
        if (slot.vmcs02.page.value() == 0) continue;
        port_.clear_vmcs(slot.vmcs02.page);
        slot.vmcs02.launched = false;
        if (capabilities_.vmcs_shadowing) port_.clear_vmcs(slot.shadow);
    }
    port_.clear_vmcs(vmcs01_);
    on_processor_ = false;
}

template <Port P>
Entry NestedVcpu<P>::enter_processor() {
    if (on_processor_) port_.fatal("enter_processor() of a virtual CPU that has left none");
    on_processor_ = true;
    load(vmcs01_);
    port_.write_host_state();
    // The host state of the others is this processor's when L1 enters them (prepare_vmcs02), which writes the
    // addresses of the host's bitmaps too.
    for (Slot& slot : slots_) {
        slot.vmcs02.prepared = false;
        slot.unchecked.controls = true;
    }
    if (!in_l2_) {
        enter_l1_tag();
        return Entry::vmlaunch;
    }
    Slot& slot = *current_;
    vmcs01_is_clear_ = true;
    set_all_routes();
    load(slot.vmcs02.page);
    port_.write_host_state();
    slot.vmcs02.prepared = true;
    put_page_addresses(slot);
    if (std::exchange(demands_wait_, false)) demand_of_running_l2(slot);
    if ((slot.work & detail::timer) != 0) put_timer(slot);
    select_tag(slot);
    return Entry::vmlaunch;
}

template <Port P>
void NestedVcpu<P>::prepare_reentry() {
    if (!in_l2_) {
        enter_l1_tag();
        return;
    }
    if ((current_->work & detail::timer) != 0) put_timer(*current_);
    select_tag(*current_);
}

// The first exit of an L2 that has moved: as it is without that, but that vmcs01 may have to be launched.
template <Port P>
[[gnu::noinline, gnu::cold]] Entry NestedVcpu<P>::exit_after_move(vmx::ExitReasonField field) {
    vmcs01_is_clear_ = false;
    set_all_routes();
    --counters_.exits_from_l2;  // and is counted there
    const Entry entry = handle_l2_exit(field.value);
    if (!in_l2_) return Entry::vmlaunch;
    vmcs01_is_clear_ = true;
    set_all_routes();
    return entry;
}

// entry: of a VMCS that was launched. As it is where the virtual CPU has moved since.
template <Port P>
Entry NestedVcpu<P>::launched_anew(Entry entry) {
    if (entry == Entry::the_hosts) return entry;
    if (in_l2_) return current_->vmcs02.launched ? Entry::vmresume : Entry::vmlaunch;
    if (!vmcs01_is_clear_) return Entry::vmresume;
    vmcs01_is_clear_ = false;
    set_all_routes();
    return Entry::vmlaunch;
}

template <Port P>
void NestedVcpu<P>::set_all_routes() {
    for (std::size_t i = 0; i < exit_reason_count; ++i)
        set_route(static_cast<vmx::ExitReason>(i), routes_beneath_[i]);
}

template <Port P>
bool NestedVcpu<P>::reset(Reset kind) {
    if (kind == Reset::init && in_vmx_operation_) return false;
    if (!on_processor_) port_.fatal("reset() of a virtual CPU that is on no processor");
    // Of no VMCS it matters then whether it was launched.
    leave_processor();
    on_processor_ = true;
    load(vmcs01_);
    reset();  // nested/vcpu/restore.hpp
    put(vmx::field::vm_entry_interruption_information, 0);
    enter_l1_tag();
    return true;
}

}  // namespace flatback::nested
