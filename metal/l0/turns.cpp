#include "metal/l0/turns.hpp"

#include <array>
#include <new>

#include "metal/ground/instructions.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/serial.hpp"
#include "metal/ground/this_processor.hpp"
#include "metal/l0/exit_handler.hpp"
#include "metal/l0/hole_writes.hpp"
#include "metal/l0/l1_exits.hpp"
#include "metal/l0/second_vm.hpp"
#include "metal/l0/turn_requests.hpp"
#include "metal/memory/page_pool.hpp"

namespace flatback::metal {

extern "C" void vm_first_entry(ExitFrame& frame, bool launch);

namespace {

namespace field = vmx::field;
using nested::Entry;

// In ticks of the TSC: long beside what a change of VMs costs, short beside what a user notices.
constexpr std::uint64_t turn = 200'000;
// A turn that an interrupt ends so early has brought the second VM nowhere.
constexpr std::uint64_t short_turn = turn / 8;
constexpr unsigned most_short_turns = 2;

struct Turns {
    Cpu* first = nullptr;
    SecondVm* second = nullptr;
    ProcessorState* first_state = nullptr;
    // Of the VM that does not run: its current VMCS, and how it is to be entered.
    x86::Hpa vmcs{};
    Entry entry = Entry::vmresume;
    std::uint64_t began = 0;
    std::uint64_t ends = 0;
    bool second_runs = false;
    bool first_ended = false;
    bool at_line_start = true;  // of the first VM's output
    unsigned short_turns = 0;
    bool interrupts_held = false;
    std::array<std::uint8_t, 2> interrupt_masks{};
    std::uint64_t task_priority = 0;
    EndPort end_port;

