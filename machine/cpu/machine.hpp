#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../../vmx/instruction_error.hpp"
#include "../../vmx/interruption_bits.hpp"
#include "../memory/physical_memory.hpp"
#include "../retentive/retentive_tlb.hpp"
#include "../rules/descriptors.hpp"
#include "../rules/event.hpp"
#include "../translation/tlb.hpp"
#include "completion.hpp"
#include "instruction.hpp"
#include "local_apic.hpp"
#include "processor_model.hpp"
#include "registers.hpp"
#include "vmcs.hpp"

namespace flatback::machine {

/// An event on its way to the software.
struct Delivery {
    rules::EventInformation information{};
    std::uint32_t error_code = 0;
    unsigned instruction_length = 0;  // of a software interrupt or exception
};

/// One logical processor.
struct Cpu {
    static constexpr std::uint64_t no_vmcs = ~std::uint64_t{0};

    Registers registers{};
    bool in_vmx_operation = false;
    bool in_root = false;  // with in_vmx_operation: root or non-root
    std::uint64_t vmxon_pointer = no_vmcs;
    std::uint64_t current_vmcs = no_vmcs;
    std::unique_ptr<Tlb> tlb;
    bool iret_unblocks_nmis = false;       // the IRET that is being executed has done so
    std::optional<Delivery> delivering{};  // through the IDT, at this moment
    /// The VMX-preemption timer, where it is active: when it has counted down to zero, in its units since the
    /// time-stamp counter was 0.
    std::optional<std::uint64_t> timer_ends{};
    // Where the VMCS at `found_pointer` is: VMCSs never go, so this holds while the pointers are equal.
    mutable std::uint64_t found_pointer = no_vmcs;
    mutable Vmcs* found_vmcs = nullptr;

    [[nodiscard]] bool in_non_root() const { return in_vmx_operation && !in_root; }
};

/// The descriptor of INVEPT (EPTP, reserved) or INVVPID (VPID and reserved bits, linear address).
using Descriptor = std::array<std::uint64_t, 2>;

/// A machine of N processors with VT-x, deterministic: what `execute` does depends on nothing but the state.
/// No instruction is fetched or decoded; whoever drives the machine says which one a processor executes.
///
/// NMIs, external interrupts, INIT and start-up IPIs come between instructions, where whoever drives the
/// machine says so. Events are delivered through a 64-bit IDT, or handed to the driver where there is none
/// (the base of IDTR is 0). Not modelled: other events from outside (no SMI ever comes), segmentation in the
/// computation of addresses, single steps, and 5-level paging.
class Machine {
public:
    enum class TlbKind : std::uint8_t { retentive };
    struct Options {
        unsigned cpus = 1;
        PhysicalMemory::Options memory{};
        ProcessorModel model = full_processor_model();
        RetentiveTlb::Options retentive{};
        /// Makes each processor's TLB; none: a retentive one.
        std::function<std::unique_ptr<Tlb>()> make_tlb{};
        /// What the time-stamp counter of every processor reads at first.
        std::uint64_t tsc = 0;
    };

    explicit Machine(const Options& options);

    [[nodiscard]] unsigned cpu_count() const { return static_cast<unsigned>(cpus_.size()); }
    [[nodiscard]] Cpu& cpu(unsigned number) { return cpus_[number]; }
    [[nodiscard]] const Cpu& cpu(unsigned number) const { return cpus_[number]; }
    [[nodiscard]] PhysicalMemory& memory() { return memory_; }
    [[nodiscard]] const PhysicalMemory& memory() const { return memory_; }
    [[nodiscard]] const ProcessorModel& model() const { return model_; }
    // Time. All processors have one time-stamp counter. It counts instructions: each takes one tick, at the
    // end of which it does what it does, VM exits and VM entries included, unless whoever drives the machine
    // says otherwise. What is done by calls (deliveries, a hypervisor that is a C++ program) takes none.
    [[nodiscard]] std::uint64_t tsc() const { return tsc_; }
    void set_tsc(std::uint64_t value) { tsc_ = value; }
    void pass_time(std::uint64_t ticks) { tsc_ += ticks; }
    /// What each instruction takes from now on.
    void set_instruction_ticks(std::uint64_t ticks) { instruction_ticks_ = ticks; }

