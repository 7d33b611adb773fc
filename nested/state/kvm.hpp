// A nested state to and from KVM's (docs/state.md, "To and from KVM"): a guest hypervisor with its guests
// moves between the two. Only bytes are looked at, of either side: no engine is needed, and restore() judges
// what comes of it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "../../vmx/controls.hpp"
#include "../../vmx/interruption.hpp"
#include "../../x86/words.hpp"
#include "../capabilities.hpp"
#include "format.hpp"
#include "kvm_layout.hpp"
#include "running.hpp"

namespace flatback::nested::kvm {

// As NestedVcpu::vmcs_slots.
inline constexpr std::uint32_t most_vmcss = 32;

// What of the virtual CPU KVM tells by other calls than KVM_GET_NESTED_STATE, and takes by others than
// KVM_SET_NESTED_STATE.
struct Beside {
    vmx::Capabilities promised{};          // KVM_GET_MSRS of 480H to 491H
    std::uint64_t time_stamp_counter = 0;  // L1's, when the state was saved, or is to be restored
    // Of the L2 that runs. Whether its exits save these L1 says by its controls: so they are not in its VMCS.
    std::uint64_t dr7 = 0;       // KVM_GET_DEBUGREGS
    std::uint64_t debugctl = 0;  // IA32_DEBUGCTL, KVM_GET_MSRS
    std::uint64_t pat = 0;       // IA32_PAT
    std::uint64_t efer = 0;      // KVM_GET_SREGS
    // What is injected into it next that L1 did not ask for (KVM_GET_VCPU_EVENTS), as at VM entry
    // (SDM 3C 25.8.3).
    std::uint32_t event = 0;
    std::uint32_t event_error_code = 0;
    std::uint32_t event_instruction_length = 0;
};

// L1 is promised KVM's revision identifier in place of the engine's own: for a guest that is to go to KVM, or
// comes from there. Before the NestedVcpu is made.
constexpr void promise_revision(Capabilities& capabilities) {
    std::uint64_t& basic = capabilities.promised.basic.value;
    basic = (basic & ~vmx::BasicCapability::revision_mask) | revision;
}

namespace detail {

using Words = std::array<std::uint64_t, vmx::field_count>;

template <typename Word>
[[nodiscard]] Word word_at(const std::byte* from) {
    Word word{};
    std::memcpy(&word, from, sizeof word);
    return word;
}
template <typename Word>
void put_word(std::byte* to, Word word) {
    std::memcpy(to, &word, sizeof word);
}
template <vmx::FieldWidth W, vmx::FieldKind K>
[[nodiscard]] constexpr std::uint64_t& of(Words& words, vmx::Field<W, K> field) {
    return words[static_cast<std::size_t>(vmx::dense_index(field.encoding))];
}

// Of a VMCS of KVM's.
inline void read_fields(const std::byte* vmcs, Words& words) {
    for (const Place& place : places) {
        auto& word = words[static_cast<std::size_t>(vmx::dense_index(place.encoding))];
        std::memcpy(&word, vmcs + place.offset, width_of(place.encoding));
    }
}

// All 4 KB. False: of a field that KVM does not have there is more than 0, and it is not one that only tells
// of an exit.
[[nodiscard]] inline bool has_places(const Words& words) {
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] != 0 && offsets[i] == 0 &&
            vmx::kind(vmx::all_fields[i].encoding) != vmx::FieldKind::exit_information)
            return false;
    }
    return true;
}
inline void write_vmcs(std::byte* vmcs, const Words& words, bool launched) {
    std::memset(vmcs, 0, vmcs_size);
    put_word(vmcs + revision_at, revision);
    put_word(vmcs + launch_state_at, std::uint32_t{launched});
    for (const Place& place : places) {
        const std::uint64_t word = words[static_cast<std::size_t>(vmx::dense_index(place.encoding))];
        std::memcpy(vmcs + place.offset, &word, width_of(place.encoding));
    }
}

