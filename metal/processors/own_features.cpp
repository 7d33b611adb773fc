#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/processors/processor_features.hpp"

namespace flatback::metal {

ProcessorFeatures own_features() {
    ProcessorFeatures own;
    for (std::uint32_t number = 0; number < own.vmx.size(); ++number)
        own.vmx[number] = try_read_msr(x86::msr::ia32_vmx_basic + number);
    for (std::size_t leaf = 0; leaf < ProcessorFeatures::leaves.size(); ++leaf)
        own.cpuid[leaf] = cpuid(ProcessorFeatures::leaves[leaf]);
    return own;
}

}  // namespace flatback::metal
