// Where the newest value of each field of one of L1's VMCSs is: in vmcs12's words, or in vmcs02, where VM
// exits save it and L0 fetches it when somebody asks. (A field that L1 writes without an exit may be newer
// still in its shadow VMCS: NestedVcpu::collect_shadow() takes it from there before an entry looks at any.)
//
// Nothing else decides this. Whoever reads a field asks here, by NestedVcpu::fetch(), and whoever makes
// another place the newest says so here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../../vmx/controls.hpp"
#include "../../vmx/field_table.hpp"
#include "shadow_fields.hpp"
#include "vmcs12.hpp"

namespace flatback::nested {

namespace detail {
// encoding: of a field.
constexpr std::size_t index_of(std::uint32_t encoding) {
    const int index = vmx::dense_index(encoding);
    if (index < 0) __builtin_unreachable();
    return static_cast<std::size_t>(index);
}

// What a VM exit leaves in vmcs02 and L0 does not read at once.
inline constexpr FieldSet read_at_exit = [] {
    FieldSet set;
    for (auto encoding : exit_fields) set.insert(index_of(encoding));
    return set;
}();

// What L1 finds in vmcs12 from an exit to the next: also what this exit does not define, and leaves as it
// was.
inline constexpr FieldSet kept_at_exit = [] {
    FieldSet set = read_at_exit;
    for (auto encoding : conditional_exit_fields) set.insert(index_of(encoding));
    return set;
}();

// The bits of each field that a VM exit stores, by its dense index.
inline constexpr auto stored_by_exits = [] {
    std::array<std::uint64_t, vmx::field_count> bits{};
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        if (field_handling[i] == FieldHandling::guest_state ||
            field_handling[i] == FieldHandling::information)
            bits[i] = ~std::uint64_t{0};
    }
    // IA32_EFER.LMA, the one bit of a control (SDM 3C 28.3.1).
    bits[index_of(vmx::field::vm_entry_controls.encoding)] = vmx::entry_control::ia32e_mode_guest;
    return bits;
}();

// Guest state that a VM exit does not save, by L1's controls: vmcs12 keeps what L1 wrote.
constexpr FieldSet not_saved_at_exit(const Vmcs12& vmcs12) {
    namespace exit = vmx::exit_control;
    const std::uint32_t out = vmcs12.get(vmx::field::vm_exit_controls);
    FieldSet set = FieldSet::of(vmx::field::vm_instruction_error);  // never an exit's
    const auto keep = [&](auto... fields) { (set.insert(index_of(fields.encoding)), ...); };
    if ((out & exit::save_debug_controls) == 0) keep(vmx::field::guest_dr7, vmx::field::guest_ia32_debugctl);
    if ((out & exit::save_ia32_pat) == 0) keep(vmx::field::guest_ia32_pat);
    if ((out & exit::save_ia32_efer) == 0) keep(vmx::field::guest_ia32_efer);
    if ((out & exit::save_vmx_preemption_timer_value) == 0) keep(vmx::field::vmx_preemption_timer_value);
    return set;
}
}  // namespace detail

class Newest final {
public:
    // The bits of a field that are newest in vmcs02; the others are so in vmcs12.
    [[nodiscard]] constexpr std::uint64_t bits_in_vmcs02(std::size_t index) const {
        return exited_ && !in_vmcs12_.contains(index) ? detail::stored_by_exits[index] : 0;
    }

    [[nodiscard]] constexpr bool any_in_vmcs02() const { return exited_; }

    // vmcs12 has the whole VMCS: it came from L1's memory, or all was fetched.
    constexpr void all_in_vmcs12() {
        exited_ = false;
        in_vmcs12_.clear();
    }
    // The field was written to vmcs12, or fetched.
    constexpr void is_in_vmcs12(std::size_t index) { in_vmcs12_.insert(index); }
    constexpr void are_in_vmcs12(const FieldSet& fields) { in_vmcs12_.insert_all(fields); }
    // An exit of L2's that L1 gets to see: it saved everything but what L1's controls leave out, and L0 reads
    // kept_at_exit at once, as far as the exit defines it.
    constexpr void exit_saved() {
        exited_ = true;
        in_vmcs12_ = not_saved_;
        in_vmcs12_.insert_all(detail::kept_at_exit);
    }

    // What exits leave out, by the controls of the last entry that was composed.
    [[nodiscard]] constexpr const FieldSet& not_saved() const { return not_saved_; }
    // Other controls count from the coming entry on. What exits saved until now and then do not, must have
    // been fetched.
    constexpr void leave_out(const FieldSet& not_saved) { not_saved_ = not_saved; }

private:
    bool exited_ = false;  // vmcs02 has what an exit saved
    FieldSet in_vmcs12_;   // but for these
    FieldSet not_saved_;
};

}  // namespace flatback::nested