inline void put_fields(state::Writer& out, const Words& words) {
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] != 0) out.put(state::FieldValue{vmx::all_fields[i].encoding, words[i]});
    }
}
[[nodiscard]] inline std::uint32_t count_of(const Words& words) {
    return static_cast<std::uint32_t>(
        std::count_if(words.begin(), words.end(), [](std::uint64_t word) { return word != 0; }));
}

// A list of a state's.
[[nodiscard]] inline Expected<void, StateError> read_list(state::Reader& in, std::uint32_t count,
                                                          bool of_running, Words& words) {
    words = {};
    std::uint32_t least = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        const state::FieldValue field = in.field();
        if (!in.all_there()) return Unexpected{StateError::not_a_state};
        const int index = vmx::is_high(field.encoding) ? -1 : vmx::dense_index(field.encoding);
        if (index < 0 ||
            (of_running && !nested::detail::running_l2_fields.contains(static_cast<std::size_t>(index))))
            return Unexpected{StateError::unknown_field};
        if (field.encoding < least) return Unexpected{StateError::fields_not_sorted};
        if ((field.value & ~field_mask(field.encoding)) != 0) return Unexpected{StateError::value_too_wide};
        words[static_cast<std::size_t>(index)] = field.value;
        least = field.encoding + 1;
    }
    return {};
}

[[nodiscard]] inline bool uses_timer(Words& words) {
    return (of(words, vmx::field::pin_based_vm_execution_controls) &
            vmx::pin::activate_vmx_preemption_timer) != 0;
}

// Whether an exit of an L2 with these controls would save the field to L1's VMCS (SDM 3C 28.3).
[[nodiscard]] inline bool exits_save(std::size_t index, std::uint64_t exit_controls) {
    namespace control = vmx::exit_control;
    switch (vmx::all_fields[index].encoding) {
        case vmx::field::guest_dr7.encoding:
        case vmx::field::guest_ia32_debugctl.encoding:
            return (exit_controls & control::save_debug_controls) != 0;
        case vmx::field::guest_ia32_pat.encoding:
            return (exit_controls & control::save_ia32_pat) != 0;
        case vmx::field::guest_ia32_efer.encoding:
            return (exit_controls & control::save_ia32_efer) != 0;
        case vmx::field::vmx_preemption_timer_value.encoding:
            return (exit_controls & control::save_vmx_preemption_timer_value) != 0;
        default:
            return field_handling[index] == FieldHandling::guest_state;
    }
}

// The running L2's list, of what KVM has in L1's VMCS while L2 runs.
inline Words running_words(Words words, const Beside& beside, std::uint16_t flags,
                           std::optional<std::uint64_t> deadline) {
    namespace field = vmx::field;
    Words running{};
    nested::detail::running_l2_fields.for_each([&](std::size_t index) { running[index] = words[index]; });
    of(running, field::guest_dr7) = beside.dr7;
    of(running, field::guest_ia32_debugctl) = beside.debugctl;
    of(running, field::guest_ia32_pat) = beside.pat;
    of(running, field::guest_ia32_efer) = beside.efer;
    of(running, field::vm_entry_controls) &= vmx::entry_control::ia32e_mode_guest;
    // What L1's entry delivers is in its VMCS until the next exit; once L2 has run it is delivered.
    const vmx::InterruptionInformation of_l1{
        static_cast<std::uint32_t>(of(words, field::vm_entry_interruption_information))};
    if ((flags & run_pending) == 0 || !of_l1.is_valid()) {
        of(running, field::vm_entry_interruption_information) = beside.event;
        of(running, field::vm_entry_exception_error_code) = beside.event_error_code;
        of(running, field::vm_entry_instruction_length) = beside.event_instruction_length;
    }
    std::uint64_t& left = of(running, field::vmx_preemption_timer_value);
    if (!uses_timer(words)) {
        left = 0;
    } else if (deadline) {
        const std::uint64_t now = beside.time_stamp_counter >> beside.promised.misc.preemption_timer_rate();
        left = *deadline > now ? std::min<std::uint64_t>(*deadline - now, 0xffff'ffff) : 0;
    }
    return running;
}

}  // namespace detail

