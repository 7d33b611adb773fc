#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/interrupts.hpp"
#include "metal/l0/port.hpp"
#include "metal/memory/address_space.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/processors/given_processors.hpp"
#include "vmx/controls.hpp"
#include "vmx/ept.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/field.hpp"
#include "vmx/interruption.hpp"
#include "x86/cpuid.hpp"

namespace flatback::metal {

namespace bits = vmx::ept_entry;
namespace field = vmx::field;

RealApic::RealApic(BootResult& boot)
    : boot_(boot),
      home_(metal::read_msr(x86::msr::ia32_apic_base) & x86::apic_base::address_mask),
      page_(home_ < direct_map_size() ? direct_map_as<volatile std::byte>(x86::Hpa{home_}) : nullptr),
      in_x2apic_mode_((metal::read_msr(x86::msr::ia32_apic_base) & x86::apic_base::x2apic_enable) != 0),
      // The processor whose EN stays 0 is the emulator's, and there no firmware enters this mode.
      may_leave_(in_x2apic_mode_ && !boot.options.x2apic),
      keeps_writes_(given_processors().size() > 1),
      shown_at_(home_) {
    // The large page around it is split now, so that L1's first switch of modes takes no longer than another.
    std::uint64_t* const leaf = boot.ept01->leaf_of_4k(
        x86::Gpa<x86::L1>{home_}, keeps_writes_ ? Ept01::Use::to_change : Ept01::Use::to_watch);
    scratch_ = physical_of(boot.pages->allocate_page_or_panic("the page of writes to the local APIC"));
    if (!keeps_writes_) return;
    shown_by_ = leaf;
    if (leaf != nullptr) *leaf &= ~bits::write;
}

std::uint32_t RealApic::read_page(std::uint32_t offset) const {
    if (in_x2apic_mode_) [[unlikely]]
        return read_over_x2apic(offset);
    return *reinterpret_cast<const volatile std::uint32_t*>(page_ + offset);
}
void RealApic::write_page(std::uint32_t offset, std::uint32_t value) {
    if (offset == x86::xapic::logical_destination) this_processor().logical_destination.store(value);
    if (offset == x86::xapic::destination_format) this_processor().destination_format.store(value);
    if (in_x2apic_mode_) [[unlikely]]
        return write_over_x2apic(offset, value);
    *reinterpret_cast<volatile std::uint32_t*>(page_ + offset) = value;
}
std::uint32_t RealApic::read_over_x2apic(std::uint32_t offset) const {
    return over_x2apic_.read(*this, offset);
}
void RealApic::write_over_x2apic(std::uint32_t offset, std::uint32_t value) {
    over_x2apic_.write(*this, offset, value);
}
std::optional<std::uint64_t> RealApic::read_msr(std::uint32_t msr) const {
    return try_read_msr(msr);
}
bool RealApic::write_msr(std::uint32_t msr, std::uint64_t value) const {
    return try_write_msr(msr, value);
}

bool RealApic::enter_x2apic_mode() {
    if (!msr_bitmap_) return false;
    if (!in_x2apic_mode_) {
        const std::uint64_t base = metal::read_msr(x86::msr::ia32_apic_base);
        if (!try_write_msr(x86::msr::ia32_apic_base, base | x86::apic_base::x2apic_enable)) return false;
        in_x2apic_mode_ = true;
    }
    const std::uint32_t logical = x86::x2apic::msr_at(x86::xapic::logical_destination);
    if (metal::read_msr(logical) != x86::x2apic::logical_id(x2apic_id()))
        x2apic_destinations_are_l0s_.store(true);
    host::pass_x2apic_registers(host::MsrBitmap{direct_map_as<std::uint64_t>(*msr_bitmap_)});
    return true;
}

void RealApic::leave_x2apic_mode() {
    host::keep_x2apic_registers(host::MsrBitmap{direct_map_as<std::uint64_t>(*msr_bitmap_)});
    if (may_leave_) {
        namespace bit = x86::apic_base;
        const std::uint64_t disabled =
            metal::read_msr(x86::msr::ia32_apic_base) & ~(bit::global_enable | bit::x2apic_enable);
        metal::write_msr(x86::msr::ia32_apic_base, disabled);
        metal::write_msr(x86::msr::ia32_apic_base, disabled | bit::global_enable);
        in_x2apic_mode_ = false;
        return;
    }
    over_x2apic_ = {};
    keeps_writes_ = true;
    xapic_destinations_are_l0s_.store(true);
}
bool RealApic::take_interrupt() const {
    return take_external_interrupt().has_value();
}

// SDM 2A "CPUID": leaf 0BH where subleaf 0 has a level, else EBX[31:24] of leaf 1.
std::uint32_t RealApic::x2apic_id() const {
    constexpr std::uint32_t leaf_topology = 0xb;
    if (cpuid(x86::cpuid::leaf_vendor).eax >= leaf_topology) {
        const x86::CpuidResult topology = cpuid(leaf_topology);
        if ((topology.ebx & 0xffff) != 0) return topology.edx;
    }
    return cpuid(x86::cpuid::leaf_features).ebx >> 24;
}
bool RealApic::has_x2apic() const {
    return (cpuid(x86::cpuid::leaf_features).ecx & x86::cpuid::features_ecx_x2apic) != 0;
}

std::uint64_t RealApic::entry_elsewhere() const {
    const std::uint64_t permissions = in_x2apic_mode_ ? 0
                                      : keeps_writes_ ? bits::read | bits::execute
                                                      : bits::permissions;
    return home_ | permissions | bits::memory_type(x86::MemoryType::uncacheable);
}

// By two entries of EPT01: the one of the real page's address, and the one that leads to it instead.
bool RealApic::place_page(std::optional<std::uint64_t> address) {
    // Large pages split for it are never made whole again: so many pages for tables, and it moves no more.
    constexpr std::size_t most_pages = 64;
    Ept01& ept01 = *boot_.ept01;
    const std::size_t free_before = boot_.pages->free_pages();
    if (address && *address != home_ && pages_taken_ >= most_pages) return false;
    std::uint64_t* const home = ept01.leaf_of_4k(x86::Gpa<x86::L1>{home_});
    std::uint64_t* const place = address ? ept01.leaf_of_4k(x86::Gpa<x86::L1>{*address}) : home;
    pages_taken_ += free_before - boot_.pages->free_pages();
    if (home == nullptr || place == nullptr) return false;

    if (at_home_ == 0) at_home_ = *home;
    if (elsewhere_ != nullptr) *elsewhere_ = was_elsewhere_;
    elsewhere_ = nullptr;
    if (address && place == home) {
        *home = in_x2apic_mode_ ? at_home_ & ~bits::permissions : at_home_;
    } else {
        ept01.make_hole(*home);
        if (address) {
            was_elsewhere_ = *place;
            elsewhere_ = place;
            *place = entry_elsewhere();
        }
    }
    constexpr std::uint64_t nowhere = ~std::uint64_t{0};
    shown_at_ = address.value_or(nowhere);
    shown_by_ = place;
    invept(vmx::InveptType::single_context, {ept01.pointer().value, 0});
    changed_ = true;
    return true;
}

// SDM 3C 30.4: where L1 has made the real page the APIC-access page of the L2 that is current, every access
// of that L2's to it exits or is virtualized, once the translation allows it.
nested::HostMapping RealApic::let_write(std::uint64_t address) {
    letting_ = true;
    offset_.reset();
    const bool virtualized = (get(field::secondary_processor_based_vm_execution_controls) &
                              vmx::secondary::virtualize_apic_accesses) != 0 &&
                             get(field::apic_access_address) == home_;
    if (virtualized) return {x86::Hpa{home_}, 12, x86::MemoryType::uncacheable, false};
    // SDM 3A 11.4.1: registers lie on boundaries of 16 bytes, and what else is done there may do anything:
    // here nothing. A flag of a paging-structure entry is no access of the instruction's own, nor is an
    // event's frame.
    const auto offset = static_cast<std::uint32_t>(address % x86::page_size_4k);
    const vmx::EptViolation violation{get(field::exit_qualification)};
    const vmx::InterruptionInformation event{get(field::idt_vectoring_information)};
    constexpr std::uint32_t register_alignment = 15;
    if (!event.is_valid() &&
        violation.has(vmx::EptViolation::linear_address_valid | vmx::EptViolation::of_linear_address)) {
        const std::uint32_t at = offset & ~register_alignment;
        if (violation.has(vmx::EptViolation::write) && offset == at) offset_ = offset;
        *direct_map_as<std::uint32_t>(scratch_ + at) = at == x86::xapic::end_of_interrupt ? 0 : read_page(at);
    }
    return {scratch_, 12, x86::MemoryType::write_back, false};
}

// Without INVEPT: the violation has dropped what the processor had of it (SDM 3C 29.4.3.1).
void RealApic::let_write_in_ept01(std::uint64_t address) {
    if (before_ == 0) before_ = *shown_by_;
    const nested::HostMapping place = let_write(address);
    // An instruction that reads there may write there too, which is another violation.
    const bool writes = vmx::EptViolation{get(field::exit_qualification)}.has(vmx::EptViolation::write);
    *shown_by_ = place.address.value() | (writes ? bits::permissions : bits::read | bits::execute) |
                 bits::memory_type(place.memory_type) | bits::ignore_pat;
}

std::optional<RealApic::Write> RealApic::take_write(bool done) {
    if (before_ != 0) *shown_by_ = before_;
    before_ = 0;
    letting_ = false;
    if (!done || !offset_) return std::nullopt;
    return Write{*offset_, *direct_map_as<std::uint32_t>(scratch_ + *offset_)};
}

}  // namespace flatback::metal
