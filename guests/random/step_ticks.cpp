// One NMI or interrupt at any tick, from the interval timer, while L2 computes and exits: it comes once, to
// L1 or as an exit or to L2 as the controls say, and L2 ends as it would have without it. When it came is no
// result.
#include <iterator>

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/enter_l2.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/timer_nmi.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/guest_state.hpp"
#include "guests/random/log.hpp"
#include "guests/random/settle.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t interrupts_on = 0x200;

// The same bytes in 32- and 64-bit code: ESI times a loop and CPUID, then VMCALL for ever.
constexpr std::uint8_t program[] = {
    0xB9, 100,  0,    0, 0,  // mov ecx, 100
    0xFF, 0xC9,              // dec ecx
    0x75, 0xFC,              // jnz dec
    0x0F, 0xA2,              // cpuid
    0xFF, 0xCE,              // dec esi
    0x75, 0xF1,              // jnz mov
    0x0F, 0x01, 0xC1,        // vmcall
    0xEB, 0xFB,              // jmp vmcall
};
constexpr std::uint64_t program_end = l2_memory::code + 15;
constexpr std::uint64_t loops = 12;

struct Event {
    bool is_nmi;
    bool exits;  // L1's controls take it; else it is L2's
    std::uint8_t vector;
    std::uint16_t periods;
};

void fill(Random& random, const Event& event) {
    const bool with_ept = !random.one_in(5);
    L2Mode mode = random.of({L2Mode::long64, L2Mode::pae, L2Mode::paging32, L2Mode::no_paging});
    if (!with_ept && mode == L2Mode::no_paging) mode = L2Mode::paging32;
    write_controls(random, mode, with_ept);
    write_host_state(random);
    write_guest_state(random, mode, with_ept);
    std::uint32_t pins = read(field::pin_based_vm_execution_controls) &
                         ~(pin::external_interrupt_exiting | pin::nmi_exiting | pin::virtual_nmis);
    if (event.exits) pins |= event.is_nmi ? pin::nmi_exiting : pin::external_interrupt_exiting;
    if (event.exits && event.is_nmi && random.one_in(2) && !world.virtual_nmis_are_blocked)
        pins |= pin::virtual_nmis;
    write(field::pin_based_vm_execution_controls, capabilities.pin.adjust(pins));
    // A window that is open ends every run before its first instruction.
    write(field::primary_processor_based_vm_execution_controls,
          read(field::primary_processor_based_vm_execution_controls) &
              ~std::uint64_t{primary::interrupt_window_exiting | primary::nmi_window_exiting});
    write(field::exception_bitmap, 0);
    auto* const code = sandbox_bytes(l2_memory::code);
    for (std::size_t i = 0; i < std::size(program); ++i) code[i] = program[i];
}

// L2 begins its program; what an event may have changed is as before.
void begin(GuestRegisters& registers) {
    registers = {};
    registers.rsi = loops;
    write(field::guest_rip, l2_memory::code);
    write(field::guest_rsp, l2_memory::stack);
    write(field::guest_rflags, 2 | interrupts_on);
    write(field::guest_interruptibility_state, 0);
    write(field::guest_pending_debug_exceptions, 0);
    write(field::vmx_preemption_timer_value, 0xFFFFFFFF);
}

void end_nmi_blocking() {
    asm volatile("int $0x30" : : : "memory");
}

void take_interrupts() {
    asm volatile("sti; nop; nop; cli" : : : "memory");
}

// One for each priority: an L2 that accepted interrupts by itself may have left as many in service.
void end_all_interrupts() {
    constexpr unsigned priorities = 16;
    for (unsigned i = 0; i < priorities; ++i) end_of_interrupt();
}

struct Result {
    std::uint64_t received = 0;
    std::uint64_t vector = 0;
    std::uint64_t other = 0;  // an exit that was not to come, plus 1
};

