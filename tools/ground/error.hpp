// What can go wrong in the command, and the exit status that tells it.
#pragma once

#include <expected>
#include <string>
#include <type_traits>
#include <utility>

namespace flatback::tools {

// The exit statuses of `flatback`; README.md has the same list for users.
enum class ExitStatus : int {
    success = 0,     // `run --l1`: the guest powered off. `run`: every stage and value. `test`: all passed.
    incomplete = 1,  // `run`: a stage or a value is missing. `test`: something failed.
    usage = 2,       // a wrong argument
    input_file = 3,  // a file that was named cannot be read or is not what it should be
    missing_program = 4,   // a program or package that is needed is not there
    output_file = 5,       // a file cannot be written (a full disk, for one)
    guest_shutdown = 10,   // the guest wrote Shutdown to port 0x8900
    time_up = 11,          // the time was up before the guest ended
    triple_fault = 12,     // the processor shut down after a triple fault
    guest_reset = 13,      // the guest reset the machine
    l0_stopped = 14,       // L0 refused to start, or panicked
    guest_error = 15,      // the guest ended, but reported an error
    emulator_failed = 16,  // Bochs itself could not start or stopped without a known reason
    guest_halted = 17,     // the processor halted with interrupts off, for good
    interrupted = 130,     // Ctrl-C or another signal
};

struct Error {
    ExitStatus status = ExitStatus::incomplete;
    std::string message;  // one line, without a newline
};

template <typename T = void>
using Result = std::expected<T, Error>;

[[nodiscard]] inline std::unexpected<Error> fail(ExitStatus status, std::string message) {
    return std::unexpected{Error{status, std::move(message)}};
}

// The value of a result that has one; for TRY only.
template <typename T>
[[nodiscard]] T take_value(std::expected<T, Error>&& result) {
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace flatback::tools

// The value of an expression of type Result<T>; where it has none, the function returns its error.
#define TRY(expression)                                                                   \
    __extension__({                                                                       \
        auto flatback_result = (expression);                                              \
        if (!flatback_result) return std::unexpected{std::move(flatback_result).error()}; \
        ::flatback::tools::take_value(std::move(flatback_result));                        \
    })
