// VMLAUNCH and VMRESUME of L1's: the checks in the SDM's order (SDM 3C chapter 27), vmcs02 brought up to
// date, the tag and the EPT02 chosen, and what is owed to them paid.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../entry/check_fields.hpp"
#include "../entry/checks.hpp"
#include "../entry/compose.hpp"
#include "../entry/work.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

// The constructor stands here, with what else is done once.
template <Port P>
NestedVcpu<P>::NestedVcpu(P& port, const Capabilities& capabilities, tag::VpidPool& pool, x86::Hpa vmcs01,
                          const Configuration& configuration)
    : CountedVmcs<P>(port),
      capabilities_(capabilities),
      configuration_(configuration),
      vmcs01_(vmcs01),
      supported_(detail::supported_fields(capabilities)),
      in_hardware_(supported_.without(capabilities.emulated_fields)),
      copied_to_vmcs02_(detail::copied_to_vmcs02(supported_)),
      field_traits_([&] {
          std::array<std::uint8_t, vmx::field_count> traits{};
          const bool shadows = shadows_vmcs();
          const bool learns = shadows && configuration.learning.uses != 0;
          for (std::size_t i = 0; i < vmx::field_count; ++i) {
              const auto set = [&traits, i](std::uint8_t trait, bool has) {
                  if (has) traits[i] = static_cast<std::uint8_t>(traits[i] | trait);
              };
              set(not_promised, !supported_.contains(i));
              set(read_only, field_handling[i] == FieldHandling::information &&
                                 !capabilities.promised.misc.may_write_exit_information());
              set(shadowed, shadows && detail::shadowed.contains(i));
              set(perhaps_unpromised, unpromised_bits(i) != 0);
              const bool may_learn = learns && !capabilities.emulated_fields.contains(i);
              set(learned_by_reads, may_learn && detail::learned_by_reads.contains(i));
              set(learned_by_writes, may_learn && detail::learned_by_writes.contains(i));
          }
          return traits;
      }()),
      invvpid_types_([&] {
          std::uint32_t types = 0;
          for (std::uint32_t type = 0; type < 4; ++type) {
              if (capabilities.promised.ept_vpid.has_invvpid_type(type)) types |= 1U << type;
          }
          return types;
      }()),
      vpid01_(pool),
      tags_(pool, vpid01_, configuration.tags),
      msr_bitmaps_(port),
      io_bitmaps_(port),
      vmcs_bitmaps_(port, in_hardware_),
      ept02_(port, {.physical_address_width = capabilities.physical_address_width,
                    .ept_vpid = capabilities.promised.ept_vpid}) {
    if (configuration_.shadow_vmcs && capabilities_.vmcs_shadowing) {
        const auto fresh_page = [&] {
            const auto page = port_.allocate_page();
            if (!page) port_.fatal("no memory for the VMREAD and VMWRITE bitmaps");
            return *page;
        };
        const auto bitmap_without = [&](const FieldSet& fields) {
            const x86::Hpa page = fresh_page();
            auto* bytes = reinterpret_cast<std::uint8_t*>(vmcs_bitmaps_.all_exit(page));
            fields.for_each([&](std::size_t index) {
                if (!supported_.contains(index)) return;  // L1's access is to fail
                const std::uint32_t encoding = vmx::all_fields[index].encoding;
                bytes[encoding / 8] =
                    static_cast<std::uint8_t>(bytes[encoding / 8] & ~(1U << (encoding % 8)));
            });
            return page;
        };
        every_field_bitmap_ = fresh_page();
        vmcs_bitmaps_.fill(every_field_bitmap_);
        vmread_bitmap_ = bitmap_without(detail::shadowed);
        vmwrite_bitmap_ = bitmap_without(detail::shadow_writable);
    }
    const auto no_virtual_apic = port_.allocate_page();
    if (!no_virtual_apic) port_.fatal("no memory for the page that stands for a virtual APIC");
    no_virtual_apic_ = *no_virtual_apic;
    if (io_bitmaps_.keeps_ports()) set_route(vmx::ExitReason::io_instruction, Route::by_io_bitmap);
    if (configuration_.host_takes_nmis) set_route(vmx::ExitReason::exception_or_nmi, Route::by_window);
    const vmx::Capabilities& promised = capabilities_.promised;
    if (promised.secondary_processor_based.may_set(vmx::secondary::virtual_interrupt_delivery))
        set_route(vmx::ExitReason::virtualized_eoi, Route::to_l1);
    if (promised.pin_based.may_set(vmx::pin::process_posted_interrupts)) {
        if (!detail::EndsInterrupts<P>) port_.fatal("posted interrupts, and a Port without end_interrupt()");
        set_route(vmx::ExitReason::external_interrupt, Route::by_posted_interrupts);
    }
    if (offers_vmcs_shadowing()) {
        set_route(vmx::ExitReason::vmread, Route::by_vmcs_bitmap);
        set_route(vmx::ExitReason::vmwrite, Route::by_vmcs_bitmap);
    }
}

