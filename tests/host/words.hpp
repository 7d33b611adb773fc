// A VMCS as a table of words, for tests of what writes one.
#pragma once

#include <cstdint>
#include <map>
#include <type_traits>

#include "vmx/field.hpp"

namespace flatback::host {

struct Words {
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard]] vmx::field_value_t<W> get(vmx::Field<W, K> what) const {
        const auto found = words.find(what.encoding);
        return found == words.end() ? 0 : static_cast<vmx::field_value_t<W>>(found->second);
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void put(vmx::Field<W, K> what, std::type_identity_t<vmx::field_value_t<W>> value) {
        words[what.encoding] = value;
    }
    void put_encoded(std::uint32_t encoding, std::uint64_t value) { words[encoding] = value; }

    std::map<std::uint32_t, std::uint64_t> words;
};

}  // namespace flatback::host
