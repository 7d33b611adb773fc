// L1's VMCS as L0 keeps it: one 64-bit word a field, indexed densely, with the bookkeeping that lets a VM
// entry rewrite only what L1 changed. The same words, behind a short header, are what lies in L1's VMCS
// region after VMCLEAR.
#pragma once

#include <array>
#include <cstdint>

#include "../../vmx/field.hpp"
#include "../../vmx/field_table.hpp"

namespace flatback::nested {

// What L0 does with a field of L1's.
enum class FieldHandling : std::uint8_t {
    unsupported,       // L1 was not promised it: VMREAD and VMWRITE fail with error 12
    kept,              // stored and given back; nothing of it reaches vmcs02
    direct_control,    // checked where the SDM says so, then the same in vmcs02
    composed_control,  // what vmcs02 gets is computed from it (nested/entry/entry.hpp)
    guest_state,       // the same in vmcs02; the processor checks it on entry and saves it on exit
    host_state,        // becomes L1's state when L2 exits
    information,       // read-only to L1
};

namespace detail {
constexpr bool is_one_of(std::uint32_t encoding, auto... fields) {
    return ((encoding == fields.encoding) || ...);
}

constexpr FieldHandling handling_of(std::uint32_t encoding) {
    namespace field = vmx::field;
    // Fields of controls that L1 is not offered (nested/capabilities.hpp).
    if (is_one_of(encoding, field::posted_interrupt_notification_vector, field::eptp_index,
                  field::guest_interrupt_status, field::pml_index, field::pml_address,
                  field::posted_interrupt_descriptor_address, field::vm_function_controls,
                  field::eoi_exit_bitmap_0, field::eoi_exit_bitmap_1, field::eoi_exit_bitmap_2,
                  field::eoi_exit_bitmap_3, field::eptp_list_address, field::vmread_bitmap_address,
                  field::vmwrite_bitmap_address, field::virtualization_exception_information_address,
                  field::encls_exiting_bitmap, field::tsc_multiplier, field::guest_ia32_perf_global_ctrl,
                  field::host_ia32_perf_global_ctrl, field::guest_ia32_bndcfgs)) {
        return FieldHandling::unsupported;
    }
    if (is_one_of(encoding, field::executive_vmcs_pointer, field::vmcs_link_pointer, field::guest_smbase)) {
        return FieldHandling::kept;
    }
    if (is_one_of(encoding, field::virtual_processor_identifier, field::address_of_io_bitmap_a,
                  field::address_of_io_bitmap_b, field::address_of_msr_bitmaps,
                  field::vm_exit_msr_store_address, field::vm_exit_msr_load_address,
                  field::vm_entry_msr_load_address, field::virtual_apic_address, field::apic_access_address,
                  field::ept_pointer, field::cr4_guest_host_mask, field::cr4_read_shadow,
                  field::pin_based_vm_execution_controls,
                  field::primary_processor_based_vm_execution_controls,
                  field::secondary_processor_based_vm_execution_controls, field::vm_exit_controls,
                  field::vm_entry_controls, field::vm_exit_msr_store_count, field::vm_exit_msr_load_count,
                  field::vm_entry_msr_load_count)) {
        return FieldHandling::composed_control;
    }
    switch (vmx::kind(encoding)) {
        case vmx::FieldKind::control:
            return FieldHandling::direct_control;
        case vmx::FieldKind::exit_information:
            return FieldHandling::information;
        case vmx::FieldKind::guest_state:
            return FieldHandling::guest_state;
        case vmx::FieldKind::host_state:
            return FieldHandling::host_state;
    }
    return FieldHandling::unsupported;
}
}  // namespace detail

inline constexpr auto field_handling = [] {
    std::array<FieldHandling, vmx::field_count> table{};
    for (std::size_t i = 0; i < vmx::field_count; ++i)
        table[i] = detail::handling_of(vmx::all_fields[i].encoding);
    return table;
}();

// A set of fields by dense index.
class FieldSet {
public:
    static constexpr std::size_t words = (vmx::field_count + 63) / 64;

