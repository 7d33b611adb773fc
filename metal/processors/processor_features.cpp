#include "metal/processors/processor_features.hpp"

namespace flatback::metal {

const char* difference(const ProcessorFeatures& first, const ProcessorFeatures& other) {
    if (other.vmx != first.vmx) return "its capabilities of VT-x";
    for (std::size_t leaf = 0; leaf < ProcessorFeatures::leaves.size(); ++leaf) {
        constexpr std::uint32_t depends_on_state = x86::cpuid::features_ecx_osxsave;
        const bool is_features = ProcessorFeatures::leaves[leaf] == x86::cpuid::leaf_features;
        const std::uint32_t differs = other.cpuid[leaf].ecx ^ first.cpuid[leaf].ecx;
        if ((is_features ? differs & ~depends_on_state : differs) != 0 ||
            other.cpuid[leaf].edx != first.cpuid[leaf].edx || other.cpuid[leaf].eax != first.cpuid[leaf].eax)
            return "what CPUID says";
    }
    return nullptr;
}

}  // namespace flatback::metal
