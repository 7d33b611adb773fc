#include "guests/random/steps.hpp"

#include <iterator>
#include <string_view>

#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {

constinit bool log_everything = false;
constinit std::string_view step_left_out;

namespace {

struct Kind {
    std::string_view name;
    void (*run)(Random&);
    unsigned weight;
};

constexpr Kind kinds[] = {
    {"entry", step_entry, 10},
    {"vmx_instruction", step_vmx_instruction, 5},
    {"control_register", step_control_register, 2},
    {"msr", step_msr, 1},
    {"user_port", step_user_port, 1},
    {"event", step_event, 2},
    {"memory", step_memory, 3},
    {"fields", step_fields, 2},
    {"storm", step_storm, 1},
    {"ticks", step_ticks, 1},
    {"narrow", step_narrow, 1},
};

}  // namespace

void run_step(Random& random) {
    unsigned all = 0;
    for (const Kind& kind : kinds) all += kind.weight;
    std::uint64_t place = random.below(all);
    for (const Kind& kind : kinds) {
        if (place < kind.weight) {
            if (kind.name != step_left_out) kind.run(random);
            return;
        }
        place -= kind.weight;
    }
}

void make_a_guest_current() {
    if (!world.in_vmx_operation) {
        const std::uint64_t region = physical(world.vmxon);
        if (try_vmxon(&region) != vm_succeed) return;
        world.in_vmx_operation = true;
    }
    if (current_vmcs() < 2) return;
    const std::uint64_t address = physical(world.vmcs[0]);
    vmptrld(address);
}

}  // namespace flatback::guests