    [[nodiscard]] static constexpr FieldSet all() {
        FieldSet set;
        for (std::size_t i = 0; i < vmx::field_count; ++i) set.insert(i);
        return set;
    }
    constexpr void insert(std::size_t index) { word_[index / 64] |= std::uint64_t{1} << (index % 64); }
    constexpr void erase(std::size_t index) { word_[index / 64] &= ~(std::uint64_t{1} << (index % 64)); }
    [[nodiscard]] constexpr bool contains(std::size_t index) const {
        return ((word_[index / 64] >> (index % 64)) & 1) != 0;
    }
    constexpr void insert_all(const FieldSet& other) {
        for (std::size_t w = 0; w < words; ++w) word_[w] |= other.word_[w];
    }
    constexpr void clear() { word_ = {}; }
    [[nodiscard]] constexpr bool empty() const {
        std::uint64_t any = 0;
        for (auto word : word_) any |= word;
        return any == 0;
    }

    // Calls visit(index) for each member, in ascending order.
    template <typename Visit>
    constexpr void for_each(Visit&& visit) const {
        for (std::size_t w = 0; w < words; ++w) {
            for (std::uint64_t rest = word_[w]; rest != 0; rest &= rest - 1) {
                visit(w * 64 + static_cast<std::size_t>(__builtin_ctzll(rest)));
            }
        }
    }

    static constexpr FieldSet of(auto... fields) {
        FieldSet set;
        (set.insert(static_cast<std::size_t>(vmx::dense_index(fields.encoding))), ...);
        return set;
    }

private:
    std::array<std::uint64_t, words> word_{};
};

// The bits that a field of this encoding holds.
constexpr std::uint64_t field_mask(std::uint32_t encoding) {
    switch (vmx::width(encoding)) {
        case vmx::FieldWidth::bits16:
            return 0xffff;
        case vmx::FieldWidth::bits32:
            return 0xffffffff;
        default:
            return ~std::uint64_t{0};
    }
}

class Vmcs12 final {
public:
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard]] constexpr vmx::field_value_t<W> get(vmx::Field<W, K> field) const {
        return static_cast<vmx::field_value_t<W>>(words_[index_of(field.encoding)]);
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    constexpr void set(vmx::Field<W, K> field, vmx::field_value_t<W> value) {
        words_[index_of(field.encoding)] = value;
    }

    // By dense index, unchecked; a word never holds bits beyond its field's width.
    [[nodiscard]] constexpr std::uint64_t word(std::size_t index) const { return words_[index]; }
    constexpr void set_word(std::size_t index, std::uint64_t value) {
        words_[index] = value & field_mask(vmx::all_fields[index].encoding);
    }
    constexpr void clear() { words_ = {}; }

private:
    static constexpr std::size_t index_of(std::uint32_t encoding) {
        return static_cast<std::size_t>(vmx::dense_index(encoding));
    }
    std::array<std::uint64_t, vmx::field_count> words_{};
};

// What an active VMCS of L1 looks like in its region once it is written back. L1 may scribble on it: what is
// read from there is masked to each field's width and checked at the next VM entry like anything else L1
// wrote.
struct VmcsRegion {
    std::uint32_t revision_identifier;
    std::uint32_t abort_indicator;
    std::uint32_t launched;  // 1: launch state "launched"
    std::uint32_t reserved;
    std::array<std::uint64_t, vmx::field_count> words;
};
static_assert(sizeof(VmcsRegion) <= 4096);

// Flatback's own layout: changes whenever VmcsRegion does. Bit 31 is the shadow-VMCS indicator and must stay
// 0.
inline constexpr std::uint32_t vmcs12_revision = 0x0fba0001;
inline constexpr std::uint32_t vmcs12_region_size = 4096;

}  // namespace flatback::nested
