#include "guests/random/steps.hpp"

#include <iterator>

#include "guests/bare/vmx_instructions.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {

constinit bool log_everything = false;

namespace {

struct Kind {
    void (*run)(Random&);
    unsigned weight;
};

constexpr Kind kinds[] = {
    {step_entry, 10},    {step_vmx_instruction, 5}, {step_control_register, 2}, {step_msr, 1},
    {step_user_port, 1}, {step_event, 2},           {step_memory, 3},           {step_fields, 2},
    {step_storm, 1},     {step_narrow, 1},
};

}  // namespace

void run_step(Random& random) {
    unsigned all = 0;
    for (const Kind& kind : kinds) all += kind.weight;
    std::uint64_t place = random.below(all);
    for (const Kind& kind : kinds) {
        if (place < kind.weight) return kind.run(random);
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