namespace detail {
inline constexpr std::uint32_t inherits = inherit_debug | inherit_pat | inherit_efer;
// Entries that may write over guest state of which vmcs02 alone has L1's word.
inline constexpr std::uint32_t overwrites = inherit_saved | entry_msr_list | paging_without_ept;

// Where load_msrs() puts MSRs that live in the VMCS, and that a list may name.
inline constexpr std::array guest_state_in_msr_lists = {
    vmx::field::guest_ia32_efer.encoding,         vmx::field::guest_ia32_pat.encoding,
    vmx::field::guest_ia32_debugctl.encoding,     vmx::field::guest_ia32_sysenter_cs.encoding,
    vmx::field::guest_ia32_sysenter_esp.encoding, vmx::field::guest_ia32_sysenter_eip.encoding,
};
}  // namespace detail

template <Port P>
std::uint32_t NestedVcpu<P>::work_of(const Slot& slot) {
    return detail::work_of(slot.vmcs12) | (slot.learned.any() ? std::uint32_t{detail::learned_fields} : 0U);
}

template <Port P>
Entry NestedVcpu<P>::vmentry(bool launch) {
    using vmx::InstructionError;
    if (current_ == nullptr) {
        return fail_invalid();
    }
    Slot& slot = *current_;
    if ((get(vmx::field::guest_interruptibility_state) & vmx::interruptibility::blocking_by_mov_ss) != 0) {
        return fail_valid(InstructionError::entry_with_events_blocked_by_mov_ss);
    }
    if (slot.launched == launch) {
        return fail_valid(launch ? InstructionError::vmlaunch_with_non_clear_vmcs
                                 : InstructionError::vmresume_with_non_launched_vmcs);
    }

    if (slot.unchecked.controls) slot.work = work_of(slot);
    if ((slot.work & detail::inherits) != 0) remember_l1_state(slot);
    if (shadowing_) collect_shadow<false>(slot);

    const auto refuse = [&](InstructionError error, EntryCheck check) {
        notice(check, slot.vmcs12);
        if (shadowing_) load(vmcs01_);
        return fail_valid(error);
    };
    const Vmcs12& vmcs12 = slot.vmcs12;
    const vmx::InterruptionInformation event{vmcs12.get(vmx::field::vm_entry_interruption_information)};
    if (slot.unchecked.controls || event.is_valid()) [[unlikely]] {
        const auto checked = slot.unchecked.controls
                                 ? check_control_fields(NewestView{*this, slot}, rules())
                                 : check_event_injection(NewestView{*this, slot}, rules());
        if (!checked) return refuse(InstructionError::entry_with_invalid_control_fields, checked.error());
        if (slot.unchecked.controls) slot.work = work_of(slot);
    }
    const std::uint32_t secondary12 = secondary_controls_of(vmcs12);
    const bool uses_vpid = (secondary12 & vmx::secondary::enable_vpid) != 0;
    if (uses_vpid && vmcs12.get(vmx::field::virtual_processor_identifier) == 0) {
        return refuse(InstructionError::entry_with_invalid_control_fields, EntryCheck::vpid_not_zero);
    }
    // An L1 outside IA-32e mode may change its mode before the next entry, and L2 its own ("IA-32e mode
    // guest"): it is checked each time. An L1 in IA-32e mode cannot leave it in VMX operation but by a VM
    // exit of its guest to a 32-bit host, which such an entry is refused.
    if (slot.unchecked.host_state) {
        if (shadowing_) load(vmcs01_);
        const bool ia32e_mode = (get(vmx::field::guest_ia32_efer) & x86::efer::long_mode_active) != 0;
        const auto checked =
            check_host_state(NewestView{*this, slot}, rules(), EntryContext{.ia32e_mode = ia32e_mode});
        if (!checked) return refuse(InstructionError::entry_with_invalid_host_state_fields, checked.error());
        slot.unchecked.host_state = !ia32e_mode;
    }

    // From here on a failure is a VM exit: L1 finds itself at its host RIP.
    ++counters_.l2_entries;
    entering_by_launch_ = launch;
    reentering_ = false;
    in_l2_ = true;
    if ((slot.work & detail::overwrites) != 0) slot.vmcs02.overwritten.clear();
    load(slot.vmcs02.page);
    if (!slot.vmcs02.prepared) prepare_vmcs02(slot);
    // The processor has activity states and bits of registers that L1 was not promised. The other two fields
    // are looked at when they are written (vmwrite()), or with these two, where the VMCS was made active.
    const auto is_pending = [&slot](auto field) {
        return slot.vmcs02.pending.contains(detail::index_of(field.encoding));
    };
    if (is_pending(vmx::field::guest_activity_state) || is_pending(vmx::field::guest_cr4)) [[unlikely]]
        look_for_unpromised(slot);
    if (slot.unchecked.controls) {
        compose_controls(slot);
        slot.unchecked.controls = false;
    }
    if (slot.vmcs02.primary_changed) {
        put(vmx::field::primary_processor_based_vm_execution_controls, slot.vmcs02.primary);
        slot.vmcs02.primary_changed = false;
    }
    slot.vmcs02.pending.for_each(
        [&](std::size_t index) { put_raw(vmx::all_fields[index].encoding, slot.vmcs12.word(index)); });
    slot.vmcs02.pending.clear();
    if ((slot.work & ~std::uint32_t{detail::learned_fields}) != 0 || slot.unchecked.guest_state)
        [[unlikely]] {
        if (const auto failure = do_entry_work(slot)) {
            if (failure->reason) return reflect_failed_entry(slot, *failure->reason, failure->qualification);
            return fail_hardware_entry(slot);
        }
    }
    select_ept(slot);
    select_tag(slot);
    slot.launched = true;
    return slot.vmcs02.launched ? Entry::vmresume : Entry::vmlaunch;
}

