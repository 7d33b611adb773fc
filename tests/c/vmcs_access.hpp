// What a host may compile into the engine in place of the table's vmread and vmwrite. Here a VMCS is an
// array.
#pragma once

#include <cstdint>

extern std::uint64_t* vmcs_access_current;

static inline std::uint64_t flatback_host_vmread(void*, std::uint32_t encoding) {
    return vmcs_access_current[encoding];
}
static inline void flatback_host_vmwrite(void*, std::uint32_t encoding, std::uint64_t value) {
    vmcs_access_current[encoding] = value;
}
