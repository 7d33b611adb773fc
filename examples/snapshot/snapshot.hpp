// A VM of minimal_host's as bytes: L1's memory, registers, vmcs01, the host's devices, and the nested state.
#pragma once

#include <cstddef>
#include <vector>

#include "../minimal_host/host.hpp"

namespace snapshot {

using minimal_host::Host;
namespace machine = flatback::machine;

// Of a VM that runs, and that goes on behind it.
[[nodiscard]] std::vector<std::byte> save(machine::Machine& processor, Host& host);
// In place of the VM that the host has, which then goes on where the snapshot was taken. False: the bytes are
// no snapshot, and the VM is not to be used any more.
[[nodiscard]] bool restore(machine::Machine& processor, Host& host, const std::vector<std::byte>& from);

}  // namespace snapshot