// What of L1's own state L2 starts with where its VMCS loads none. vmcs01 is current.
template <Port P>
void NestedVcpu<P>::remember_l1_state(const Slot& slot) {
    if ((slot.work & detail::inherit_debug) != 0) {
        inherited_.dr7 = get(vmx::field::guest_dr7);
        inherited_.debugctl = get(vmx::field::guest_ia32_debugctl);
    }
    if ((slot.work & detail::inherit_pat) != 0) inherited_.pat = get(vmx::field::guest_ia32_pat);
    if ((slot.work & detail::inherit_efer) != 0) inherited_.efer = get(vmx::field::guest_ia32_efer);
}

// What the processor takes in this field and L1 was not promised.
template <Port P>
std::uint64_t NestedVcpu<P>::unpromised_bits(std::size_t index) const {
    if (index == detail::index_of(vmx::field::guest_cr3.encoding)) return capabilities_.unpromised_cr3;
    if (index == detail::index_of(vmx::field::guest_ia32_debugctl.encoding))
        return capabilities_.unpromised_debugctl;
    return 0;
}

// Guest state that L1 has written and only L0 would refuse.
template <Port P>
[[gnu::always_inline]] inline void NestedVcpu<P>::look_for_unpromised(Slot& slot) {
    namespace field = vmx::field;
    const Vmcs12& vmcs12 = slot.vmcs12;
    const std::uint64_t unpromised =
        (vmcs12.get(field::guest_cr4) & ~capabilities_.promised.cr4.fixed1) |
        (vmcs12.get(field::guest_cr3) & capabilities_.unpromised_cr3) |
        (vmcs12.get(field::guest_ia32_debugctl) & capabilities_.unpromised_debugctl);
    if (unpromised != 0 || !activity_state_is_offered(vmcs12.get(field::guest_activity_state), vmcs12))
        [[unlikely]]
        slot.unchecked.guest_state = slot.unchecked.unpromised = true;
}

template <Port P>
bool NestedVcpu<P>::activity_state_is_offered(std::uint32_t state, const Vmcs12& controls) const {
    switch (static_cast<vmx::ActivityState>(state)) {
        case vmx::ActivityState::active:
            return true;
        case vmx::ActivityState::hlt:
            // An L2 that may halt may be found halted, and entered so again.
            return capabilities_.promised.misc.has_activity_hlt() ||
                   (controls.get(vmx::field::primary_processor_based_vm_execution_controls) &
                    vmx::primary::hlt_exiting) == 0;
        case vmx::ActivityState::shutdown:
            return capabilities_.promised.misc.has_activity_shutdown();
        case vmx::ActivityState::wait_for_sipi:
            return capabilities_.promised.misc.has_activity_wait_for_sipi();
    }
    return false;
}

