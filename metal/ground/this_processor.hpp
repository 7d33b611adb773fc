// What L0 keeps of one processor, and how its code finds that of the processor on which it runs: by GS, whose
// base every VM exit loads from the host-state area. Nothing of it is shared, but where a member says so.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "trace/ring.hpp"
#include "x86/address.hpp"

namespace flatback::metal {

struct Cpu;

// What has to be looked at before a guest is entered: bits, each set and cleared in one instruction, as an
// NMI may come between any two. Of NMIs the processor keeps one that waits, and so does L0.
namespace nmi_state {
inline constexpr std::uint8_t waits =
    1;  // the guest that is entered cannot take it: tried again behind the next exit
inline constexpr std::uint8_t came = 2;   // by the handler, and nobody has tried it yet
inline constexpr std::uint8_t asked = 4;  // another processor's request, or one that has to wait
// A machine check that is the guest's (metal/ground/machine_check.hpp).
inline constexpr std::uint8_t machine_check_came = 8;
inline constexpr std::uint8_t machine_check_waits = 16;
inline constexpr std::uint8_t machine_check = machine_check_came | machine_check_waits;
}  // namespace nmi_state

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

// What a processor did when another's panic stopped it.
enum class StoppedIn : std::uint8_t { l0, l1, l2 };

struct ProcessorLocal {
    struct Start {
        static constexpr std::int32_t runs = -1;
        static constexpr std::int32_t waits = -2;
    };
    static constexpr std::size_t interrupt_stack_size = 8192;
    static constexpr std::size_t exit_stack_size = 32768;

    ProcessorLocal* self = this;  // the first word, for this_processor()
    // metal/l0/entry.S looks at it before each entry.
    volatile std::uint8_t nmi_state = 0;
    // Whether events are recorded (metal/l0/recorder.hpp).
    bool recording = false;
    // Written by handle_interrupt between STI and CLI only.
    volatile bool window_open = false;
    bool window_can_have_machine_check = false;
    std::uint32_t number = 0;  // 0 is the one that L0 was started on
    volatile int window_vector = -1;
    std::uint32_t apic_id = 0;
    Cpu* cpu = nullptr;  // from its VMXON on
    x86::Hpa vmxon_region{};

    // What other processors ask of this one (metal/processors/given_processors.hpp): any of them writes
    // these.
    std::atomic<std::uint32_t> requests{0};
    std::atomic<std::uint64_t> stopped_at{0};  // where it was when another's panic stopped it
    StoppedIn stopped_in = StoppedIn::l0;
    std::atomic<bool> kicked{false};                    // an NMI of L0's is on its way here
    std::atomic<std::uint32_t> logical_destination{0};  // of L1's xAPIC mode, and the next
    std::atomic<std::uint32_t> destination_format{~std::uint32_t{0}};
    std::atomic<std::int32_t> start{Start::runs};           // or the vector of the SIPI that starts it
    std::atomic<void (*)(ProcessorLocal&)> enter{nullptr};  // where it goes when L0 is ready for it
    void* enter_argument = nullptr;
    std::atomic<bool> arrived{false};  // it is in VMX operation
    const char* differs = nullptr;     // from the first one, and in what
    std::atomic<bool> ready{false};    // it waits for L1 to start it
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

inline void set_nmi_state(std::uint8_t bits) {
    asm volatile("orb %0, %%gs:8" ::"q"(bits) : "memory", "cc");
}
inline void clear_nmi_state(std::uint8_t bits) {
    asm volatile("andb %0, %%gs:8" ::"q"(static_cast<std::uint8_t>(~bits)) : "memory", "cc");
}

// Set by a panic of one of them: the others go no further (ProcessorLocal::stopped_at).
extern std::atomic<bool> processors_stop;
[[noreturn]] void stop_this_processor(std::uint64_t rip, StoppedIn in);

[[nodiscard]] inline std::uint32_t this_processor_number() {
    std::uint32_t number;
    asm("movl %%gs:12, %0" : "=r"(number));
    return number;
}

// Of the one that L0 was started on.
extern ProcessorLocal first_processor;

}  // namespace flatback::metal
