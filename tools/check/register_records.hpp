// The bare L1's records of its registers (guests/bare/checks/registers.hpp), of a run on L0 against one
// without.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace flatback::tools {

// Where L1's register is not the processor's, and why that is right. name: the record's; a trailing `*`
// stands for any rest. what: the part of the record: value, faults, kept, odd, stuck, or "all" where it has
// no parts.
struct RegisterDifference {
    std::string_view name;
    std::string_view what;
    std::string_view why;
};

struct RegisterComparison {
    std::vector<std::string> unexpected;  // a difference that is not listed, or a listed one that is none
    std::vector<std::string> deliberate;  // the listed differences with their reasons
};

using RegisterRecords = std::map<std::string, std::string>;  // by name, without "registers."

[[nodiscard]] RegisterComparison compare_registers(const RegisterRecords& direct,
                                                   const RegisterRecords& under_l0,
                                                   const std::vector<RegisterDifference>& listed);

// What Flatback's L0 does otherwise than the emulated processor.
[[nodiscard]] const std::vector<RegisterDifference>& deliberate_register_differences();

}  // namespace flatback::tools
