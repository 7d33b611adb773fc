#pragma once

#include <cstdint>
#include <span>

namespace flatback::fuzz {

/// Bytes as a nested state of KVM's, as one of L0's to be given to KVM, and as VMCS regions of both formats.
/// What is refused has had no effect; what is taken is the same when it has been there and back. Anything
/// else prints what it was and aborts.
void run_kvm_state(std::span<const std::uint8_t> bytes);

}  // namespace flatback::fuzz
