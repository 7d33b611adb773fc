#include "tools/image/depth.hpp"

#include <utility>

namespace flatback::tools {

// An L0 takes its first module for L1, and the others for that one's.
void stack_levels(BootPlan& plan, unsigned levels, std::string_view words) {
    for (; plan.levels < levels; ++plan.levels) {
        plan.modules.insert(plan.modules.begin(), {plan.guest, std::move(plan.guest_command_line)});
        plan.guest = *plan.l0;
        plan.guest_kind = KernelKind::multiboot1;
        plan.guest_command_line = words;
    }
}

}  // namespace flatback::tools
