// The VMX instructions as L1 executes them: the SDM's order of checks, and its errors (SDM 3C chapter 31;
// INVEPT and INVVPID as docs/tags.md). docs/checks.md lists which of them the processor has made before the
// exit: the mode of all but VMCALL, and that VMXON has no register operand.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../../vmx/instruction_information.hpp"
#include "../../x86/exception.hpp"
#include "../l1/complete_instruction.hpp"
#include "../l1/paging.hpp"
#include "nested_vcpu.hpp"

namespace flatback::nested {

namespace detail {
constexpr Fault invalid_opcode() {
    return {.vector = static_cast<std::uint8_t>(x86::Vector::invalid_opcode)};
}
constexpr Fault with_code(x86::Vector vector, std::uint32_t code = 0) {
    return {.vector = static_cast<std::uint8_t>(vector), .has_error_code = true, .error_code = code};
}
// No fault: the instruction is executed again.
constexpr Fault begin_again() {
    return {.vector = Fault::none};
}
}  // namespace detail

template <Port P>
Entry NestedVcpu<P>::handle_vmx_instruction(vmx::ExitReason reason) {
    ++counters_.handled_by_l0[static_cast<std::size_t>(reason)];
    // One word tells the mode and the privilege level of nearly every L1.
    if (!in_vmx_operation_ ||
        !x86::AccessRights{get_one(vmx::field::guest_cs_access_rights)}.is_64_bit_level_0()) [[unlikely]] {
        return judge_vmx_instruction(reason);
    }
    return execute_vmx_instruction(reason);
}

// L1 goes on with a fault instead.
template <Port P>
Entry NestedVcpu<P>::refuse(const Fault& fault) {
    inject(fault);
    return Entry::vmresume;
}

template <Port P>
[[gnu::always_inline]] inline Entry NestedVcpu<P>::execute_vmx_instruction(vmx::ExitReason reason) {
    using enum vmx::ExitReason;
    switch (reason) {
        case vmlaunch:
            return vmentry(true);
        case vmresume:
            return vmentry(false);
        case vmxon:
            return this->vmxon();
        case vmxoff:
            return this->vmxoff();
        case vmclear:
            return this->vmclear();
        case vmptrld:
            return this->vmptrld();
        case vmptrst:
            return this->vmptrst();
        case vmread:
            return this->vmread();
        case vmwrite:
            return this->vmwrite();
        case invept:
            return this->invept();
        case invvpid:
            return this->invvpid();
        case vmcall:
            // No dual-monitor treatment is offered (SDM 3C "VMCALL").
            return fail(vmx::InstructionError::vmcall_in_vmx_root_operation);
        default:
            port_.fatal("an exit that is no VMX instruction reached handle_vmx_instruction");
            return Entry::vmresume;
    }
}

// Where the instruction may be none: its faults first. The privilege level is SS.DPL (SDM 3C 25.4.1). VMCALL
// alone exits before the processor has looked at the mode (SDM 3C "VMCALL").
template <Port P>
[[gnu::noinline, gnu::cold]] Entry NestedVcpu<P>::judge_vmx_instruction(vmx::ExitReason reason) {
    using enum vmx::ExitReason;
    if (!in_vmx_operation_ &&
        (reason != vmxon || (get_one(vmx::field::cr4_read_shadow) & x86::cr4::vmx_enable) == 0)) {
        return refuse(detail::invalid_opcode());
    }
    if (reason == vmcall) {
        const x86::AccessRights code{get_one(vmx::field::guest_cs_access_rights)};
        const bool virtual_8086 = (get_one(vmx::field::guest_rflags) & x86::rflags::virtual_8086) != 0;
        const bool ia32e_mode = (get_one(vmx::field::guest_ia32_efer) & x86::efer::long_mode_active) != 0;
        if (virtual_8086 || (ia32e_mode && !code.is_long_mode())) return refuse(detail::invalid_opcode());
    }
    if (x86::AccessRights{get_one(vmx::field::guest_ss_access_rights)}.privilege_level() != 0) {
        const bool unknown = reason == invvpid && !offers_invvpid();
        return refuse(unknown ? detail::invalid_opcode()
                              : detail::with_code(x86::Vector::general_protection));
    }
    return execute_vmx_instruction(reason);
}

// --- results ---

// The instruction of the guest whose VMCS is current is done. rflags: its value, as read before.
template <Port P>
[[gnu::always_inline]] inline void NestedVcpu<P>::advance(std::uint64_t rflags) {
    complete_instruction([this](auto field) { return get_one(field); },
                         [this](auto field, auto value) { put_one(field, value); }, rflags);
}

// VMsucceed or VMfail: the six arithmetic flags are these, and the instruction is done, with it RF.
template <Port P>
Entry NestedVcpu<P>::finish(std::uint64_t flags) {
    constexpr std::uint64_t all = x86::rflags::arithmetic | x86::rflags::resume;
    const std::uint64_t before = get_one(vmx::field::guest_rflags);
    const std::uint64_t after = (before & ~all) | flags;
    if (after != before) put_one(vmx::field::guest_rflags, after);
    advance(before);
    return Entry::vmresume;
}
template <Port P>
Entry NestedVcpu<P>::succeed() {
    return finish(0);
}
template <Port P>
Entry NestedVcpu<P>::fail_invalid() {
    return finish(x86::rflags::carry);
}
template <Port P>
Entry NestedVcpu<P>::fail_valid(vmx::InstructionError error) {
    const std::size_t index = detail::index_of(vmx::field::vm_instruction_error.encoding);
    current_->vmcs12.set_word(index, static_cast<std::uint32_t>(error));
    current_->newest.is_in_vmcs12(index);
    return finish(x86::rflags::zero);
}
// VMfail: with a current VMCS it holds the error number, without one there is only CF.
template <Port P>
Entry NestedVcpu<P>::fail(vmx::InstructionError error) {
    return current_ != nullptr ? fail_valid(error) : fail_without_ordinary_vmcs(error);
}

// CR0 or CR4 as L1 sees it.
template <Port P>
std::uint64_t NestedVcpu<P>::l1_control_register(vmx::field::NaturalGuest real,
                                                 vmx::field::NaturalControl mask,
                                                 vmx::field::NaturalControl shadow) {
    const std::uint64_t hidden = get_one(mask);
    return (get_one(real) & ~hidden) | (get_one(shadow) & hidden);
}

// --- operands ---

template <Port P>
std::uint64_t NestedVcpu<P>::l1_register(unsigned number) {
    return number == 4 ? get_one(vmx::field::guest_rsp) : port_.general_register(number);
}
// Outside 64-bit mode an operand has 32 bits; one that is no larger than `most`, which is less, is itself.
template <Port P>
[[gnu::always_inline]] inline std::uint64_t NestedVcpu<P>::l1_operand(unsigned number, std::uint32_t most) {
    const std::uint64_t value = l1_register(number);
    if (value > most) [[unlikely]]
        return l1_is_64_bit() ? value : value & 0xffffffff;
    return value;
}
template <Port P>
[[gnu::always_inline]] inline void NestedVcpu<P>::set_l1_register(unsigned number, std::uint64_t value) {
    if (number == 4) {
        put_one(vmx::field::guest_rsp, value);
    } else {
        port_.general_register(number) = value;
    }
}

// The linear address of the instruction's memory operand; its segment's checks are made here (SDM
// 3A 5.3, 5.5).
template <Port P>
Expected<std::uint64_t, Fault> NestedVcpu<P>::memory_operand(vmx::InstructionInformation information,
                                                             bool long_mode, unsigned bytes, bool write) {
    const std::uint64_t offset = information.effective_offset(
        get_one(vmx::field::exit_qualification), [this](unsigned number) { return l1_register(number); });
    return segmented_address(information.segment(), offset, long_mode, bytes, write);
}
// long_mode: 64-bit mode.
template <Port P>
Expected<std::uint64_t, Fault> NestedVcpu<P>::segmented_address(x86::SegmentRegister segment,
                                                                std::uint64_t offset, bool long_mode,
                                                                unsigned bytes, bool write) {
    const auto number = static_cast<std::uint32_t>(segment);
    const bool is_stack = segment == x86::SegmentRegister::ss;
    const x86::Vector vector = is_stack ? x86::Vector::stack_fault : x86::Vector::general_protection;
    // The segment fields of ES, CS, SS, DS, FS and GS follow each other (SDM 3D appendix B).
    const auto base = [&] { return get_raw(vmx::field::guest_es_base.encoding + 2 * number); };
    if (long_mode) [[likely]] {
        const bool based = segment == x86::SegmentRegister::fs || segment == x86::SegmentRegister::gs;
        const std::uint64_t linear = based ? offset + base() : offset;
        if (!x86::is_canonical(linear) || !x86::is_canonical(linear + bytes - 1)) {
            return Unexpected{detail::with_code(vector)};
        }
        return linear;
    }
    const x86::AccessRights rights{
        static_cast<std::uint32_t>(get_raw(vmx::field::guest_es_access_rights.encoding + 2 * number))};
    const std::uint64_t limit = get_raw(vmx::field::guest_es_limit.encoding + 2 * number);
    const auto has = [&](std::uint32_t type_bit) { return (rights.type() & type_bit) != 0; };
    const bool permitted = rights.is_code() ? !write && has(x86::segment_type::readable)
                                            : !write || has(x86::segment_type::writable);
    const std::uint64_t last = offset + bytes - 1;
    const bool inside = !rights.is_code() && has(x86::segment_type::expand_down)
                            ? offset > limit && last <= (rights.is_default_big() ? 0xffffffff : 0xffff)
                            : last <= limit;
    if (rights.is_unusable() || !permitted || !inside) return Unexpected{detail::with_code(vector)};
    return (offset + base()) & 0xffffffff;
}

// Where L0 sees L1's memory operand, in the case that is nearly always so: 64-bit mode, all of it on one page
// of memory that L1's supervisor may use as it asks, with the accessed and dirty flags set already, and no
// breakpoint in use. nullptr: not so, or not known to be; then memory_operand() and access_l1() decide.
//
// L1 may change its paging structures without L0's knowing, and the rules by which they are read. So what is
// remembered of a walk is where its entries lie and what they held: each is read again, with what of the
// rules mattered to them, and if all are the same so is the result.
template <Port P>
[[gnu::always_inline]] inline std::byte* NestedVcpu<P>::plain_operand(vmx::InstructionInformation information,
                                                                      unsigned bytes, bool write) {
    // 64-bit addresses, and no segment with a base: bits 9:7 and 17:15 (SDM 3C table 28-14).
    constexpr std::uint32_t address_size = 7U << 7;
    constexpr std::uint32_t based_segment = 4U << 15;
    if ((information.value & (address_size | based_segment)) != 2U << 7) [[unlikely]]
        return nullptr;
    std::uint64_t linear = get_one(vmx::field::exit_qualification);
    if ((information.value & vmx::InstructionInformation::no_base_bit) == 0) {
        linear += l1_register((information.value >> 23) & 15);
    }
    if ((information.value & vmx::InstructionInformation::no_index_bit) == 0) {
        linear += l1_register((information.value >> 18) & 15) << (information.value & 3);
    }
    const std::uint64_t offset = linear & (x86::page_size - 1);
    if (offset > x86::page_size - bytes) [[unlikely]]
        return nullptr;
    if ((get_one(vmx::field::guest_dr7) & x86::dr7::enable_bits) != 0) [[unlikely]]
        return nullptr;
    return plain_page(linear, write);
}

// The byte at a linear address in a page that the walk to it meets nothing unusual on the way to, in IA-32e
// mode.
template <Port P>
[[gnu::always_inline]] inline std::byte* NestedVcpu<P>::plain_page(std::uint64_t linear, bool write) {
    const std::uint64_t offset = linear & (x86::page_size - 1);
    const std::uint64_t cr3 = get_one(vmx::field::guest_cr3);
    WalkedPage& page = walked_pages_[(linear >> 12) % walked_pages_.size()];
    if (page.linear_page == linear - offset && page.cr3 == cr3 && page.writable >= write) [[likely]] {
        const auto same = [&page](unsigned i) { return x86::read_word(page.entries[i]) == page.values[i]; };
        if (same(0) && same(1) && same(2) && same(3) && rule_holds(page)) [[likely]]
            return page.at(offset);
    }
    page.linear_page = WalkedPage::no_page;
    return walk_plain_page(page, linear - offset, cr3, write) ? page.at(offset) : nullptr;
}

// Of the rules of translation, only these make a difference to an entry without reserved bits that is read,
// or written where all levels say "writable": IA32_EFER.NXE, without which bit 63 is reserved, and for a page
// of user mode SMAP and protection keys. An L1 that uses one of the latter takes the general way.
template <Port P>
[[gnu::always_inline]] inline bool NestedVcpu<P>::rule_holds(const WalkedPage& page) {
    if (page.rule_field == 0) [[likely]]
        return true;
    x86::add_one(counters_.vmreads);
    return (port_.vmread(page.rule_field) & page.rule_mask) == page.rule_value || both_rules_hold(page);
}
template <Port P>
[[gnu::noinline, gnu::cold]] bool NestedVcpu<P>::both_rules_hold(const WalkedPage& page) {
    return page.rule_value == WalkedPage::both_rules && (get_one(vmx::field::guest_cr4) & user_rules) == 0 &&
           (get_one(vmx::field::guest_ia32_efer) & x86::efer::execute_disable_enable) != 0;
}
template <Port P>
void NestedVcpu<P>::set_rule(WalkedPage& page, bool user, bool execute_disable) {
    page.rule_field = 0;
    if (user) {
        page.rule_field = vmx::field::guest_cr4.encoding;
        page.rule_mask = user_rules;
        page.rule_value = execute_disable ? WalkedPage::both_rules : 0;
    } else if (execute_disable) {
        page.rule_field = vmx::field::guest_ia32_efer.encoding;
        page.rule_mask = page.rule_value = x86::efer::execute_disable_enable;
    }
}

// Fills `page` where the walk meets nothing unusual: no entry that is not present, with reserved bits or with
// a flag yet to be set. "Execute disable" is usual only in the entry that maps the page.
template <Port P>
[[gnu::noinline]] bool NestedVcpu<P>::walk_plain_page(WalkedPage& page, std::uint64_t linear_page,
                                                      std::uint64_t cr3, bool write) {
    namespace bit = x86::page_entry;
    if (!x86::is_canonical(linear_page)) return false;
    const std::uint64_t too_wide =
        bit::address_mask & ~((std::uint64_t{1} << capabilities_.physical_address_width) - 1);
    const std::uint64_t looked_at = bit::present | bit::accessed | too_wide | (write ? bit::writable : 0);
    const std::uint64_t usual = bit::present | bit::accessed | (write ? bit::writable : 0);
    std::uint64_t entry = cr3 & ~bit::execute_disable;
    std::uint64_t user = bit::user;
    for (unsigned shift = 39, level = 0;; shift -= 9, ++level) {
        if ((entry & bit::execute_disable) != 0) return false;
        const auto* table = port_.l1_page(x86::Gpa<x86::L1>{entry & bit::address_mask});
        if (table == nullptr) return false;
        const auto* where =
            reinterpret_cast<const std::uint64_t*>(table + ((linear_page >> (shift - 3)) & 0xff8));
        entry = x86::read_word(where);
        // A large page's entry stands for the levels below it too.
        for (unsigned i = level; i < 4; ++i) {
            page.entries[i] = where;
            page.values[i] = entry;
        }
        if ((entry & looked_at) != usual) return false;
        user &= entry;
        if (shift != 12 && (entry & bit::page_size) == 0) continue;

        const std::uint64_t in_page = (std::uint64_t{1} << shift) - 1;
        if (shift > 30 || (write && (entry & bit::dirty) == 0)) return false;
        // Between the address and the flags of a large page: its PAT, and bits that must be 0.
        if (shift != 12 && (entry & bit::address_mask & in_page) != 0) return false;
        set_rule(page, user != 0, (entry & bit::execute_disable) != 0);
        if (!rule_holds(page)) return false;
        page.page = port_.l1_page(x86::Gpa<x86::L1>{(entry & bit::address_mask) | (linear_page & in_page)});
        if (page.page == nullptr) return false;
        page.cr3 = cr3;
        page.writable = write;
        page.linear_page = linear_page;
        return true;
    }
}

// Reads the 64-bit words of the memory operand, each in one access: L1's other processors may be writing
// them. An operand that plain_operand() finds tells the mode too: only 64-bit mode has 64-bit addresses.
template <Port P>
template <std::size_t Words>
[[gnu::always_inline]] inline bool NestedVcpu<P>::read_operand(vmx::InstructionInformation information,
                                                               std::array<std::uint64_t, Words>& into,
                                                               unsigned narrow_bytes) {
    if (const auto* found = plain_operand(information, Words * 8, false)) [[likely]] {
        const auto* source = reinterpret_cast<const std::uint64_t*>(found);
        for (std::size_t i = 0; i < Words; ++i) into[i] = x86::read_word(&source[i]);
        return true;
    }
    std::array<std::uint64_t, Words> words{};  // so that what the caller has need not lie in memory
    if (!read_any_operand(information, words.data(), Words * 8, narrow_bytes)) return false;
    into = words;
    return true;
}
// The same by the general way. narrow_bytes: outside 64-bit mode. False: the fault is in L1 already.
template <Port P>
[[gnu::noinline, gnu::cold]] bool NestedVcpu<P>::read_any_operand(vmx::InstructionInformation information,
                                                                  void* into, unsigned bytes,
                                                                  unsigned narrow_bytes) {
    const bool long_mode = l1_is_64_bit();
    if (!long_mode) bytes = narrow_bytes;
    const auto linear = memory_operand(information, long_mode, bytes, false);
    if (!linear) {
        inject(linear.error());
        return false;
    }
    const auto read = access_l1(*linear, into, bytes, false);
    if (!read) inject(read.error());
    return read.has_value();
}
template <Port P>
[[gnu::always_inline]] inline bool NestedVcpu<P>::write_operand(vmx::InstructionInformation information,
                                                                std::uint64_t value, unsigned narrow_bytes) {
    if (auto* found = plain_operand(information, 8, true)) [[likely]] {
        x86::write_word(reinterpret_cast<std::uint64_t*>(found), value);
        msr_bitmaps_.note_written(found);
        return true;
    }
    return write_any_operand(information, value, narrow_bytes);
}
template <Port P>
[[gnu::noinline, gnu::cold]] bool NestedVcpu<P>::write_any_operand(vmx::InstructionInformation information,
                                                                   std::uint64_t value,
                                                                   unsigned narrow_bytes) {
    const bool long_mode = l1_is_64_bit();
    const unsigned bytes = long_mode ? 8 : narrow_bytes;
    const auto linear = memory_operand(information, long_mode, bytes, true);
    if (!linear) {
        inject(linear.error());
        return false;
    }
    const auto written = access_l1(*linear, &value, bytes, true);
    if (!written) inject(written.error());
    return written.has_value();
}

// Copies between L1's memory at a linear address and L0. All or nothing: every page is translated before a
// byte moves.
template <Port P>
typename NestedVcpu<P>::Checked NestedVcpu<P>::access_l1(std::uint64_t linear, void* buffer, unsigned size,
                                                         bool write) {
    const auto found = locate_l1(l1_paging_state(), linear, size, write);
    if (!found) return Unexpected{found.error()};
    copy_l1(*found, buffer, size, write);
    note_breakpoints(linear, size, write);
    return {};
}

// The one or two pages of an access, with its faults and its accessed and dirty flags; no byte has moved.
template <Port P>
Expected<typename NestedVcpu<P>::Located, Fault> NestedVcpu<P>::locate_l1(const L1PagingState& state,
                                                                          std::uint64_t linear, unsigned size,
                                                                          bool write) {
    msr_bitmaps_.note_written_somewhere();  // it may write to L1's paging structures too, and L1 may keep an
                                            // MSR bitmap anywhere
    Located found;
    unsigned pieces = 0;
    found.first = static_cast<unsigned>(std::min<std::uint64_t>(size, x86::page_size - (linear & 0xfff)));
    for (unsigned done = 0; done < size; done += found.first, ++pieces) {
        // Outside 64-bit mode linear addresses wrap at 4 GB.
        const std::uint64_t address = state.long_mode() ? linear + done : (linear + done) & 0xffffffff;
        const auto physical = translate_l1(port_, state, address, write);
        if (!physical) {
            if (physical.error() == walk_was_overtaken) return Unexpected{detail::begin_again()};
            Fault fault = detail::with_code(x86::Vector::page_fault, physical.error());
            fault.page_fault_address = address;
            return Unexpected{fault};
        }
        if (std::byte* page = port_.l1_page(*physical)) found.where[pieces] = page + physical->page_offset();
        if (done != 0) break;
    }
    return found;
}
template <Port P>
void NestedVcpu<P>::copy_l1(const Located& found, void* buffer, unsigned size, bool write) {
    auto* bytes = static_cast<std::byte*>(buffer);
    unsigned length = found.first;
    for (unsigned i = 0, done = 0; done < size; ++i, done += length, length = size - found.first) {
        if (found.where[i] == nullptr) {  // no memory there: reads all ones, takes nothing
            if (!write) std::memset(bytes + done, 0xff, length);
        } else if (write) {
            x86::copy_once(found.where[i], bytes + done, length);
        } else {
            x86::copy_once(bytes + done, found.where[i], length);
        }
    }
}

template <Port P>
L1PagingState NestedVcpu<P>::l1_paging_state() {
    return {.cr0 = get_one(vmx::field::guest_cr0),
            .cr3 = get_one(vmx::field::guest_cr3),
            .cr4 = get_one(vmx::field::guest_cr4),
            .efer = get_one(vmx::field::guest_ia32_efer),
            .alignment_check = (get_one(vmx::field::guest_rflags) & x86::rflags::alignment_check) != 0,
            .physical_address_width = capabilities_.physical_address_width,
            .pdptes = {get_one(vmx::field::guest_pdpte0), get_one(vmx::field::guest_pdpte1),
                       get_one(vmx::field::guest_pdpte2), get_one(vmx::field::guest_pdpte3)},
            .protection_key_rights = protection_key_rights()};
}

// The fetch has set every accessed flag: nothing of L1's memory is written here, and no data breakpoint met.
// SMAP and protection keys are rules for data (SDM 3A 4.6.1, 4.6.2).
template <Port P>
bool NestedVcpu<P>::read_l1_code(std::uint64_t linear, void* buffer, unsigned size) {
    if (l1_is_64_bit() && (linear & (x86::page_size - 1)) <= x86::page_size - size) {
        if (const std::byte* found = plain_page(linear, false)) {
            x86::copy_once(static_cast<std::byte*>(buffer), found, size);
            return true;
        }
    }
    L1PagingState state = l1_paging_state();
    state.cr4 &= ~user_rules;
    auto* bytes = static_cast<std::byte*>(buffer);
    for (unsigned done = 0; done < size;) {
        const std::uint64_t at = state.long_mode() ? linear + done : (linear + done) & 0xffffffff;
        const auto part =
            static_cast<unsigned>(std::min<std::uint64_t>(size - done, x86::page_size - (at & 0xfff)));
        const auto physical = translate_l1(port_, state, at, false);
        if (!physical) return false;
        const std::byte* page = port_.l1_page(*physical);
        if (page == nullptr) return false;
        x86::copy_once(bytes + done, page + physical->page_offset(), part);
        done += part;
    }
    return true;
}

// PKRU of L1's, which no exit changes; 0 where L1 does not use it.
template <Port P>
std::uint32_t NestedVcpu<P>::protection_key_rights() {
    if constexpr (requires { port_.protection_key_rights(); }) {
        if ((get_one(vmx::field::guest_cr4) & x86::cr4::protection_key_enable) != 0)
            return port_.protection_key_rights();
    }
    return 0;
}

// The data breakpoints of L1's that an access meets are due when its instruction is done, which from here on
// cannot fault (SDM 3B 18.2.4, 18.3.1.2).
template <Port P>
void NestedVcpu<P>::note_breakpoints(std::uint64_t linear, unsigned size, bool write) {
    if constexpr (requires { port_.debug_address(0U); }) {
        const std::uint64_t dr7 = get_one(vmx::field::guest_dr7);
        std::uint64_t met = 0;
        for (unsigned i = 0; i < 4; ++i) {
            if (((dr7 >> (2 * i)) & 3) == 0) continue;
            const std::uint64_t kind = (dr7 >> (16 + 4 * i)) & 3;  // 1: writes, 3: reads and writes
            if (kind != 3 && !(kind == 1 && write)) continue;
            constexpr std::array<std::uint64_t, 4> lengths = {1, 2, 8, 4};
            const std::uint64_t length = lengths[(dr7 >> (18 + 4 * i)) & 3];
            const std::uint64_t start = port_.debug_address(i) & ~(length - 1);
            if (start - linear < size || linear - start < length) met |= std::uint64_t{1} << i;
        }
        if (met == 0) return;
        put_one(vmx::field::guest_pending_debug_exceptions,
                get_one(vmx::field::guest_pending_debug_exceptions) | met |
                    vmx::pending_debug::enabled_breakpoint);
    }
}

// The 64-bit pointer that VMXON, VMCLEAR and VMPTRLD take. False: the fault is in L1 already.
template <Port P>
bool NestedVcpu<P>::read_pointer_operand(std::uint64_t& pointer) {
    std::array<std::uint64_t, 1> words;
    if (!read_operand(vmx::InstructionInformation{get_one(vmx::field::vm_exit_instruction_information)},
                      words, sizeof words)) {
        return false;
    }
    pointer = words[0];
    return true;
}

// --- VMXON, VMXOFF ---

template <Port P>
Entry NestedVcpu<P>::vmxon() {
    if (in_vmx_operation_) return fail(vmx::InstructionError::vmxon_in_vmx_root_operation);
    // A20M is not modelled. CR0 and CR4 must obey the fixed bits, IA32_FEATURE_CONTROL must allow it.
    const std::uint64_t feature_control = port_.read_l1_msr(x86::msr::ia32_feature_control).value_or(0);
    constexpr std::uint64_t needed = x86::feature_control::locked | x86::feature_control::vmx_outside_smx;
    const bool obeys_fixed_bits =
        capabilities_.promised.cr0.permits(l1_cr0()) &&
        capabilities_.promised.cr4.permits(l1_control_register(
            vmx::field::guest_cr4, vmx::field::cr4_guest_host_mask, vmx::field::cr4_read_shadow));
    if ((feature_control & needed) != needed || !obeys_fixed_bits) {
        return refuse(detail::with_code(x86::Vector::general_protection));
    }
    std::uint64_t pointer = 0;
    if (!read_pointer_operand(pointer)) return Entry::vmresume;
    const x86::Gpa<x86::L1> region{pointer};
    if (!is_region(region)) {
        return fail_invalid();
    }
    const auto* page = port_.l1_page(region);
    if (page == nullptr || x86::read_word<std::uint32_t>(page) != capabilities_.promised.basic.revision()) {
        return fail_invalid();
    }
    begin_vmx_operation(pointer);
    return succeed();
}

// vmxon_region: where the VMXON region is. No VMCS is current.
template <Port P>
void NestedVcpu<P>::begin_vmx_operation(std::uint64_t vmxon_region) {
    in_vmx_operation_ = true;
    vmxon_region_ = vmxon_region;
    if (shadows_vmcs()) {
        shadowing_ = true;
        l1_link_ = L1Link::shadowed_fields;
        put_one(vmx::field::secondary_processor_based_vm_execution_controls,
                get_one(vmx::field::secondary_processor_based_vm_execution_controls) |
                    vmx::secondary::vmcs_shadowing);
        put(vmx::field::vmread_bitmap_address, vmread_bitmap_.value());
        put(vmx::field::vmwrite_bitmap_address, vmwrite_bitmap_.value());
    }
    // In VMX operation CR0.PE, NE and PG are 1, and L1's attempt to clear one is to fault (SDM 3C 24.8).
    put_one(vmx::field::cr0_read_shadow, l1_cr0());
    const std::uint64_t mask = get_one(vmx::field::cr0_guest_host_mask);
    cr0_bits_taken_ = cr0_fixed_in_vmx_operation & ~mask;
    put_one(vmx::field::cr0_guest_host_mask, mask | cr0_bits_taken_);
    make_current(nullptr);
}

// No VMCS and no tag survives; an EPT02 may, as guest-physical
// mappings do (SDM 3C 29.4.3.2).
template <Port P>
void NestedVcpu<P>::leave_vmx_operation() {
    if (!in_vmx_operation_) return;
    make_current(nullptr);
    for (Slot& slot : slots_) {
        if (slot.activity == Activity::none) continue;
        write_back(slot);
    }
    if (shadowing_) {
        put_one(vmx::field::secondary_processor_based_vm_execution_controls,
                get_one(vmx::field::secondary_processor_based_vm_execution_controls) &
                    ~vmx::secondary::vmcs_shadowing);
        shadowing_ = false;
        l1_link_ = L1Link::none;
    }
    // The host's own bits stay.
    put_one(vmx::field::cr0_guest_host_mask, get_one(vmx::field::cr0_guest_host_mask) & ~cr0_bits_taken_);
    tags_.reset();
    l1_state_of_ = nullptr;
    l1_state_known_ = false;
    in_vmx_operation_ = false;
}

template <Port P>
Entry NestedVcpu<P>::vmxoff() {
    // VMCSs that L1 leaves active go to their regions a few at a time, the instruction beginning again for
    // the next: interrupts come in between, and L0's part has a bound however many there are. The current one
    // is the last.
    unsigned written = 0;
    for (Slot& slot : slots_) {
        if (slot.activity == Activity::none || &slot == current_ || &slot == current_shadow_) continue;
        if (written == slots_written_by_one_vmxoff) return refuse(detail::begin_again());
        write_back(slot);
        ++written;
    }
    leave_vmx_operation();
    return succeed();
}

// --- VMCLEAR, VMPTRLD, VMPTRST ---

template <Port P>
Entry NestedVcpu<P>::vmclear() {
    std::uint64_t pointer = 0;
    if (!read_pointer_operand(pointer)) return Entry::vmresume;
    const x86::Gpa<x86::L1> region{pointer};
    if (!is_region(region)) return fail(vmx::InstructionError::vmclear_with_invalid_physical_address);
    if (pointer == vmxon_region_) return fail(vmx::InstructionError::vmclear_with_vmxon_pointer);
    if (Slot* slot = find(region)) {
        slot->launched = false;
        write_back(*slot);
        if (slot == current_ || slot == current_shadow_) make_current(nullptr);
    } else if (auto* page = port_.l1_page(region)) {
        x86::write_word(&reinterpret_cast<VmcsRegion*>(page)->launched, std::uint32_t{0});
        msr_bitmaps_.note_written(page);
    }
    return succeed();
}

template <Port P>
Entry NestedVcpu<P>::vmptrld() {
    std::uint64_t pointer = 0;
    if (!read_pointer_operand(pointer)) return Entry::vmresume;
    const x86::Gpa<x86::L1> region{pointer};
    if (!is_region(region)) [[unlikely]]
        return fail(vmx::InstructionError::vmptrld_with_invalid_physical_address);
    if (pointer == vmxon_region_) [[unlikely]]
        return fail(vmx::InstructionError::vmptrld_with_vmxon_pointer);
    const auto* page = port_.l1_page(region);
    // Where L1 was promised another one (nested/state/kvm.hpp), the engine's own does no harm.
    const std::uint32_t revision = page != nullptr ? x86::read_word<std::uint32_t>(page) : ~0U;
    if (revision != vmcs12_revision && revision != capabilities_.promised.basic.revision()) [[unlikely]]
        return load_l1s_shadow(region, revision);
    if (current_ != nullptr && current_->region == region) return succeed();
    Slot* slot = find(region);
    if (slot == nullptr || slot->activity != Activity::ordinary) [[unlikely]] {
        if (slot == nullptr || slot->activity != Activity::ordinary_learned) {
            slot = activate(region, Activity::ordinary, slot);
        } else if (l1_link_ == L1Link::shadowed_fields) {
            l1_link_ = L1Link::learned_fields;  // though not of this one, which gets its own now
        }
    }
    make_current(slot);
    return succeed();
}

template <Port P>
Entry NestedVcpu<P>::vmptrst() {
    const Slot* const slot = current_ != nullptr ? current_ : current_shadow_;
    const std::uint64_t pointer = slot != nullptr ? slot->region.value() : ~std::uint64_t{0};
    const vmx::InstructionInformation information{get_one(vmx::field::vm_exit_instruction_information)};
    if (!write_operand(information, pointer, 8)) return Entry::vmresume;
    return succeed();
}

// --- VMREAD, VMWRITE ---

template <Port P>
Entry NestedVcpu<P>::vmread() {
    ++counters_.vmread_exits;
    if (current_ == nullptr) return access_l1s_shadow(false);
    const vmx::InstructionInformation information{get_one(vmx::field::vm_exit_instruction_information)};
    const std::uint64_t encoding = l1_operand(information.register2(), 0x7fff);
    const int index = vmx::dense_index(encoding);
    const bool high = vmx::is_high(encoding);
    const std::uint8_t traits = index < 0 ? not_promised : field_traits_[static_cast<std::size_t>(index)];
    if ((traits & not_promised) != 0) {
        return fail_valid(vmx::InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
    }
    const auto field = static_cast<std::size_t>(index);
    const bool shadows = (traits & in_shadow) != 0;
    if (shadows && (traits & learned_by_reads) != 0 && !high &&
        current_->learned.counts(field, counters_.l2_entries)) [[unlikely]]
        return note_vmread(field);
    std::uint64_t value = read_field(*current_, field, shadows);
    if (high) value >>= 32;
    if (information.has_register_operand()) {
        set_l1_register(information.register1(), l1_is_64_bit() ? value : value & 0xffffffff);
    } else {
        if (!write_operand(information, value, 4)) return Entry::vmresume;
    }
    return succeed();
}

template <Port P>
Entry NestedVcpu<P>::vmwrite() {
    ++counters_.vmwrite_exits;
    if (current_ == nullptr) return access_l1s_shadow(true);
    const vmx::InstructionInformation information{get_one(vmx::field::vm_exit_instruction_information)};
    // A full 64-bit field is longer than an operand of 32 bits: its high bits are cleared (SDM 3C "VMWRITE").
    std::uint64_t value = 0;
    if (information.has_register_operand()) {
        value = l1_operand(information.register1(), 0xffffffff);
    } else {
        std::array<std::uint64_t, 1> words;
        if (!read_operand(information, words, 4)) return Entry::vmresume;
        value = words[0];
    }
    const std::uint64_t encoding = l1_operand(information.register2(), 0x7fff);
    const int index = vmx::dense_index(encoding);
    const bool high = vmx::is_high(encoding);
    const std::uint8_t traits = index < 0 ? not_promised : field_traits_[static_cast<std::size_t>(index)];
    if ((traits & not_promised) != 0) {
        return fail_valid(vmx::InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
    }
    const auto field = static_cast<std::size_t>(index);
    if ((traits & (read_only | perhaps_unpromised)) != 0) [[unlikely]] {
        if ((traits & read_only) != 0)
            return fail_valid(vmx::InstructionError::vmwrite_to_read_only_vmcs_component);
        if (((high ? value << 32 : value) & unpromised_bits(field)) != 0)
            current_->unchecked.guest_state = current_->unchecked.unpromised = true;
    }
    if (high) value = (value << 32) | (read_field(*current_, field, shadowing_) & 0xffffffff);
    if ((traits & in_shadow) != 0) {
        if ((traits & learned_by_writes) != 0 && !high &&
            current_->learned.counts(field, counters_.l2_entries)) [[unlikely]]
            return note_vmwrite(field);
        // Outside the shadowed fields the words here and those of the shadow VMCS never meet; for these, keep
        // both the same.
        if ((traits & shadowed) != 0 || current_->learned.contains(field)) [[unlikely]] {
            while_loaded(current_->shadow, vmcs01_, [&] {
                put_raw(vmx::all_fields[field].encoding, value & field_mask(vmx::all_fields[field].encoding));
            });
        }
    }
    write_field(*current_, field, value);
    return succeed();
}

// --- INVEPT, INVVPID ---

template <Port P>
Entry NestedVcpu<P>::invept() {
    const vmx::InstructionInformation information{get_one(vmx::field::vm_exit_instruction_information)};
    const std::uint64_t type = l1_operand(information.register2(), 3);
    if (!capabilities_.promised.ept_vpid.has_invept_type(type)) {
        return fail(vmx::InstructionError::invalid_operand_to_invept_invvpid);
    }
    std::array<std::uint64_t, 2> words;
    if (!read_operand(information, words, sizeof words)) return Entry::vmresume;
    const vmx::InveptDescriptor descriptor{words[0], words[1]};
    if (static_cast<vmx::InveptType>(type) == vmx::InveptType::single_context) {
        const vmx::Eptp eptp{descriptor.eptp};
        if (eptp != valid_eptp_) [[unlikely]] {
            if (!eptp.is_valid(capabilities_.promised.ept_vpid, capabilities_.physical_address_width)) {
                return fail(vmx::InstructionError::invalid_operand_to_invept_invvpid);
            }
            valid_eptp_ = eptp;
        }
        ept02_.invalidate(eptp);
    } else {
        ept02_.invalidate_all();
    }
    ++counters_.invept[type];
    // Entries that another physical CPU may still cache are flushed there before they can be used again.
    if (tags_.ept02_cpu() != port_.cpu()) tags_.ept02_contexts_stale();
    return succeed();
}

template <Port P>
Entry NestedVcpu<P>::invvpid() {
    const vmx::InstructionInformation information{get_one(vmx::field::vm_exit_instruction_information)};
    const std::uint64_t type = l1_operand(information.register2(), 3);
    if (type > 3 || (invvpid_types_ >> type & 1) == 0) {
        if (!offers_invvpid()) return refuse(detail::invalid_opcode());
        return fail(vmx::InstructionError::invalid_operand_to_invept_invvpid);
    }
    std::array<std::uint64_t, 2> words;
    if (!read_operand(information, words, sizeof words)) return Entry::vmresume;
    const vmx::InvvpidDescriptor descriptor{words[0], words[1]};
    if (!vmx::is_valid_invvpid_descriptor(static_cast<vmx::InvvpidType>(type), descriptor)) {
        return fail(vmx::InstructionError::invalid_operand_to_invept_invvpid);
    }
    ++counters_.invvpid[type];
    const tag::Vpid12 vpid12{descriptor.vpid()};
    const tag::Cpu cpu = port_.cpu();
    switch (static_cast<vmx::InvvpidType>(type)) {
        case vmx::InvvpidType::individual_address:
            // The one that runs the hardware's at once, and that a hypervisor without EPT executes most.
            if (auto owed =
                    tags_.invvpid_address(vpid12, x86::LinearAddress{descriptor.linear_address}, cpu)) {
                run_here(std::move(*owed));
            }
            break;
        case vmx::InvvpidType::single_context:
            pay(tags_.invvpid_single(vpid12, cpu));
            break;
        case vmx::InvvpidType::all_contexts:
            pay(tags_.invvpid_all(cpu));
            break;
        case vmx::InvvpidType::single_context_retaining_globals:
            pay(tags_.invvpid_single_retaining_globals(vpid12, cpu));
            break;
    }
    return succeed();
}

// Runs an owed flush on this CPU and says so.
template <Port P>
[[gnu::noinline]] void NestedVcpu<P>::run(tag::OwedFlush&& flush) {
    run_here(std::move(flush));
}
template <Port P>
[[gnu::always_inline]] inline void NestedVcpu<P>::run_here(tag::OwedFlush&& flush) {
    const tag::FlushTarget& target = flush.target();
    if (target.extent != tag::Extent::nothing) {
        invvpid_because(port_, static_cast<vmx::InvvpidType>(target.extent), target.tag,
                        target.linear_address, target.cause, target.vpid12);
        if (target.tag == vpid01_.number()) {
            ++counters_.l1_tag_flushes;
        } else {
            ++counters_.l2_tag_flushes;
        }
    }
    if (target.ept_contexts) [[unlikely]]
        flush_ept_contexts(target.ept_cause);
    std::move(flush).paid();
}
template <Port P>
[[gnu::noinline]] void NestedVcpu<P>::flush_ept_contexts(tag::FlushCause cause) {
    ept02_.flush_hardware(cause);
    invept_because(port_, vmx::InveptType::single_context, port_.ept01_pointer(), cause);
    ++counters_.hardware_invepts;
}

}  // namespace flatback::nested