// True where L2 is at its program's end, or came to what was not to come.
bool after_exit(const Event& event, GuestRegisters& registers, Result& result) {
    const std::uint32_t reason = read(field::exit_reason);
    const std::uint64_t rip = read(field::guest_rip);
    const std::uint64_t information = read(field::vm_exit_interruption_information);
    if (reason == reason::cpuid) {
        write(field::guest_rip, rip + 2);
        return false;
    }
    const bool is_l2s = reason == reason::vmcall && rip >= l2_memory::handlers && rip < l2_memory::handlers16;
    if (is_l2s || (reason == reason::exception_or_nmi && (information & 0x700) == 0x200) ||
        reason == reason::external_interrupt) {
        const bool acknowledged = is_l2s || (information >> 31) != 0;
        ++result.received;
        result.vector = is_l2s ? registers.rax & 0xFF : information & 0xFF;
        if (event.is_nmi) {
            end_nmi_blocking();
        } else if (acknowledged) {
            end_of_interrupt();
        } else {
            take_interrupts();
            result.vector = last_external_vector;
        }
        if (is_l2s) begin(registers);
        return false;
    }
    if (reason != reason::vmcall || rip != program_end) result.other = std::uint64_t{reason} + 1;
    return true;
}

Result run(const Event& event, unsigned vmcs, GuestRegisters& registers) {
    constexpr unsigned most_programs = 1000;
    Result result;
    const std::uint64_t nmis = nmi_count;
    if (event.is_nmi)
        timer_nmi::send_in(event.periods);
    else
        timer_nmi::send_interrupt_in(event.periods, event.vector);
    for (unsigned i = 0; i < most_programs && result.other == 0; ++i) {
        // Behind the event once more: nothing else comes.
        const bool was_last = result.received + (nmi_count - nmis) != 0;
        begin(registers);
        do {
            const std::uint64_t flags = enter_l2(&registers, !world.launched[vmcs]);
            if (flags != 0) {
                result.other = flags;
                break;
            }
            note_virtual_nmi_blocking();
            if ((read(field::exit_reason) & reason::entry_failure) == 0) world.launched[vmcs] = true;
        } while (!after_exit(event, registers, result));
        if (was_last) break;
    }
    timer_nmi::stop();
    // One that came while L1 ran was its handler's.
    if (nmi_count != nmis) result.vector = vector_nmi;
    result.received += nmi_count - nmis;
    nmi_count = nmis;
    return result;
}

}  // namespace

void step_ticks(Random& random) {
    make_a_guest_current();
    const unsigned vmcs = current_vmcs();
    if (vmcs >= 2) return;
    const std::uint64_t externals = external_count;
    const std::uint64_t last_external = last_external_vector;
    Event event{};
    event.is_nmi = random.one_in(2);
    event.exits = !random.one_in(3);
    event.vector = static_cast<std::uint8_t>(first_external_vector + random.below(0xA0));
    event.periods = static_cast<std::uint16_t>(1 + random.below(24));
    // What earlier steps left pending or in service.
    end_all_interrupts();
    take_interrupts();
    end_nmi_blocking();
    // Whether L2 or L1 is interrupted depends on ticks: nothing that an earlier step spoiled may stop either.
    reset_l2_memory();
    fill(random, event);
    Line line;
    line << "ticks";
    put(line, "nmi", event.is_nmi ? 1 : 0);
    put(line, "exits", event.exits ? 1 : 0);
    GuestRegisters registers{};
    const Result result = run(event, vmcs, registers);
    if (result.other != 0) {
        put(line, "other", result.other);
    } else {
        put(line, "received", result.received);
        put(line, "right",
            result.vector == (event.is_nmi ? std::uint64_t{vector_nmi} : event.vector) ? 1 : 0);
        put(line, "ecx", registers.rcx);
        put(line, "esi", registers.rsi);
        put(line, "rsp", read(field::guest_rsp));
    }
    log_line(line);
    // One that no L2 ran to receive comes now.
    constexpr unsigned long_enough = 40000;
    for (unsigned i = 0; result.other != 0 && i < long_enough; ++i) asm volatile("" : : : "memory");
    // Whether L2 had accepted it before an exit that was not to come depends on ticks.
    end_all_interrupts();
    take_interrupts();
    end_nmi_blocking();
    nmi_count = 0;
    external_count = externals;
    last_external_vector = last_external;
    // Where L2 was interrupted is on its stack.
    reset_sandbox();
    refill_current_guest(random);
}

}  // namespace flatback::guests
