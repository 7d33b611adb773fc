#include "metal/memory/read_memory_types.hpp"

#include <algorithm>

#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"

namespace flatback::metal {
namespace {

// In the order of MemoryTypes::fixed.
constexpr std::array<std::uint32_t, 11> fixed_registers = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26A,
                                                           0x26B, 0x26C, 0x26D, 0x26E, 0x26F};
constexpr std::uint64_t capability_fixed = 1 << 8;  // in IA32_MTRRCAP; bits 7:0 count the variable ranges

}  // namespace

MemoryTypes read_memory_types(unsigned physical_address_width) {
    namespace msr = x86::msr;
    MemoryTypes types;
    types.physical_address_width = physical_address_width;
    const auto capability = try_read_msr(msr::ia32_mtrrcap);
    if (!capability) {  // no MTRRs: only PAT decides
        types.default_type = MemoryTypes::enabled | static_cast<std::uint64_t>(x86::MemoryType::write_back);
        return types;
    }
    types.default_type = read_msr(msr::ia32_mtrr_def_type);
    if ((*capability & capability_fixed) == 0) types.default_type &= ~MemoryTypes::fixed_enabled;
    if ((types.default_type & MemoryTypes::fixed_enabled) != 0) {
        std::ranges::transform(fixed_registers, types.fixed.begin(),
                               [](std::uint32_t index) { return read_msr(index); });
    }
    const auto count = std::min<std::size_t>(*capability & 0xFF, MemoryTypes::most_variable);
    for (std::uint32_t index = 0; index < count; ++index) {
        types.variable[index].base = read_msr(msr::ia32_mtrr_physbase0 + 2 * index);
        types.variable[index].mask = read_msr(msr::ia32_mtrr_physbase0 + 2 * index + 1);
    }
    return types;
}

}  // namespace flatback::metal
