// What L0 keeps of one processor, and how its code finds that of the processor on which it runs: by GS, whose
// base every VM exit loads from the host-state area. Nothing of it is shared, but where a member says so.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "metal/ground/interrupts.hpp"
#include "trace/ring.hpp"

namespace flatback::metal {

struct Cpu;

// SDM 3A figure 8-11.
struct [[gnu::packed]] TaskState {
    std::uint32_t reserved_0 = 0;
    std::array<std::uint64_t, 3> stack_by_privilege{};
    std::uint64_t reserved_1 = 0;
    std::array<std::uint64_t, 7> interrupt_stacks{};
    std::uint64_t reserved_2 = 0;
    std::uint16_t reserved_3 = 0;
    std::uint16_t io_bitmap_offset = 104;  // past the limit: no bitmap
};
static_assert(sizeof(TaskState) == 104);

struct ProcessorLocal {
    static constexpr std::size_t interrupt_stack_size = 8192;
    static constexpr std::size_t exit_stack_size = 32768;

    ProcessorLocal* self = this;  // the first word, for this_processor()
    // An NMI that arrived while L0 ran; metal/l0/entry.S looks at it before each entry.
    volatile NmiState nmi_state = NmiState::none;
    // Whether events are recorded (metal/l0/recorder.hpp).
    bool recording = false;
    // Written by handle_interrupt between STI and CLI only.
    volatile bool window_open = false;
    std::uint32_t number = 0;  // 0 is the one that L0 was started on
    volatile int window_vector = -1;
    std::uint32_t apic_id = 0;
    Cpu* cpu = nullptr;  // from its VMXON on
    trace::Ring ring;

    alignas(16) std::array<std::uint64_t, 5> descriptors{};  // null, code, data, TSS in two
    alignas(16) TaskState task{};
    alignas(16) std::array<std::array<std::byte, interrupt_stack_size>, 3> interrupt_stacks{};
    // On which exits are handled.
    alignas(16) std::array<std::byte, exit_stack_size> exit_stack{};
};
// In metal/l0/entry.S, metal/l0/flush_recorder.hpp and below too.
static_assert(offsetof(ProcessorLocal, self) == 0 && offsetof(ProcessorLocal, nmi_state) == 8 &&
              offsetof(ProcessorLocal, recording) == 9 && offsetof(ProcessorLocal, number) == 12);

[[nodiscard]] inline ProcessorLocal& this_processor() {
    ProcessorLocal* self;
    asm("movq %%gs:0, %0" : "=r"(self));
    return *self;
}

[[nodiscard]] inline std::uint32_t this_processor_number() {
    std::uint32_t number;
    asm("movl %%gs:12, %0" : "=r"(number));
    return number;
}

// The one that L0 was started on, before any other is known.
[[nodiscard]] ProcessorLocal& first_processor();

}  // namespace flatback::metal
