#pragma once

#include <cstddef>
#include <vector>

#include "machine/program/step.hpp"

namespace flatback::machine {

/// L1 hypervisors and their L2s as data: steps, made one after the other. VM 0 exists from the start, with as
/// many virtual CPUs as the world is given; the others are made by `create_vm`.
struct Program {
    std::vector<Step> steps;

    friend bool operator==(const Program&, const Program&) = default;
};

/// More steps are refused by the readers of both forms.
inline constexpr std::size_t program_step_limit = std::size_t{1} << 20;
inline constexpr unsigned program_vm_limit = 8;

}  // namespace flatback::machine