// Once for each vmcs02: what never changes.
template <Port P>
void NestedVcpu<P>::prepare_vmcs02(Slot& slot) {
    port_.write_host_state();
    put(vmx::field::vmcs_link_pointer, ~std::uint64_t{0});
    put(vmx::field::vm_exit_msr_store_count, 0);
    put(vmx::field::vm_exit_msr_load_count, 0);
    put(vmx::field::vm_entry_msr_load_count, 0);
    put(vmx::field::address_of_msr_bitmaps, slot.msr_bitmap.page.value());
    if ((capabilities_.l0_secondary & vmx::secondary::enable_encls_exiting) != 0)
        put(vmx::field::encls_exiting_bitmap, ~std::uint64_t{0});
    slot.vmcs02.tag = tag::TagNumber::none;
    slot.vmcs02.ept_pointer = {};
    slot.vmcs02.link_pointer = ~std::uint64_t{0};
    slot.vmcs02.prepared = true;
}

// L1's controls with what L0 needs besides, into vmcs02, which is current.
template <Port P>
void NestedVcpu<P>::compose_controls(Slot& slot) {
    namespace field = vmx::field;
    const Vmcs12& vmcs12 = slot.vmcs12;
    fetch(slot, detail::index_of(field::vm_entry_controls.encoding));
    const ComposedControls composed = compose(vmcs12, host_controls());
    slot.l1_uses_vpid = composed.l1_uses_vpid;
    slot.l1_uses_ept = composed.l1_uses_ept;
    slot.l1_logs_writes = composed.l1_logs_writes;
    put(field::pin_based_vm_execution_controls, composed.pin_based);
    slot.vmcs02.primary = composed.primary;
    slot.vmcs02.primary_changed = true;
    const std::uint32_t before = slot.vmcs02.secondary;
    slot.vmcs02.secondary = composed.secondary;
    constexpr std::uint32_t rare = vmx::secondary::virtualize_x2apic_mode | vmx::secondary::vmcs_shadowing;
    if (((before | slot.vmcs02.secondary) & rare) != 0) [[unlikely]]
        put_rare_controls(slot, before);
    if ((slot.vmcs02.secondary & vmx::secondary::use_tsc_scaling) != 0)
        put(field::tsc_multiplier, vmcs12.get(field::tsc_multiplier));
    // The VPID control goes with the tag: select_tag() writes both.
    put(field::secondary_processor_based_vm_execution_controls,
        slot.vmcs02.secondary | (slot.vmcs02.tag != tag::TagNumber::none ? vmx::secondary::enable_vpid : 0));
    put(field::vm_exit_controls, composed.exit);
    put(field::vm_entry_controls, composed.entry);
    put(field::cr4_guest_host_mask, composed.cr4_guest_host_mask);
    put(field::cr4_read_shadow, composed.cr4_read_shadow);

    slot.vmcs02.below_demands_changed = true;  // "use TSC offsetting" may have
    slot.work = work_of(slot) | demanded_work_;
    put_page_addresses(slot);
    // Of what exits did not save, L1's word is the newest; vmcs02 has another.
    slot.newest.not_saved().for_each([&](std::size_t index) {
        if (copied_to_vmcs02_.contains(index)) slot.vmcs02.pending.insert(index);
    });
    // What they saved and will not save any longer is L1's word from now on.
    const FieldSet not_saved = detail::not_saved_at_exit(vmcs12);
    not_saved.for_each([&](std::size_t index) { fetch(slot, index); });
    slot.newest.leave_out(not_saved);
    if (has_demands_) [[unlikely]]
        put_demanded_controls(slot);
}

// before: vmcs02's secondary controls.
template <Port P>
[[gnu::noinline]] void NestedVcpu<P>::put_rare_controls(Slot& slot, std::uint32_t before) {
    constexpr std::uint32_t of_msr_bitmap = vmx::secondary::virtualize_x2apic_mode |
                                            vmx::secondary::apic_register_virtualization |
                                            vmx::secondary::virtual_interrupt_delivery;
    if (((before ^ slot.vmcs02.secondary) & of_msr_bitmap) != 0) slot.msr_bitmap.merge_anew();
    if ((slot.vmcs02.secondary & vmx::secondary::vmcs_shadowing) != 0) {
        put_vmcs_bitmaps(slot);
    } else {
        slot.linked = nullptr;
        put_link_pointer(slot);
    }
}

