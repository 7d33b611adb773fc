// Records L0's trace (docs/trace.md) and gives it to L1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nested/notice.hpp"
#include "trace/ring.hpp"

namespace flatback::metal {

class PagePool;
struct Cpu;
using nested::Running;

namespace recorder {

inline constexpr std::size_t ring_events = 65536;  // 2 MB

// Each processor has a ring of its own, which is started, stopped and read there.

// Takes the memory of this processor's ring and starts recording (trace=on).
void set_up(PagePool& pages);

// What the usual way past the handler does not see. L0 is about to enter the guest that is current:
void record_entry(Cpu& cpu);
// The processor refused the entry that was recorded last.
void record_refused_entry(Cpu& cpu, std::uint32_t vm_instruction_error);
// L0 showed L1 an NMI as an exit of the L2 that was about to be entered, and enters L1 now.
void record_nmi_exit(Cpu& cpu, const Running& l2, std::uint64_t l2_rip);

// CPUID leaf 4000_0005H.
struct Answer {
    std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};
[[nodiscard]] Answer answer(std::uint32_t subleaf);

// The last events of all processors, which have stopped, for the panic dump.
void print_last_events();

}  // namespace recorder
}  // namespace flatback::metal