    /// Executes one instruction on a processor, VM exit included.
    Completion execute(unsigned cpu, const Instruction& instruction);

    /// Would the processor take an NMI now, between two instructions? (SDM 3A 6.7.1, SDM 3C table
    /// 25-3, 27.7.1.) On this one STI blocks NMIs as MOV SS does, which the SDM leaves to the processor.
    [[nodiscard]] bool can_take_nmi(unsigned cpu) const;
    /// An NMI arrives, which the processor can take: it is delivered (`event`), or exits.
    Completion take_nmi(unsigned cpu);
    /// The same of an external interrupt (SDM 3C 25.6.1, 26.2, table 25-3): between two instructions, where
    /// no exit is due, which would come before it.
    [[nodiscard]] bool can_take_interrupt(unsigned cpu) const;
    /// The interrupt that is pending in `apic`, which the processor can take: it is delivered (`event`)
    /// through an interrupt gate, or exits. It is acknowledged, unless it exits without that.
    Completion take_interrupt(unsigned cpu, LocalApic& apic);
    /// INIT and start-up IPIs (SDM 3A 10.4, SDM 3C 24.8, 25.4.2). INIT is blocked in VMX root operation, and
    /// by an L2's wait for a start-up IPI; it stays with the processor. A start-up IPI is for one that waits,
    /// and else it is lost.
    [[nodiscard]] bool can_take_init(unsigned cpu) const;
    [[nodiscard]] bool waits_for_start_up(unsigned cpu) const {
        return cpus_[cpu].registers.activity == vmx::ActivityState::wait_for_sipi;
    }
    /// In VMX non-root operation it exits (`vm_exit`); else the processor begins anew, and waits for a
    /// start-up IPI: each is an application processor.
    Completion take_init(unsigned cpu);
    /// `vector`: the number of the page at which it starts.
    Completion take_start_up(unsigned cpu, std::uint8_t vector);
    /// The next thing that the processor does is an exit for a window or by the VMX-preemption timer.
    [[nodiscard]] bool is_exit_due(unsigned cpu) const { return due_exit(cpus_[cpu]).has_value(); }

    /// Bytes at a linear address, as the processor's current software reads them; an exception or VM exit
    /// otherwise. (What the operands in memory of VMX instructions are read by.)
    std::optional<Completion> read_linear(unsigned cpu, std::uint64_t linear_address,
                                          std::span<std::byte> bytes);

    /// Every outcome that an access may have now. The processor's TLB must be a retentive one.
    [[nodiscard]] PermittedOutcomes permitted(unsigned cpu, std::uint64_t linear_address,
                                              Access access) const;
    [[nodiscard]] RetentiveTlb& retentive_tlb(unsigned cpu);
    [[nodiscard]] const RetentiveTlb& retentive_tlb(unsigned cpu) const;
    [[nodiscard]] TranslationContext translation_context(unsigned cpu) const;

    /// The VMCS at a physical address; null if nothing was ever there.
    [[nodiscard]] const Vmcs* find_vmcs(std::uint64_t address) const;
    [[nodiscard]] Vmcs* find_vmcs(std::uint64_t address);
    [[nodiscard]] Vmcs* current_vmcs(unsigned cpu);