// Pages of L1's that the processor itself uses. Where L1 has none, host_mapping gives one of nothing. vmcs02
// is current.
//
// To the virtual-APIC page the processor writes past EPT: where that would be a page of nothing, it gets one
// that is made nothing again at each entry.
template <Port P>
void NestedVcpu<P>::put_page_addresses(Slot& slot) {
    namespace field = vmx::field;
    const Vmcs12& vmcs12 = slot.vmcs12;
    const std::uint32_t primary12 = vmcs12.get(field::primary_processor_based_vm_execution_controls);
    const auto page_of = [&](std::uint64_t address) {
        return port_.host_mapping(x86::Gpa<x86::L1>{address}).address.value();
    };
    if ((primary12 & vmx::primary::use_io_bitmaps) != 0 || slot.io_bitmaps.in_vmcs02) put_io_bitmaps(slot);
    if ((primary12 & vmx::primary::use_tpr_shadow) != 0) {
        const HostMapping found =
            port_.host_mapping(x86::Gpa<x86::L1>{vmcs12.get(field::virtual_apic_address)});
        slot.work = (slot.work & ~detail::no_virtual_apic) | (found.writable ? 0U : detail::no_virtual_apic);
        put(field::virtual_apic_address, found.writable ? found.address.value() : no_virtual_apic_.value());
    }
    if ((slot.vmcs02.secondary & vmx::secondary::virtualize_apic_accesses) != 0) {
        put(field::apic_access_address, page_of(vmcs12.get(field::apic_access_address)));
    }
}

// L1's own say it all but for the ports that the host keeps. Where L1 uses none vmcs02 has the host's, from
// the beginning (Port::write_host_state). vmcs02 is current.
template <Port P>
void NestedVcpu<P>::put_io_bitmaps(Slot& slot) {
    namespace field = vmx::field;
    const Vmcs12& vmcs12 = slot.vmcs12;
    MergedIoBitmaps& merged = slot.io_bitmaps;
    const std::array addresses{field::address_of_io_bitmap_a, field::address_of_io_bitmap_b};
    merged.in_vmcs02 = (vmcs12.get(field::primary_processor_based_vm_execution_controls) &
                        vmx::primary::use_io_bitmaps) != 0;
    merged.in_use = merged.in_vmcs02 && io_bitmaps_.keeps_ports();
    slot.work &= ~detail::io_bitmaps;
    for (unsigned half = 0; half < 2; ++half) {
        x86::Hpa page = io_bitmaps_.own(half);
        if (merged.in_vmcs02) {
            merged.from[half] = vmcs12.get(addresses[half]);
            page = port_.host_mapping(x86::Gpa<x86::L1>{merged.from[half]}).address;
            if (io_bitmaps_.keeps_ports(half)) {
                if (merged.pages[half].value() == 0)
                    merged.pages[half] = page_for_vmcs02("no memory for an I/O bitmap");
                page = merged.pages[half];
            }
        }
        put(addresses[half], page.value());
    }
    if (!merged.in_use) return;
    const bool tells = io_bitmaps_.merge(merged, msr_bitmaps_);
    if (!tells || (slot.work & detail::msr_bitmap) == 0) slot.work |= detail::io_bitmaps;
}
template <Port P>
x86::Hpa NestedVcpu<P>::page_for_vmcs02(const char* what) {
    auto fresh_page = port_.allocate_page();
    if (!fresh_page) fresh_page = ept02_.give_page();
    if (!fresh_page) port_.fatal(what);
    return *fresh_page;
}

