#include "guests/bare/l1/second_processor.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/local_apic.hpp"

extern "C" {
extern const std::uint8_t second_start[], second_start_end[];
extern const char second_edx_offset[], second_cr0_offset[];
extern volatile std::uint32_t other_apic_ids[];  // all ones: none has come
// enter_l2.S
extern char own_state[], exit_stack[], other_own_states[], other_own_states_end[];
}

namespace flatback::guests {
namespace {

constexpr std::uint64_t start_page = 0x8000;  // in second_processor.S too
constexpr std::uint32_t to_all_others = 3U << 18;
constexpr std::uint32_t command_init = 0x4500;
constexpr std::uint32_t command_start = 0x4600;
constexpr std::uint64_t longest_start = 2'000'000;  // ticks, of which the waits below are the most
constexpr std::uint64_t longest_work = 50'000'000;

constexpr std::uint32_t ia32_gs_base = 0xC0000101;
constexpr std::uint32_t nobody = ~std::uint32_t{0};

// Of the second processor.
volatile std::uint32_t arrivals = 0;
void (*volatile work[most_others])() = {};
volatile bool arrived[most_others] = {};

std::uint64_t size_of_own_state() {
    return static_cast<std::uint64_t>(exit_stack - own_state);
}
std::uint64_t first_gs_base() {
    return reinterpret_cast<std::uint64_t>(other_own_states) - reinterpret_cast<std::uint64_t>(own_state);
}

void wait_ticks(std::uint64_t ticks) {
    const std::uint64_t start = read_tsc();
    while (read_tsc() - start < ticks) asm volatile("pause");
}

std::uint32_t found(const char* offset) {
    return *reinterpret_cast<const volatile std::uint32_t*>(start_page +
                                                            reinterpret_cast<std::uint64_t>(offset));
}

}  // namespace

void send_to_second(std::uint32_t command) {
    if (other_apic_ids[0] == nobody) return send_command(0, command | to_all_others);
    send_command(other_apic_ids[0], command);
}
void send_init_to_second() {
    send_to_second(command_init);
}
void send_start_to_second() {
    send_to_second(command_start | start_page / 4096);
}

bool start_second_processor() {
    auto* const page = reinterpret_cast<volatile std::uint8_t*>(start_page);
    for (std::uint64_t at = 0; at < static_cast<std::uint64_t>(second_start_end - second_start); ++at)
        page[at] = second_start[at];
    const std::uint32_t before = arrivals;
    work[0] = nullptr;
    send_init_to_second();
    wait_ticks(100'000);
    send_start_to_second();
    wait_ticks(20'000);
    send_start_to_second();
    const std::uint64_t start = read_tsc();
    while (arrivals == before && read_tsc() - start < longest_start) asm volatile("pause");
    return arrivals != before;
}

std::uint32_t second_apic_identifier() {
    return other_apic_ids[0];
}
std::uint32_t second_arrivals() {
    return arrivals;
}
std::uint32_t second_edx() {
    return found(second_edx_offset);
}
std::uint32_t second_cr0() {
    return found(second_cr0_offset);
}

unsigned others() {
    unsigned count = 0;
    while (count < most_others && arrived[count]) ++count;
    return count;
}
unsigned this_other() {
    return static_cast<unsigned>((read_msr(ia32_gs_base) - first_gs_base()) / size_of_own_state());
}

void begin_on_other(unsigned which, void (*what)()) {
    work[which] = what;
}
bool has_finished(unsigned which) {
    return work[which] == nullptr;
}
void send_init_to_other(unsigned which) {
    send_command(other_apic_ids[which], command_init);
}
bool finish_on_other(unsigned which) {
    const std::uint64_t start = read_tsc();
    while (work[which] != nullptr) {
        if (read_tsc() - start > longest_work) return false;
        asm volatile("pause");
    }
    return true;
}

extern "C" [[noreturn]] void other_main(std::uint32_t which) {
    write_msr(ia32_gs_base, first_gs_base() + which * size_of_own_state());
    load_interrupt_table();
    start_own_local_apic();
    arrived[which] = true;
    if (which == 0) arrivals = arrivals + 1;
    for (;;) {
        if (void (*const now)() = work[which]) {
            now();
            work[which] = nullptr;
        }
        asm volatile("pause");
    }
}

}  // namespace flatback::guests
