// Which mutant of a schema is the active one (judge/mutants/source/schema.hpp).
#pragma once

#include <type_traits>

namespace flatback_mutants {

inline constexpr unsigned most = 1U << 16;

extern unsigned active;  // 0: none
extern unsigned char* reached;

// What is evaluated when it is compiled is the source itself.
constexpr bool is(unsigned number) {
    if (std::is_constant_evaluated()) return false;
    reached[number] = 1;
    return number == active;
}

}  // namespace flatback_mutants
