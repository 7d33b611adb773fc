#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "machine/program/program.hpp"
#include "machine/program/result.hpp"

namespace flatback::machine {

/// The place in a program's text and the rule that is broken there.
struct ProgramError {
    std::size_t line = 0;    // from 1
    std::size_t column = 0;  // from 1
    std::string message;

    /// "NAME:7:12: unknown step \"vmlanch\"".
    [[nodiscard]] std::string describe(std::string_view name) const;
};

/// Reads the text form: one step a line, "#" begins a comment.
///
///     [@VM.VCPU] l0|l1|l2|edit STEP OPERANDS
///
/// A number is decimal or 0x..., or one of the layout's names: vN a VMCS region, x the step's own VMXON
/// region, dN a data page, tN the root of a page hierarchy, eN an EPTP; joined with + and |. See
/// docs/machine.md for the steps.
[[nodiscard]] Result<Program, ProgramError> read_program(std::string_view text);

/// One line without its newline; `read_program` gives the same step back.
[[nodiscard]] std::string write_step(const Step& step);
[[nodiscard]] std::string write_program(const Program& program);

}  // namespace flatback::machine
