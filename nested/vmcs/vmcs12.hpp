// L1's VMCS as L0 keeps it: one 64-bit word a field, indexed densely, with the bookkeeping that lets a VM
// entry rewrite only what L1 changed. The same words, behind a short header, are what lies in L1's VMCS
// region after VMCLEAR.
#pragma once

#include <array>
#include <cstdint>

#include "../../vmx/field.hpp"
#include "../../vmx/field_table.hpp"
#include "field_sheet.hpp"

namespace flatback::nested {

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
    [[nodiscard]] constexpr FieldSet without(const FieldSet& other) const {
        FieldSet set;
        for (std::size_t w = 0; w < words; ++w) set.word_[w] = word_[w] & ~other.word_[w];
        return set;
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

// Flatback's own layout: changes whenever VmcsRegion does. Bit 31 is not the identifier's.
inline constexpr std::uint32_t vmcs12_revision = 0x0fba0001;
inline constexpr std::uint32_t shadow_vmcs_indicator = 0x80000000;
inline constexpr std::uint32_t vmcs12_region_size = 4096;

}  // namespace flatback::nested
