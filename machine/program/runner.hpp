#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "machine/cpu/completion.hpp"
#include "machine/program/program.hpp"
#include "machine/program/world.hpp"

namespace flatback::machine {

/// What L1 reads of a VM exit: by VMREAD, as a hypervisor does.
struct ExitRecord {
    std::uint64_t reason = 0;
    std::uint64_t qualification = 0;
    std::uint64_t guest_linear_address = 0;
    std::uint64_t guest_physical_address = 0;
    std::uint64_t interruption_information = 0;
    std::uint64_t interruption_error_code = 0;
    std::uint64_t instruction_length = 0;
    std::uint64_t instruction_information = 0;
    std::uint64_t guest_rip = 0;
    std::uint64_t guest_cr3 = 0;

    friend bool operator==(const ExitRecord&, const ExitRecord&) = default;
};

/// Everything that the software of one step can see of it.
struct Observation {
    enum class Status : std::uint8_t {
        done,
        event,        // an exception was delivered
        exit,         // L2 ended, L1 runs
        entry,        // L1 ended, L2 runs
        idle,         // the virtual CPU is halted
        not_running,  // the other one runs, or there is no such virtual CPU: nothing was done
        refused,      // the world can't do it
    };

    Status status = Status::done;
    Event event{};
    /// Loads, fetches, VMREAD, VMPTRST, MOV from CR, RDMSR, RDTSC: what was read.
    std::uint64_t value = 0;
    /// VMX instructions of L1: RFLAGS.CF and ZF, and the VM-instruction error where ZF is set.
    std::uint64_t flags = 0;
    std::uint64_t instruction_error = 0;
    ExitRecord exit{};
    /// Loads, stores and fetches, if asked for: every outcome permitted before the step was made.
    PermittedOutcomes permitted{};
    /// Behind all this an NMI was delivered.
    bool nmi = false;
    /// ... or an external interrupt, or behind that NMI: its vector.
    std::optional<std::uint8_t> interrupt{};
    /// Which check a failed VM entry did not pass; for the reader only.
    const char* failed_check = nullptr;
};

/// Equal in all that software can see; what is permitted is compared by who asks.
[[nodiscard]] bool same_view(const Observation& a, const Observation& b);

/// One line for a person, such as "exit EPT violation qualification 0x181 guest-physical 0x800000".
[[nodiscard]] std::string describe(const Observation& observation);

/// Makes the steps of a program in a world, one by one.
class Runner {
public:
    struct Options {
        bool record_permitted = false;
    };

    explicit Runner(World& world) : Runner(world, Options{}) {}
    Runner(World& world, const Options& options);

    /// Makes one step. Throws `LimitReached` where a bound of the world is reached.
    Observation step(const Step& step);
    /// Makes all of them.
    std::vector<Observation> run(const Program& program);

private:
    struct VmState {
        std::array<std::uint64_t, 8> next_page_table{};
        std::array<std::uint64_t, 8> next_ept_table{};
        bool exists = false;
    };

    void set_up(unsigned vm);
    Observation environment(const Step& step);
    void edit(const Step& step);
    Observation instruction(const Step& step);
    Observation boot(const Step& step);
    Observation prepare(const Step& step);
    Completion run_instruction(const Step& step, Observation& observation);
    Completion operate(const Step& step, Opcode opcode, std::uint64_t address);
    std::uint64_t put_operand(const Step& step, std::uint64_t first, std::uint64_t second);
    void observe(const Step& step, const Completion& completion, Observation& observation);
    std::uint64_t read_field(const Step& step, std::uint64_t encoding);

    World& world_;
    Options options_;
    std::array<VmState, program_vm_limit> vms_{};
    std::uint64_t step_number_ = 0;
};

}  // namespace flatback::machine
