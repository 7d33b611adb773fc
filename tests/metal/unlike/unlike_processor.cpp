// Linked into a copy of L0 (tests/metal/CMakeLists.txt): the machine's second processor has another VT-x
// capability than the first, which no emulator here can be told to have (boot.refusal.unlike-processor).
#include "metal/processors/boot_apic.hpp"
#include "metal/processors/processor_features.hpp"

namespace {

constexpr std::uint32_t unlike = 1;  // by its APIC's identifier
constexpr std::size_t misc = 5;      // IA32_VMX_MISC is 485H, and the first MSR 480H

}  // namespace

// By the linker, in place of flatback::metal::own_features(), and that function itself.
extern "C" {
flatback::metal::ProcessorFeatures __real__ZN8flatback5metal12own_featuresEv();
flatback::metal::ProcessorFeatures __wrap__ZN8flatback5metal12own_featuresEv();

flatback::metal::ProcessorFeatures __wrap__ZN8flatback5metal12own_featuresEv() {
    flatback::metal::ProcessorFeatures features = __real__ZN8flatback5metal12own_featuresEv();
    if (flatback::metal::own_apic_id() == unlike) features.vmx[misc] = *features.vmx[misc] ^ 1;
    return features;
}
}
