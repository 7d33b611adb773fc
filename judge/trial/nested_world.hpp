#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "judge/trial/defect.hpp"
#include "judge/trial/random_host.hpp"
#include "machine/cpu/local_apic.hpp"
#include "machine/cpu/machine.hpp"
#include "machine/program/program.hpp"
#include "machine/program/world.hpp"
#include "nested/counters.hpp"
#include "nested/demands.hpp"
#include "nested/state/format.hpp"
#include "nested/vmcs/learned_fields.hpp"
#include "tag/vpid12_map.hpp"
#include "tag/vpid_pool.hpp"
#include "vmx/interruption.hpp"

namespace flatback::machine {

/// The world with a hypervisor: an L0 made of the engine (nested/, tag/) and of the little that a host adds
/// runs on one machine, and each VM is an L1 of it. Virtual CPUs share the machine's processors; who is not
/// running was taken off its processor by an interrupt, as a scheduler does.
class NestedWorld final : public World {
public:
    struct Options {
        unsigned vcpus = 1;       // of VM 0
        unsigned processors = 2;  // of the machine; virtual CPU n starts on n mod this
        tag::Policy tags = tag::Policy::mapped;
        bool shadow_vmcs = true;
        /// Of fields beside those that every L1 reaches in its shadow VMCS. Programs are short: the second
        /// use goes without an exit, and what is learned is soon forgotten again.
        nested::LearningRule learning{.uses = 1, .within = 1000, .trial_every = 4};
        std::uint16_t vpids = 65535;  // in the pool
        std::uint64_t memory_bytes = std::uint64_t{256} << 20;
        std::size_t entry_limit = std::size_t{1} << 20;
        std::uint64_t l0_pages = ~std::uint64_t{0};  // that L0 may have; more are refused
        bool limit_is_error = false;  // a comparison that reaches a bound throws, and does not just end
        /// A host that wants things of L2 for itself, other ones all the time, and moves virtual CPUs between
        /// processors: its seed. 0: one that wants nothing.
        std::uint64_t random_host = 0;
        /// With random_host: nested states are saved and restored too, in place or in another L0. (Behind
        /// that nothing is cached any longer, which hides what is not flushed.)
        bool saves_states = false;
        /// With random_host: L1's time-stamp counter runs at RandomHost::tsc_rate times the processor's. For
        /// programs without a VMX-preemption timer, which counts by the processor's own.
        bool host_scales_tsc = false;
        /// L0 has every external interrupt, of which some are its own, and gives L1's on by what the engine
        /// has for it. False: they are L1's, and L0 never sees one. Under a random host its seed says which.
        enum class Interrupts : std::uint8_t { are_l1s, l0_acknowledges_as_they_go_in, l0_knows_the_vector };
        Interrupts interrupts = Interrupts::are_l1s;
        /// MSR bitmaps of L1's are not copied at each entry, but kept, as L0 has it with several processors
        /// (metal/memory/copied_pages.hpp): for programs in which L1 alone writes to them.
        bool keeps_bitmaps = false;
        Defect* defect = nullptr;  // only in tests
        bool record_flushes = false;
    };

    explicit NestedWorld(const Options& options);
    ~NestedWorld() override;

    /// The processor that L1s under this L0 find: what a bare machine must be for a comparison.
    [[nodiscard]] static ProcessorModel l1_model(const Options& options);

    [[nodiscard]] unsigned vcpu_count(unsigned vm) const override;
    [[nodiscard]] Actor running(unsigned vm, unsigned vcpu) const override;
    [[nodiscard]] Registers& registers(unsigned vm, unsigned vcpu) override;
    [[nodiscard]] const ProcessorModel& model() const override { return model_; }
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
    [[nodiscard]] const LocalApic& local_apic(unsigned vm, unsigned vcpu) const override;
    void set_step(std::uint64_t step) override;

    /// The registers with CR0 and CR4 as the guest reads them.
    [[nodiscard]] Registers visible_registers(unsigned vm, unsigned vcpu);

