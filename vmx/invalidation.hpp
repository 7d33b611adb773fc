// INVEPT and INVVPID: types and descriptors (SDM 3C 31.3).
#pragma once

#include <cstdint>

#include "../x86/address.hpp"

namespace flatback::vmx {

enum class InveptType : std::uint64_t { single_context = 1, all_contexts = 2 };

enum class InvvpidType : std::uint64_t {
    individual_address = 0,
    single_context = 1,
    all_contexts = 2,
    single_context_retaining_globals = 3,
};

// In memory, 16 bytes.
struct InveptDescriptor {
    std::uint64_t eptp = 0;
    // Software must write zero; INVEPT's list of checks does not name it.
    std::uint64_t reserved = 0;
};
static_assert(sizeof(InveptDescriptor) == 16);

// In memory, 16 bytes.
struct InvvpidDescriptor {
    std::uint64_t vpid_and_reserved = 0;  // VPID in bits 15:0; bits 63:16 must be zero
    std::uint64_t linear_address = 0;     // used by individual_address only

    [[nodiscard]] constexpr std::uint16_t vpid() const {
        return static_cast<std::uint16_t>(vpid_and_reserved);
    }
    [[nodiscard]] constexpr bool has_reserved_bits() const { return vpid_and_reserved >> 16 != 0; }
    [[nodiscard]] constexpr bool names_canonical_address() const { return x86::is_canonical(linear_address); }

    [[nodiscard]] static constexpr InvvpidDescriptor make(std::uint16_t vpid,
                                                          std::uint64_t linear_address = 0) {
        return {vpid, linear_address};
    }
};
static_assert(sizeof(InvvpidDescriptor) == 16);

// The descriptor alone against the type (SDM 3C "INVVPID"); whether the type is offered is another question.
// False: VMfail with error 28.
[[nodiscard]] constexpr bool is_valid_invvpid_descriptor(InvvpidType type, InvvpidDescriptor descriptor) {
    if (descriptor.has_reserved_bits()) return false;
    if (type != InvvpidType::all_contexts && descriptor.vpid() == 0) return false;
    return type != InvvpidType::individual_address || descriptor.names_canonical_address();
}

}  // namespace flatback::vmx
