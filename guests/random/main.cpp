// The random L1: hypervisors made from seeds, whose every result can be compared with another machine's.

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/multiboot.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/serial.hpp"
#include "guests/random/deviations.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/log.hpp"
#include "guests/random/options.hpp"
#include "guests/random/promise.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint32_t multiboot_loader_magic = 0x2BADB002;

[[noreturn]] void refuse(std::string_view why) {
    report_error("random", why);
    power_off();
}

void run_case(const Options& options, std::uint64_t number, std::uint64_t mask) {
    log_place.case_number = number;
    log_place.step = 0;
    log_everything = options.everything || options.everything_of == number;
    if (!reset_world()) refuse("VMXON failed");
    end_virtual_nmi_blocking();
    if (!reset_world()) refuse("VMXON failed");
    Random preparation{options.seed, number, most_steps};
    prepare_guests(preparation);
    // From here on only what the steps change is shown.
    if (log_everything) remember_memory();
    for (std::uint64_t step = 0; step < options.steps && !world.case_over; ++step) {
        if ((mask >> step & 1) == 0) continue;
        log_place.step = step;
        Random random{options.seed, number, step};
        run_step(random);
    }
}

}  // namespace

extern "C" void bare_main(std::uint32_t magic, std::uint32_t information) {
    start_serial();
    report_stage("random");
    load_descriptor_tables();
    if (magic != multiboot_loader_magic) refuse("not started by a Multiboot 1 loader");
    boot_information = MultibootInformation{information};
    const Options options = parse_options(boot_information.command_line());
    if (!options.good) refuse("bad command line");
    if ((cpuid(1).ecx >> 5 & 1) == 0) refuse("CPUID: no VMX");
    if ((read_msr(msr_feature_control) & 5) != 5) refuse("IA32_FEATURE_CONTROL: VMXON not allowed");
    capabilities = read_capabilities();
    if (!options.promise.empty()) take_promise(options.promise);
    Line promise;
    put_promise(promise);
    report_text("random.promise", promise.text());
    start_local_apic();
    // Who tells what an L0 promised compares with one that is not there.
    make_world(options.promise.empty());
    step_left_out = options.without;
    for (std::uint64_t number = options.first; number < options.first + options.cases; ++number) {
        for (unsigned variant = 0; variant < options.variants; ++variant) {
            log_place.variant = variant;
            run_case(options, number, options.masks[variant]);
        }
    }
    report_deviations();
    report_end();
    power_off();
}

}  // namespace flatback::guests