    // What a hypervisor that is a C++ program (not steps of one) does in VMX root operation. The functions
    // below are the instructions with their operands in hand; a VMfail's error number is returned, and not
    // written to a VMCS.
    void start_vmx_operation(unsigned cpu, std::uint64_t vmxon_region);
    std::optional<vmx::InstructionError> load_vmcs(unsigned cpu, std::uint64_t pointer);
    std::optional<vmx::InstructionError> clear_vmcs(unsigned cpu, std::uint64_t pointer);
    std::optional<vmx::InstructionError> invalidate_ept(unsigned cpu, std::uint64_t type,
                                                        const Descriptor& descriptor);
    std::optional<vmx::InstructionError> invalidate_vpid(unsigned cpu, std::uint64_t type,
                                                         const Descriptor& descriptor);
    /// VMLAUNCH or VMRESUME.
    Completion enter_guest(unsigned cpu, bool launch);
    /// Ends non-root operation as an external interrupt does.
    Completion take_from_guest(unsigned cpu);
    /// Registers were changed from outside `execute`.
    void registers_changed(unsigned cpu) { state_changed(cpu); }

    /// Resets one processor: everything of VMX and every cached translation goes (SDM 3A 10.1). VMCSs active
    /// on it become inactive without being cleared.
    void reset(unsigned cpu);

    /// What software did that the SDM leaves undefined (such as one VMCS active on two processors), one line
    /// each.
    [[nodiscard]] const std::vector<std::string>& misuse() const { return misuse_; }

private:
    struct ExitInformation {
        vmx::ExitReason reason{};
        std::uint64_t qualification = 0;
        unsigned instruction_length = 0;
        std::uint32_t instruction_information = 0;
        std::uint32_t interruption_information = 0;
        std::uint32_t interruption_error_code = 0;
        std::uint64_t guest_linear_address = 0;
        std::uint64_t guest_physical_address = 0;
    };
    struct EntryFailure {
        const char* check = nullptr;
        std::uint64_t qualification = 0;
    };
    /// NMIs after a VM exit (SDM 3C 28.3.4, 28.5.6).
    [[nodiscard]] static bool blocks_nmis_after_exit(const Cpu& cpu, const Vmcs& vmcs, bool caused_by_nmi);

    // execute.cpp
    Completion dispatch(unsigned cpu, const Instruction& instruction);
    Completion done(Cpu& cpu, Opcode opcode);
    Completion raise_general_protection(unsigned cpu) {
        return raise(cpu, x86::Vector::general_protection, 0);
    }
    Completion raise_invalid_opcode(unsigned cpu) { return raise(cpu, x86::Vector::invalid_opcode); }
    [[nodiscard]] std::optional<vmx::ExitReason> due_exit(const Cpu& cpu) const;
    [[nodiscard]] bool interrupts_exit(const Cpu& cpu) const;
    void begin_iret(Cpu& cpu) const;
    Completion iret(unsigned cpu, const Instruction& instruction);
    Completion software_interrupt(unsigned cpu, const Instruction& instruction);
    Completion unconditional_exit(unsigned cpu, const Instruction& instruction, vmx::ExitReason reason,
                                  std::uint64_t qualification = 0, std::uint32_t information = 0);

    // delivery.cpp
    Completion raise(unsigned cpu, x86::Vector vector,
                     std::optional<std::uint32_t> error_code = std::nullopt);
    Completion raise_page_fault(unsigned cpu, std::uint64_t linear_address, std::uint32_t error_code);
    Completion raise_exception(unsigned cpu, std::uint8_t vector, std::optional<std::uint32_t> error_code,
                               std::uint64_t linear_address);
    [[nodiscard]] static bool exception_exits(const Vmcs& vmcs, std::uint8_t vector,
                                              std::uint32_t error_code);
    Completion shut_down(unsigned cpu);
    Completion deliver(unsigned cpu, const Delivery& delivery);
    /// ... what no instruction has caused.
    Completion deliver_from_outside(unsigned cpu, const Delivery& delivery);
    std::optional<Completion> go_through_gate(unsigned cpu, const Delivery& delivery);
    [[nodiscard]] static std::optional<std::uint64_t> descriptor_address(const Registers& registers,
                                                                         std::uint16_t selector);
    std::optional<Completion> read_system(unsigned cpu, std::uint64_t address, std::uint64_t& value);
    std::optional<Completion> mark_accessed(unsigned cpu, std::uint64_t address,
                                            rules::Descriptor& descriptor);
    Completion iretq(unsigned cpu);
    Completion return_from_handler(unsigned cpu);