// KVM's nested state, of which L1 and its guests wrote a part, as one for restore(): its size. `from` may be
// a buffer that is longer than the state in it. What KVM's state does not have, L1's VMCSs that are not
// current, is in L1's memory in KVM's format: region_from_kvm().
[[nodiscard]] inline Expected<std::size_t, StateError> from_kvm(std::span<const std::byte> from,
                                                                const Beside& beside,
                                                                std::span<std::byte> into) {
    using detail::word_at;
    const auto bad = [](StateError error) { return Unexpected{error}; };
    if (from.size() < header_size) return bad(StateError::not_a_state);
    const auto flags = word_at<std::uint16_t>(&from[flags_at]);
    const auto size = word_at<std::uint32_t>(&from[size_at]);
    const auto header_flags = word_at<std::uint32_t>(&from[header_flags_at]);
    const auto vmxon_pointer = word_at<std::uint64_t>(&from[vmxon_pointer_at]);
    const auto current_pointer = word_at<std::uint64_t>(&from[current_pointer_at]);
    constexpr std::uint16_t not_here = enlightened_vmcs | trap_flag_pending;
    if (word_at<std::uint16_t>(&from[format_at]) != format_vmx || size > from.size() || size < header_size ||
        (flags & ~(guest_mode | run_pending | not_here)) != 0 || (header_flags & ~has_timer_deadline) != 0)
        return bad(StateError::not_a_state);
    if ((flags & not_here) != 0 || word_at<std::uint16_t>(&from[smm_flags_at]) != 0)
        return bad(StateError::promise_not_kept);
    const bool in_l2 = (flags & guest_mode) != 0;
    const bool has_current = current_pointer != no_pointer;
    const bool pending = (flags & run_pending) != 0;
    if ((vmxon_pointer == no_pointer && has_current) || (in_l2 && !has_current) || (pending && !in_l2))
        return bad(StateError::impossible);
    if (has_current && size == header_size + 2 * vmcs_size) return bad(StateError::promise_not_kept);
    if (size != header_size + (has_current ? vmcs_size : 0)) return bad(StateError::not_a_state);

    state::Writer out{into};
    state::Header header{.flags = vmxon_pointer != no_pointer ? state::in_vmx_operation : 0,
                         .vmxon_pointer = vmxon_pointer,
                         .current_pointer = current_pointer,
                         .vmcs_count = has_current ? 1U : 0U,
                         .promised = beside.promised};
    if (!has_current) {
        out.put(header);
        return out.finish();
    }
    const std::byte* const vmcs = &from[header_size];
    if (word_at<std::uint32_t>(vmcs + revision_at) != revision) return bad(StateError::other_version);
    // That L2 runs KVM writes down at its first exit.
    const bool launched = word_at<std::uint32_t>(vmcs + launch_state_at) == 1;
    if (in_l2) {
        header.flags |= state::in_l2;
        if (!pending) header.flags |= state::l2_has_run;
        if (pending && !launched) header.flags |= state::entering_by_vmlaunch;
    }
    out.put(header);
    detail::Words words{};
    detail::read_fields(vmcs, words);
    out.put(state::VmcsHeader{.pointer = current_pointer,
                              .flags = launched || in_l2 ? state::launched : 0,
                              .field_count = detail::count_of(words)});
    detail::put_fields(out, words);
    if (in_l2) {
        std::optional<std::uint64_t> deadline;
        if ((header_flags & has_timer_deadline) != 0)
            deadline = word_at<std::uint64_t>(&from[timer_deadline_at]);
        words = detail::running_words(words, beside, flags, deadline);
        out.put_count(detail::count_of(words));
        detail::put_fields(out, words);
    }
    return out.finish();
}

