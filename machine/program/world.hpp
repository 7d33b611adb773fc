#pragma once

#include <cstdint>

#include "machine/cpu/completion.hpp"
#include "machine/cpu/instruction.hpp"
#include "machine/cpu/local_apic.hpp"
#include "machine/cpu/processor_model.hpp"
#include "machine/cpu/registers.hpp"
#include "machine/program/step.hpp"
#include "machine/retentive/permitted.hpp"
#include "machine/translation/access.hpp"

namespace flatback::machine {

/// What came from outside in a step, and where: behind the instruction of the n-th call of `execute`, or
/// `early`, before it. Call 0: before all of them.
struct OutsideEvent {
    enum class Kind : std::uint8_t {
        nmi,        // one reached the software
        interrupt,  // an external interrupt did
        request,    // `vector` came to the local APIC
        init_sent,  // an INIT came to the processor
        init,       // ... which took it
        start_up,   // a processor that waited for it started, at page `vector`, or exits
        resume,     // the instruction begins again, and its code breakpoint was looked for: RFLAGS.RF is 1
    };

    unsigned call = 0;
    bool early = false;
    Kind kind = Kind::nmi;
    std::uint8_t vector = 0;
    bool nmi_waits = false;  // `interrupt`: whoever is below had an NMI, and had not given it
    // As L1's time-stamp counter has it: when it was taken, and where it exits, when the exit was made.
    std::uint64_t tsc = 0;
    std::uint64_t done = 0;
};

/// The same of the instruction of a call of `execute`: when it was begun, the last time, and when it did what
/// it did, VM exit and VM entry included.
struct InstructionTime {
    std::uint64_t begun = 0;
    std::uint64_t done = 0;
};

/// Where a program runs: VMs with virtual CPUs, each of which runs L1 or one of its L2s. On the bare machine
/// a virtual CPU is a processor; under a hypervisor it is what that hypervisor makes of one. Everything here
/// is as L1 sees it: its physical memory, its exits, its registers.
class World {
public:
    World() = default;
    World(const World&) = delete;
    World& operator=(const World&) = delete;
    virtual ~World() = default;

    /// 0: there is no such VM.
    [[nodiscard]] virtual unsigned vcpu_count(unsigned vm) const = 0;
    /// Actor::l1 or Actor::l2.
    [[nodiscard]] virtual Actor running(unsigned vm, unsigned vcpu) const = 0;
    [[nodiscard]] virtual Registers& registers(unsigned vm, unsigned vcpu) = 0;
    /// What L1's capability MSRs say.
    [[nodiscard]] virtual const ProcessorModel& model() const = 0;

    /// One instruction of whoever runs. VM exits are those that L1 sees, VM entries those that L1 makes.
    virtual Completion execute(unsigned vm, unsigned vcpu, const Instruction& instruction) = 0;

    [[nodiscard]] virtual std::uint64_t read(unsigned vm, std::uint64_t l1_physical) const = 0;
    virtual void write(unsigned vm, std::uint64_t l1_physical, std::uint64_t value) = 0;

    /// Every outcome that an access by whoever runs may have now; addresses are L1-physical. What L1 can't
    /// see (an event that the world under it deals with) is left out.
    [[nodiscard]] virtual PermittedOutcomes permitted(unsigned vm, unsigned vcpu,
                                                      std::uint64_t linear_address, Access access) = 0;

    // False: it can't be done (the VM exists already, or does not; there is no such processor).
    virtual bool create_vm(unsigned vm, unsigned vcpus) = 0;
    virtual bool destroy_vm(unsigned vm) = 0;
    virtual bool move_vcpu(unsigned vm, unsigned vcpu, unsigned processor) = 0;
    virtual bool take_page(unsigned vm, std::uint64_t l1_physical) = 0;
    /// An NMI for a virtual CPU, which takes it as soon as it can. `meets_l0`: it comes while a hypervisor
    /// below L1 handles the next exit.
    virtual bool nmi(unsigned vm, unsigned vcpu, bool meets_l0) = 0;
    /// The same of an external interrupt, which comes to the virtual CPU's local APIC.
    virtual bool interrupt(unsigned vm, unsigned vcpu, std::uint8_t vector, bool meets_l0) = 0;
    /// The same of INIT, and of a start-up IPI, which is for a virtual CPU that waits for one right now.
    virtual bool init(unsigned vm, unsigned vcpu, bool meets_l0) = 0;
    virtual bool start_up(unsigned vm, unsigned vcpu, std::uint8_t page) = 0;
    virtual bool end_of_interrupt(unsigned vm, unsigned vcpu) = 0;
    virtual bool set_task_priority(unsigned vm, unsigned vcpu, std::uint8_t priority) = 0;
    [[nodiscard]] virtual const LocalApic& local_apic(unsigned vm, unsigned vcpu) const = 0;

    /// Entries made from now on are made at this step.
    virtual void set_step(std::uint64_t step) = 0;
};

}  // namespace flatback::machine
