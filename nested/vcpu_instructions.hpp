// The VMX instructions as L1 executes them: the SDM's order of checks, and its errors (SDM 3C chapter 31; INVEPT and
// INVVPID as docs/tags.md). The processor has checked its mode already: an instruction that is #UD for the mode, or
// VMXON with a register operand, does not exit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "nested/l1_paging.hpp"
#include "nested/vcpu.hpp"
#include "vmx/instruction_information.hpp"
#include "x86/exception.hpp"

namespace flatback::nested {

namespace detail {
constexpr Fault invalid_opcode() { return {.vector = static_cast<std::uint8_t>(x86::Vector::invalid_opcode)}; }
constexpr Fault with_code(x86::Vector vector, std::uint32_t code = 0) {
    return {.vector = static_cast<std::uint8_t>(vector), .has_error_code = true, .error_code = code};
}
}  // namespace detail

template <Port P>
Entry NestedVcpu<P>::handle_vmx_instruction(vmx::ExitReason reason) {
    ++counters_.exits_from_l1;
    ++counters_.handled_by_l0[static_cast<std::size_t>(reason)];
    using enum vmx::ExitReason;
    const bool is_entry = reason == vmlaunch || reason == vmresume;
    if (reason != vmxon && !in_vmx_operation_) {
        inject_into_l1(detail::invalid_opcode());
        return Entry::vmresume;
    }
    if (reason == vmxon && (get(vmx::field::cr4_read_shadow) & x86::cr4::vmx_enable) == 0) {
        inject_into_l1(detail::invalid_opcode());
        return Entry::vmresume;
    }
    if ((reason == invept && !capabilities_.promised.ept_vpid.has(vmx::EptVpidCapability::invept)) ||
        (reason == invvpid && !capabilities_.promised.ept_vpid.has(vmx::EptVpidCapability::invvpid))) {
        inject_into_l1(detail::invalid_opcode());
        return Entry::vmresume;
    }
    if (x86::AccessRights{get(vmx::field::guest_ss_access_rights)}.privilege_level() != 0) {
        inject_into_l1(detail::with_code(x86::Vector::general_protection));
        return Entry::vmresume;
    }
    if (is_entry) return vmentry(reason == vmlaunch);
    switch (reason) {
        case vmxon:
            this->vmxon();
            break;
        case vmxoff:
            this->vmxoff();
            break;
        case vmclear:
            this->vmclear();
            break;
        case vmptrld:
            this->vmptrld();
            break;
        case vmptrst:
            this->vmptrst();
            break;
        case vmread:
            this->vmread();
            break;
        case vmwrite:
            this->vmwrite();
            break;
        case invept:
            this->invept();
            break;
        case invvpid:
            this->invvpid();
            break;
        case vmcall:
            // No dual-monitor treatment is offered (SDM 3C "VMCALL").
            fail(vmx::InstructionError::vmcall_in_vmx_root_operation);
            break;
        default:
            port_.fatal("an exit that is no VMX instruction reached handle_vmx_instruction");
    }
    return Entry::vmresume;
}

// --- results ---------------------------------------------------------------------------------------------------------

// The instruction is done: RIP moves on, and what blocked interrupts for one instruction is over.
template <Port P>
void NestedVcpu<P>::advance_l1() {
    put(vmx::field::guest_rip, get(vmx::field::guest_rip) + get(vmx::field::vm_exit_instruction_length));
    const std::uint32_t state = get(vmx::field::guest_interruptibility_state);
    constexpr std::uint32_t for_one_instruction =
        vmx::interruptibility::blocking_by_sti | vmx::interruptibility::blocking_by_mov_ss;
    if ((state & for_one_instruction) != 0) [[unlikely]] {
        put(vmx::field::guest_interruptibility_state, state & ~for_one_instruction);
    }
    if ((get(vmx::field::guest_rflags) & x86::rflags::trap) != 0) [[unlikely]] {
        put(vmx::field::guest_pending_debug_exceptions,
            get(vmx::field::guest_pending_debug_exceptions) | vmx::pending_debug::single_step);
    }
}

template <Port P>
void NestedVcpu<P>::set_arithmetic_flags(std::uint64_t flags) {
    constexpr std::uint64_t all = x86::rflags::carry | x86::rflags::parity | x86::rflags::auxiliary_carry |
                                  x86::rflags::zero | x86::rflags::sign | x86::rflags::overflow;
    const std::uint64_t before = get(vmx::field::guest_rflags);
    const std::uint64_t after = (before & ~all) | flags;
    if (after != before) put(vmx::field::guest_rflags, after);
}
template <Port P>
void NestedVcpu<P>::succeed() {
    set_arithmetic_flags(0);
    advance_l1();
}
template <Port P>
void NestedVcpu<P>::fail_invalid() {
    set_arithmetic_flags(x86::rflags::carry);
    advance_l1();
}
template <Port P>
void NestedVcpu<P>::fail_valid(vmx::InstructionError error) {
    const std::size_t index = detail::index_of(vmx::field::vm_instruction_error.encoding);
    current_->vmcs12.set_word(index, static_cast<std::uint32_t>(error));
    current_->fresh.insert(index);
    set_arithmetic_flags(x86::rflags::zero);
    advance_l1();
}
// VMfail: with a current VMCS it holds the error number, without one there is only CF.
template <Port P>
void NestedVcpu<P>::fail(vmx::InstructionError error) {
    if (current_ != nullptr) {
        fail_valid(error);
    } else {
        fail_invalid();
    }
}

template <Port P>
void NestedVcpu<P>::inject_into_l1(const Fault& fault) {
    if (fault.vector == static_cast<std::uint8_t>(x86::Vector::page_fault)) port_.set_cr2(fault.page_fault_address);
    const auto information = vmx::InterruptionInformation::make(vmx::InterruptionType::hardware_exception, fault.vector,
                                                                fault.has_error_code);
    put(vmx::field::vm_entry_interruption_information, information.value);
    if (fault.has_error_code) put(vmx::field::vm_entry_exception_error_code, fault.error_code);
}

// --- operands --------------------------------------------------------------------------------------------------------

template <Port P>
std::uint64_t NestedVcpu<P>::l1_register(unsigned number) {
    return number == 4 ? get(vmx::field::guest_rsp) : port_.general_register(number);
}
template <Port P>
void NestedVcpu<P>::set_l1_register(unsigned number, std::uint64_t value) {
    if (number == 4) {
        put(vmx::field::guest_rsp, value);
    } else {
        port_.general_register(number) = value;
    }
}

// The linear address of the instruction's memory operand; its segment's checks are made here.
template <Port P>
std::expected<std::uint64_t, Fault> NestedVcpu<P>::memory_operand() {
    const vmx::InstructionInformation information{get(vmx::field::vm_exit_instruction_information)};
    const std::uint64_t offset = information.effective_offset(
        get(vmx::field::exit_qualification), [this](unsigned number) { return l1_register(number); });
    const auto segment = information.segment();
    const auto number = static_cast<std::uint32_t>(segment);
    const bool is_stack = segment == x86::SegmentRegister::ss;
    const x86::Vector vector = is_stack ? x86::Vector::stack_fault : x86::Vector::general_protection;
    // The segment fields of ES, CS, SS, DS, FS and GS follow each other (SDM 3D appendix B).
    const auto base = [&] { return get_raw(vmx::field::guest_es_base.encoding + 2 * number); };
    if (x86::AccessRights{get(vmx::field::guest_cs_access_rights)}.is_long_mode()) {
        const bool based = segment == x86::SegmentRegister::fs || segment == x86::SegmentRegister::gs;
        const std::uint64_t linear = based ? offset + base() : offset;
        if (!x86::is_canonical(linear)) return std::unexpected(detail::with_code(vector));
        return linear;
    }
    const x86::AccessRights rights{
        static_cast<std::uint32_t>(get_raw(vmx::field::guest_es_access_rights.encoding + 2 * number))};
    const std::uint64_t limit = get_raw(vmx::field::guest_es_limit.encoding + 2 * number);
    // The smallest operand is 4 bytes; a longer one is caught page by page.
    if (rights.is_unusable() || offset + 3 > limit) return std::unexpected(detail::with_code(vector));
    return (offset + base()) & 0xffffffff;
}

// Copies between L1's memory at a linear address and L0. All or nothing: every page is translated before a byte moves.
template <Port P>
typename NestedVcpu<P>::Checked NestedVcpu<P>::access_l1(std::uint64_t linear, void* buffer, unsigned size, bool write) {
    const L1PagingState state{.cr0 = get(vmx::field::guest_cr0),
                              .cr3 = get(vmx::field::guest_cr3),
                              .cr4 = get(vmx::field::guest_cr4),
                              .efer = get(vmx::field::guest_ia32_efer),
                              .alignment_check =
                                  (get(vmx::field::guest_rflags) & x86::rflags::alignment_check) != 0,
                              .physical_address_width = capabilities_.physical_address_width};
    const unsigned first = static_cast<unsigned>(std::uint64_t{size} < 0x1000 - (linear & 0xfff) ? size
                                                                                                 : 0x1000 - (linear & 0xfff));
    struct Piece {
        std::byte* where;
        unsigned bytes;
    };
    Piece pieces[2] = {{nullptr, first}, {nullptr, size - first}};
    std::uint64_t address = linear;
    for (Piece& piece : pieces) {
        if (piece.bytes == 0) break;
        const auto physical = translate_l1(port_, state, address, write);
        if (!physical) {
            Fault fault = detail::with_code(x86::Vector::page_fault, physical.error());
            fault.page_fault_address = address;
            return std::unexpected(fault);
        }
        std::byte* page = port_.l1_page(*physical);
        if (page != nullptr) piece.where = page + physical->page_offset();
        address += piece.bytes;
    }
    auto* bytes = static_cast<std::byte*>(buffer);
    for (const Piece& piece : pieces) {
        if (piece.bytes == 0) break;
        if (piece.where == nullptr) {  // no memory there: reads all ones, takes nothing
            if (!write) std::memset(bytes, 0xff, piece.bytes);
        } else if (piece.bytes == 8) {
            // The common case, and in one access: L1's other processors may be writing it.
            auto* word = reinterpret_cast<std::uint64_t*>(piece.where);
            std::uint64_t value;
            if (write) {
                std::memcpy(&value, bytes, 8);
                __atomic_store_n(word, value, __ATOMIC_RELAXED);
            } else {
                value = __atomic_load_n(word, __ATOMIC_RELAXED);
                std::memcpy(bytes, &value, 8);
            }
        } else if (write) {
            std::memcpy(piece.where, bytes, piece.bytes);
        } else {
            std::memcpy(bytes, piece.where, piece.bytes);
        }
        bytes += piece.bytes;
    }
    return {};
}

template <Port P>
std::expected<std::uint64_t, Fault> NestedVcpu<P>::read_pointer_operand() {
    const auto linear = memory_operand();
    if (!linear) return linear;
    std::uint64_t pointer = 0;
    if (const auto read = access_l1(*linear, &pointer, 8, false); !read) return std::unexpected(read.error());
    return pointer;
}

// --- VMXON, VMXOFF ---------------------------------------------------------------------------------------------------

template <Port P>
void NestedVcpu<P>::vmxon() {
    if (in_vmx_operation_) return fail(vmx::InstructionError::vmxon_in_vmx_root_operation);
    // A20M is not modelled. CR0 and CR4 must obey the fixed bits, IA32_FEATURE_CONTROL must allow it.
    const std::uint64_t feature_control = port_.read_l1_msr(x86::msr::ia32_feature_control).value_or(0);
    constexpr std::uint64_t needed = x86::feature_control::locked | x86::feature_control::vmx_outside_smx;
    if ((feature_control & needed) != needed || !capabilities_.promised.cr0.permits(get(vmx::field::guest_cr0)) ||
        !capabilities_.promised.cr4.permits(get(vmx::field::guest_cr4))) {
        return inject_into_l1(detail::with_code(x86::Vector::general_protection));
    }
    const auto pointer = read_pointer_operand();
    if (!pointer) return inject_into_l1(pointer.error());
    const x86::Gpa<x86::L1> region{*pointer};
    if (!region.is_aligned() || !x86::fits_physical_width(*pointer, capabilities_.physical_address_width)) {
        return fail_invalid();
    }
    const auto* page = port_.l1_page(region);
    if (page == nullptr ||
        __atomic_load_n(reinterpret_cast<const std::uint32_t*>(page), __ATOMIC_RELAXED) != vmcs12_revision) {
        return fail_invalid();
    }
    in_vmx_operation_ = true;
    vmxon_region_ = *pointer;
    if (configuration_.shadow_vmcs && capabilities_.vmcs_shadowing) {
        shadowing_ = true;
        put(vmx::field::secondary_processor_based_vm_execution_controls,
            get(vmx::field::secondary_processor_based_vm_execution_controls) | vmx::secondary::vmcs_shadowing);
        put(vmx::field::vmread_bitmap_address, vmread_bitmap_.value());
        put(vmx::field::vmwrite_bitmap_address, vmwrite_bitmap_.value());
    }
    make_current(nullptr);
    succeed();
}

// Also what a reset of the virtual CPU needs. Nothing that L1 left behind survives: neither VMCS, tag nor EPT02.
template <Port P>
void NestedVcpu<P>::leave_vmx_operation() {
    if (!in_vmx_operation_) return;
    make_current(nullptr);
    for (Slot& slot : slots_) {
        if (!slot.active) continue;
        write_back(slot);
    }
    if (shadowing_) {
        put(vmx::field::secondary_processor_based_vm_execution_controls,
            get(vmx::field::secondary_processor_based_vm_execution_controls) & ~vmx::secondary::vmcs_shadowing);
        shadowing_ = false;
    }
    tags_.reset();
    l1_state_of_ = nullptr;
    l1_state_known_ = false;
    in_vmx_operation_ = false;
}

template <Port P>
void NestedVcpu<P>::vmxoff() {
    leave_vmx_operation();
    succeed();
}

// --- VMCLEAR, VMPTRLD, VMPTRST ---------------------------------------------------------------------------------------

template <Port P>
void NestedVcpu<P>::vmclear() {
    const auto pointer = read_pointer_operand();
    if (!pointer) return inject_into_l1(pointer.error());
    const x86::Gpa<x86::L1> region{*pointer};
    if (!region.is_aligned() || !x86::fits_physical_width(*pointer, capabilities_.physical_address_width)) {
        return fail(vmx::InstructionError::vmclear_with_invalid_physical_address);
    }
    if (*pointer == vmxon_region_) return fail(vmx::InstructionError::vmclear_with_vmxon_pointer);
    if (Slot* slot = find(region)) {
        slot->launched = false;
        write_back(*slot);
        if (slot == current_) make_current(nullptr);
    } else if (auto* page = port_.l1_page(region)) {
        reinterpret_cast<VmcsRegion*>(page)->launched = 0;
    }
    succeed();
}

template <Port P>
void NestedVcpu<P>::vmptrld() {
    const auto pointer = read_pointer_operand();
    if (!pointer) return inject_into_l1(pointer.error());
    const x86::Gpa<x86::L1> region{*pointer};
    if (!region.is_aligned() || !x86::fits_physical_width(*pointer, capabilities_.physical_address_width)) {
        return fail(vmx::InstructionError::vmptrld_with_invalid_physical_address);
    }
    if (*pointer == vmxon_region_) return fail(vmx::InstructionError::vmptrld_with_vmxon_pointer);
    const auto* page = port_.l1_page(region);
    if (page == nullptr ||
        __atomic_load_n(reinterpret_cast<const std::uint32_t*>(page), __ATOMIC_RELAXED) != vmcs12_revision) {
        return fail(vmx::InstructionError::vmptrld_with_incorrect_vmcs_revision_identifier);
    }
    Slot* slot = current_ != nullptr && current_->region == region ? current_ : find(region);
    if (slot == nullptr) slot = activate(region);
    if (slot != current_) make_current(slot);
    succeed();
}

template <Port P>
void NestedVcpu<P>::vmptrst() {
    const auto linear = memory_operand();
    if (!linear) return inject_into_l1(linear.error());
    std::uint64_t pointer = current_ != nullptr ? current_->region.value() : ~std::uint64_t{0};
    if (const auto written = access_l1(*linear, &pointer, 8, true); !written) return inject_into_l1(written.error());
    succeed();
}

// --- VMREAD, VMWRITE -------------------------------------------------------------------------------------------------

template <Port P>
void NestedVcpu<P>::vmread() {
    ++counters_.vmread_exits;
    if (current_ == nullptr) return fail_invalid();
    const vmx::InstructionInformation information{get(vmx::field::vm_exit_instruction_information)};
    const bool long_mode = x86::AccessRights{get(vmx::field::guest_cs_access_rights)}.is_long_mode();
    const std::uint64_t operand = l1_register(information.register2());
    const std::uint64_t encoding = long_mode ? operand : operand & 0xffffffff;
    const int index = vmx::is_well_formed(encoding) ? vmx::dense_index(static_cast<std::uint32_t>(encoding) & ~1U) : -1;
    if (index < 0 || field_handling[static_cast<std::size_t>(index)] == FieldHandling::unsupported ||
        (vmx::is_high(encoding) && vmx::width(encoding) != vmx::FieldWidth::bits64)) {
        return fail_valid(vmx::InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
    }
    std::uint64_t value = read_field(*current_, static_cast<std::size_t>(index));
    if (vmx::is_high(encoding)) value >>= 32;
    if (!long_mode) value &= 0xffffffff;
    if (information.has_register_operand()) {
        set_l1_register(information.register1(), value);
    } else {
        const auto linear = memory_operand();
        if (!linear) return inject_into_l1(linear.error());
        if (const auto written = access_l1(*linear, &value, long_mode ? 8 : 4, true); !written) {
            return inject_into_l1(written.error());
        }
    }
    succeed();
}

template <Port P>
void NestedVcpu<P>::vmwrite() {
    ++counters_.vmwrite_exits;
    if (current_ == nullptr) return fail_invalid();
    const vmx::InstructionInformation information{get(vmx::field::vm_exit_instruction_information)};
    const bool long_mode = x86::AccessRights{get(vmx::field::guest_cs_access_rights)}.is_long_mode();
    std::uint64_t value = 0;
    if (information.has_register_operand()) {
        value = l1_register(information.register1());
    } else {
        const auto linear = memory_operand();
        if (!linear) return inject_into_l1(linear.error());
        if (const auto read = access_l1(*linear, &value, long_mode ? 8 : 4, false); !read) {
            return inject_into_l1(read.error());
        }
    }
    const std::uint64_t operand = l1_register(information.register2());
    const std::uint64_t encoding = long_mode ? operand : operand & 0xffffffff;
    if (!long_mode) value &= 0xffffffff;
    const int index = vmx::is_well_formed(encoding) ? vmx::dense_index(static_cast<std::uint32_t>(encoding) & ~1U) : -1;
    if (index < 0 || field_handling[static_cast<std::size_t>(index)] == FieldHandling::unsupported ||
        (vmx::is_high(encoding) && vmx::width(encoding) != vmx::FieldWidth::bits64)) {
        return fail_valid(vmx::InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
    }
    const auto field = static_cast<std::size_t>(index);
    if (field_handling[field] == FieldHandling::information) {
        return fail_valid(vmx::InstructionError::vmwrite_to_read_only_vmcs_component);
    }
    if (vmx::width(encoding) == vmx::FieldWidth::bits64) {
        if (vmx::is_high(encoding)) {
            value = (value << 32) | (read_field(*current_, field) & 0xffffffff);
        } else if (!long_mode) {
            value |= read_field(*current_, field) & 0xffffffff00000000;
        }
    }
    // Outside the shadowed fields the words here and those of the shadow VMCS never meet; for these, keep both the same.
    if (shadowing_ && detail::shadowed.contains(field)) {
        load(current_->shadow);
        put_raw(vmx::all_fields[field].encoding, value & field_mask(vmx::all_fields[field].encoding));
        load(vmcs01_);
    }
    write_field(*current_, field, value);
    succeed();
}

// --- INVEPT, INVVPID -------------------------------------------------------------------------------------------------

template <Port P>
void NestedVcpu<P>::invept() {
    const vmx::InstructionInformation information{get(vmx::field::vm_exit_instruction_information)};
    const bool long_mode = x86::AccessRights{get(vmx::field::guest_cs_access_rights)}.is_long_mode();
    const std::uint64_t operand = l1_register(information.register2());
    const std::uint64_t type = long_mode ? operand : operand & 0xffffffff;
    if (!capabilities_.promised.ept_vpid.has_invept_type(type)) {
        return fail(vmx::InstructionError::invalid_operand_to_invept_invvpid);
    }
    const auto linear = memory_operand();
    if (!linear) return inject_into_l1(linear.error());
    vmx::InveptDescriptor descriptor;
    if (const auto read = access_l1(*linear, &descriptor, 16, false); !read) return inject_into_l1(read.error());
    ++counters_.invept[type];
    if (static_cast<vmx::InveptType>(type) == vmx::InveptType::single_context) {
        if (!vmx::Eptp{descriptor.eptp}.is_valid(capabilities_.promised.ept_vpid, capabilities_.physical_address_width)) {
            return fail(vmx::InstructionError::invalid_operand_to_invept_invvpid);
        }
        ept02_.invalidate(descriptor.eptp);
    } else {
        ept02_.invalidate_all();
    }
    // Entries that another physical CPU may still cache are flushed there before they can be used again.
    if (tags_.ept02_cpu() != tag::Cpu{port_.cpu()}) tags_.ept02_contexts_stale();
    succeed();
}

template <Port P>
void NestedVcpu<P>::invvpid() {
    const vmx::InstructionInformation information{get(vmx::field::vm_exit_instruction_information)};
    const bool long_mode = x86::AccessRights{get(vmx::field::guest_cs_access_rights)}.is_long_mode();
    const std::uint64_t operand = l1_register(information.register2());
    const std::uint64_t type = long_mode ? operand : operand & 0xffffffff;
    if (!capabilities_.promised.ept_vpid.has_invvpid_type(type)) {
        return fail(vmx::InstructionError::invalid_operand_to_invept_invvpid);
    }
    const auto linear = memory_operand();
    if (!linear) return inject_into_l1(linear.error());
    vmx::InvvpidDescriptor descriptor;
    if (const auto read = access_l1(*linear, &descriptor, 16, false); !read) return inject_into_l1(read.error());
    if (!vmx::is_valid_invvpid_descriptor(static_cast<vmx::InvvpidType>(type), descriptor)) {
        return fail(vmx::InstructionError::invalid_operand_to_invept_invvpid);
    }
    ++counters_.invvpid[type];
    const tag::Vpid12 vpid12{descriptor.vpid()};
    const tag::Cpu cpu{port_.cpu()};
    switch (static_cast<vmx::InvvpidType>(type)) {
        case vmx::InvvpidType::individual_address: {
            auto owed = tags_.invvpid_address(vpid12, x86::LinearAddress{descriptor.linear_address}, cpu);
            if (owed) run(std::move(*owed));
            break;
        }
        case vmx::InvvpidType::single_context: {
            auto owed = tags_.invvpid_single(vpid12, cpu);
            if (owed) run(std::move(*owed));
            break;
        }
        case vmx::InvvpidType::all_contexts: {
            auto owed = tags_.invvpid_all(cpu);
            if (owed) run(std::move(*owed));
            break;
        }
        case vmx::InvvpidType::single_context_retaining_globals: {
            auto owed = tags_.invvpid_single_retaining_globals(vpid12, cpu);
            if (owed) run(std::move(*owed));
            break;
        }
    }
    succeed();
}

// Runs an owed flush on this CPU and says so.
template <Port P>
void NestedVcpu<P>::run(tag::OwedFlush flush) {
    const tag::FlushTarget& target = flush.target();
    if (target.extent != tag::Extent::nothing) {
        port_.invvpid(static_cast<vmx::InvvpidType>(target.extent), tag::raw(target.tag), target.linear_address.value());
        if (target.tag == vpid01_.number()) {
            ++counters_.l1_tag_flushes;
        } else {
            ++counters_.l2_tag_flushes;
        }
    }
    if (target.ept_contexts) {
        ept02_.flush_hardware();
        port_.invept(vmx::InveptType::single_context, port_.ept01_pointer());
        ++counters_.hardware_invepts;
    }
    std::move(flush).paid();
}

}  // namespace flatback::nested
