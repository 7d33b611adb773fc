#pragma once

namespace flatback::guests {

/// Where a part of a benchmark, or of a boot, begins: the emulator's debugger is told to stop here, and its
/// trace is wanted from here (docs/watch.md). A processor, and an emulator that was told nothing, do nothing.
inline void mark_part() {
    asm volatile("xchg %%bx, %%bx" : : : "memory");
}

}  // namespace flatback::guests
