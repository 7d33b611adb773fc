// A VMCS of the simulated processor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vmx/field_table.hpp"

namespace flatback::nested_test {

struct FakeVmcs {
    bool shadow = false;    // bit 31 of the revision identifier
    bool launched = false;  // the launch state
    bool has_host_state = false;
    std::array<std::uint64_t, vmx::field_count> words{};
    std::map<std::uint32_t, unsigned> writes;  // VMWRITEs by encoding, since they were last forgotten

    [[nodiscard]] std::uint64_t& word(std::uint32_t encoding) {
        return words.at(static_cast<std::size_t>(vmx::dense_index(encoding)));
    }
    // As the checks of VM entry look at it.
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard]] vmx::field_value_t<W> get(vmx::Field<W, K> field) const {
        return static_cast<vmx::field_value_t<W>>(
            words.at(static_cast<std::size_t>(vmx::dense_index(field.encoding))));
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void set(vmx::Field<W, K> field, vmx::field_value_t<W> value) {
        word(field.encoding) = value;
    }
    [[nodiscard]] unsigned write_count() const {
        unsigned sum = 0;
        for (const auto& [encoding, count] : writes) sum += count;
        return sum;
    }
    [[nodiscard]] std::vector<std::string> written_fields() const {
        std::vector<std::string> names;
        for (const auto& [encoding, count] : writes) names.emplace_back(vmx::name_of(encoding));
        return names;
    }
};

}  // namespace flatback::nested_test
