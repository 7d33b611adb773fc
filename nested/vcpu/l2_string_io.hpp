// INS and OUTS of L2's at ports that the host keeps and L1 does not: between L2's memory, by its own paging
// and by EPT12, and the port. The faults are L2's, the EPT violations L1's, in the order in which a processor
// meets them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "../../vmx/exit_qualification.hpp"
#include "l1_string_io.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

// A guest-physical access that L0 makes in L2's place and that L1 is to see: by EPT12, or to its APIC-access
// page.
struct L2Access {
    vmx::ExitReason reason{};
    std::uint64_t guest_physical = 0;
    std::uint64_t linear = 0;
    std::uint64_t qualification = 0;
    unsigned page_shift = 0;  // of the entry of EPT12 that does not allow it
};

namespace detail {

// L2's guest-physical memory for one access, as the walk of its paging structures reads it
// (nested/l1/paging.hpp).
template <Port P>
class L2Memory final {
public:
    static constexpr std::uint64_t no_page = ~std::uint64_t{0};

    // eptp12: without it L2's memory is L1's.
    // log: L1's, where it keeps one.
    L2Memory(P& port, Ept02<P>& ept, std::optional<vmx::Eptp> eptp12, PageModificationLog<P>* log,
             std::uint64_t apic_access_page, std::uint64_t linear)
        : port_(port),
          ept_(ept),
          eptp12_(eptp12),
          log_(log),
          apic_access_page_(apic_access_page),
          linear_(linear) {}

    std::byte* l1_page(x86::Gpa<x86::L1> table) {
        // With accessed and dirty flags in EPT12 each such access counts as a write (SDM 3C 29.3.3.2).
        const bool as_write = eptp12_ && eptp12_->enables_accessed_dirty();
        return reach(table.value(), as_write ? read | write : read, false) ? port_.l1_page(reached_)
                                                                           : nullptr;
    }
    bool takes_flags(x86::Gpa<x86::L1> table) { return reach(table.value(), read | write, false); }
    // Of the operand. nullptr: nothing is there, or met(), or was_overtaken().
    std::byte* byte(std::uint64_t guest_physical, bool is_write) {
        if (!reach(guest_physical, is_write ? write : read, true)) return nullptr;
        if ((reached_.value() & ~(x86::page_size - 1)) == apic_access_page_) {
            // SDM 3C table 28-6: the offset, and whether it is a write.
            met_ = L2Access{.reason = vmx::ExitReason::apic_access,
                            .linear = linear_,
                            .qualification = reached_.page_offset() | (is_write ? 1U << 12 : 0U)};
            return nullptr;
        }
        std::byte* const page = port_.l1_page(reached_);
        return page == nullptr ? nullptr : page + reached_.page_offset();
    }
    [[nodiscard]] const std::optional<L2Access>& met() const { return met_; }
    [[nodiscard]] bool was_overtaken() const { return overtaken_; }

private:
    static constexpr std::uint8_t read = 1;
    static constexpr std::uint8_t write = 2;

    bool reach(std::uint64_t guest_physical, std::uint8_t access, bool of_linear_address) {
        if (met_ || overtaken_) return false;
        if (!eptp12_) {
            reached_ = x86::Gpa<x86::L1>{guest_physical};
            return true;
        }
        const auto found = ept_.reach(*eptp12_, x86::Gpa<x86::L2>{guest_physical}, access, log_);
        using Kind = EptOutcome::Kind;
        if (found.kind == Kind::filled) {
            reached_ = found.address;
            return true;
        }
        overtaken_ = found.kind == Kind::overtaken;
        if (overtaken_) return false;
        met_ = L2Access{.reason = vmx::ExitReason::ept_misconfiguration,
                        .guest_physical = guest_physical,
                        .linear = linear_};
        if (found.kind == Kind::log_full) met_->reason = vmx::ExitReason::page_modification_log_full;
        if (found.kind != Kind::violation) return false;
        met_->reason = vmx::ExitReason::ept_violation;
        met_->qualification = vmx::EptViolation{access}.with_permissions(found.permissions).value |
                              vmx::EptViolation::linear_address_valid |
                              (of_linear_address ? vmx::EptViolation::of_linear_address : 0);
        met_->page_shift = found.page_shift;
        return false;
    }

    P& port_;
    Ept02<P>& ept_;
    std::optional<vmx::Eptp> eptp12_;
    PageModificationLog<P>* log_;
    std::uint64_t apic_access_page_;
    std::uint64_t linear_;
    std::optional<L2Access> met_;
    bool overtaken_ = false;
    x86::Gpa<x86::L1> reached_{};
};

}  // namespace detail

// vmcs02 is current. nullopt: nothing was done, since the processor does not tell which segment and address
// size the instruction has, or the port has no such functions.
template <Port P>
std::optional<Entry> NestedVcpu<P>::l2_string_io(Slot& slot) {
    if constexpr (detail::MovesStrings<P>) {
        if (!capabilities_.promised.basic.reports_ins_outs_information()) return std::nullopt;
        namespace field = vmx::field;
        constexpr auto basic = static_cast<std::size_t>(vmx::ExitReason::io_instruction);
        std::optional<L2Access> met;
        const auto done =
            string_step([&](const L1PagingState& state, std::uint64_t linear, unsigned size, bool write) {
                return with_log(slot, [&](PageModificationLog<P>* log) {
                    return locate_l2(slot, state, linear, size, write, log, met);
                });
            });
        if (met) return reflect_access(slot, *met);
        if (done) return reenter_l2(slot, basic);
        if (done.error().vector == Fault::none) {
            put(field::guest_rflags, get(field::guest_rflags) | x86::rflags::resume);
            return reenter_l2(slot, basic);
        }
        if (done.error().vector == static_cast<std::uint8_t>(x86::Vector::page_fault))
            return raise_page_fault_in_l2(slot, basic, done.error());
        return raise_in_l2(slot, basic, done.error());
    }
    return std::nullopt;
}

