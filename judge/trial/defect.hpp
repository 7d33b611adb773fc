#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "machine/cpu/instruction.hpp"
#include "machine/cpu/registers.hpp"
#include "tag/flush_cause.hpp"

namespace flatback::machine {

/// An INVVPID or INVEPT that L0 executes.
struct HardwareFlush {
    bool invept = false;
    std::uint64_t type = 0;
    std::uint16_t vpid = 0;
    /// INVVPID type 0: the linear address. INVEPT: the EPTP.
    std::uint64_t operand = 0;
    unsigned processor = 0;
    // Less than an INVVPID can be told to take; only defects do this.
    std::optional<std::uint16_t> only_pcid{};
    std::optional<std::uint64_t> only_ep4ta{};
    /// Why the engine wants it, where it says so; not part of what it does.
    struct Cause {
        tag::FlushCause value = tag::FlushCause::unknown;
        friend bool operator==(Cause, Cause) { return true; }
    };
    Cause cause{};

    friend bool operator==(const HardwareFlush&, const HardwareFlush&) = default;
};

/// What a defective L0 does differently: one virtual function for each place where a hypervisor with nested
/// VPID can go wrong. The base class does everything right. Only tests put one in.
class Defect {
public:
    using Run = std::function<void(const HardwareFlush&)>;

    Defect() = default;
    Defect(const Defect&) = delete;
    Defect& operator=(const Defect&) = delete;
    virtual ~Defect() = default;

    /// L0 executes a flush; `current_vpid` is that of the current hardware VMCS.
    virtual void flush(const HardwareFlush& flush, std::uint16_t current_vpid, const Run& run) {
        static_cast<void>(current_vpid);
        run(flush);
    }
    /// A VM entry by L0 is about to be made.
    virtual void before_entry(bool into_l2, std::uint16_t vpid, const Run& run) {
        static_cast<void>(into_l2);
        static_cast<void>(vpid);
        static_cast<void>(run);
    }
    /// A VM entry by L0 was made, or failed; the guest has done nothing yet.
    virtual void after_entry(bool succeeded, const Run& run) {
        static_cast<void>(succeeded);
        static_cast<void>(run);
    }
    /// A VM exit to L0 was taken.
    virtual void after_exit(bool from_l2, std::uint16_t vpid, const Run& run) {
        static_cast<void>(from_l2);
        static_cast<void>(vpid);
        static_cast<void>(run);
    }
    /// L0 writes a field of a hardware VMCS: what it writes.
    virtual std::uint64_t written(std::uint32_t encoding, std::uint64_t value) {
        static_cast<void>(encoding);
        return value;
    }
    /// The same of a VMCS for L2s.
    virtual std::uint64_t written_for_l2(std::uint32_t encoding, std::uint64_t value) {
        static_cast<void>(encoding);
        return value;
    }
    /// L0 writes a field of the shadow VMCS at this host-physical address: what it writes, if it does.
    virtual std::optional<std::uint64_t> written_to_shadow(std::uint64_t vmcs, std::uint32_t encoding,
                                                           std::uint64_t value) {
        static_cast<void>(vmcs);
        static_cast<void>(encoding);
        return value;
    }
    /// The same where it reads one: what it finds.
    virtual std::uint64_t found_in_shadow(std::uint64_t vmcs, std::uint32_t encoding, std::uint64_t value) {
        static_cast<void>(vmcs);
        static_cast<void>(encoding);
        return value;
    }
    /// L1 executes VMWRITE: what it is taken to write.
    virtual std::uint64_t written_by_l1(std::uint64_t encoding, std::uint64_t value) {
        static_cast<void>(encoding);
        return value;
    }
    /// L1 has executed VMREAD, which succeeded: what it is told.
    virtual std::uint64_t read_by_l1(std::uint64_t encoding, std::uint64_t value) {
        static_cast<void>(encoding);
        return value;
    }
    /// L0 is about to handle an EPT violation of an L2's, and has done so. L1's memory, in quadwords.
    struct Violation {
        std::uint64_t guest_physical;
        bool write;
        std::function<std::uint64_t(std::uint64_t address)> load;
        std::function<void(std::uint64_t address, std::uint64_t value)> store;
    };
    virtual void before_violation(const Violation& violation) { static_cast<void>(violation); }
    virtual void behind_violation(const Violation& violation) { static_cast<void>(violation); }
    /// L1 reads an MSR that L0 answers for: what it is told.
    virtual std::uint64_t told(std::uint32_t msr, std::uint64_t value) {
        static_cast<void>(msr);
        return value;
    }
    /// L0 makes a VMCS for L2s current, or clears it: which one it takes.
    virtual std::uint64_t vmcs_of_l2(std::uint64_t page, unsigned processor) {
        static_cast<void>(processor);
        return page;
    }
    /// L0 reads the processor's time-stamp counter: what it takes it for.
    virtual std::uint64_t time_stamp_counter(std::uint64_t now) { return now; }
    /// The VMX-preemption timer has made L2 exit. False: L0 takes that for L1's, whatever it demands itself.
    virtual bool knows_its_own_turns() { return true; }
    /// The number of the processor that L0 believes to run on.
    virtual unsigned processor(unsigned number) { return number; }
    /// What L1 executes, as the defective handler takes it: the registers and the memory operand (two words,
    /// empty where there is none or it cannot be read) may be changed; they are put back afterwards.
    struct Handled {
        Opcode opcode;
        Registers& registers;
        std::uint64_t* operand;  // null, or two words
        bool in_vmx_operation;
    };
    enum class Handling : std::uint8_t {
        engine,   // as it is now
        succeed,  // nothing is done, VMsucceed
        fail_28,  // nothing is done, VMfail with error 28
        stay,     // nothing is done at all: RIP stays
    };
    virtual Handling handle(const Handled& handled) {
        static_cast<void>(handled);
        return Handling::engine;
    }
    /// L0 took a page away. False: it does not tell the engine.
    virtual bool tells_of_taken_page() { return true; }

