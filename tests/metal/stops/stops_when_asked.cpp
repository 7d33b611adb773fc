// Linked into a copy of L0 (tests/metal/CMakeLists.txt): L1 can end it, by a CPUID leaf that has no meaning
// in the real one, on any processor and in both ways in which a fault of L0's own ends it. What the other
// processors do then is what boot.bare.l0-stops looks at.
#include "host/cpuid.hpp"
#include "metal/ground/panic.hpp"
#include "metal/l0/l1_exits.hpp"

namespace {

// guests/bare/checks/trial_l0_stops.cpp has them too.
constexpr std::uint32_t leaf_of_a_panic = 0x400000FF;
constexpr std::uint32_t leaf_of_an_exception = 0x400000FE;

}  // namespace

// By the linker, in place of flatback::metal::information_leaf(Cpu&, std::uint32_t, std::uint32_t), and that
// function itself.
extern "C" {
flatback::host::CpuidRegisters __real__ZN8flatback5metal16information_leafERNS0_3CpuEjj(
    flatback::metal::Cpu& cpu, std::uint32_t leaf, std::uint32_t index);
flatback::host::CpuidRegisters __wrap__ZN8flatback5metal16information_leafERNS0_3CpuEjj(
    flatback::metal::Cpu& cpu, std::uint32_t leaf, std::uint32_t index);

flatback::host::CpuidRegisters __wrap__ZN8flatback5metal16information_leafERNS0_3CpuEjj(
    flatback::metal::Cpu& cpu, std::uint32_t leaf, std::uint32_t index) {
    if (leaf == leaf_of_a_panic) flatback::metal::panic("L1 has asked for it");
    if (leaf == leaf_of_an_exception) asm volatile("ud2");
    return __real__ZN8flatback5metal16information_leafERNS0_3CpuEjj(cpu, leaf, index);
}
}