// The rare parts of an entry, those that cannot be kept from one entry to the next. vmcs02 is current.
template <Port P>
std::optional<typename NestedVcpu<P>::EntryFailure> NestedVcpu<P>::do_entry_work(Slot& slot) {
    namespace field = vmx::field;
    using namespace detail;
    const Vmcs12& vmcs12 = slot.vmcs12;
    const std::uint32_t work = slot.work;
    bool pdptes_are_good = true;
    const auto overwrite = [&](auto what, std::uint64_t value) {
        if ((work & inherit_saved) != 0) keep_l1_word(slot, what.encoding);
        put(what, value);
    };
    if ((work & msr_bitmap) != 0) {
        const std::uint64_t address = vmcs12.get(field::address_of_msr_bitmaps);
        if (!msr_bitmaps_.is_current(slot.msr_bitmap, address)) [[unlikely]] {
            msr_bitmaps_.merge(slot.msr_bitmap, address, slot.vmcs02.secondary);
            // What made the one stale may have made the others so. Where they are due at each entry it is
            // below.
            if (slot.io_bitmaps.in_use && (work & io_bitmaps) == 0 &&
                !io_bitmaps_.merge(slot.io_bitmaps, msr_bitmaps_))
                slot.work |= io_bitmaps;
        }
    }
    if ((work & inherit_debug) != 0) {
        overwrite(field::guest_dr7, inherited_.dr7);
        overwrite(field::guest_ia32_debugctl, inherited_.debugctl);
    } else if ((work & rewrite_debug) != 0) {
        put(field::guest_dr7, vmcs12.get(field::guest_dr7));
        put(field::guest_ia32_debugctl, vmcs12.get(field::guest_ia32_debugctl));
    }
    if ((work & inherit_pat) != 0) {
        overwrite(field::guest_ia32_pat, inherited_.pat);
    } else if ((work & rewrite_pat) != 0) {
        put(field::guest_ia32_pat, vmcs12.get(field::guest_ia32_pat));
    }
    if ((work & inherit_efer) != 0) {
        // SDM 3C 27.3.2.1: LMA, and with paging LME, become "IA-32e mode guest"; the rest is as it was. An
        // exit may have changed that control in vmcs02.
        const bool ia32e = (get(field::vm_entry_controls) & vmx::entry_control::ia32e_mode_guest) != 0;
        const bool paging = (get(field::guest_cr0) & x86::cr0::paging) != 0;
        const std::uint64_t mode =
            x86::efer::long_mode_active | (paging ? x86::efer::long_mode_enable : std::uint64_t{0});
        overwrite(field::guest_ia32_efer, (inherited_.efer & ~mode) | (ia32e ? mode : 0));
    } else if ((work & rewrite_efer) != 0) {
        put(field::guest_ia32_efer, vmcs12.get(field::guest_ia32_efer));
    }
    if ((work & paging_without_ept) != 0) {
        // The hardware runs L2 under EPT01 and so takes PDPTEs from vmcs02; L1's processor would take them
        // from memory.
        const bool pae = (get(field::guest_cr0) & x86::cr0::paging) != 0 &&
                         (get(field::guest_cr4) & x86::cr4::physical_address_extension) != 0 &&
                         (get(field::vm_entry_controls) & vmx::entry_control::ia32e_mode_guest) == 0;
        if (pae) {
            for (std::uint32_t i = 0; i < 4; ++i) keep_l1_word(slot, field::guest_pdpte0.encoding + 2 * i);
            pdptes_are_good = load_pdptes(get(field::guest_cr3));
        }
    }
    bool linked = false;
    if ((work & (timer | no_virtual_apic | io_bitmaps | demanded | shows_vmcs)) != 0) {
        if ((work & io_bitmaps) != 0 && !io_bitmaps_.is_current(slot.io_bitmaps, msr_bitmaps_))
            static_cast<void>(io_bitmaps_.merge(slot.io_bitmaps, msr_bitmaps_));
        if ((work & no_virtual_apic) != 0) std::memset(port_.page(no_virtual_apic_), 0xff, x86::page_size);
        if ((work & demanded) != 0) {
            if (slot.vmcs02.below_demands_changed) put_demanded_fields(slot);
            if ((demands_.cr0_mask | demands_.cr4_mask) != 0) put_demanded_masks(slot);
        }
        if ((work & timer) != 0) start_timer(slot);
        if ((work & shows_vmcs) != 0) linked = link_shadow(slot);
    }
    // MSRs are loaded only into a guest whose state is good; the processor would find out too late.
    // What the link pointer names may change without L1's writing the field.
    const bool unlinked = !linked && names_linked_vmcs(slot);
    if (unlinked || slot.unchecked.unpromised || !pdptes_are_good || (work & entry_msr_list) != 0) {
        if (const auto failure = judge_entry(slot, pdptes_are_good)) return failure;
        // A control that L1 sets later may have the processor look at IA32_DEBUGCTL.
        slot.unchecked.unpromised =
            (vmcs12.get(field::guest_ia32_debugctl) & capabilities_.unpromised_debugctl) != 0;
    }
    slot.unchecked.guest_state = unlinked || slot.unchecked.unpromised;
    if ((work & entry_msr_list) != 0) {
        for (const std::uint32_t encoding : guest_state_in_msr_lists) keep_l1_word(slot, encoding);
        const auto loaded = load_msrs(vmcs12.get(field::vm_entry_msr_load_address),
                                      vmcs12.get(field::vm_entry_msr_load_count));
        if (!loaded) {
            notice(Notice::entry_msr_refused, loaded.error());
            return EntryFailure{vmx::ExitReason::entry_failure_msr_loading, loaded.error().number};
        }
    }
    return std::nullopt;
}

// A guest-state field of vmcs02 is about to get what this entry brings from elsewhere. If the entry then
// fails, L1 must find in its VMCS what was there (SDM 3C 27.8). vmcs02 is current.
template <Port P>
void NestedVcpu<P>::keep_l1_word(Slot& slot, std::uint32_t encoding) {
    const std::size_t index = detail::index_of(encoding);
    if (slot.newest.not_saved().contains(index)) return;  // its word here is the newest, whatever vmcs02 has
    slot.vmcs02.overwritten.insert(index);
    fetch(slot, index);
}
// The entry failed: the next one starts from L1's words again.
template <Port P>
void NestedVcpu<P>::take_back_overwritten(Slot& slot) {
    if ((slot.work & detail::overwrites) != 0) slot.vmcs02.pending.insert_all(slot.vmcs02.overwritten);
}

