// The VMCS that is current, by typed fields: a value has its field's width.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "../vmx/field.hpp"

namespace flatback::host {

template <typename P>
concept VmcsAccess = requires(P& port, std::uint32_t encoding, std::uint64_t value) {
    { port.vmread(encoding) } -> std::same_as<std::uint64_t>;
    {port.vmwrite(encoding, value)};
};

// To be derived from, or used as it is.
template <VmcsAccess P>
class CurrentVmcs {
public:
    explicit CurrentVmcs(P& port) : port_(port) {}

    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard, gnu::always_inline]] vmx::field_value_t<W> get(vmx::Field<W, K> field) const {
        return static_cast<vmx::field_value_t<W>>(port_.vmread(field.encoding));
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[gnu::always_inline]] void put(vmx::Field<W, K> field,
                                    std::type_identity_t<vmx::field_value_t<W>> value) {
        port_.vmwrite(field.encoding, value);
    }
    // A field of a series: guest_es_selector and its seven neighbours.
    void put_encoded(std::uint32_t encoding, std::uint64_t value) { port_.vmwrite(encoding, value); }

protected:
    P& port_;
};

}  // namespace flatback::host
