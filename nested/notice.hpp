// What the engine noticed and its host may want to log.
#pragma once

#include <cstdint>

namespace flatback::nested {

enum class Notice : std::uint8_t {
    entry_check_failed,       // of L1's VM entry; the detail is an EntryCheck (nested/entry_checks_table.hpp)
    hardware_refused_vmcs02,  // VMfail; the detail is the VM-instruction error
    guest_state_refused,      // by the processor; the detail is the exit reason
};

}  // namespace flatback::nested