// The entry under way, by L0's own checks in the processor's place: the first rule that it breaks, in the
// SDM's order, and what L1 gets to see of that. For entries that bring something which the processor could
// judge only too late, or not at all in vmcs02: an MSR list, the link pointer, PDPTEs in memory, what L1 was
// not promised. pdptes_are_good: those that vmcs02 now has. vmcs02 is current and has all guest state.
template <Port P>
std::optional<typename NestedVcpu<P>::EntryFailure> NestedVcpu<P>::judge_entry(Slot& slot,
                                                                               bool pdptes_are_good) {
    const GuestView view{*this, slot};
    const L1Physical memory{port_};
    vmx::Capabilities promised = capabilities_.promised;
    fetch(slot, detail::index_of(vmx::field::guest_activity_state.encoding));
    if (activity_state_is_offered(slot.vmcs12.get(vmx::field::guest_activity_state), slot.vmcs12))
        promised.misc.value |= vmx::MiscCapability::activity_hlt;
    const EntryRules rules{.promised = promised,
                           .physical_address_width = capabilities_.physical_address_width,
                           .debugctl_bits = x86::debugctl::defined_bits & ~capabilities_.unpromised_debugctl};
    // The controls were found good when they last changed, but for the TPR threshold and the number of CR3
    // targets, which are left to the processor.
    EntryVerdict verdict = check_control_fields(view, rules, {}, memory);
    if (verdict) {
        const EntryContext context{.current_vmcs = slot.region.value()};
        verdict = check_guest_state(view, rules, context, memory);
    }
    // L1's memory may have changed since they were read.
    if (verdict && !pdptes_are_good) verdict = detail::broken(EntryCheck::pdpte_reserved_bits);
    if (verdict) return std::nullopt;
    const EntryCheck check = verdict.error();
    for (const std::uint32_t encoding : fields_of(check)) fetch(slot, detail::index_of(encoding));
    Vmcs12 seen = slot.vmcs12;
    for (std::uint32_t i = 0; i < 4 && !pdptes_are_good; ++i) {
        const std::uint64_t table = view.get(vmx::field::guest_cr3) & 0xffff'ffe0;
        seen.set_word(detail::index_of(vmx::field::guest_pdpte0.encoding + 2 * i),
                      memory.template read<std::uint64_t>(table + 8 * i));
    }
    notice(check, seen);
    if (is_control_check(check)) return EntryFailure{std::nullopt, 0};
    return EntryFailure{vmx::ExitReason::entry_failure_guest_state,
                        static_cast<std::uint64_t>(exit_qualification_of(check))};
}

// Into the current VMCS's PDPTE fields, from the table that CR3 names in L1's memory.
template <Port P>
bool NestedVcpu<P>::load_pdptes(std::uint64_t cr3) {
    const std::uint64_t table = cr3 & 0xffffffe0;
    const auto* page = port_.l1_page(x86::Gpa<x86::L1>{table});
    if (page == nullptr) return false;
    const auto* entries = reinterpret_cast<const std::uint64_t*>(page + (table & 0xfff));
    for (std::uint32_t i = 0; i < 4; ++i) {
        const std::uint64_t entry = x86::read_word(&entries[i]);
        if (!x86::is_valid_pae_pdpte(entry, capabilities_.physical_address_width)) return false;
        put_raw(vmx::field::guest_pdpte0.encoding + 2 * i, entry);
    }
    return true;
}

template <Port P>
void NestedVcpu<P>::select_ept(Slot& slot) {
    vmx::Eptp pointer = port_.ept01_pointer();
    if (slot.l1_uses_ept) {
        pointer = ept02_.pointer_for(ept_pointer12_of(slot));
        if (pointer == Ept02<P>::no_pointer)
            port_.fatal("no memory for the root of an EPT02; give L0 more (docs/metal.md)");
    }
    if (pointer != slot.vmcs02.ept_pointer) {
        put(vmx::field::ept_pointer, pointer.value);
        slot.vmcs02.ept_pointer = pointer;
    }
}

// The tag to run L2 under, with what is owed to it paid: after this only the entry itself is left.
template <Port P>
void NestedVcpu<P>::select_tag(Slot& slot) {
    const tag::Cpu cpu = port_.cpu();
    auto entry = slot.l1_uses_vpid ? tags_.enter(vpid12_of(slot), cpu) : tags_.enter_without_vpid(cpu);
    if (entry.tag != slot.vmcs02.tag) [[unlikely]] {
        constexpr auto none = tag::TagNumber::none;
        if ((entry.tag == none) != (slot.vmcs02.tag == none)) {
            put(vmx::field::secondary_processor_based_vm_execution_controls,
                slot.vmcs02.secondary | (entry.tag != none ? vmx::secondary::enable_vpid : 0));
        }
        put(vmx::field::virtual_processor_identifier, tag::raw(entry.tag));
        slot.vmcs02.tag = entry.tag;
    }
    pay(std::move(entry.flush));
}