// What save() wrote, as KVM's: its size. Of an L1 that was promised KVM's revision identifier. KVM keeps the
// current VMCS only: for each other that is active region(address) says where L1's 4 KB are, which are
// written in KVM's format, or null. `beside` has L1's time-stamp counter, and gets the rest. An error has had
// no effect.
template <typename Region>
[[nodiscard]] Expected<std::size_t, StateError> to_kvm(std::span<const std::byte> from, Beside& beside,
                                                       std::span<std::byte> into, Region&& region) {
    namespace field = vmx::field;
    using detail::of;
    using detail::put_word;
    const auto bad = [](StateError error) { return Unexpected{error}; };
    state::Reader in{from};
    const auto header = in.header();
    if (!header) return bad(header.error());
    const auto has = [&header](std::uint32_t flag) { return (header->flags & flag) != 0; };
    constexpr std::uint32_t of_l2 = state::l2_has_run | state::entering_by_vmlaunch;
    if ((header->flags & ~(state::in_vmx_operation | state::in_l2 | of_l2)) != 0 ||
        (!has(state::in_l2) && has(of_l2)) || (header->flags & of_l2) == of_l2 ||
        header->vmcs_count > most_vmcss)
        return bad(StateError::not_a_state);
    if (!has(state::in_vmx_operation) && (has(state::in_l2) || header->vmcs_count != 0))
        return bad(StateError::impossible);
    if (header->promised.basic.revision() != revision) return bad(StateError::promise_not_kept);
    const state::Reader vmcss = in;

    detail::Words words{};  // of the current VMCS
    bool has_current = false;
    bool launched = false;
    for (std::uint32_t i = 0; i < header->vmcs_count; ++i) {
        const state::VmcsHeader vmcs = in.vmcs();
        if (!in.all_there() || (vmcs.flags & ~state::launched) != 0) return bad(StateError::not_a_state);
        detail::Words of_this;
        if (const auto read = detail::read_list(in, vmcs.field_count, false, of_this); !read)
            return bad(read.error());
        if (!detail::has_places(of_this)) return bad(StateError::unknown_field);
        if (vmcs.pointer != header->current_pointer) continue;
        if (has_current) return bad(StateError::bad_pointer);
        has_current = true;
        launched = (vmcs.flags & state::launched) != 0;
        words = of_this;
    }
    if (has_current != (header->current_pointer != state::no_pointer)) return bad(StateError::bad_pointer);
    detail::Words running{};
    if (has(state::in_l2)) {
        if (const auto read = detail::read_list(in, in.count(), true, running); !read)
            return bad(read.error());
        if (!has_current || !launched) return bad(StateError::impossible);
    }
    if (!in.at_end()) return bad(StateError::not_a_state);
    const bool has_timer = has(state::in_l2) && detail::uses_timer(words);
    if (has_timer && header->promised.misc.preemption_timer_rate() != preemption_timer_rate)
        return bad(StateError::promise_not_kept);
    const std::size_t size = header_size + (has_current ? vmcs_size : 0);
    if (into.size() < size) return bad(StateError::no_room);

    state::Reader again = vmcss;
    for (std::uint32_t i = 0; i < header->vmcs_count; ++i) {
        const state::VmcsHeader vmcs = again.vmcs();
        detail::Words of_this;
        static_cast<void>(detail::read_list(again, vmcs.field_count, false, of_this));
        if (vmcs.pointer == header->current_pointer) continue;
        if (std::byte* const page = region(vmcs.pointer); page != nullptr)
            detail::write_vmcs(page, of_this, (vmcs.flags & state::launched) != 0);
    }

    const std::uint64_t counter = beside.time_stamp_counter;
    beside = {.promised = header->promised, .time_stamp_counter = counter};
    std::uint16_t flags = 0;
    std::optional<std::uint64_t> deadline;
    if (has(state::in_l2)) {
        flags = guest_mode;
        beside.dr7 = of(running, field::guest_dr7);
        beside.debugctl = of(running, field::guest_ia32_debugctl);
        beside.pat = of(running, field::guest_ia32_pat);
        beside.efer = of(running, field::guest_ia32_efer);
        const auto event = static_cast<std::uint32_t>(of(running, field::vm_entry_interruption_information));
        if (!has(state::l2_has_run)) flags |= run_pending;
        // Else it is L1's own, which its VMCS has.
        if (has(state::l2_has_run) || event != of(words, field::vm_entry_interruption_information)) {
            beside.event = event;
            beside.event_error_code =
                static_cast<std::uint32_t>(of(running, field::vm_entry_exception_error_code));
            beside.event_instruction_length =
                static_cast<std::uint32_t>(of(running, field::vm_entry_instruction_length));
        }
    }
    if (has(state::l2_has_run)) {
        if (has_timer)
            deadline = of(running, field::vmx_preemption_timer_value) + (counter >> preemption_timer_rate);
        for (std::size_t i = 0; i < words.size(); ++i) {
            if (detail::exits_save(i, of(words, field::vm_exit_controls))) words[i] = running[i];
        }
        constexpr std::uint64_t ia32e = vmx::entry_control::ia32e_mode_guest;
        std::uint64_t& controls = of(words, field::vm_entry_controls);
        controls = (controls & ~ia32e) | (of(running, field::vm_entry_controls) & ia32e);
    }
    std::memset(into.data(), 0, header_size);
    put_word(&into[flags_at], flags);
    put_word(&into[format_at], format_vmx);
    put_word(&into[size_at], static_cast<std::uint32_t>(size));
    put_word(&into[vmxon_pointer_at], header->vmxon_pointer);
    put_word(&into[current_pointer_at], header->current_pointer);
    if (deadline) {
        put_word(&into[header_flags_at], has_timer_deadline);
        put_word(&into[timer_deadline_at], *deadline);
    }
    if (has_current)
        detail::write_vmcs(&into[header_size], words, launched && !has(state::entering_by_vmlaunch));
    return size;
}

