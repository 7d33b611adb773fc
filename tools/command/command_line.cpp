#include "tools/command/command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include "tools/command/l1_plan.hpp"
#include "tools/emulator/bochs_configuration.hpp"
#include "tools/ground/hexadecimal.hpp"
#include "tools/image/depth.hpp"
#include "tools/measure/measurements.hpp"
#include "tools/watch/watch_report.hpp"

namespace flatback::tools {
namespace {

constexpr const char* exit_statuses =
    "Exit status of run --l1: 0 the guest powered off, 10 it wrote Shutdown to port 0x8900, 11 the time was "
    "up,\n"
    "12 triple fault, 13 the guest reset the machine, 14 L0 stopped, 15 a guest of Flatback's own or with\n"
    "--records reported an error, 17 it halted with interrupts off, for good;\n"
    "of every command: 1 something failed or is missing, 2 wrong arguments, 3 a bad input file, 4 a program "
    "is missing,\n"
    "5 a file cannot be written, 16 the emulator failed, 130 interrupted.";

constexpr const char* version_line = "flatback " FLATBACK_VERSION;

// As CLI11's, but for the order of the options that one needs or excludes: that is of their addresses, and
// the help texts are to be the same in every build.
class StableFormatter final : public CLI::Formatter {
public:
    std::string make_option_opts(const CLI::Option* option) const override {
        std::string text = CLI::Formatter::make_option_opts(option);
        text.erase(std::min({text.find(" Needs:"), text.find(" Excludes:"), text.size()}));
        const auto add = [&text](std::string_view label, const std::set<CLI::Option*>& others) {
            std::set<std::string> names;
            for (const CLI::Option* const other : others) names.insert(other->get_name());
            if (!names.empty()) text += fmt::format(" {}: {}", label, fmt::join(names, " "));
        };
        add("Needs", option->get_needs());
        add("Excludes", option->get_excludes());
        return text;
    }
};

constexpr unsigned longest_limit = 24 * 3600;
constexpr std::chrono::seconds depth_limit{3600};
constexpr std::uint64_t most_number = 1'000'000'000;

CLI::IsMember processor_model() {
    return CLI::IsMember{std::vector<std::string>{processor_models.begin(), processor_models.end()}};
}

// `report`: at least one file of a run, and where the page goes.
CLI::App& add_report(CLI::App& app, ReportOptions& report) {
    CLI::App& command = *app.add_subcommand("report", "make one HTML page from the JSON files of the runs");
    command.add_option("--bench", report.bench, "what flatback bench --json wrote")->type_name("FILE");
    command.add_option("--trace", report.trace, "what flatback trace --json wrote")->type_name("FILE");
    command.add_option("--machine", report.machine, "what flatback machine lat_ctx --json wrote")
        ->type_name("FILE");
    command
        .add_option("--price", report.price,
                    "what flatback machine price --json wrote (default: it is made from --bench)")
        ->type_name("FILE");
    command.add_option("--watch", report.watch, "what flatback watch --json wrote: the page leads with it")
        ->type_name("FILE");
    command
        .add_option("--conform", report.conform,
                    "what flatback conform --json wrote; several, each with a --conform, stand side by side")
        ->type_name("FILE")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    command
        .add_option("--self-test", report.self_test, "lines of self-tests (docs/boot.md), typed or scanned")
        ->type_name("FILE");
    command
        .add_option("--processor", report.processor,
                    "on which it is priced: haswell, skylake-x (default) or ice-lake")
        ->check(CLI::IsMember({"haswell", "skylake-x", "ice-lake"}));
    command.add_option("--output", report.output, "the page")->type_name("FILE")->required();
    return command;
}

CLI::App& add_image(CLI::App& app, ImageOptions& options, std::string& guest) {
    CLI::App& command = *app.add_subcommand(
        "image", "write one file that boots a PC, from BIOS or UEFI, as a CD or from a stick");
    command.add_option("--output", options.output, "the image, an ISO file")->type_name("FILE")->required();
    CLI::Option* const l1 =
        command
            .add_option("--l1", guest,
                        "your own L1, a kernel as run --l1 takes it: an entry of the menu, the first")
            ->type_name("FILE");
    command.add_option("--module", options.modules, "a module of its, as for run --l1")
        ->type_name("FILE")
        ->needs(l1)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    command.add_option("--cmdline", options.guest_command_line, "its command line")
        ->type_name("TEXT")
        ->needs(l1);
    command.add_option("--l0-cmdline", options.l0_command_line, "words for L0, in every entry")
        ->type_name("TEXT");
    command.add_flag("--linux", options.with_linux,
                     "an entry for Debian's Linux with KVM as L1 and the benchmark (some 130 MB)");
    command
        .add_option("--first", options.first,
                    "the entry that is booted where nobody chooses: own, self-test or linux (default own, "
                    "else self-test)")
        ->type_name("NAME")
        ->check(CLI::IsMember({"own", "self-test", "linux"}));
    command
        .add_option("--menu-seconds", options.menu_seconds,
                    "how long the menu waits for a choice (default 10); 0: not at all")
        ->type_name("S")
        ->check(CLI::Range(0U, 3600U));
    return command;
}

// What needs more than being stored.
struct TraceArguments {
    std::string file;
    std::string window;
    std::string json;
    std::string perfetto;
    std::string raw;
    std::uint64_t last = 0;
    std::uint64_t tsc_khz = 0;
    unsigned limit = 0;
};

CLI::App& add_trace(CLI::App& app, TraceOptions& options, TraceArguments& arguments) {
    CLI::App& command = *app.add_subcommand(
        "trace", "print what L0 recorded: exits, entries, flushes and why (docs/trace.md)");
    CLI::Option* const file =
        command.add_option("FILE", arguments.file, "a kept trace; without it the stack is booted");
    command
        .add_option("--modes", options.modes,
                    "nested-vpid of the runs, by commas (default mapped): compare where flushes appear")
        ->type_name("MODE,...")
        ->delimiter(',')
        ->check(CLI::IsMember(std::vector<std::string>{modes.begin(), modes.end()}))
        ->excludes(file);
    command
        .add_option("--payloads", options.payloads,
                    fmt::format("what L2 runs (default {}; l2-vmm --help lists all)", options.payloads))
        ->type_name("NAME,...")
        ->excludes(file);
    CLI::Option* const window =
        command.add_option("--window", arguments.window, "only from tick START on, before tick END")
            ->type_name("START:END");
    command.add_option("--last", arguments.last, "only the last events")
        ->type_name("N")
        ->check(CLI::Range(std::uint64_t{1}, most_number))
        ->excludes(window);
    command.add_option("--tsc-khz", arguments.tsc_khz, "the TSC's rate, where the file does not say it")
        ->type_name("KHZ")
        ->check(CLI::Range(std::uint64_t{1}, most_number))
        ->needs(file);
    command.add_option("--json", arguments.json, "write the events there (-: standard output)")
        ->type_name("FILE");
    command
        .add_option("--perfetto", arguments.perfetto,
                    "write a trace for https://ui.perfetto.dev there (or chrome://tracing)")
        ->type_name("FILE");
    command.add_option("--raw", arguments.raw, "keep the trace there, to be read again")->type_name("FILE");
    command
        .add_option("--timeout", arguments.limit, "seconds of wall time that each run may take (default 600)")
        ->type_name("S")
        ->check(CLI::Range(1U, longest_limit))
        ->excludes(file);
    return command;
}

Result<Command> trace_command_line(TraceOptions options, const TraceArguments& arguments) {
    const auto path = [](const std::string& text) {
        return text.empty() ? std::nullopt : std::optional<std::filesystem::path>{text};
    };
    options.file = path(arguments.file);
    options.json_file = path(arguments.json);
    options.perfetto_file = path(arguments.perfetto);
    options.raw_file = path(arguments.raw);
    if (options.modes.size() > 1 && (options.json_file || options.perfetto_file || options.raw_file))
        return fail(ExitStatus::usage, "--json, --perfetto and --raw take one trace: give one of --modes");
    // It becomes a word of the kernel's command line.
    const std::string& payloads = options.payloads;
    if (payloads.empty() ||
        payloads.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_,") != std::string::npos)
        return fail(ExitStatus::usage, fmt::format("--payloads: '{}' is no list of names", payloads));
    if (!arguments.window.empty()) {
        options.window = parse_window(arguments.window);
        if (!options.window)
            return fail(ExitStatus::usage, "--window takes START:END in ticks, END after START");
    }
    if (arguments.last != 0) options.last = arguments.last;
    if (arguments.tsc_khz != 0) options.tsc_khz = arguments.tsc_khz;
    if (arguments.limit != 0) options.limit = std::chrono::seconds{arguments.limit};
    return options;
}

struct WatchArguments {
    WatchOptions options;
    std::vector<std::string> modes;
    std::string guest = "linux";
    std::string file;
    std::string l0;
    std::string vmcs01;
    std::string keep;
    std::string json;
    unsigned limit = 0;
};

CLI::App& add_watch(CLI::App& app, WatchArguments& arguments) {
    WatchOptions& options = arguments.options;
    CLI::App& command = *app.add_subcommand(
        "watch", "look at windows of a real run for stale translations and TLB misses (docs/watch.md)");
    CLI::Option* const file = command.add_option(
        "FILE", arguments.file, "a kept text of the emulator's trace; without it the stack is booted");
    command.add_option("--mode", arguments.modes, "of the runs, by commas (default all four)")
        ->type_name("MODE,...")
        ->delimiter(',')
        ->check(CLI::IsMember({"mapped", "single", "off", "ept0"}))
        ->excludes(file);
    command
        .add_option(
            "--guest", arguments.guest,
            "linux (default): L2 Linux in lat_ctx; boot: as it boots; bare: two L2s in turn on the bare "
            "L1; probes: its probes for stale translations")
        ->check(CLI::IsMember({"linux", "boot", "bare", "probes"}))
        ->excludes(file);
    command
        .add_option(
            "--window", options.request.window,
            "instructions of each window; of Linux those behind its warming up (default 1200000; boot "
            "1000000; bare "
            "130000; probes 1000000)")
        ->type_name("N")
        ->check(CLI::Range(std::uint64_t{1000}, most_number))
        ->excludes(file);
    command
        .add_option(
            "--clock", options.request.clock_mhz,
            "of Linux's emulated processor, in MHz (default 100; run has 1000): the slower, the more timer "
            "ticks, which are L2 entries, for the same work")
        ->type_name("MHZ")
        ->check(CLI::Range(std::uint64_t{100}, std::uint64_t{10'000}))
        ->excludes(file);
    command.add_option("--tlb", options.tlb, "whose TLB counts misses (default skylake-x)")
        ->check(CLI::IsMember({"haswell", "skylake-x", "ice-lake"}));
    command.add_option("--l0", arguments.l0, "another L0 than the one that was built")
        ->type_name("FILE")
        ->excludes(file);
    command
        .add_option("--keep", arguments.keep,
                    "keep the emulator's trace there, a file a window: MODE.1.txt, MODE.2.txt, ... (some 150 "
                    "bytes an instruction)")
        ->type_name("DIRECTORY")
        ->check(CLI::ExistingDirectory)
        ->excludes(file);
    command
        .add_flag("--l0-trace", options.request.l0_records,
                  "have L0 record its flushes, and compare each with what the processor executed; recording "
                  "costs L0 some 40 instructions and a cache line an event")
        ->excludes(file);
    command
        .add_option(
            "--vmcs01", arguments.vmcs01,
            "the address of L0's VMCS for L1, which L0 tells as l0.vmcs01 (default: the one with VPID 1)")
        ->type_name("ADDRESS")
        ->needs(file);
    command.add_option("--json", arguments.json, "write what was counted there (-: standard output)")
        ->type_name("FILE");
    command
        .add_option("--timeout", arguments.limit,
                    "seconds of wall time that each run may take (default 1800)")
        ->type_name("S")
        ->check(CLI::Range(1U, longest_limit))
        ->excludes(file);
    return command;
}

Result<Command> watch_command_line(const WatchArguments& arguments) {
    WatchOptions options = arguments.options;
    WatchRequest& request = options.request;
    if (!arguments.file.empty()) options.file = arguments.file;
    if (!arguments.l0.empty()) request.l0 = arguments.l0;
    if (!arguments.keep.empty()) request.keep = arguments.keep;
    if (!arguments.json.empty()) options.json_file = arguments.json;
    if (arguments.limit != 0) request.limit = std::chrono::seconds{arguments.limit};
    if (!arguments.vmcs01.empty()) {
        options.vmcs01 = hexadecimal_number(arguments.vmcs01);
        if (!options.vmcs01)
            return fail(ExitStatus::usage,
                        fmt::format("--vmcs01: '{}' is no hexadecimal number", arguments.vmcs01));
    }
    for (const WatchedGuest guest :
         {WatchedGuest::linux_stack, WatchedGuest::linux_boot, WatchedGuest::bare, WatchedGuest::probes}) {
        if (arguments.guest == name(guest)) request.guest = guest;
    }
    const auto asked = [&arguments](std::string_view mode) {
        return std::ranges::find(arguments.modes, mode) != arguments.modes.end();
    };
    const bool with_ept0 = is_linux(request.guest);
    if (request.clock_mhz && !with_ept0)
        return fail(ExitStatus::usage,
                    "--clock is of --guest linux and boot: nothing else has a timer's ticks");
    if (!with_ept0 && asked("ept0"))
        return fail(ExitStatus::usage, "--mode ept0 is of --guest linux and boot: the bare L1 has EPT");
    // One run a mode, in their order.
    for (const std::string_view mode : watched_modes) {
        if (arguments.modes.empty() ? with_ept0 || mode != "ept0" : asked(mode))
            request.modes.emplace_back(mode);
    }
    return options;
}

struct ConformArguments {
    ConformOptions options;
    bool no_costs = false;
    std::string l0;
    std::string json;
    std::string junit;
    unsigned memory = 0;
    unsigned limit = 0;
};

CLI::App& add_conform(CLI::App& app, ConformArguments& arguments) {
    CLI::App& command = *app.add_subcommand(
        "conform", "check and time a hypervisor's nested VT-x, by section of the SDM (docs/conformance.md)");
    command
        .add_option(
            "--under", arguments.options.under,
            "what is checked: flatback (default), kvm of Debian's Linux, Debian's xen, direct, the emulator "
            "itself, or an ISO image that boots a hypervisor with build/guests/bare/bare-l1.elf as its "
            "guest, whose "
            "command line is: check bench rules")
        ->type_name("TARGET");
    command
        .add_option("--only", arguments.options.only,
                    "one part of the checks, or with a * at its end all whose names begin so: stale*")
        ->type_name("PART");
    command
        .add_option("--l0-cmdline", arguments.options.l0_command_line,
                    "the words of Flatback's L0: nested-vpid=single, ...")
        ->type_name("TEXT");
    command.add_flag("--no-costs", arguments.no_costs, "checks alone, without timings");
    command.add_option("--l0", arguments.l0, "another L0 of Flatback's than the one that was built")
        ->type_name("FILE");
    command
        .add_option("--cpu", arguments.options.processor,
                    "the model of the emulated processor, as for run (default corei7_skylake_x)")
        ->type_name("MODEL")
        ->check(processor_model());
    command.add_option("--memory", arguments.memory, "the machine's memory with an ISO image (default 1024)")
        ->type_name("MB")
        ->check(CLI::Range(least_memory, most_memory));
    command.add_option("--json", arguments.json, "write the results there (-: standard output)")
        ->type_name("FILE");
    command.add_option("--junit", arguments.junit, "write them there as JUnit's XML, for a CI system")
        ->type_name("FILE");
    command.add_option("--timeout", arguments.limit, "seconds of wall time that it may take (default 1800)")
        ->type_name("S")
        ->check(CLI::Range(1U, longest_limit));
    return command;
}

Result<Command> conform_command_line(const ConformArguments& arguments) {
    ConformOptions options = arguments.options;
    options.costs = !arguments.no_costs;
    if (!arguments.l0.empty()) options.l0 = arguments.l0;
    if (!arguments.json.empty()) options.json_file = arguments.json;
    if (!arguments.junit.empty()) options.junit_file = arguments.junit;
    if (options.json_file == options.junit_file && options.json_file)
        return fail(ExitStatus::usage, "--json and --junit name the same file");
    constexpr std::array<std::string_view, 4> names{"flatback", "kvm", "xen", "direct"};
    if (std::ranges::find(names, options.under) == names.end()) {
        std::error_code ignored;
        if (!std::filesystem::is_regular_file(options.under, ignored))
            return fail(ExitStatus::usage, fmt::format("--under: '{}' is neither {} nor a file",
                                                       options.under, fmt::join(names, ", ")));
        options.image = std::exchange(options.under, "image");
        // What it boots was decided when it was made.
        if (arguments.no_costs || !options.only.empty())
            return fail(ExitStatus::usage,
                        "--only and --no-costs are words of the bare L1's command line, which the image has");
    }
    if (arguments.memory != 0) {
        if (!options.image) return fail(ExitStatus::usage, "--memory is for --under ISO");
        options.memory = arguments.memory;
    }
    if (options.under != "flatback" && (!options.l0_command_line.empty() || options.l0))
        return fail(ExitStatus::usage, "--l0 and --l0-cmdline are for --under flatback");
    TRY(check_l0_words(options.l0_command_line));
    // It becomes a word of the guest's command line.
    if (options.only.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-*") != std::string::npos)
        return fail(ExitStatus::usage, fmt::format("--only: '{}' is no name of a part", options.only));
    if (arguments.limit != 0) options.limit = std::chrono::seconds{arguments.limit};
    return options;
}

struct RandomArguments {
    unsigned minutes = 0;
    std::string l0;
    std::string logs;
    RandomOptions options;
};

// Options of `test`: nothing but random L1s.
void add_random(CLI::App& tests, RandomArguments& arguments) {
    CLI::Option* const random =
        tests
            .add_option(
                "--random", arguments.minutes,
                "instead, compare random L1s under L0 and without it, for some minutes (docs/random.md)")
            ->type_name("MINUTES")
            ->check(CLI::Range(1U, longest_limit / 60));
    tests.add_option("--seed", arguments.options.seed, "of the random L1s (default 1)")
        ->type_name("N")
        ->needs(random);
    tests.add_option("--first", arguments.options.first, "the first case (default 0)")
        ->type_name("N")
        ->needs(random);
    tests
        .add_option("--without", arguments.options.without,
                    "a kind of steps that is left out: narrow, storm, ...")
        ->type_name("KIND")
        ->needs(random);
    tests.add_option("--cases", arguments.options.most_cases, "no more than these")
        ->type_name("N")
        ->needs(random);
    tests.add_option("--l0-cmdline", arguments.options.l0_command_line, "the words of L0's command line")
        ->type_name("TEXT")
        ->needs(random);
    tests.add_option("--l0", arguments.l0, "another L0 than the one that was built")
        ->type_name("FILE")
        ->needs(random);
    tests.add_option("--logs", arguments.logs, "a folder for the logs of all boots")
        ->type_name("DIRECTORY")
        ->needs(random);
}

std::optional<RandomOptions> random_options(const RandomArguments& arguments) {
    if (arguments.minutes == 0) return std::nullopt;
    RandomOptions options = arguments.options;
    options.time = std::chrono::minutes{arguments.minutes};
    if (!arguments.l0.empty()) options.l0 = arguments.l0;
    if (!arguments.logs.empty()) options.logs = arguments.logs;
    return options;
}

}  // namespace

Result<Command> parse_command_line(std::span<char* const> arguments) {
    // It has a command line of its own, in a program of its own.
    if (arguments.size() > 1 && arguments[1] == std::string_view{"machine"})
        return MachineOptions{{arguments.begin() + 2, arguments.end()}};
    CLI::App app{"Flatback: nested VT-x with every guest hypervisor's VPIDs on real TLB tags.", "flatback"};
    app.formatter(std::make_shared<StableFormatter>());
    app.set_version_flag("--version", version_line);
    app.require_subcommand(1);
    app.footer(exit_statuses);

    BootOptions boot;
    StackOptions stack;
    TestOptions test;
    ReportOptions report;
    std::string guest;
    std::string serial;
    std::string disk;
    std::string screen;
    std::string traced_run;
    std::string ground;
    std::string firmware;
    std::string json;
    unsigned limit = 0;

    CLI::App& run = *app.add_subcommand(
        "run", "boot the whole stack and print its table; with --l1, boot that kernel as L1");
    run.footer(exit_statuses);
    CLI::Option* const l1 =
        run.add_option(
               "--l1", guest,
               "a Linux bzImage or vmlinux of 64 bits or a Multiboot kernel, 1 or 2, compressed or not")
            ->type_name("FILE");
    run.add_option("--module", boot.modules,
                   "a module of L1's: for Linux its initramfs; for Multiboot \"FILE TEXT\" works too")
        ->type_name("FILE")
        ->needs(l1)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    run.add_option(
           "--cmdline", boot.guest_command_line,
           "L1's command line. The emulated TSC runs at 100 MHz, which CPUID does not say: give a Linux "
           "tsc_early_khz=100000, and console=ttyS0,115200 to see it")
        ->type_name("TEXT")
        ->needs(l1);
    run.add_option("--l0-cmdline", boot.l0_command_line,
                   "nested-vpid=mapped|single|off shadow-vmcs=on|off hypervisor=on|off vpid=on|off "
                   "huge-pages=on|off cpus=N vm2=on|off demands=on|off x2apic=on|off apicv=on|off "
                   "hlt-state=on|off uefi-runtime=on|off "
                   "trace=on|off "
                   "log=quiet|info|debug "
                   "console=serial|screen|both|quiet "
                   "(default log=debug)")
        ->type_name("TEXT")
        ->needs(l1);
    run.add_option(
           "--vm2", boot.second_vm,
           "a Multiboot kernel, perhaps with its command line behind a space, as a second VM on the same "
           "processor; its serial output is L0's lines [vm2]")
        ->type_name("FILE")
        ->needs(l1);
    bool two_vms = false;
    run.add_flag("--two-vms", two_vms,
                 "instead, two bare L1s that share a processor: their checks, and what a switch costs")
        ->excludes(l1);
    run.add_option("--memory", boot.memory, "the machine's memory (default 1024)")
        ->type_name("MB")
        ->needs(l1)
        ->check(CLI::Range(least_memory, most_memory));
    run.add_option("--cpu", boot.processor, "the model of the emulated processor (default corei7_skylake_x)")
        ->needs(l1)
        ->check(processor_model());
    run.add_option("--cpus", boot.processors,
                   "how many processors the machine has (default 1); L1 gets all of them (L0's word cpus=N: "
                   "so many). "
                   "Without --l1, more than 1: another table, of what several processors cost")
        ->type_name("N")
        ->check(CLI::Range(1U, most_processors));
    run.add_option("--disk", disk, "a raw image as the second drive, behind the CD; L1 may write to it")
        ->type_name("FILE")
        ->needs(l1);
    run.add_option(
           "--on", ground,
           "bochs (default), or by QEMU: kvm, your own processor by /dev/kvm, with times in its cycles; "
           "qemu-tcg, which has no VT-x and shows how the boot ends in L0's refusal")
        ->type_name("NAME")
        ->needs(l1)
        ->check(CLI::IsMember({"bochs", "kvm", "qemu-tcg"}));
    run.add_option("--firmware", firmware, "bios (default) or uefi")
        ->type_name("NAME")
        ->needs(l1)
        ->check(CLI::IsMember({"bios", "uefi"}));
    unsigned depth = 0;
    CLI::Option* const depths =
        run.add_option("--depth", depth,
                       "Flatback on Flatback: without --l1, what exits cost and which checks pass above 1 to "
                       "N of them (some "
                       "minutes for 2, much longer for 3); with --l1, that kernel above N of them");
    depths->type_name("N")->check(CLI::Range(1U, most_levels));
    std::string beneath;
    run.add_option("--beneath", beneath,
                   "kvm: Flatback as a guest of Debian's Linux with KVM and QEMU, in the emulated machine: "
                   "without --l1, what exits cost and which checks pass there (some minutes); with --l1, "
                   "that kernel above the two")
        ->type_name("NAME")
        ->check(CLI::IsMember({"kvm"}))
        ->excludes(depths);
    CLI::Option* const interactive =
        run.add_flag("--interactive", boot.interactive,
                     "COM1 on this terminal: what is typed goes to L1; Ctrl-A x ends")
            ->needs(l1);
    run.add_flag("--debug", boot.debug,
                 "the emulator's debugger on this terminal, with the symbols of L1's ELF file; COM1 goes to "
                 "--serial")
        ->needs(l1)
        ->excludes(interactive);
    run.add_option("--screen", screen, "what the screen shows at the end, as a PNG file")
        ->type_name("FILE")
        ->needs(l1);
    run.add_option(
           "--trace", traced_run,
           "every instruction and access between two XCHG BX, BX of L1's or its guests', L0's among them, "
           "some 150 bytes each; flatback watch reads it")
        ->type_name("FILE")
        ->needs(l1)
        ->excludes("--debug");
    run.add_option(
           "--timeout", limit,
           "seconds of wall time that each run may take (default 300; 900 without --l1, 3600 with --depth "
           "and --beneath; a day with --interactive or --debug)")
        ->type_name("S")
        ->check(CLI::Range(1U, longest_limit));
    run.add_option("--serial", serial,
                   "where the serial output goes, byte by byte as it comes (default: standard output, with "
                   "control characters made visible)")
        ->type_name("FILE")
        ->needs(l1);
    run.add_option("--json", json, "write what was measured there (-: standard output)")->type_name("FILE");
    run.add_flag("--direct", boot.direct, "without L0: the same guest on the emulated machine itself")
        ->needs(l1)
        ->excludes(depths)
        ->excludes("--beneath");
    run.add_flag(
           "--records", boot.records,
           "the lines FLATBACK … that L1 prints are records of what it measured and checked, as those of "
           "Flatback's own guests are")
        ->needs(l1);

    BenchOptions bench;
    std::string peer;
    CLI::App& benchmark = *app.add_subcommand(
        "bench", "lat_ctx in L2 Linux on the whole stack, beside bare Linux and, where asked for, a peer");
    CLI::Option* const with_peer = benchmark.add_option(
        "--peer", peer,
        "kvm: the same L1 and L2 on Debian's Linux with KVM as L0, in the same emulated machine");
    with_peer->type_name("NAME")->check(CLI::IsMember({"kvm"}));
    benchmark
        .add_option(
            "--cpus", bench.processors,
            "how many processors the machine and L1 have (default 1); more than 1: instead, the table "
            "of run --cpus N with the peer's figures beside")
        ->type_name("N")
        ->needs(with_peer)
        ->check(CLI::Range(1U, most_processors));
    benchmark.add_option("--json", json, "write what was measured there (-: standard output)")
        ->type_name("FILE");
    benchmark
        .add_option("--only", bench.only,
                    "only the runs whose name holds this text; prints their serial output, and no table")
        ->type_name("TEXT");
    benchmark.add_option("--timeout", limit, "seconds of wall time that each run may take (default 1500)")
        ->type_name("S")
        ->check(CLI::Range(1U, longest_limit));

    CLI::App& tests = *app.add_subcommand("test", "run every test; the last line is N passed, N failed");
    CLI::Option* const filter =
        tests.add_option("--filter", test.filter, "only the tests whose name holds this text")
            ->type_name("TEXT");
    CLI::Option* const quick = tests.add_flag("--quick", test.quick, "without the Linux stack");
    CLI::Option* const coverage = tests
                                      .add_flag("--coverage", test.coverage,
                                                "instead, print which lines of tag/, nested/ and host/ their "
                                                "hosted tests run; at least 95 % each")
                                      ->excludes(filter)
                                      ->excludes(quick);
    tests
        .add_flag(
            "--foreign", test.foreign,
            "instead, boot programs of others: Xen with its guests, memtest86+, other kernels of Debian's")
        ->excludes(quick)
        ->excludes(coverage);
    tests.add_option("--json", json, "write the coverage there (-: standard output)")
        ->type_name("FILE")
        ->needs(coverage);
    RandomArguments random;
    add_random(tests, random);

    ConformArguments conform;
    const CLI::App& conforms = add_conform(app, conform);
    const CLI::App& report_of = add_report(app, report);

    ImageOptions image;
    const CLI::App& images = add_image(app, image, guest);

    TraceOptions trace;
    TraceArguments trace_arguments;
    CLI::App& traced = add_trace(app, trace, trace_arguments);

    WatchArguments watch;
    const CLI::App& watched = add_watch(app, watch);

    app.add_subcommand("machine",
                       "a software VT-x processor whose TLB forgets nothing, and the engine on it");
    const CLI::App& docs = *app.add_subcommand(
        "docs",
        "write the reference of the library's interface, by Doxygen, to docs/reference/ in the build folder");
    const CLI::App& clean = *app.add_subcommand(
        "clean", "remove the build folder with all that was downloaded and built; says how much it took");
    for (CLI::App* const command : app.get_subcommands({}))
        command->set_version_flag("--version", version_line);

    try {
        app.parse(static_cast<int>(arguments.size()), arguments.data());
    } catch (const CLI::CallForHelp&) {
        return Information{app.help()};
    } catch (const CLI::CallForAllHelp&) {
        return Information{app.help("", CLI::AppFormatMode::All)};
    } catch (const CLI::CallForVersion&) {
        return Information{fmt::format("{}\n", version_line)};
    } catch (const CLI::ParseError& error) {
        return fail(ExitStatus::usage, fmt::format("{} (see flatback --help)", error.what()));
    }

    if (docs.parsed()) return fail(ExitStatus::usage, "docs is for the script ./flatback");
    if (clean.parsed())
        return fail(ExitStatus::usage, "clean is for the script ./flatback: it removes this program too");
    if (tests.parsed()) {
        if (!json.empty()) test.json_file = json;
        test.random = random_options(random);
        return test;
    }
    if (conforms.parsed()) return conform_command_line(conform);
    if (report_of.parsed()) {
        if (report.bench || report.trace || report.machine || report.price || report.self_test ||
            report.watch || !report.conform.empty())
            return report;
        return fail(
            ExitStatus::usage,
            "report needs at least one of --bench, --trace, --machine, --price, --watch, --conform and "
            "--self-test (see flatback report --help)");
    }
    if (images.parsed()) {
        if (!guest.empty()) image.guest = guest;
        return image;
    }
    if (watched.parsed()) return watch_command_line(watch);
    if (traced.parsed()) return trace_command_line(std::move(trace), trace_arguments);
    if (benchmark.parsed()) {
        bench.with_kvm = !peer.empty();
        if (limit != 0) bench.limit = std::chrono::seconds{limit};
        if (!json.empty()) bench.json_file = json;
        return bench;
    }
    if (two_vms) {
        TwoVmsOptions options;
        if (limit != 0) options.limit = std::chrono::seconds{limit};
        if (!json.empty()) options.json_file = json;
        return options;
    }
    if (l1->count() == 0) {
        stack.processors = boot.processors;
        if (limit != 0) stack.limit = std::chrono::seconds{limit};
        if (!json.empty()) stack.json_file = json;
        if (depth != 0) stack.depth = depth;
        stack.above_kvm = !beneath.empty();
        if ((stack.depth || stack.above_kvm) && limit == 0) stack.limit = depth_limit;
        return stack;
    }
    boot.guest = guest;
    if (depth != 0) boot.depth = depth;
    boot.above_kvm = !beneath.empty();
    boot.on = ground == "kvm" ? Ground::kvm : ground == "qemu-tcg" ? Ground::qemu_tcg : Ground::bochs;
    if (firmware == "uefi") boot.firmware = Firmware::uefi;
    // The processor of the others is not chosen.
    if (boot.on != Ground::bochs && boot.processor != usual_processor)
        return fail(ExitStatus::usage, "--cpu names a model of Bochs'");
    if (!boot.second_vm.empty() && boot.direct)
        return fail(ExitStatus::usage, "--vm2 is L0's: --direct boots without it");
    if (boot.interactive || boot.debug) boot.limit = std::chrono::seconds{longest_limit};
    if (limit != 0) boot.limit = std::chrono::seconds{limit};
    if (!serial.empty()) boot.serial_file = serial;
    if (!disk.empty()) boot.disk = disk;
    if (!screen.empty()) boot.screen_file = screen;
    if (!traced_run.empty()) boot.trace_file = traced_run;
    if (!json.empty()) boot.json_file = json;
    return boot;
}

}  // namespace flatback::tools
