// How a run ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/emulator/transcript.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

enum class Ending : std::uint8_t {
    power_off,  // by ACPI
    shutdown,   // the guest wrote Shutdown to port 0x8900
    time_up,
    triple_fault,     // the processor shut down
    halted,           // halted with interrupts off: nothing can happen any more
    reset,            // the guest reset the machine: it is not booted again
    l0_stopped,       // L0 refused or panicked: it says why in an error record whose WHERE is L0
    loader_failed,    // GRUB could not load an image
    emulator_failed,  // Bochs or QEMU ended for a reason of its own
    left,             // the user ended it, by the key for that
    reported,         // the guest told the end of its records, and that was waited for
    interrupted,
};

struct Outcome {
    Ending ending = Ending::emulator_failed;
    std::string detail;       // what Bochs or the guest said about it; may be empty
    std::uint64_t ticks = 0;  // emulated instructions from power-on; 0 where Bochs did not say
    double seconds = 0;       // of wall time
};

// Where the processor was, by Bochs' dump.
struct ProcessorState {
    std::string mode;  // "long mode", "compatibility mode", "protected mode", "real mode", "v8086 mode"
    bool in_vmx_guest = false;  // in VMX non-root operation
    bool narrow = false;        // the instruction pointer is EIP
    std::uint64_t instruction_pointer = 0;
    std::optional<unsigned> privilege;  // CPL
    std::optional<std::uint64_t> cr3;
};

// A VM entry that the emulated processor refused, in the emulator's words.
struct RefusedEntry {
    std::uint64_t tick = 0;
    std::string why;
};

// Follows Bochs' log as it grows.
class LogReader final {
public:
    // Adds bytes of the log as they arrive.
    void append(std::string_view bytes);

    [[nodiscard]] std::uint64_t ticks() const { return ticks_; }
    [[nodiscard]] bool shutdown() const { return shutdown_; }
    [[nodiscard]] bool power_off() const { return power_off_; }
    [[nodiscard]] bool triple_fault() const { return triple_fault_; }
    // The machine resets once at power-on, and the keyboard controller or port 92H only its processor.
    [[nodiscard]] bool guest_reset() const { return resets_ > 1; }
    // How often the processor has executed HLT with interrupts off.
    [[nodiscard]] unsigned halts_for_good() const { return halts_for_good_; }
    // Bochs has panicked, and its debugger waits for a command.
    [[nodiscard]] bool stopped() const { return stopped_; }
    // The last panic's text, where it was none of the above.
    [[nodiscard]] const std::string& panic() const { return panic_; }
    // The first of them.
    [[nodiscard]] const std::vector<RefusedEntry>& refused_entries() const { return refused_entries_; }
    // Of the last dump; nothing where the log has none.
    [[nodiscard]] const std::optional<ProcessorState>& processor() const { return processor_; }

private:
    void add_line(std::string_view line);
    void add_dump_line(std::string_view line);

    std::string pending_;
    std::uint64_t ticks_ = 0;
    unsigned resets_ = 0;
    unsigned halts_for_good_ = 0;
    bool stopped_ = false;
    bool shutdown_ = false;
    bool power_off_ = false;
    bool triple_fault_ = false;
    std::string panic_;
    std::optional<ProcessorState> processor_;
    std::vector<RefusedEntry> refused_entries_;
};

// What the boot loader or L0 said of it, where that decides.
[[nodiscard]] std::optional<Outcome> judge_platform(const Transcript& transcript);

// Puts together what the log and the serial port say of a run whose Bochs has ended by itself.
[[nodiscard]] Outcome judge(const LogReader& log, const Transcript& transcript);

// The exit status of `run --l1` for an outcome, given what the guest printed.
[[nodiscard]] ExitStatus exit_status(const Outcome& outcome, const Transcript& transcript);

// One line for people.
[[nodiscard]] std::string describe(const Outcome& outcome, const Transcript& transcript);

// One word for JSON: "power-off", "shutdown", …
[[nodiscard]] std::string_view name(Ending ending);

}  // namespace flatback::tools