// As locate_l1(). met: what L1 is to see instead.
template <Port P>
Expected<typename NestedVcpu<P>::Located, Fault> NestedVcpu<P>::locate_l2(
    const Slot& slot, const L1PagingState& state, std::uint64_t linear, unsigned size, bool write,
    PageModificationLog<P>* log, std::optional<L2Access>& met) {
    msr_bitmaps_.note_written_somewhere();
    const auto eptp12 = slot.l1_uses_ept ? std::optional{ept_pointer12_of(slot)} : std::nullopt;
    Located found;
    found.first = static_cast<unsigned>(std::min<std::uint64_t>(size, x86::page_size - (linear & 0xfff)));
    unsigned pieces = 0;
    for (unsigned done = 0; done < size; done += found.first, ++pieces) {
        const std::uint64_t at = state.long_mode() ? linear + done : (linear + done) & 0xffffffff;
        detail::L2Memory<P> memory{port_, ept02_, eptp12, log, apic_access_page_of(slot), at};
        const auto physical = translate_l1(memory, state, at, write);
        if (physical) found.where[pieces] = memory.byte(physical->value(), write);
        if (memory.met()) {
            met = memory.met();
            return Unexpected{detail::begin_again()};
        }
        if (memory.was_overtaken()) return Unexpected{detail::begin_again()};
        if (!physical) {
            if (physical.error() == walk_was_overtaken) return Unexpected{detail::begin_again()};
            Fault fault = detail::with_code(x86::Vector::page_fault, physical.error());
            fault.page_fault_address = at;
            return Unexpected{fault};
        }
        if (done != 0) break;
    }
    return found;
}

template <Port P>
std::uint64_t NestedVcpu<P>::apic_access_page_of(const Slot& slot) {
    namespace field = vmx::field;
    const bool in_use = (slot.vmcs12.get(field::primary_processor_based_vm_execution_controls) &
                         vmx::primary::activate_secondary_controls) != 0 &&
                        (slot.vmcs12.get(field::secondary_processor_based_vm_execution_controls) &
                         vmx::secondary::virtualize_apic_accesses) != 0;
    return in_use ? slot.vmcs12.get(field::apic_access_address) : detail::L2Memory<P>::no_page;
}

// SDM 3C 25.6.3; the exit has the address as its qualification, and CR2 is as it was (28.2.1, 28.1).
template <Port P>
Entry NestedVcpu<P>::raise_page_fault_in_l2(Slot& slot, std::size_t basic_reason, const Fault& fault) {
    namespace field = vmx::field;
    // What is cached for the address goes with the fault (SDM 3A 4.10.4.1).
    l2_translations_changed();
    const bool in_bitmap = (slot.vmcs12.get(field::exception_bitmap) >> fault.vector & 1) != 0;
    const bool matches = (fault.error_code & slot.vmcs12.get(field::page_fault_error_code_mask)) ==
                         slot.vmcs12.get(field::page_fault_error_code_match);
    if (in_bitmap == matches) {
        drop_single_step();
        put(field::guest_rflags, get(field::guest_rflags) | x86::rflags::resume);
        return reflect_made(slot, vmx::ExitReason::exception_or_nmi, exception_for(fault), fault.error_code,
                            {}, fault.page_fault_address);
    }
    port_.set_cr2(fault.page_fault_address);
    if (!give_fault(fault)) return reflect_made(slot, vmx::ExitReason::triple_fault, {}, 0, {});
    return reenter_l2(slot, basic_reason);
}

// The exit of an access that had no effect: the instruction begins again (SDM 3C 28.3.3).
template <Port P>
Entry NestedVcpu<P>::reflect_access(Slot& slot, const L2Access& access) {
    namespace field = vmx::field;
    drop_single_step();
    put(field::guest_rflags, get(field::guest_rflags) | x86::rflags::resume);
    // EPT02 may have what EPT12 had before.
    if (access.reason == vmx::ExitReason::ept_violation)
        ept02_.forget(x86::Gpa<x86::L2>{access.guest_physical}, access.page_shift);
    const Entry entry = reflect_made(slot, access.reason, {}, 0, {}, access.qualification);
    const auto set = [&](auto what, std::uint64_t value) {
        slot.vmcs12.set(what, value);
        slot.newest.is_in_vmcs12(detail::index_of(what.encoding));
        if (shadowing_) put(what, value);
    };
    if (shadowing_) load(slot.shadow);
    if (access.reason != vmx::ExitReason::page_modification_log_full) {
        set(field::guest_linear_address, access.linear);
        if (access.reason != vmx::ExitReason::apic_access)
            set(field::guest_physical_address, access.guest_physical);
    }
    if (shadowing_) load(vmcs01_);
    return entry;
}

}  // namespace flatback::nested