    [[nodiscard]] Machine& machine() { return machine_; }
    [[nodiscard]] const Machine& machine() const { return machine_; }
    [[nodiscard]] unsigned processor_of(unsigned vm, unsigned vcpu) const;
    /// The tag that the guest runs under now; 0: none.
    [[nodiscard]] std::uint16_t running_tag(unsigned vm, unsigned vcpu);
    [[nodiscard]] std::uint16_t vpid01(unsigned vm, unsigned vcpu) const;
    [[nodiscard]] std::uint32_t tags_owned() const;
    /// What the engine of the virtual CPU has counted.
    [[nodiscard]] const nested::Counters& counters(unsigned vm, unsigned vcpu);
    /// What came from outside in the last step, in its order.
    [[nodiscard]] const std::vector<OutsideEvent>& events() const { return events_; }
    /// ... and when its instructions were executed, by call of `execute`; and what L1's time-stamp counter
    /// reads now.
    [[nodiscard]] const std::vector<InstructionTime>& times() const { return times_; }
    [[nodiscard]] std::uint64_t l1_time() const;
    /// An NMI reached L1 or L2 that was not sent.
    [[nodiscard]] bool gave_unsent_nmi() const { return unsent_; }
    /// The last step ended with an entry by L0, which had an NMI for this virtual CPU and did not give it.
    [[nodiscard]] bool withheld_nmi() const { return withheld_; }
    /// L0 has an external interrupt for this virtual CPU, and no exit is due by which it could give it now.
    [[nodiscard]] bool withholds_interrupt(unsigned vm, unsigned vcpu);
    /// The same of an INIT.
    [[nodiscard]] bool withholds_init(unsigned vm, unsigned vcpu);
    /// The nested state of a virtual CPU, and one of any bytes in its place: the error, if it is refused.
    [[nodiscard]] std::vector<std::byte> save_state(unsigned vm, unsigned vcpu);
    std::optional<nested::StateError> restore_state(unsigned vm, unsigned vcpu,
                                                    std::span<const std::byte> state);
    /// With `keeps_bitmaps`: how often a copy of L1's was taken for current at an entry.
    [[nodiscard]] std::uint64_t copies_taken_for_current() const;
    /// With `record_flushes`: all that L0 executed since the last call.
    [[nodiscard]] std::vector<HardwareFlush> take_flushes();

    /// Set in the physical address of an outcome that reaches what is not this L1's memory: no bare machine
    /// has it.
    static constexpr std::uint64_t foreign = std::uint64_t{1} << 62;

private:
    struct Host;
    struct VirtualCpu;
    struct VirtualMachine;