// --- L1's VMCSs that are not active, in its memory ---

// 4 KB of L1's at an address that it has a VMCS at, in place: of KVM's format in the engine's, and back.
// Before L1 loads it again. other_version: another revision identifier. unknown_field: there is no place for
// a field; nothing has changed.
[[nodiscard]] inline Expected<void, StateError> region_from_kvm(std::byte* page) {
    std::array<std::byte, 1024> kvms;
    x86::copy_once(kvms.data(), page, kvms.size());
    if (detail::word_at<std::uint32_t>(&kvms[revision_at]) != revision)
        return Unexpected{StateError::other_version};
    detail::Words words{};
    detail::read_fields(kvms.data(), words);
    VmcsRegion own{.revision_identifier = revision,
                   .abort_indicator = detail::word_at<std::uint32_t>(&kvms[abort_indicator_at]),
                   .launched = detail::word_at<std::uint32_t>(&kvms[launch_state_at]) == 1 ? 1U : 0U,
                   .reserved = 0,
                   .words = words};
    x86::copy_once(page, &own, sizeof own);
    return {};
}
[[nodiscard]] inline Expected<void, StateError> region_to_kvm(std::byte* page) {
    VmcsRegion own;
    x86::copy_once(&own, page, sizeof own);
    if (own.revision_identifier != revision) return Unexpected{StateError::other_version};
    for (std::size_t i = 0; i < own.words.size(); ++i)
        own.words[i] &= field_mask(vmx::all_fields[i].encoding);
    if (!detail::has_places(own.words)) return Unexpected{StateError::unknown_field};
    detail::write_vmcs(page, own.words, own.launched == 1);
    detail::put_word(page + abort_indicator_at, own.abort_indicator);
    return {};
}

}  // namespace flatback::nested::kvm
