#pragma once

#include <cstdint>
#include <span>

#include "machine/program/program.hpp"

namespace flatback::machine {

/// How many virtual CPUs of VM 0 such a program has.
inline constexpr unsigned several_processors = 4;

/// A program of any bytes whose L1 has several processors: its L2s move between them (VMCLEAR on the one,
/// VMPTRLD on the other), two of them under the same VPID; page tables, EPT structures and MSR bitmaps of all
/// are edited, with and without INVVPID or INVEPT on each processor; a processor leaves VMX operation while
/// others enter L2s, and has an INIT and a start-up IPI there; L0 takes pages away and moves virtual CPUs. A
/// careful L1 never has one VMCS active on two processors, nor one at VMXOFF; of another one nobody can say
/// what it sees (SDM 3C 25.11.1).
enum class Care : std::uint8_t { has, has_none };
[[nodiscard]] Program several_processors_program(std::span<const std::uint8_t> bytes, Care care = Care::has);

}  // namespace flatback::machine
