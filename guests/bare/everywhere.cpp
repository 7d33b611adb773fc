#include "guests/bare/everywhere.hpp"

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/beside.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/forget.hpp"
#include "guests/bare/l1/interrupts.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/vmcs.hpp"

namespace flatback::guests {
namespace {

constexpr unsigned all_are_there = 0;
constexpr unsigned all_have_ended = 1;

void run_parts(const Options& options, Part::Beside beside, unsigned limit) {
    for (const Part& part : all_checks()) {
        if (part.beside != beside || !options.selects(part.name) || options.skips(part.name)) continue;
        forget_all_vpids();
        forget_all_epts();
        const CheckCounts before = checks_counted();
        run_part(part, limit);
        const CheckCounts after = checks_counted();
        if (after.failed != before.failed || after.passed == before.passed) continue;
        Line name;
        name << "part-" << part.name;
        report_passed_part(name.text());
    }
}

// The watchdog is the machine's one real-time clock: it guards only whoever's turn it is.
void run_as(beside::Shared& shared, std::uint32_t processor, const Options& options) {
    constexpr unsigned no_limit = 0;
    beside::meet(shared, all_are_there);
    run_parts(options, Part::Beside::at_once, no_limit);
    shared.end[processor] = read_tsc();
    beside::meet(shared, all_have_ended);
    beside::wait_for_turn(shared, processor);
    run_parts(options, Part::Beside::by_turns, options.limit());
    Line key;
    key << "everywhere.checks_passed.cpu" << std::uint64_t{processor};
    report_value(key.text(), checks_counted().passed);
    beside::end_turn(shared);
    beside::wait_for_turn(shared, shared.processors);
}

void tell_exceptions(const Options& options) {
    for (const Part& part : all_checks()) {
        if (part.beside == Part::Beside::at_once || !options.selects(part.name)) continue;
        Line key;
        key << (part.beside == Part::Beside::by_turns ? "everywhere.by_turns." : "everywhere.left_out.")
            << part.name;
        report_text(key.text(), part.why_not);
    }
}

}  // namespace

std::string_view run_everywhere(std::uint32_t information, const Options& options) {
    const auto [wrong, shared] = beside::start_copies(information);
    if (shared == nullptr) return wrong;
    report_value("everywhere.processors", shared->processors);
    tell_exceptions(options);
    const std::uint64_t begin = read_tsc();
    run_as(*shared, 0, options);
    for (unsigned processor = 0; processor < shared->processors; ++processor) {
        Line key;
        key << "everywhere.ticks_at_once.cpu" << std::uint64_t{processor};
        report_value(key.text(), shared->end[processor] - begin);
    }
    return {};
}

// Where a copy begins, on a processor of its own.
extern "C" [[noreturn]] void beside_main(beside::Shared* shared, std::uint32_t processor) {
    constexpr std::uint32_t msr_gs_base = 0xC0000101;
    write_msr(msr_gs_base, 0);
    beside::share_lines(*shared, processor);
    start_interrupts();
    boot_information = MultibootInformation{shared->boot_information};
    const Options options{boot_information.command_line()};
    capabilities = read_capabilities();
    if (options.on_bochs()) tell_of_bochs();
    if (options.rules()) tell_rules();
    start_local_apic();
    usual_ept();
    if (!enter_vmx_operation()) {
        report_error("bare-l1", "VMXON failed on another processor");
        power_off();
    }
    run_as(*shared, processor, options);
    for (;;) asm volatile("cli; hlt");
}

}  // namespace flatback::guests