    Completion execute(VirtualCpu& guest, unsigned vm, const Instruction& instruction);
    [[nodiscard]] VirtualCpu& on_processor(unsigned vm, unsigned vcpu);
    [[nodiscard]] VirtualCpu& host_acts(unsigned vm, unsigned vcpu);
    [[nodiscard]] std::unique_ptr<VirtualCpu> make_vcpu(VirtualMachine& owner, unsigned vm,
                                                        unsigned processor);
    [[nodiscard]] VirtualCpu& between_turns(unsigned vm, unsigned vcpu);
    [[nodiscard]] static std::vector<std::byte> save_state(VirtualCpu& vcpu);
    [[nodiscard]] bool save_and_restore(VirtualCpu& vcpu);
    void change_l0();
    struct HostsTurn {
        bool launch = false;
        bool done = true;  // the instruction is over
    };
    [[nodiscard]] HostsTurn handle_hosts_exit(VirtualCpu& vcpu, vmx::ExitReason reason);
    void host_works();
    void end_turn_later(nested::Demands& wanted);
    void watch_turn(const VirtualCpu& vcpu, std::uint64_t begun) const;
    void watch_demands(VirtualCpu& vcpu, const Instruction& instruction, const Completion& completion,
                       const Registers& before) const;
    void take_off(VirtualCpu& vcpu);
    void put_on(VirtualCpu& vcpu);
    /// What L0 gave the guest at an entry.
    enum class Given : std::uint8_t { nothing, nmi, interrupt };
    struct Entered {
        Completion completion{};
        Given delivered = Given::nothing;  // through the guest's IDT
        Given exits = Given::nothing;      // as an exit to L1
        // By L1's time-stamp counter, when the last of them was given: L1's timer may end behind that.
        std::uint64_t given_at = 0;
        // Before these: an INIT, as an exit to L1 or for the virtual CPU to begin anew, and a start-up IPI.
        bool init = false;
        std::optional<std::uint8_t> start_up{};
        /// What entries before the last one began to deliver, which exits interrupted.
        struct Begun {
            Given given = Given::nothing;
            std::optional<Event> event{};
            std::uint64_t at = 0;  // by L1's time-stamp counter
        };
        std::vector<Begun> begun{};
    };
    struct Place {
        unsigned call = 0;
        bool early = false;
    };
    Entered enter(VirtualCpu& vcpu, bool engine_says_launch, bool may_give_events = true);
    [[nodiscard]] static Defect::Gate gate_of(VirtualCpu& vcpu);
    void give_events(VirtualCpu& vcpu, Entered& entered, bool& launch);
    [[nodiscard]] bool holds_interrupts() const { return interrupts_ != Options::Interrupts::are_l1s; }
    [[nodiscard]] bool takes_latched_nmi(VirtualCpu& vcpu);
    [[nodiscard]] std::optional<Completion> take_what_waits(VirtualCpu& vcpu, Place place, Completion& seen);
    [[nodiscard]] bool handle_outside_exit(VirtualCpu& vcpu, const Completion& exit, Place place,
                                           std::uint64_t exited_at);
    [[nodiscard]] bool handle_exit_in_delivery(VirtualCpu& vcpu, const Completion& exit);
    void take_interrupts_of_host(VirtualCpu& vcpu, vmx::InterruptionInformation information, Place place);
    [[nodiscard]] bool apic_was_written(VirtualCpu& vcpu);
    [[nodiscard]] nested::Demands fewest_demands() const;
    void demand(VirtualCpu& vcpu, nested::Demands wanted);
    [[nodiscard]] bool settle(VirtualCpu& vcpu, Place place, Completion& seen);
    void note(VirtualCpu& vcpu, OutsideEvent::Kind kind, Place place, std::uint8_t vector = 0,
              std::optional<std::uint64_t> taken_at = std::nullopt);
    void begin_anew(VirtualCpu& vcpu);
    void start(VirtualCpu& vcpu, std::uint8_t page);
    void send_init(VirtualCpu& vcpu, Place place);
    void kick(VirtualCpu& vcpu);
    void kick(VirtualCpu& vcpu, Place place, Completion& seen);
    [[nodiscard]] bool has_to_offer(const VirtualCpu& vcpu) const;
    [[nodiscard]] Defect::Inits inits() const;
    void set_controls_of_vmcs01(VirtualCpu& vcpu) const;
    [[nodiscard]] bool waits_for_start_up(const VirtualCpu& vcpu) const;
    void note_given(VirtualCpu& vcpu, Entered& entered, Place place, Completion& seen);
    [[nodiscard]] static bool tell_delivered(const Entered::Begun& what, Completion& seen);
    void request(VirtualCpu& vcpu, std::uint8_t vector, Place place);
    bool handle_l1_exit(VirtualCpu& vcpu, vmx::ExitReason reason);
    bool handle_vmx_instruction(VirtualCpu& vcpu, vmx::ExitReason reason, const Instruction& instruction);
    [[nodiscard]] VirtualMachine& owner_of(const VirtualCpu& vcpu);
    [[nodiscard]] std::optional<Outcome> as_l1_sees(VirtualCpu& vcpu, const Outcome& outcome);

    Options options_;
    ProcessorModel model_;
    Machine machine_;
    std::unique_ptr<Host> host_;
    std::array<std::unique_ptr<VirtualMachine>, program_vm_limit> vms_;
    std::vector<std::unique_ptr<VirtualMachine>> kept_{};  // destroyed, if a defect says so
    std::vector<VirtualCpu*> running_;                     // by processor
    unsigned calls_ = 0;                                   // of `execute` in this step
    Options::Interrupts interrupts_;
    std::vector<OutsideEvent> events_{};
    std::vector<InstructionTime> times_{};
    bool withheld_ = false;
    bool unsent_ = false;
    RandomHost random_;
};

}  // namespace flatback::machine