    // memory_instructions.cpp
    Completion memory_access(unsigned cpu, const Instruction& instruction);
    /// Translates; nothing: `host_physical` is set.
    std::optional<Completion> translate(unsigned cpu, std::uint64_t linear_address, Access access,
                                        std::uint64_t& host_physical);
    /// The page-modification log (SDM 3C 29.3.6), before an access: null, or the exit where it is full.
    std::optional<Completion> log_writes(unsigned cpu, const TranslationContext& context,
                                         std::uint64_t linear_address, Access access);
    Completion outcome_to_completion(unsigned cpu, std::uint64_t linear_address, const Outcome& outcome);
    /// By the software that runs, at its privilege level.
    [[nodiscard]] Access own_access(unsigned cpu, AccessKind kind) const {
        return {kind, cpus_[cpu].registers.privilege_level() == 3};
    }
    std::optional<Completion> access_linear(unsigned cpu, std::uint64_t linear_address, Access access,
                                            std::span<std::byte> bytes);
    std::optional<Completion> write_linear(unsigned cpu, std::uint64_t linear_address,
                                           std::span<const std::byte> bytes);
    std::optional<Completion> read_quadword(unsigned cpu, std::uint64_t linear_address, std::uint64_t& value);

    // control_instructions.cpp
    Completion move_to_control_register(unsigned cpu, const Instruction& instruction);
    Completion move_from_control_register(unsigned cpu, const Instruction& instruction);
    Completion move_to_cr0(unsigned cpu, const Instruction& instruction, std::uint64_t value);
    Completion move_to_cr3(unsigned cpu, const Instruction& instruction, std::uint64_t value);
    Completion move_to_cr4(unsigned cpu, const Instruction& instruction, std::uint64_t value);
    using Pdptes = std::array<std::uint64_t, 4>;
    [[nodiscard]] Pdptes pdptes_at(std::uint64_t host_physical) const;
    [[nodiscard]] bool are_loadable(const Pdptes& pdptes) const;
    /// Those that an entry loads.
    [[nodiscard]] Pdptes guest_pdptes(const Vmcs& vmcs) const;
    std::optional<Completion> load_pdptes(unsigned cpu, std::uint64_t cr3);
    Completion invlpg(unsigned cpu, const Instruction& instruction);
    Completion invpcid(unsigned cpu, const Instruction& instruction);
    Completion read_msr(unsigned cpu, const Instruction& instruction);
    Completion write_msr(unsigned cpu, const Instruction& instruction);
    [[nodiscard]] std::optional<std::uint64_t> msr(const Cpu& cpu, std::uint32_t index) const;
    [[nodiscard]] bool set_msr(Cpu& cpu, std::uint32_t index, std::uint64_t value);
    [[nodiscard]] bool msr_exits(Cpu& cpu, std::uint32_t index, bool write);
    Completion output(unsigned cpu, const Instruction& instruction);
    Completion lidt(unsigned cpu, const Instruction& instruction);

