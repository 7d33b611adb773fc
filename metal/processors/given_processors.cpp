#include "metal/processors/given_processors.hpp"

#include <algorithm>
#include <array>

#include "metal/ground/log.hpp"
#include "metal/ground/machine_check.hpp"
#include "metal/processors/boot_apic.hpp"

// metal/processors/other_processors.S
extern "C" void halt_until_started(const std::atomic<std::int32_t>* start);

namespace flatback::metal {
namespace {

constexpr std::uint32_t command_nmi = 0x4400;  // assert (SDM 3A 11.6.1)
// About a millisecond. What is waited for comes in far less, where the other processor runs at all.
constexpr unsigned longest_wait = 100'000;

constinit std::array<ProcessorLocal*, most_processors> processors{&first_processor};
constinit std::size_t count = 1;

void pause() {
    asm volatile("pause" ::: "memory");
}

}  // namespace

std::span<ProcessorLocal* const> given_processors() {
    return std::span{processors}.first(count);
}

ProcessorLocal* find_processor(std::uint32_t apic_id) {
    const auto all = given_processors();
    const auto found =
        std::ranges::find_if(all, [=](const ProcessorLocal* each) { return each->apic_id == apic_id; });
    return found == all.end() ? nullptr : *found;
}

bool add_processor(ProcessorLocal& processor) {
    if (count == processors.size()) return false;
    processor.number = static_cast<std::uint32_t>(count);
    processors[count++] = &processor;
    return true;
}

void remove_processor(const ProcessorLocal& processor) {
    const auto all = std::span{processors}.first(count);
    const auto rest = std::ranges::remove(all, &processor);
    count -= rest.size();
    for (std::size_t number = 0; number < count; ++number)
        processors[number]->number = static_cast<std::uint32_t>(number);
}

void kick(ProcessorLocal& target) {
    if (!target.kicked.exchange(true)) BootApic{}.send_to(target.apic_id, command_nmi);
}

bool take_nmi() {
    ProcessorLocal& here = this_processor();
    if ((here.nmi_state & nmi_state::came) == 0) return false;
    // Cleared first: the next kick is one more NMI, which is not to be cleared with this one.
    clear_nmi_state(nmi_state::came);
    if (!here.kicked.load(std::memory_order_relaxed)) return true;
    here.kicked.store(false);
    return false;
}

void ask(ProcessorLocal& target, std::uint32_t what) {
    target.requests.fetch_or(what);
    if (&target == &this_processor()) {
        set_nmi_state(nmi_state::asked);
    } else {
        kick(target);
    }
}

void stop_other_processors() {
    if (count == 1 || processors_stop.exchange(true)) return;
    for (ProcessorLocal* const each : given_processors()) {
        if (each == &this_processor()) continue;
        each->kicked.store(false);
        kick(*each);
    }
    for (unsigned tries = 0; tries < longest_wait; ++tries) {
        const bool all = std::ranges::all_of(given_processors(), [](const ProcessorLocal* each) {
            return each == &this_processor() || each->stopped_at.load() != 0;
        });
        if (all) return;
        pause();
    }
}

void tell_of_stopped_processors() {
    for (const ProcessorLocal* const each : given_processors()) {
        if (each == &this_processor()) continue;
        const std::uint64_t at = each->stopped_at.load();
        if (at == 0) {
            log::line("[L0] processor ", each->number, " did not stop");
        } else if (each->start.load() == ProcessorLocal::Start::waits) {
            log::line("[L0] processor ", each->number, " waited for L1 to start it");
        } else {
            static constexpr const char* places[] = {"L0", "L1", "a guest of L1's"};
            log::line("[L0] processor ", each->number, " was in ",
                      places[static_cast<unsigned>(each->stopped_in)], ", at ", log::hex(at));
        }
    }
}

void give_init(ProcessorLocal& target) {
    if (target.start.load() == ProcessorLocal::Start::waits) return;
    ask(target, request::init);
    if (&target == &this_processor()) return;
    // Its answer is that it waits, or that it has seen the request and cannot take it yet.
    for (unsigned tries = 0; tries < longest_wait; ++tries) {
        if ((target.requests.load() & (request::init | request::init_blocked)) != request::init) return;
        pause();
    }
}

void give_start(ProcessorLocal& target, std::uint8_t vector) {
    std::int32_t waits = ProcessorLocal::Start::waits;
    if (!target.start.compare_exchange_strong(waits, vector)) return;
    // Not by kick(): a call for something else, that came when the processor was about to wait, has woken it
    // for nothing and is still noted.
    target.kicked.store(true);
    BootApic{}.send_to(target.apic_id, command_nmi);
}

std::uint8_t wait_for_start() {
    ProcessorLocal& here = this_processor();
    here.start.store(ProcessorLocal::Start::waits);
    here.requests.fetch_and(~(request::init | request::init_blocked));
    halt_until_started(&here.start);
    const auto vector = static_cast<std::uint8_t>(here.start.load());
    // The kick that said so is not L1's NMI, nor is any that came before the processor was started.
    for (unsigned tries = 0; here.kicked.load() && tries < longest_wait; ++tries) {
        static_cast<void>(take_nmi());
        pause();
    }
    if ((here.nmi_state & nmi_state::machine_check) != 0) forget_machine_check();
    clear_nmi_state(nmi_state::came | nmi_state::waits | nmi_state::machine_check);
    here.start.store(ProcessorLocal::Start::runs);
    return vector;
}

}  // namespace flatback::metal