    // What one processor asks of another, which it calls out of its guest for that.
    enum class Request : std::uint8_t {
        drop_taken_page,  // nothing that leads to a page that was taken is used any longer
        close_page,       // a page of L1's, of which L0 uses copies, is written only with L0's knowledge
    };
    enum class Answer : std::uint8_t {
        before_next_entry,
        behind_next_entry,
        never,             // the call was lost
        told_but_not_yet,  // who asked takes it for done at once
    };
    /// When the processor that is asked does it.
    virtual Answer answers(Request request) {
        static_cast<void>(request);
        return Answer::before_next_entry;
    }
    /// The processor that is noted, too, as having done what this one was asked.
    virtual unsigned noted_beside(unsigned processor) { return processor; }
    /// Of the processors that run L1, those whom L0 asks; a bit each.
    virtual std::uint64_t asked_of(std::uint64_t running, unsigned here) {
        static_cast<void>(here);
        return running;
    }
    /// A write of L1's to a page that every processor has closed. False: it is not noticed.
    virtual bool notices_write() { return true; }
    // NMIs. True, each: as it should be.
    /// One met L0. False: it is forgotten.
    virtual bool keeps_nmi() { return true; }
    /// L0 gave one to the guest. False: it thinks that it still has it.
    virtual bool gave_nmi() { return true; }
    /// The entry that was to deliver one failed, and the engine gives it back. False: nobody takes it.
    virtual bool takes_nmi_back() { return true; }
    /// False: L0 writes it to the entry field by itself, whatever blocks, and whoever asked for an exit.
    virtual bool asks_the_engine_about_nmis() { return true; }

    // External interrupts, where L0 has them all.
    /// What L0 takes for pending in L1's local APIC.
    virtual std::optional<std::uint8_t> offered(std::optional<std::uint8_t> pending) { return pending; }
    /// L0 gave one to the guest, or showed L1 that it waits (`shown`). True: L0 acknowledges it.
    virtual bool acknowledges(bool shown) { return !shown; }
    /// The same as for NMIs.
    virtual bool takes_interrupt_back() { return true; }
    /// True: L0 injects it by itself, as it understands what keeps it out, and asks no engine.
    struct Gate {
        bool interrupts_on;  // RFLAGS.IF
        bool by_sti;
        bool by_mov_ss;
        bool waiting;  // another event is in the entry field
        bool in_l2;
    };
    virtual bool injects_itself(const Gate& gate) {
        static_cast<void>(gate);
        return false;
    }
    /// An interrupt of the host's own came. False: L0 takes it for L1's.
    virtual bool knows_its_own_interrupts() { return true; }
    /// False: L0 offers an external interrupt before the NMI that it has.
    virtual bool offers_nmis_first() { return true; }
    // INIT and start-up IPIs. True, each: as it should be.
    struct Inits {
        bool keeps = true;             // one that meets L0 is given
        bool gave = true;              // ... once
        bool resets_engine = true;     // the engine begins anew
        bool resets_registers = true;  // vmcs01 does
        bool resets_local_apic = true;
        bool asks_the_engine = true;   // whether L1 is in VMX operation
        bool starts_who_waits = true;  // a start-up IPI starts who waits for it ...
        bool knows_who_waits = true;   // ... and nobody else
        bool knows_the_page = true;
    };
    [[nodiscard]] virtual Inits inits() const { return {}; }

    /// Another L0 takes over. False: what waits for the guest is not handed on.
    virtual bool hands_on_what_waits() { return true; }

    /// A virtual CPU has its turn, perhaps on another processor. False: what is owed to it there is not paid.
    virtual bool enters_processor() { return true; }
    /// What the host does with an exit of L2's that it has demanded.
    enum class HostsAct : std::uint8_t {
        right,
        resume,     // L2 goes on at the instruction, although the host has done it
        behind,     // ... behind it, although nobody has done it
        fault,      // L2 gets #GP(0)
        swallow,    // an exception is not passed on
        keep_tlb,   // what drops L2's translations is not told
        plain_tsc,  // L2 reads the processor's counter
        l1s_tsc,    // L2 reads L1's
    };
    virtual HostsAct hosts_act() { return HostsAct::right; }

    /// L0 has saved a virtual CPU's nested state: what it will restore.
    virtual void saved(std::vector<std::byte>& state) { static_cast<void>(state); }
    /// L0 is about to enter a guest, as the engine says: by VMLAUNCH or by VMRESUME.
    virtual bool enters_by_vmlaunch(bool into_l2, bool engine_says) {
        static_cast<void>(into_l2);
        return engine_says;
    }
    /// L0 begins to restore one, or to enter what was restored elsewhere (true), and has done so.
    virtual void restores(bool now) { static_cast<void>(now); }

    /// A VM is destroyed, with a virtual CPU in L2 or none. False: what it owned is kept.
    virtual bool gives_back(bool in_l2) {
        static_cast<void>(in_l2);
        return true;
    }
};

}  // namespace flatback::machine
