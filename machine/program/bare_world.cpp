#include "machine/program/bare_world.hpp"

#include <algorithm>
#include <utility>

#include "machine/program/layout.hpp"

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

std::optional<Completion> BareWorld::take(Machine& machine, unsigned vcpu, Completion& completion) {
    if (!machine.can_take_nmi(vcpu)) {
        permitted_ = false;
        return std::nullopt;
    }
    const Completion nmi = machine.take_nmi(vcpu);
    if (nmi.kind == Completion::Kind::vm_exit) return nmi;
    completion.nmi = true;
    return std::nullopt;
}

Completion BareWorld::execute(unsigned vm, unsigned vcpu, const Instruction& instruction) {
    Machine& machine = *machines_[vm];
    ++calls_;
    const auto due = [&](bool early) {
        return std::ranges::any_of(driven_nmis_, [&](const NmiPlace& place) {
            return place.call == calls_ && place.early == early;
        });
    };
    Completion before;
    if (due(true)) {
        if (const auto exit = take(machine, vcpu, before)) return *exit;
    }
    Completion completion = machine.execute(vcpu, instruction);
    completion.nmi = before.nmi;
    const bool waits = !driven_ && waiting_.contains({vm, vcpu}) && machine.can_take_nmi(vcpu);
    if (waits) waiting_.erase({vm, vcpu});
    if (waits || due(false)) {
        if (const auto exit = take(machine, vcpu, completion)) return *exit;
    }
    return completion;
}

bool BareWorld::nmi(unsigned vm, unsigned vcpu, bool) {
    Machine& machine = *machines_[vm];
    Completion completion;
    if (driven_) {
        if (!driven_nmis_.empty()) static_cast<void>(take(machine, vcpu, completion));
    } else if (machine.can_take_nmi(vcpu)) {
        static_cast<void>(take(machine, vcpu, completion));
    } else {
        waiting_.insert({vm, vcpu});  // of several the processor keeps one
    }
    return true;
}

void BareWorld::drive(std::vector<NmiPlace> nmis) {
    driven_ = true;
    driven_nmis_ = std::move(nmis);
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
    return true;
}

bool BareWorld::destroy_vm(unsigned vm) {
    if (vcpu_count(vm) == 0) return false;
    machines_[vm].reset();
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
