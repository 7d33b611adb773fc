// The broken rules of each group, so that one test can see that no rule is without one.
#pragma once

#include <vector>

#include "tests/nested_entry_checks/sample_vmcs.hpp"

namespace flatback::nested::testing_entry {

const std::vector<BrokenRule>& broken_control_rules();
const std::vector<BrokenRule>& broken_host_rules();
const std::vector<BrokenRule>& broken_guest_rules();

}  // namespace flatback::nested::testing_entry
