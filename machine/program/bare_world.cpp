#include "machine/program/bare_world.hpp"

#include <utility>

#include "machine/program/layout.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine {

BareWorld::BareWorld(const Options& options) : options_(options) {
    create_vm(0, options.vcpus);
}

unsigned BareWorld::vcpu_count(unsigned vm) const {
    return vm < machines_.size() && machines_[vm] != nullptr ? machines_[vm]->cpu_count() : 0;
}

Actor BareWorld::running(unsigned vm, unsigned vcpu) const {
    return machines_[vm]->cpu(vcpu).in_non_root() ? Actor::l2 : Actor::l1;
}

Registers& BareWorld::registers(unsigned vm, unsigned vcpu) {
    return machines_[vm]->cpu(vcpu).registers;
}

std::optional<Completion> BareWorld::take_nmi(Machine& machine, unsigned vcpu, Completion& completion) {
    if (!machine.can_take_nmi(vcpu)) {
        permitted_ = false;
        return std::nullopt;
    }
    make_exit(machine);
    const Completion nmi = machine.take_nmi(vcpu);
    // On its way through the IDT, whatever came of it.
    completion.nmi = nmi.began.has_value();
    return nmi.kind == Completion::Kind::vm_exit ? std::optional{nmi} : std::nullopt;
}

bool BareWorld::could_take_interrupt(unsigned vm, unsigned vcpu) const {
    return apics_[vm][vcpu].pending() && machines_[vm]->can_take_interrupt(vcpu);
}

std::optional<Completion> BareWorld::take_interrupt(unsigned vm, unsigned vcpu, Completion& completion) {
    if (!could_take_interrupt(vm, vcpu)) {
        permitted_ = false;
        return std::nullopt;
    }
    make_exit(*machines_[vm]);
    const Completion taken = machines_[vm]->take_interrupt(vcpu, apics_[vm][vcpu]);
    if (taken.began) completion.interrupt = taken.began->vector;
    return taken.kind == Completion::Kind::vm_exit ? std::optional{taken} : std::nullopt;
}

/// An exit; nothing: the processor has begun anew, and its local APIC with it (SDM 3A 11.4.7.3).
std::optional<Completion> BareWorld::take_init(unsigned vm, unsigned vcpu) {
    if (!could_take_init(vm, vcpu)) {
        permitted_ = false;
        return std::nullopt;
    }
    inits_.erase({vm, vcpu});
    make_exit(*machines_[vm]);
    const Completion taken = machines_[vm]->take_init(vcpu);
    if (taken.kind == Completion::Kind::vm_exit) return taken;
    apics_[vm][vcpu] = {};
    return std::nullopt;
}

std::optional<Completion> BareWorld::take_start_up(unsigned vm, unsigned vcpu, std::uint8_t page) {
    if (!machines_[vm]->waits_for_start_up(vcpu)) {
        permitted_ = false;
        return std::nullopt;
    }
    make_exit(*machines_[vm]);
    const Completion taken = machines_[vm]->take_start_up(vcpu, page);
    return taken.kind == Completion::Kind::vm_exit ? std::optional{taken} : std::nullopt;
}

/// What the other world had here.
std::optional<Completion> BareWorld::take_driven(unsigned vm, unsigned vcpu, bool early,
                                                 Completion& completion) {
    Machine& machine = *machines_[vm];
    std::optional<Completion> exit;
    for (const OutsideEvent& event : driven_events_) {
        if (event.call != calls_ || event.early != early) continue;
        machine.set_tsc(event.tsc);
        exit_made_ = event.done;
        std::optional<Completion> taken;
        switch (event.kind) {
            case OutsideEvent::Kind::request:
                apics_[vm][vcpu].request(event.vector);
                break;
            case OutsideEvent::Kind::nmi:
                taken = take_nmi(machine, vcpu, completion);
                break;
            case OutsideEvent::Kind::interrupt:
                // An NMI comes first (SDM 3A table 6-2).
                if (event.nmi_waits && machine.can_take_nmi(vcpu)) permitted_ = false;
                taken = take_interrupt(vm, vcpu, completion);
                break;
            case OutsideEvent::Kind::init_sent:
                inits_.insert({vm, vcpu});
                break;
            case OutsideEvent::Kind::init:
                taken = take_init(vm, vcpu);
                break;
            case OutsideEvent::Kind::start_up:
                taken = take_start_up(vm, vcpu, event.vector);
                break;
            case OutsideEvent::Kind::resume:
                machine.cpu(vcpu).registers.rflags |= x86::rflags::resume;
                break;
        }
        if (taken) exit = taken;
    }
    return exit;
}

/// What waits for the processor, and what it can take: INIT first, then an NMI (SDM 3A table 6-2).
std::optional<Completion> BareWorld::take_waiting(unsigned vm, unsigned vcpu, Completion& completion) {
    Machine& machine = *machines_[vm];
    if (could_take_init(vm, vcpu)) {
        if (const auto exit = take_init(vm, vcpu)) return exit;
    }
    if (waiting_.contains({vm, vcpu}) && machine.can_take_nmi(vcpu)) {
        waiting_.erase({vm, vcpu});
        if (const auto exit = take_nmi(machine, vcpu, completion)) return exit;
    }
    return could_take_interrupt(vm, vcpu) ? take_interrupt(vm, vcpu, completion) : std::nullopt;
}

