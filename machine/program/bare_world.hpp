#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "machine/cpu/machine.hpp"
#include "machine/program/program.hpp"
#include "machine/program/world.hpp"

namespace flatback::machine {

/// The world without a hypervisor: each VM is a machine of its own, its virtual CPUs are processors. What the
/// world under L1 does (moving a virtual CPU, taking a page) has no effect that software could see, so here
/// it has none.
class BareWorld final : public World {
public:
    struct Options {
        unsigned vcpus = 1;  // of VM 0
        Machine::Options machine{};
    };

    BareWorld() : BareWorld(Options{}) {}
    explicit BareWorld(const Options& options);

    [[nodiscard]] unsigned vcpu_count(unsigned vm) const override;
    [[nodiscard]] Actor running(unsigned vm, unsigned vcpu) const override;
    [[nodiscard]] Registers& registers(unsigned vm, unsigned vcpu) override;
    [[nodiscard]] const ProcessorModel& model() const override { return options_.machine.model; }
    Completion execute(unsigned vm, unsigned vcpu, const Instruction& instruction) override;
    [[nodiscard]] std::uint64_t read(unsigned vm, std::uint64_t l1_physical) const override;
    void write(unsigned vm, std::uint64_t l1_physical, std::uint64_t value) override;
    [[nodiscard]] PermittedOutcomes permitted(unsigned vm, unsigned vcpu, std::uint64_t linear_address,
                                              Access access) override;
    bool create_vm(unsigned vm, unsigned vcpus) override;
    bool destroy_vm(unsigned vm) override;
    bool move_vcpu(unsigned vm, unsigned vcpu, unsigned processor) override;
    bool take_page(unsigned vm, std::uint64_t l1_physical) override;
    bool nmi(unsigned vm, unsigned vcpu, bool meets_l0) override;
    bool interrupt(unsigned vm, unsigned vcpu, std::uint8_t vector, bool meets_l0) override;
    bool init(unsigned vm, unsigned vcpu, bool meets_l0) override;
    bool start_up(unsigned vm, unsigned vcpu, std::uint8_t page) override;
    bool end_of_interrupt(unsigned vm, unsigned vcpu) override;
    bool set_task_priority(unsigned vm, unsigned vcpu, std::uint8_t priority) override;
    [[nodiscard]] const LocalApic& local_apic(unsigned vm, unsigned vcpu) const override {
        return apics_[vm][vcpu];
    }
    void set_step(std::uint64_t step) override;

    /// For a comparison: events come where and when the other world had them, and nowhere else, and time
    /// passes as it did there. `events`, `times`: of the next step; `times` by call of `execute`.
    void drive(std::vector<OutsideEvent> events, std::vector<InstructionTime> times);
    /// The step is over, at this time.
    void end_step(unsigned vm, std::uint64_t tsc) { machines_[vm]->set_tsc(tsc); }
    /// False: an event of the last step could not have been taken there.
    [[nodiscard]] bool driven_events_were_permitted() const { return permitted_; }
    /// It would take an external interrupt now, and there is one.
    [[nodiscard]] bool could_take_interrupt(unsigned vm, unsigned vcpu) const;

    /// It would take an INIT now, and there is one.
    [[nodiscard]] bool could_take_init(unsigned vm, unsigned vcpu) const {
        return inits_.contains({vm, vcpu}) && machines_[vm]->can_take_init(vcpu);
    }

    /// The machine that is VM `vm`, which must exist.
    [[nodiscard]] Machine& machine(unsigned vm = 0) { return *machines_[vm]; }

private:
    void make_exit(Machine& machine) const {
        if (driven_) machine.set_tsc(exit_made_);
    }
    // Nothing: what came was delivered, and `completion` says so; else the exit.
    std::optional<Completion> take_nmi(Machine& machine, unsigned vcpu, Completion& completion);
    std::optional<Completion> take_interrupt(unsigned vm, unsigned vcpu, Completion& completion);
    std::optional<Completion> take_init(unsigned vm, unsigned vcpu);
    std::optional<Completion> take_start_up(unsigned vm, unsigned vcpu, std::uint8_t page);
    std::optional<Completion> take_driven(unsigned vm, unsigned vcpu, bool early, Completion& completion);
    std::optional<Completion> take_waiting(unsigned vm, unsigned vcpu, Completion& completion);
    /// Between two steps.
    void settle(unsigned vm, unsigned vcpu);

    Options options_;
    std::array<std::unique_ptr<Machine>, program_vm_limit> machines_{};
    std::set<std::pair<unsigned, unsigned>> waiting_{};  // NMIs, by VM and virtual CPU
    std::set<std::pair<unsigned, unsigned>> inits_{};    // the same
    std::array<std::vector<LocalApic>, program_vm_limit> apics_{};
    bool driven_ = false;
    std::vector<OutsideEvent> driven_events_{};
    std::vector<InstructionTime> driven_times_{};
    std::uint64_t exit_made_ = 0;  // of the event that is being taken
    bool permitted_ = true;
    unsigned calls_ = 0;  // of `execute` in this step
};

}  // namespace flatback::machine
