// The bare L1: a hypervisor without an operating system, for checks and timings of VMX.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/registers.hpp"
#include "guests/bare/everywhere.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/multiboot.hpp"
#include "guests/bare/l1/options.hpp"
#include "guests/bare/l1/pvh.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/report_listener.hpp"
#include "guests/bare/l1/result_screen.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/self_test_line.hpp"
#include "guests/bare/l1/serial.hpp"
#include "guests/bare/l1/vmcs.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint32_t multiboot_loader_magic = 0x2BADB002;

[[noreturn]] void refuse(std::string_view why) {
    report_error("bare-l1", why);
    power_off();
}

// The hypervisor beneath by the twelve characters of its CPUID leaf; without one, the emulator or a
// processor.
void report_beneath() {
    if (under_flatback()) return report_text("bare_l1.under", "flatback");
    if (!under_a_hypervisor())
        return report_text("bare_l1.under", directly_on_bochs() ? "bochs" : "processor");
    const CpuidResult leaf = cpuid(0x40000000);
    char signature[12];
    for (unsigned i = 0; i < sizeof signature; ++i) {
        const std::uint32_t word = i < 4 ? leaf.ebx : i < 8 ? leaf.ecx : leaf.edx;
        const auto character = static_cast<char>(word >> (i % 4 * 8));
        signature[i] = character > ' ' && character < 0x7F ? character : '.';
    }
    report_text("bare_l1.under", {signature, sizeof signature});
}

bool run_parts(std::span<const Part> parts, const Options& options) {
    bool any = false;
    for (const Part& part : parts) {
        if (!options.selects(part.name)) continue;
        any = true;
        if (options.skips(part.name)) {
            report_text("bare_l1.skipped", part.name);
            continue;
        }
        // Parts use the same VPIDs, and their hierarchies and page tables the same pages.
        forget_all_vpids();
        forget_all_epts();
        if (options.rules()) report_text("bare_l1.part", part.name);
        run_part(part, options.limit());
    }
    return any;
}

}  // namespace

extern "C" void bare_main(std::uint32_t magic, std::uint32_t information) {
    if (magic == pvh_magic) {
        use_debug_port();
    } else {
        start_serial();
    }
    report_stage("bare-l1");
    start_interrupts();
    if (magic == pvh_magic) {
        information = multiboot_information_of_pvh(information);
    } else if (magic != multiboot_loader_magic) {
        refuse("not started by a Multiboot 1 loader, nor by PVH");
    }
    boot_information = MultibootInformation{information};
    const Options options{boot_information.command_line()};
    if (!options.good()) refuse("bad command line");
    record_listener = keep_for_self_test;
    if (options.screen()) show_results_on_screen();
    if (options.iterations() != 0) bench_iterations = options.iterations();

    if ((cpuid(1).ecx >> 5 & 1) == 0) refuse("CPUID: no VMX");
    if ((read_msr(msr_feature_control) & 5) != 5) refuse("IA32_FEATURE_CONTROL: VMXON not allowed");
    capabilities = read_capabilities();
    if (options.on_bochs()) tell_of_bochs();
    if (options.rules()) tell_rules();
    report_beneath();
    start_local_apic();
    usual_ept();  // before any PageScope: it stays
    if (!enter_vmx_operation()) refuse("VMXON failed");

    bool any = false;
    if (options.everywhere()) {
        if (const std::string_view wrong = run_everywhere(information, options); !wrong.empty())
            refuse(wrong);
        report_end();
        power_off();
    }
    if (options.check()) any |= run_parts(all_checks(), options);
    if (options.names_a_part()) {
        any |= run_parts(hanging_parts(), options);
        any |= run_parts(broken_parts(), options);
        any |= run_parts(l0_stopping_parts(), options);
        any |= run_parts(second_processor_parts(), options);
    }
    if (options.bench()) any |= run_parts(all_benches(), options);
    if (options.bench() && options.names_a_part()) any |= run_parts(named_benches(), options);
    if (options.registers()) {
        record_registers();
        any = true;
    }
    if (!any) refuse("nothing was selected");
    report_self_test();
    report_end();
    power_off();
}

}  // namespace flatback::guests
