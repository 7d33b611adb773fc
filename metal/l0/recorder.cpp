#include "metal/l0/recorder.hpp"

#include <array>
#include <span>

#include "metal/ground/log.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/this_processor.hpp"
#include "metal/l0/exit_handler.hpp"
#include "metal/l0/flush_recorder.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/processors/given_processors.hpp"
#include "trace/timeline.hpp"
#include "vmx/field.hpp"

namespace flatback::metal::recorder {

using trace::Event;
using trace::Kind;
using trace::Level;

namespace {

trace::Ring& ring() {
    return this_processor().ring;
}

[[gnu::always_inline]] inline std::uint64_t now() {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (std::uint64_t{high} << 32) | low;
}

// An event between a guest and L0. Each line here is paid at every exit and entry.
[[gnu::always_inline]] inline void write_switch(Kind kind, std::uint16_t code, std::uint64_t operand, bool l2,
                                                const Running& running) {
    trace::Ring& into = ring();
    Event& event = into.next();
    event.tsc = now();
    event.operand = operand;
    const bool leaves = kind != Kind::entry;
    const auto what = [&](Level guest) {
        return into.cpu_bits() | trace::make_what(kind, 0, leaves ? guest : Level::l0,
                                                  leaves ? Level::l0 : guest, code, tag::raw(running.tag));
    };
    event.what = what(l2 ? Level::l2 : Level::l1);
    event.nested = l2 ? trace::make_nested(tag::raw(running.vpid12), running.vmcs12.value()) : 0;
}

[[gnu::always_inline]] inline void record_switch(Cpu& cpu, Kind kind, std::uint16_t code,
                                                 std::uint64_t operand) {
    // Two branches: what L1 does not have costs it nothing.
    if (cpu.vcpu.in_l2()) {
        write_switch(kind, code, operand, true, cpu.vcpu.running());
    } else {
        write_switch(kind, code, operand, false, {.tag = cpu.vcpu.vpid01()});
    }
}

[[gnu::always_inline]] inline void record_entry_here(Cpu& cpu) {
    record_switch(cpu, Kind::entry, 0, get(vmx::field::vm_entry_interruption_information));
}

nested::Entry record_and_handle_exit(ExitFrame& frame) {
    Cpu& cpu = *frame.cpu;
    record_switch(cpu, Kind::exit, static_cast<std::uint16_t>(get(vmx::field::exit_reason)),
                  get(vmx::field::guest_rip));
    const nested::Entry entry = handle_exit(frame);
    if (is_recording()) [[likely]]  // that exit may have been the one that stops it
        record_entry_here(cpu);
    return entry;
}

void start() {
    ring().clear();
    this_processor().recording = true;
    this_processor().cpu->frame.handler = record_and_handle_exit;
}

void stop() {
    this_processor().recording = false;
    this_processor().cpu->frame.handler = handle_exit;
}

// Like the others, it has no call of its own: with six arguments that would be a third of its cost.
[[gnu::always_inline]] inline void record_flush(Kind kind, std::uint8_t type, tag::TagNumber tag,
                                                std::uint64_t operand, tag::FlushCause cause,
                                                tag::Vpid12 vpid12) {
    trace::Ring& into = ring();
    Event& event = into.next();
    event.tsc = now();
    event.what = into.cpu_bits() | trace::make_what(kind, 0, Level::l0, Level::l0,
                                                    trace::flush_code(type, cause), tag::raw(tag));
    event.nested = tag::raw(vpid12);
    event.operand = operand;
}

Answer half_of(std::uint32_t place, unsigned half) {
    const Event* event = is_recording() ? nullptr : ring().at(place);
    if (event == nullptr) return {};
    const std::uint64_t first = half == 0 ? event->tsc : event->nested;
    const std::uint64_t second = half == 0 ? event->what : event->operand;
    return {static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(first >> 32),
            static_cast<std::uint32_t>(second), static_cast<std::uint32_t>(second >> 32)};
}

constexpr std::string_view name_of(Level level) {
    return level == Level::l0 ? "L0" : level == Level::l1 ? "L1" : "L2";
}

void print(const Event& event) {
    using log::hex;
    log::write("[L0]   tsc ");
    log::write_unsigned(event.tsc);
    if (given_processors().size() > 1) {
        log::write(" processor ");
        log::write_unsigned(event.cpu());
    }
    switch (event.kind()) {
        case Kind::exit:
            log::line(" ", name_of(event.from()), " exits: ", vmx::name_of(event.reason()), " at ",
                      hex(event.operand), ", tag ", event.vpid(), " vpid12 ", event.vpid12(), " vmcs12 ",
                      hex(event.vmcs12()));
            break;
        case Kind::entry:
            log::line(" ", name_of(event.to()), " is entered, tag ", event.vpid(), " vpid12 ", event.vpid12(),
                      " vmcs12 ", hex(event.vmcs12()), " event ", hex(event.operand));
            break;
        case Kind::flush_tag:
            log::line(" INVVPID type ", event.flush_type(), " tag ", event.vpid(), " vpid12 ", event.vpid12(),
                      ": ", tag::name_of(event.cause()));
            break;
        case Kind::flush_ept:
            log::line(" INVEPT type ", event.flush_type(), " of ", hex(event.operand), ": ",
                      tag::name_of(event.cause()));
            break;
        case Kind::refused_entry:
            log::line(" the processor refused that entry, VM-instruction error ", event.code());
            break;
    }
}

}  // namespace

void set_up(PagePool& pages) {
    constexpr std::size_t bytes = ring_events * sizeof(Event);
    void* memory = pages.allocate_contiguous(bytes / x86::page_size);
    if (memory == nullptr) panic("L0 is out of memory for the trace; boot with trace=off");
    ring().give(static_cast<Event*>(memory), ring_events, this_processor().number);
    start();
}

void record_entry(Cpu& cpu) {
    if (is_recording()) record_entry_here(cpu);
}

void record_refused_entry(Cpu& cpu, std::uint32_t vm_instruction_error) {
    if (!is_recording()) return;
    record_switch(cpu, Kind::refused_entry, static_cast<std::uint16_t>(vm_instruction_error), 0);
}

void record_nmi_exit(Cpu& cpu, const Running& l2, std::uint64_t l2_rip) {
    if (!is_recording()) return;
    constexpr auto reason = static_cast<std::uint16_t>(vmx::ExitReason::exception_or_nmi);
    write_switch(Kind::exit, reason, l2_rip, true, l2);
    record_entry_here(cpu);
}

void record_flush_tag(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address,
                      tag::FlushCause cause, tag::Vpid12 vpid12) {
    const bool address = type == vmx::InvvpidType::individual_address;
    record_flush(Kind::flush_tag, static_cast<std::uint8_t>(type), tag, address ? linear_address.value() : 0,
                 cause, vpid12);
}

void record_flush_ept(vmx::InveptType type, vmx::Eptp eptp, tag::FlushCause cause) {
    record_flush(Kind::flush_ept, static_cast<std::uint8_t>(type), tag::TagNumber::none, eptp.value, cause,
                 tag::Vpid12::none);
}

Answer answer(std::uint32_t subleaf) {
    namespace sub = trace::subleaf;
    if ((subleaf & sub::event) != 0) return half_of((subleaf & ~sub::event) >> 1, subleaf & 1);
    const bool available = ring().capacity() != 0;
    switch (subleaf) {
        case sub::format:
            return {
                trace::format_version, sizeof(Event), static_cast<std::uint32_t>(ring().capacity()),
                (available ? trace::state::available : 0) | (is_recording() ? trace::state::recording : 0)};
        case sub::written:
            return {.eax = static_cast<std::uint32_t>(ring().written()),
                    .edx = static_cast<std::uint32_t>(ring().written() >> 32)};
        case sub::stop:
            if (available) stop();
            return {};
        case sub::start:
            if (available) start();
            return {};
        default:
            return {};
    }
}

void print_last_events() {
    constexpr std::uint64_t most = 32;
    std::array<const trace::Ring*, most_processors> rings{};
    const auto processors = given_processors();
    for (std::size_t number = 0; number < processors.size(); ++number)
        rings[number] = &processors[number]->ring;
    if (ring().capacity() == 0) {
        log::line("[L0] the last events were not recorded; boot with trace=on to see them");
        return;
    }
    log::line("[L0] the last events, newest last:");
    trace::Timeline<most_processors> timeline{std::span{rings}.first(processors.size()), most};
    while (const Event* const event = timeline.next()) print(*event);
}

}  // namespace flatback::metal::recorder