    // What is told at the end.
    std::uint64_t changes = 0;
    std::uint64_t ticks = 0;
    std::uint64_t flushes = 0;
    std::uint64_t tags_reused = 0;
    std::array<std::uint8_t, 65536> owners{};  // of each tag, who ran under it last: 1 or 2
};
constinit Turns turns{};

alignas(64) std::byte second_storage[sizeof(SecondVm)];
alignas(64) std::byte state_storage[sizeof(ProcessorState)];

[[nodiscard]] x86::Hpa current_vmcs() {
    std::uint64_t address = 0;
    asm volatile("vmptrst %0" : "=m"(address));
    return x86::Hpa{address};
}

void note_owner(tag::TagNumber tag, std::uint8_t owner) {
    if (tag == tag::TagNumber::none) return;
    std::uint8_t& last = turns.owners[tag::raw(tag)];
    if (last != 0 && last != owner) ++turns.tags_reused;
    last = owner;
}

// --- the log ---

void show_second_vms_lines() {
    if (!turns.at_line_start || !turns.second->devices.lines().has_line()) return;
    turns.second->devices.lines().take_lines([](std::string_view text) { log::line("[vm2] ", text); });
}

[[noreturn]] void end_both() {
    turns.at_line_start = true;
    turns.second->devices.lines().end_line();
    show_second_vms_lines();
    const std::uint64_t changes = turns.changes != 0 ? turns.changes : 1;
    log::line("[two-vms] switches ", turns.changes);
    log::line("[two-vms] switch_ticks ", turns.ticks / changes);
    log::line("[two-vms] flushes ", turns.flushes);
    log::line("[two-vms] tags_reused ", turns.tags_reused);
    serial::drain();
    for (const char each : std::string_view{"Shutdown"})
        write_port_8(EndPort::port, static_cast<std::uint8_t>(each));
    halt_forever();
}

// --- interrupts ---

constexpr std::array<std::uint16_t, 2> mask_ports = {0x21, 0xa1};  // of the two 8259s

// The first VM does not take what waits for it, as with interrupts off: for one turn of the second's it waits
// in the interrupt controllers. (Of the task priority its class alone; the rest of that register is
// nobody's.)
void hold_interrupts() {
    turns.interrupts_held = true;
    for (std::size_t i = 0; i < mask_ports.size(); ++i) {
        turns.interrupt_masks[i] = read_port_8(mask_ports[i]);
        write_port_8(mask_ports[i], 0xff);
    }
    asm volatile("mov %%cr8, %0" : "=r"(turns.task_priority));
    asm volatile("mov %0, %%cr8" ::"r"(std::uint64_t{15}));
}
void let_interrupts_go() {
    if (!turns.interrupts_held) return;
    turns.interrupts_held = false;
    for (std::size_t i = 0; i < mask_ports.size(); ++i) write_port_8(mask_ports[i], turns.interrupt_masks[i]);
    asm volatile("mov %0, %%cr8" ::"r"(turns.task_priority));
}

// --- turns ---

[[nodiscard]] std::uint32_t timer_left() {
    const std::uint64_t now = read_tsc();
    const std::uint64_t left = turns.ends > now ? turns.ends - now : 0;
    return static_cast<std::uint32_t>(
        left >> turns.first->port.boot().processor.capabilities.misc.preemption_timer_rate());
}

nested::Demands first_demands() {
    nested::Demands demands;
    demands.turn_ends = turns.ends;
    return demands;
}

// The VM whose VMCS is current has the processor until turns.ends. Its L1 by vmcs01, its L2s by demand.
void begin_turn() {
    turns.began = read_tsc();
    turns.ends = turns.began + turn;
    bool met = false;
    if (turns.second_runs) {
        met = turns.second->vcpu.set_demands(second_demands(*turns.second, turns.ends));
        if (!turns.second->vcpu.in_l2()) {
            put(field::vmx_preemption_timer_value, timer_left());
            put(field::tsc_offset, turns.second->port.tsc_offset());
        }
    } else {
        met = turns.first->vcpu.set_demands(first_demands());
        if (!turns.first->vcpu.in_l2()) put(field::vmx_preemption_timer_value, timer_left());
    }
    if (!met) panic("the processor cannot end the turn of a guest");
}

[[nodiscard]] ExitFrame& frame_of_the_one_that_runs() {
    return turns.second_runs ? turns.second->frame : turns.first->frame;
}

// The other VM is current from here on, and is entered as this says.
Entry change_vms(Entry entry_of_this) {
    const std::uint64_t start = read_tsc();
    const x86::Hpa vmcs_of_this = current_vmcs();
    (turns.second_runs ? turns.second->state : *turns.first_state).save();
    turns.second_runs = !turns.second_runs;
    if (!turns.second_runs) let_interrupts_go();
    (turns.second_runs ? turns.second->state : *turns.first_state).load();
    vmptrld(turns.vmcs);
    turns.vmcs = vmcs_of_this;
    const Entry entry = turns.entry;
    turns.entry = entry_of_this;
    ExitFrame& frame = frame_of_the_one_that_runs();
    *reinterpret_cast<std::uint64_t*>(frame.stack_top) = reinterpret_cast<std::uint64_t>(&frame);
    begin_turn();
    const auto flushes = [] {
        const nested::Counters& first = turns.first->vcpu.counters();
        return turns.second->port.flushes() + first.l1_tag_flushes + first.l2_tag_flushes;
    };
    const std::uint64_t before = flushes();
    if (turns.second_runs) {
        turns.second->memory.forget_writes();
        turns.second->vcpu.prepare_reentry();
        if (turns.short_turns >= most_short_turns) hold_interrupts();
    } else {
        turns.first->vcpu.prepare_reentry();
    }
    turns.flushes += flushes() - before;
    ++turns.changes;
    turns.ticks += read_tsc() - start;
    return entry;
}

[[nodiscard]] bool other_may_run() {
    return turns.second_runs ? !turns.first_ended : !turns.second->ended;
}

// The turn of the VM that runs is over, or it has come to its end.
Entry end_turn(Entry entry) {
    show_second_vms_lines();
    if (other_may_run()) return change_vms(entry);
    if (turns.first_ended && turns.second->ended) end_both();
    begin_turn();
    return entry;
}

// The first VM writes to its own time-stamp counter, which is the processor's. Everybody else's time goes on.
void keep_others_time(std::uint64_t before, std::uint64_t after) {
    constexpr std::uint64_t longest_exit = std::uint64_t{1} << 32;
    if (after - before < longest_exit) [[likely]]
        return;
    const std::uint64_t jump = after - before;
    turns.ends += jump;
    turns.began += jump;
    turns.second->port.set_tsc_offset(turns.second->port.tsc_offset() - jump);
}

Entry handle_first_vms_exit(ExitFrame& frame) {
    Cpu& cpu = *frame.cpu;
    const std::uint32_t reason = get(field::exit_reason);
    const std::uint64_t before = read_tsc();
    Entry entry = Entry::vmresume;
    bool over = false;
    const bool from_l2 = cpu.vcpu.in_l2();
    if (from_l2) {
        entry = cpu.vcpu.handle_l2_exit(reason);
        if (entry == Entry::the_hosts) {
            over = true;
            entry = cpu.vcpu.resume();
        }
    } else if (reason == static_cast<std::uint32_t>(vmx::ExitReason::vmx_preemption_timer_expired)) {
        over = true;
    } else {
        entry = handle_l1_exit(cpu, reason);
    }
    keep_others_time(before, read_tsc());
    if (from_l2 && !cpu.vcpu.in_l2()) put(field::vmx_preemption_timer_value, timer_left());
    note_owner(cpu.vcpu.running().tag, 1);
    // One instruction, that L0 waits for.
    if (hole_write_is_under_way() && !turns.first_ended) return entry;
    if (over || turns.first_ended) return end_turn(entry);
    return entry;
}

Entry handle_second_vms_exit(ExitFrame&) {
    SecondVm& vm = *turns.second;
    const auto reason = vmx::ExitReasonField{get(field::exit_reason)}.basic();
    const bool from_l2 = vm.vcpu.in_l2();
    const HandledExit handled = handle_second_exit(vm);
    note_owner(vm.vcpu.running().tag, 2);
    if (from_l2 && !vm.vcpu.in_l2()) {
        put(field::vmx_preemption_timer_value, timer_left());
        put(field::tsc_offset, vm.port.tsc_offset());
    }
    if (!handled.over) return handled.entry;
    const bool interrupted = reason == vmx::ExitReason::external_interrupt;
    turns.short_turns = interrupted && read_tsc() - turns.began < short_turn ? turns.short_turns + 1 : 0;
    return end_turn(handled.entry);
}

}  // namespace

void set_up_turns(Cpu& first, BootResult& boot, tag::VpidPool& pool, const nested::Capabilities& promised,
                  tag::Policy policy) {
    const x86::Hpa vmcs01 = current_vmcs();
    if (boot.options.trace) refuse("there is no trace of two VMs; boot without trace=on, or with vm2=off");
    auto* page = static_cast<std::uint32_t*>(boot.pages->allocate_page_or_panic("vmcs01 of the second VM"));
    *page = boot.processor.capabilities.basic.revision();
    const x86::Hpa second_vmcs01 = physical_of(page);
    vmclear(second_vmcs01);
    vmptrld(second_vmcs01);
    const SecondVmImage& image = *boot.second_vm;
    turns.second = new (second_storage)
        SecondVm(boot, image.memory, pool, second_vmcs01, promised,
                 {.tags = policy, .shadow_vmcs = boot.options.shadow_vmcs, .host_takes_nmis = true});
    turns.first = &first;
    turns.first_state = new (state_storage) ProcessorState(*boot.pages);
    SecondVm& second = *turns.second;
    second.port.set_tsc_offset(0 - read_tsc());
    second.frame.stack_top = first.frame.stack_top;
    second.frame.handler = handle_second_vms_exit;
    set_up_second_vmcs01(second, boot, image.start);
    second.vcpu.prepare_first_entry();
    turns.vmcs = second_vmcs01;
    turns.entry = Entry::vmlaunch;

    vmptrld(vmcs01);
    put(field::pin_based_vm_execution_controls,
        get(field::pin_based_vm_execution_controls) | vmx::pin::activate_vmx_preemption_timer);
    put(field::vm_exit_controls,
        get(field::vm_exit_controls) | vmx::exit_control::save_vmx_preemption_timer_value);
    first.frame.handler = handle_first_vms_exit;
    begin_turn();
    log::info("a second VM, with ", image.memory.size() >> 20, " MB at ", log::hex(image.memory.start),
              ": turns of ", turn, " ticks");
}

void second_tsc_changed() {
    if (!turns.second->vcpu.set_demands(second_demands(*turns.second, turns.ends)))
        panic("the second VM's counter cannot be offset");
    if (!turns.second->vcpu.in_l2()) put(field::tsc_offset, turns.second->port.tsc_offset());
}

void end_second_vm(const char* why) {
    turns.second->ended = true;
    turns.second->devices.lines().end_line();
    show_second_vms_lines();
    if (why != nullptr) {
        if (!turns.at_line_start) log::line("");
        log::info("the second VM has ended: ", why, ", RIP ", log::hex(get(field::guest_rip)));
    }
    const Entry entry = end_turn(Entry::vmresume);
    // What its engine was about is given up with this stack.
    vm_first_entry(frame_of_the_one_that_runs(), entry == Entry::vmlaunch);
    panic("vm_first_entry returned");
}

Entry handle_second_vms_failed_entry(std::uint32_t error) {
    const auto entry = turns.second->vcpu.handle_failed_entry(error);
    if (!entry) panic("the processor refused the second VM's vmcs01, VM-instruction error ", error);
    put(field::vmx_preemption_timer_value, timer_left());
    put(field::tsc_offset, turns.second->port.tsc_offset());
    return *entry;
}

bool see_first_vms_output(std::uint16_t port, std::uint32_t value) {
    if (port == EndPort::port) {
        turns.first_ended = turns.first_ended || turns.end_port.take(static_cast<std::uint8_t>(value));
        return true;
    }
    turns.at_line_start = static_cast<char>(value) == '\n';
    return false;
}

ExitFrame& first_vm_instead(Entry& entry) {
    if (turns.second_runs && !turns.first_ended) entry = change_vms(entry);
    return frame_of_the_one_that_runs();
}

}  // namespace flatback::metal
