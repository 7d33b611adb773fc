// Checks on the guest's segment registers (SDM 3C 27.3.1.2).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../x86/segment.hpp"
#include "checks_rules.hpp"

namespace flatback::nested {

namespace detail {

struct GuestSegment {
    std::uint16_t selector;
    x86::AccessRights rights;
    std::uint32_t limit;
    std::uint64_t base;

    [[nodiscard]] constexpr std::uint32_t requested_privilege_level() const {
        return selector & x86::selector::requested_privilege_level;
    }
    [[nodiscard]] constexpr bool selects_local_table() const {
        return (selector & x86::selector::table_indicator) != 0;
    }
    [[nodiscard]] constexpr bool is_usable() const { return !rights.is_unusable(); }
};

// ES, CS, SS, DS, FS, GS, LDTR, TR: the order of the encodings and of x86::SegmentRegister.
struct GuestSegmentFields {
    vmx::field::Bits16Guest selector;
    vmx::field::Bits32Guest rights;
    vmx::field::Bits32Guest limit;
    vmx::field::NaturalGuest base;
};
// clang-format off
inline constexpr std::array<GuestSegmentFields, 8> guest_segment_fields = {{
    {vmx::field::guest_es_selector,   vmx::field::guest_es_access_rights,   vmx::field::guest_es_limit,   vmx::field::guest_es_base},
    {vmx::field::guest_cs_selector,   vmx::field::guest_cs_access_rights,   vmx::field::guest_cs_limit,   vmx::field::guest_cs_base},
    {vmx::field::guest_ss_selector,   vmx::field::guest_ss_access_rights,   vmx::field::guest_ss_limit,   vmx::field::guest_ss_base},
    {vmx::field::guest_ds_selector,   vmx::field::guest_ds_access_rights,   vmx::field::guest_ds_limit,   vmx::field::guest_ds_base},
    {vmx::field::guest_fs_selector,   vmx::field::guest_fs_access_rights,   vmx::field::guest_fs_limit,   vmx::field::guest_fs_base},
    {vmx::field::guest_gs_selector,   vmx::field::guest_gs_access_rights,   vmx::field::guest_gs_limit,   vmx::field::guest_gs_base},
    {vmx::field::guest_ldtr_selector, vmx::field::guest_ldtr_access_rights, vmx::field::guest_ldtr_limit, vmx::field::guest_ldtr_base},
    {vmx::field::guest_tr_selector,   vmx::field::guest_tr_access_rights,   vmx::field::guest_tr_limit,   vmx::field::guest_tr_base},
}};
inline constexpr std::size_t es = 0, cs = 1, ss = 2, ds = 3, fs = 4, gs = 5, ldtr = 6, tr = 7;
// clang-format on

using GuestSegments = std::array<GuestSegment, 8>;

template <VmcsView View>
[[nodiscard]] constexpr GuestSegment guest_segment(const View& view, std::size_t which) {
    const GuestSegmentFields& fields = guest_segment_fields[which];
    return {view.get(fields.selector), x86::AccessRights{view.get(fields.rights)}, view.get(fields.limit),
            view.get(fields.base)};
}

[[nodiscard]] constexpr EntryVerdict check_virtual_8086_segments(const GuestSegments& segments) {
    constexpr std::uint32_t data_read_write_accessed_at_level_3 = 0xf3;
    for (std::size_t which = es; which <= gs; ++which) {
        if (segments[which].base != std::uint64_t{segments[which].selector} << 4) {
            return broken(EntryCheck::virtual_8086_base);
        }
    }
    for (std::size_t which = es; which <= gs; ++which) {
        if (segments[which].limit != 0xffff) return broken(EntryCheck::virtual_8086_limit);
    }
    for (std::size_t which = es; which <= gs; ++which) {
        if (segments[which].rights.value() != data_read_write_accessed_at_level_3) {
            return broken(EntryCheck::virtual_8086_access_rights);
        }
    }
    return {};
}

// Bits 3:0 of the access rights.
[[nodiscard]] constexpr EntryVerdict check_segment_types(const GuestSegments& segments,
                                                         bool unrestricted_guest) {
    constexpr std::uint32_t data_read_write_accessed =
        x86::segment_type::writable | x86::segment_type::accessed;
    constexpr std::uint32_t code_accessed = x86::segment_type::code | x86::segment_type::accessed;
    const std::uint32_t cs_type = segments[cs].rights.type();
    if ((cs_type & code_accessed) != code_accessed &&
        !(unrestricted_guest && cs_type == data_read_write_accessed)) {
        return broken(EntryCheck::guest_cs_type);
    }
    const std::uint32_t ss_type = segments[ss].rights.type();
    if (segments[ss].is_usable() && (ss_type & ~x86::segment_type::expand_down) != data_read_write_accessed) {
        return broken(EntryCheck::guest_ss_type);
    }
    for (const std::size_t which : {ds, es, fs, gs}) {
        const std::uint32_t type = segments[which].rights.type();
        const bool accessed = (type & x86::segment_type::accessed) != 0;
        const bool readable =
            (type & x86::segment_type::code) == 0 || (type & x86::segment_type::readable) != 0;
        if (segments[which].is_usable() && !(accessed && readable)) {
            return broken(EntryCheck::guest_data_segment_type);
        }
    }
    return {};
}

// Bits 6:5 of the access rights.
[[nodiscard]] constexpr EntryVerdict check_segment_privilege(const GuestSegments& segments,
                                                             bool unrestricted_guest,
                                                             bool protection_enabled) {
    const std::uint32_t cs_type = segments[cs].rights.type();
    const std::uint32_t cs_level = segments[cs].rights.privilege_level();
    const std::uint32_t ss_level = segments[ss].rights.privilege_level();
    const bool cs_is_data = (cs_type & x86::segment_type::code) == 0;
    const bool cs_is_conforming = !cs_is_data && (cs_type & x86::segment_type::conforming) != 0;
    const bool cs_level_allowed = cs_is_data         ? cs_level == 0
                                  : cs_is_conforming ? cs_level <= ss_level
                                                     : cs_level == ss_level;
    if (!cs_level_allowed) return broken(EntryCheck::guest_cs_dpl);

    if (!unrestricted_guest && ss_level != segments[ss].requested_privilege_level()) {
        return broken(EntryCheck::guest_ss_dpl);
    }
    if ((cs_is_data || !protection_enabled) && ss_level != 0) return broken(EntryCheck::guest_ss_dpl);

    if (unrestricted_guest) return {};
    for (const std::size_t which : {ds, es, fs, gs}) {
        const GuestSegment& segment = segments[which];
        constexpr std::uint32_t conforming_code = x86::segment_type::code | x86::segment_type::conforming;
        const bool bound =
            segment.is_usable() && (segment.rights.type() & conforming_code) != conforming_code;
        if (bound && segment.rights.privilege_level() < segment.requested_privilege_level()) {
            return broken(EntryCheck::guest_data_segment_dpl);
        }
    }
    return {};
}

// The rest of the access rights of CS, SS, DS, ES, FS and GS.
[[nodiscard]] constexpr EntryVerdict check_segment_formats(const GuestSegments& segments, bool ia32e_guest) {
    for (std::size_t which = es; which <= gs; ++which) {
        const GuestSegment& segment = segments[which];
        // An unusable CS is held to its rules all the same.
        if (which != cs && !segment.is_usable()) continue;
        if (!segment.rights.is_code_or_data()) return broken(EntryCheck::guest_segment_is_code_or_data);
        if (!segment.rights.is_present()) return broken(EntryCheck::guest_segment_present);
        if (segment.rights.has_reserved_bits()) return broken(EntryCheck::guest_segment_reserved_bits);
        if (which == cs && ia32e_guest && segment.rights.is_long_mode() && segment.rights.is_default_big()) {
            return broken(EntryCheck::guest_cs_default_big);
        }
        if (!x86::limit_matches_granularity(segment.limit, segment.rights)) {
            return broken(EntryCheck::guest_segment_granularity);
        }
    }
    return {};
}

[[nodiscard]] constexpr EntryVerdict check_task_register(const GuestSegment& task, bool ia32e_guest) {
    const bool busy_16_bit_allowed = !ia32e_guest && task.rights.type() == x86::segment_type::busy_tss_16;
    if (task.rights.type() != x86::segment_type::busy_tss && !busy_16_bit_allowed) {
        return broken(EntryCheck::guest_tr_type);
    }
    if (task.rights.is_code_or_data()) return broken(EntryCheck::guest_tr_is_system);
    if (!task.rights.is_present()) return broken(EntryCheck::guest_tr_present);
    if (task.rights.has_reserved_bits()) return broken(EntryCheck::guest_tr_reserved_bits);
    if (!x86::limit_matches_granularity(task.limit, task.rights))
        return broken(EntryCheck::guest_tr_granularity);
    if (!task.is_usable()) return broken(EntryCheck::guest_tr_usable);
    return {};
}

[[nodiscard]] constexpr EntryVerdict check_local_descriptor_table(const GuestSegment& local) {
    if (!local.is_usable()) return {};
    if (local.rights.type() != x86::segment_type::ldt) return broken(EntryCheck::guest_ldtr_type);
    if (local.rights.is_code_or_data()) return broken(EntryCheck::guest_ldtr_is_system);
    if (!local.rights.is_present()) return broken(EntryCheck::guest_ldtr_present);
    if (local.rights.has_reserved_bits()) return broken(EntryCheck::guest_ldtr_reserved_bits);
    if (!x86::limit_matches_granularity(local.limit, local.rights))
        return broken(EntryCheck::guest_ldtr_granularity);
    return {};
}

}  // namespace detail

// All of SDM 3C 27.3.1.2, in its order.
template <VmcsView View>
[[nodiscard]] constexpr EntryVerdict check_guest_segments(const View& view, const EntryRules& rules) {
    using namespace detail;
    namespace field = vmx::field;
    const GuestSegments segments = {
        guest_segment(view, es), guest_segment(view, cs), guest_segment(view, ss),   guest_segment(view, ds),
        guest_segment(view, fs), guest_segment(view, gs), guest_segment(view, ldtr), guest_segment(view, tr)};
    const bool virtual_8086 = (view.get(field::guest_rflags) & x86::rflags::virtual_8086) != 0;
    const bool ia32e_guest = (view.get(field::vm_entry_controls) & vmx::entry_control::ia32e_mode_guest) != 0;
    const bool unrestricted_guest =
        (effective_secondary_controls(view) & vmx::secondary::unrestricted_guest) != 0;
    const bool protection_enabled = (view.get(field::guest_cr0) & x86::cr0::protection_enable) != 0;

    if (segments[tr].selects_local_table()) return broken(EntryCheck::guest_tr_selector_ti);
    if (segments[ldtr].is_usable() && segments[ldtr].selects_local_table()) {
        return broken(EntryCheck::guest_ldtr_selector_ti);
    }
    if (!virtual_8086 && !unrestricted_guest &&
        segments[ss].requested_privilege_level() != segments[cs].requested_privilege_level()) {
        return broken(EntryCheck::guest_ss_rpl_matches_cs);
    }

    if (virtual_8086) {
        if (EntryVerdict verdict = check_virtual_8086_segments(segments); !verdict) return verdict;
    }
    if (!rules.is_canonical(segments[tr].base)) return broken(EntryCheck::guest_tr_base_canonical);
    if (!rules.is_canonical(segments[fs].base)) return broken(EntryCheck::guest_fs_base_canonical);
    if (!rules.is_canonical(segments[gs].base)) return broken(EntryCheck::guest_gs_base_canonical);
    if (segments[ldtr].is_usable() && !rules.is_canonical(segments[ldtr].base)) {
        return broken(EntryCheck::guest_ldtr_base_canonical);
    }
    if (segments[cs].base >> 32 != 0) return broken(EntryCheck::guest_cs_base_high_bits);
    for (const std::size_t which : {ss, ds, es}) {
        if (segments[which].is_usable() && segments[which].base >> 32 != 0) {
            return broken(EntryCheck::guest_stack_or_data_base_high_bits);
        }
    }

    if (!virtual_8086) {
        if (EntryVerdict verdict = check_segment_types(segments, unrestricted_guest); !verdict)
            return verdict;
        if (EntryVerdict verdict = check_segment_privilege(segments, unrestricted_guest, protection_enabled);
            !verdict) {
            return verdict;
        }
        if (EntryVerdict verdict = check_segment_formats(segments, ia32e_guest); !verdict) return verdict;
    }
    if (EntryVerdict verdict = check_task_register(segments[tr], ia32e_guest); !verdict) return verdict;
    return check_local_descriptor_table(segments[ldtr]);
}

}  // namespace flatback::nested
