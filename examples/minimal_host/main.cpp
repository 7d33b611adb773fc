// A machine, a hypervisor on it, a guest hypervisor in that, and two guests in this one.
#include <cstdio>
#include <flatback/version.hpp>

#include "host.hpp"
#include "l1.hpp"

using namespace minimal_host;

int main() {
    machine::Machine processor{{}};
    Host host{processor};
    const auto l1_page = [&](std::uint64_t address) { return host.l1_page(address); };
    load_l1(l1_page);

    std::printf("L1 and its guests, on flatback %s\n", FLATBACK_VERSION);
    const auto execute = [&](const machine::Instruction& instruction) {
        return static_cast<VirtualCpu::Ended>(host.execute(instruction));
    };
    const bool good = run_l1({processor, execute, l1_page});

    const nested::Counters& counted = host.vcpu().counters();
    std::printf("  %ju entries of L2, %ju exits shown to L1, %ju INVVPIDs of the hardware's for L2s\n",
                counted.l2_entries, counted.exits_reflected, counted.l2_tag_flushes);
    std::printf("  on the host's console: \"%s\"; %u ticks of its timer\n", host.console().c_str(),
                host.ticks());
    // What the processor would have left undefined: two of one VMCS, and the like.
    for (const std::string& misuse : processor.misuse()) std::printf("  misuse: %s\n", misuse.c_str());
    return good && processor.misuse().empty() ? 0 : 1;
}