    // vmx_instructions.cpp
    Completion vmx_instruction(unsigned cpu, const Instruction& instruction);
    Completion vmxon(unsigned cpu, const Instruction& instruction);
    Completion vmxoff(unsigned cpu, const Instruction& instruction);
    Completion vmclear(unsigned cpu, const Instruction& instruction);
    Completion vmptrld(unsigned cpu, const Instruction& instruction);
    Completion vmptrst(unsigned cpu, const Instruction& instruction);
    Completion vmread(unsigned cpu, const Instruction& instruction);
    Completion vmwrite(unsigned cpu, const Instruction& instruction);
    Completion enter(unsigned cpu, const Instruction& instruction);
    Completion vmfunc(unsigned cpu, const Instruction& instruction);
    Completion invept(unsigned cpu, const Instruction& instruction);
    Completion invvpid(unsigned cpu, const Instruction& instruction);
    void note_two_processors(const char* what, unsigned cpu, std::uint64_t pointer, const Vmcs& vmcs);
    Completion vm_succeed(Cpu& cpu, Opcode opcode);
    Completion vm_fail(unsigned cpu, Opcode opcode, vmx::InstructionError error, const char* check = nullptr);
    Completion vm_fail_invalid(Cpu& cpu, Opcode opcode);
    [[nodiscard]] bool valid_vmx_pointer(std::uint64_t pointer) const;
    [[nodiscard]] bool shadowed(Cpu& cpu, std::uint64_t encoding, bool write);

    // entry_checks_*.cpp: null, or the check that failed.
    [[nodiscard]] const char* check_controls(const Vmcs& vmcs) const;
    [[nodiscard]] const char* check_host_state(const Cpu& cpu, const Vmcs& vmcs) const;
    [[nodiscard]] EntryFailure check_guest_state(const Vmcs& vmcs) const;

    // vm_transitions.cpp
    Completion vm_entry(unsigned cpu, Opcode opcode);
    Completion vm_exit(unsigned cpu, const ExitInformation& information);
    Completion entry_failure(unsigned cpu, vmx::ExitReason reason, const EntryFailure& failure,
                             bool nmis_were_blocked);
    void load_guest_state(Cpu& cpu, const Vmcs& vmcs);
    void save_guest_state(const Cpu& cpu, Vmcs& vmcs) const;
    void load_host_state(Cpu& cpu, const Vmcs& vmcs, bool nmis_blocked);
    [[nodiscard]] std::uint64_t load_msr_list(Cpu& cpu, std::uint64_t address, std::uint32_t count);
    void store_msr_list(const Cpu& cpu, std::uint64_t address, std::uint32_t count);
    void flush_at_transition(Cpu& cpu, const Vmcs& vmcs);
    [[nodiscard]] std::uint64_t tsc_of(const Cpu& cpu) const;
    /// In units of the VMX-preemption timer.
    [[nodiscard]] std::uint64_t timer_now() const { return tsc_ >> model_.vmx.timer_rate(); }

    [[nodiscard]] std::uint16_t current_vpid(const Cpu& cpu) const;
    [[nodiscard]] static std::uint16_t current_pcid(const Cpu& cpu);
    [[nodiscard]] static std::uint32_t secondary_controls(const Vmcs& vmcs);
    [[nodiscard]] const Vmcs& current(const Cpu& cpu) const;
    [[nodiscard]] Vmcs& current(const Cpu& cpu);
    void state_changed(unsigned cpu) { contexts_[cpu].reset(); }
    [[nodiscard]] const TranslationContext& context(unsigned cpu) const;
    [[nodiscard]] TranslationContext make_context(const Cpu& cpu) const;
    /// Outside of IA-32e mode a linear address has 32 bits.
    [[nodiscard]] static std::uint64_t linear_in(const TranslationContext& context,
                                                 std::uint64_t linear_address) {
        return context.paging && context.mode == PagingMode::four_level ? linear_address
                                                                        : linear_address & 0xFFFF'FFFF;
    }

    ProcessorModel model_;
    std::uint64_t tsc_;
    std::uint64_t instruction_ticks_ = 1;
    PhysicalMemory memory_;
    std::vector<Cpu> cpus_;
    mutable std::vector<std::optional<TranslationContext>> contexts_;
    VmcsStore vmcss_;
    std::vector<std::string> misuse_;
};

}  // namespace flatback::machine