Completion BareWorld::execute(unsigned vm, unsigned vcpu, const Instruction& instruction) {
    ++calls_;
    Completion before;
    std::optional<Completion> exit = take_driven(vm, vcpu, true, before);
    if (driven_ && calls_ <= driven_times_.size()) {
        const InstructionTime& time = driven_times_[calls_ - 1];
        machines_[vm]->set_tsc(time.begun);
        machines_[vm]->set_instruction_ticks(time.done - time.begun);
    }
    Completion completion = exit ? Completion{} : machines_[vm]->execute(vcpu, instruction);
    completion.nmi = before.nmi;
    completion.interrupt = before.interrupt;
    if (const auto behind =
            driven_ ? take_driven(vm, vcpu, false, completion) : take_waiting(vm, vcpu, completion)) {
        exit = behind;
    }
    if (!exit) return completion;
    exit->nmi = completion.nmi;
    exit->interrupt = completion.interrupt;
    return *exit;
}

void BareWorld::settle(unsigned vm, unsigned vcpu) {
    Completion completion;
    static_cast<void>(driven_ ? take_driven(vm, vcpu, false, completion)
                              : take_waiting(vm, vcpu, completion));
}

bool BareWorld::nmi(unsigned vm, unsigned vcpu, bool) {
    if (!driven_) waiting_.insert({vm, vcpu});  // of several the processor keeps one
    settle(vm, vcpu);
    return true;
}

bool BareWorld::interrupt(unsigned vm, unsigned vcpu, std::uint8_t vector, bool) {
    if (!driven_) apics_[vm][vcpu].request(vector);
    settle(vm, vcpu);
    return true;
}

bool BareWorld::init(unsigned vm, unsigned vcpu, bool) {
    if (!driven_) inits_.insert({vm, vcpu});
    settle(vm, vcpu);
    return true;
}

bool BareWorld::start_up(unsigned vm, unsigned vcpu, std::uint8_t page) {
    const bool waits = machines_[vm]->waits_for_start_up(vcpu);
    if (!driven_) {
        if (waits) static_cast<void>(take_start_up(vm, vcpu, page));
        return true;
    }
    settle(vm, vcpu);
    // Nobody but a processor that does not wait may lose it.
    if (waits && machines_[vm]->waits_for_start_up(vcpu)) permitted_ = false;
    return true;
}

bool BareWorld::end_of_interrupt(unsigned vm, unsigned vcpu) {
    apics_[vm][vcpu].end_of_interrupt();
    settle(vm, vcpu);
    return true;
}

bool BareWorld::set_task_priority(unsigned vm, unsigned vcpu, std::uint8_t priority) {
    apics_[vm][vcpu].set_task_priority(priority);
    settle(vm, vcpu);
    return true;
}

void BareWorld::drive(std::vector<OutsideEvent> events, std::vector<InstructionTime> times) {
    driven_ = true;
    driven_events_ = std::move(events);
    driven_times_ = std::move(times);
    permitted_ = true;
}

std::uint64_t BareWorld::read(unsigned vm, std::uint64_t l1_physical) const {
    return machines_[vm]->memory().read(l1_physical);
}

void BareWorld::write(unsigned vm, std::uint64_t l1_physical, std::uint64_t value) {
    machines_[vm]->memory().write(l1_physical, value);
}

PermittedOutcomes BareWorld::permitted(unsigned vm, unsigned vcpu, std::uint64_t linear_address,
                                       Access access) {
    return machines_[vm]->permitted(vcpu, linear_address, access);
}

bool BareWorld::create_vm(unsigned vm, unsigned vcpus) {
    if (vm >= machines_.size() || machines_[vm] != nullptr || vcpus == 0 || vcpus > layout::vcpus)
        return false;
    Machine::Options machine = options_.machine;
    machine.cpus = vcpus;
    machines_[vm] = std::make_unique<Machine>(machine);
    apics_[vm].assign(vcpus, LocalApic{});
    return true;
}

bool BareWorld::destroy_vm(unsigned vm) {
    if (vcpu_count(vm) == 0) return false;
    machines_[vm].reset();
    std::erase_if(waiting_, [&](const auto& whose) { return whose.first == vm; });
    std::erase_if(inits_, [&](const auto& whose) { return whose.first == vm; });
    return true;
}

bool BareWorld::move_vcpu(unsigned, unsigned, unsigned) {
    return true;
}

bool BareWorld::take_page(unsigned, std::uint64_t) {
    return true;
}

void BareWorld::set_step(std::uint64_t step) {
    calls_ = 0;
    for (const auto& machine : machines_) {
        if (machine == nullptr) continue;
        for (unsigned cpu = 0; cpu < machine->cpu_count(); ++cpu) {
            if (auto* tlb = dynamic_cast<RetentiveTlb*>(machine->cpu(cpu).tlb.get())) tlb->set_step(step);
        }
    }
}

}  // namespace flatback::machine