// --- MSR lists (SDM 3C 27.4, 28.4, 28.6) ---

template <Port P>
Expected<void, RefusedMsr> NestedVcpu<P>::load_msrs(std::uint64_t list, std::uint32_t count) {
    MsrListOwner owner{*this};
    return MsrList{owner, list, count, capabilities_.promised.misc.msr_list_entries()}.load();
}
template <Port P>
Expected<void, RefusedMsr> NestedVcpu<P>::store_msrs(std::uint64_t list, std::uint32_t count) {
    MsrListOwner owner{*this};
    return MsrList{owner, list, count, capabilities_.promised.misc.msr_list_entries()}.store();
}

// An MSR of the guest whose VMCS is current: some live in the VMCS while L0 runs.
template <Port P>
std::optional<std::uint64_t> NestedVcpu<P>::read_guest_msr(std::uint32_t msr) {
    namespace field = vmx::field;
    switch (msr) {
        case x86::msr::ia32_efer:
            return get(field::guest_ia32_efer);
        case x86::msr::ia32_pat:
            return get(field::guest_ia32_pat);
        case x86::msr::ia32_debugctl:
            return get(field::guest_ia32_debugctl);
        case x86::msr::ia32_sysenter_cs:
            return get(field::guest_ia32_sysenter_cs);
        case x86::msr::ia32_sysenter_esp:
            return get(field::guest_ia32_sysenter_esp);
        case x86::msr::ia32_sysenter_eip:
            return get(field::guest_ia32_sysenter_eip);
        case x86::msr::ia32_fs_base:
            return get(field::guest_fs_base);
        case x86::msr::ia32_gs_base:
            return get(field::guest_gs_base);
        default:
            return port_.read_l1_msr(msr);
    }
}
template <Port P>
bool NestedVcpu<P>::write_guest_msr(std::uint32_t msr, std::uint64_t value) {
    namespace field = vmx::field;
    switch (msr) {
        case x86::msr::ia32_efer: {
            // LMA is the processor's own, and a WRMSR while paging cannot change LME (SDM 3A 9.8.5).
            if ((value & ~x86::efer::defined_bits) != 0) return false;
            const std::uint64_t now = get(field::guest_ia32_efer);
            const bool paging = (get(field::guest_cr0) & x86::cr0::paging) != 0;
            if (paging && ((value ^ now) & x86::efer::long_mode_enable) != 0) return false;
            put(field::guest_ia32_efer,
                (value & ~x86::efer::long_mode_active) | (now & x86::efer::long_mode_active));
            return true;
        }
        case x86::msr::ia32_pat:
            if (!x86::is_valid_pat(value)) return false;
            put(field::guest_ia32_pat, value);
            return true;
        case x86::msr::ia32_debugctl:
            if (!port_.write_l1_msr(msr, value)) return false;  // the port asks the processor what it has
            put(field::guest_ia32_debugctl, value);
            return true;
        case x86::msr::ia32_sysenter_cs:
            put(field::guest_ia32_sysenter_cs, static_cast<std::uint32_t>(value));
            return true;
        case x86::msr::ia32_sysenter_esp:
        case x86::msr::ia32_sysenter_eip:
            if (!x86::is_canonical(value)) return false;
            if (msr == x86::msr::ia32_sysenter_esp) {
                put(field::guest_ia32_sysenter_esp, value);
            } else {
                put(field::guest_ia32_sysenter_eip, value);
            }
            return true;
        case x86::msr::ia32_fs_base:
        case x86::msr::ia32_gs_base:
            if (!x86::is_canonical(value)) return false;
            if (msr == x86::msr::ia32_fs_base) {
                put(field::guest_fs_base, value);
            } else {
                put(field::guest_gs_base, value);
            }
            return true;
        case x86::msr::ia32_apic_base:
            if (!port_.write_l1_msr(msr, value)) return false;
            // The host may have moved the APIC's page in EPT01.
            if constexpr (requires { port_.take_ept01_change(); }) {
                if (port_.take_ept01_change()) {
                    ept01_changed();
                    if (!in_l2_) enter_l1_tag();  // before L2's entry comes select_tag()
                }
            }
            return true;
        default:
            return port_.write_l1_msr(msr, value);
    }
}

}  // namespace flatback::nested
