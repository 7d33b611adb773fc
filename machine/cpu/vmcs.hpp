#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>

#include "../../vmx/field.hpp"
#include "../../vmx/field_table.hpp"

namespace flatback::machine {

/// The data of one VMCS, and where it is. A VMCS is found by its physical address; what its region's bytes
/// look like beyond the first eight is the processor's own affair (SDM 3C 25.2), so this model keeps them
/// apart from memory.
class Vmcs {
public:
    enum class LaunchState : std::uint8_t { clear, launched };

    static constexpr int inactive = -1;

    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard]] vmx::field_value_t<W> get(vmx::Field<W, K> field) const {
        return static_cast<vmx::field_value_t<W>>(values_[place(field.encoding)]);
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void set(vmx::Field<W, K> field, vmx::field_value_t<W> value) {
        values_[place(field.encoding)] = value;
    }

    /// By encoding, as VMREAD and VMWRITE do: the value is cut to the field's width, the "high" access type
    /// is the upper half. The encoding must be one of a field.
    [[nodiscard]] std::uint64_t read(std::uint64_t encoding) const {
        const std::uint64_t value = values_[place(encoding)];
        return vmx::is_high(encoding) ? value >> 32 : value;
    }
    void write(std::uint64_t encoding, std::uint64_t value);

    LaunchState launch_state = LaunchState::clear;
    /// The processor on which it is active, or `inactive` (SDM 3C 25.1).
    int active_on = inactive;

private:
    static constexpr std::size_t place(std::uint64_t encoding) {
        return static_cast<std::size_t>(vmx::dense_index(encoding));
    }

    std::array<std::uint64_t, vmx::field_count> values_{};
};

/// All VMCSs of a machine, by physical address.
using VmcsStore = std::unordered_map<std::uint64_t, Vmcs>;

}  // namespace flatback::machine
