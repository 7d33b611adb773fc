#include "tools/check/boot_tests.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "tools/check/register_records.hpp"
#include "tools/emulator/bochs_configuration.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/measure/measurements.hpp"
#include "tools/stack/peer_guest.hpp"
#include "tools/stack/progress.hpp"
#include "tools/stack/stack_runs.hpp"
#include "tools/trace/trace_file.hpp"
#include "tools/trace/trace_view.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view bare_direct_name = "boot.bare.direct";
constexpr std::chrono::seconds short_limit{30};
constexpr std::chrono::seconds bare_limit{240};
constexpr std::chrono::seconds linux_limit{600};

// A run, and what makes it a success.
struct BootTest {
    QueuedRun run;
    // Where it must end in one way, and (for L0's refusals) with a word in what was said; otherwise the guest
    // must come to its end, with `stages` reached, at least one check reported, and no error.
    std::optional<Ending> ending;
    std::string_view word;
    std::vector<std::string> stages;
    // Where the run's values are judged too: what is wrong with them; empty where nothing. Instead of checks
    // that the guest reports.
    std::string (*judge_values)(const RunValues& values) = nullptr;
    // The checks of this run that must fail, and no others.
    std::vector<std::string_view> failing = {};
    // L1 shuts its processor down, which is a triple fault with L0 and without.
    bool shuts_down = false;
    // What must stand in the serial output.
    std::vector<std::string_view> printed = {};
};

std::filesystem::path endings_kernel() {
    return build_directory() / "tests" / "tools" / "endings.elf";
}

// Each ending of a run that the command tells apart, which is the same without L0 and with it.
void add_endings(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* command_line;
        Ending ending;
        std::string_view word;
    };
    constexpr std::array<Case, 7> cases{{{"shutdown", "s", Ending::shutdown, ""},
                                         {"power-off", "p", Ending::power_off, ""},
                                         {"triple-fault", "t", Ending::triple_fault, "(triple_fault+0x"},
                                         {"reset", "r", Ending::reset, ""},
                                         {"keyboard-reset", "k", Ending::reset, ""},
                                         {"halted", "c", Ending::halted, "(halt+0x"},
                                         {"forged-records", "f", Ending::shutdown, ""}}};
    for (const Case& each : cases) {
        for (const bool beneath : {false, true}) {
            EmulationRequest request;
            if (beneath) request.plan.l0 = l0_image();
            request.plan.l0_command_line = "log=quiet";
            request.plan.guest = endings_kernel();
            request.plan.guest_command_line = each.command_line;
            request.memory = beneath ? bare_memory : least_memory;
            request.limit = short_limit;
            request.guest_records = false;
            tests.push_back(
                {{fmt::format("boot.ending.{}{}", each.name, beneath ? ".beneath" : ""), std::move(request)},
                 each.ending,
                 each.word,
                 {}});
        }
    }
}

// What L0 must refuse, with one line that says why.
void add_refusals(std::vector<BootTest>& tests, const std::filesystem::path& damaged_guest) {
    struct Case {
        const char* name;
        const char* processor;
        const char* l0_command_line;
        bool damaged;
        std::string_view word;
    };
    const std::array<Case, 4> cases{{
        {"boot.refusal.processor-without-vmx", "ryzen", "log=quiet", false, "VT-x"},
        {"boot.refusal.processor-without-ept", "core2_penryn_t9600", "log=quiet", false, "EPT"},
        {"boot.refusal.damaged-guest", usual_processor.data(), "log=quiet", true, ""},
        {"boot.refusal.unknown-option", usual_processor.data(), "nested-vpid=sometimes", false,
         "nested-vpid"},
    }};
    for (const Case& each : cases) {
        EmulationRequest request;
        request.plan.l0 = l0_image();
        request.plan.l0_command_line = each.l0_command_line;
        request.plan.guest = each.damaged ? damaged_guest : endings_kernel();
        request.plan.guest_command_line = "s";
        request.memory = bare_memory;
        request.processor = each.processor;
        request.limit = short_limit;
        tests.push_back({{each.name, std::move(request)}, Ending::l0_stopped, each.word, {}});
    }
}

// The bare L1's checks of every VMX instruction, on L0 in each of its modes and on the emulated processor
// itself: the same program must find the same rules.
void add_bare(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* l0_command_line;  // none: no L0
    };
    constexpr std::array<Case, 5> cases{{
        {"boot.bare.mapped", "nested-vpid=mapped shadow-vmcs=on log=quiet"},
        {"boot.bare.mapped-no-shadow-vmcs", "nested-vpid=mapped shadow-vmcs=off log=quiet"},
        {"boot.bare.single", "nested-vpid=single log=quiet"},
        {"boot.bare.off", "nested-vpid=off log=quiet"},
        {bare_direct_name.data(), nullptr},
    }};
    for (const Case& each : cases) {
        std::vector<std::string> stages{"bare-l1"};
        if (each.l0_command_line != nullptr) stages.insert(stages.begin(), {"l0", "l1-entry"});
        tests.push_back({bare_run(each.name, each.l0_command_line, "check", bare_limit),
                         std::nullopt,
                         {},
                         std::move(stages)});
    }
}

// As on a processor that has neither VPIDs nor 1 GB pages.
void add_bare_without(std::vector<BootTest>& tests) {
    BootTest test{
        bare_run("boot.bare.old-processor", "vpid=off huge-pages=off log=info", "check", bare_limit),
        std::nullopt,
        {},
        {"l0", "l1-entry", "bare-l1"}};
    test.printed = {"[L0] this processor has no VPIDs", "[L0] this processor has no 1 GB pages"};
    tests.push_back(std::move(test));
}

// What the bare L1 finds in each register, bit by bit, with and without L0.
constexpr std::string_view registers_name = "boot.bare.registers";
constexpr std::string_view registers_direct_name = "boot.bare.registers-direct";
void add_bare_registers(std::vector<BootTest>& tests) {
    tests.push_back(
        {bare_run(std::string{registers_name}, "nested-vpid=mapped log=quiet", "registers", bare_limit),
         std::nullopt,
         {},
         {"l0", "l1-entry", "bare-l1"}});
    tests.push_back({bare_run(std::string{registers_direct_name}, nullptr, "registers", bare_limit),
                     std::nullopt,
                     {},
                     {"bare-l1"}});
}

// A part of the bare L1 that hangs is told and left, whoever is beneath.
void add_bare_hangs(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* l0_command_line;
    };
    constexpr std::array<Case, 2> cases{{{"boot.hangs.mapped", "log=quiet"}, {"boot.hangs.direct", nullptr}}};
    for (const Case& each : cases) {
        BootTest test{bare_run(each.name, each.l0_command_line, "check only=hangs* limit=2", bare_limit),
                      {},
                      {},
                      {"bare-l1"}};
        test.failing = {"part-hangs-in-l1-comes-to-its-end", "part-hangs-in-l2-comes-to-its-end",
                        "part-hangs-in-a-halted-l2-comes-to-its-end",
                        "part-hangs-by-an-exception-comes-to-its-end"};
        tests.push_back(std::move(test));
    }
}

// An L1 whose own tables are unusable when an exception comes: a shutdown, directly and under L0, and nothing
// else.
void add_broken(std::vector<BootTest>& tests) {
    std::vector<std::string> parts;
    for (const std::string_view idt : {"idt-without-memory", "idt-beyond-all-memory", "idt-in-l0s-memory",
                                       "idt-in-the-local-apic", "idt-of-no-length", "stack-not-canonical",
                                       "stack-unmapped", "gdt-without-memory", "gdt-of-no-length"}) {
        parts.emplace_back(idt);
        parts.push_back(fmt::format("{}-l0", idt));  // by an exception that L0 raises
    }
    for (const std::string_view paging : {"paging-without-memory", "paging-beyond-all-memory",
                                          "paging-in-l0s-memory", "paging-in-the-local-apic"}) {
        parts.emplace_back(paging);
    }
    for (const std::string& part : parts) {
        const std::string words = fmt::format("check only=broken-{}", part);
        for (const bool direct : {true, false}) {
            BootTest test{bare_run(fmt::format("boot.broken.{}.{}", part, direct ? "direct" : "mapped"),
                                   direct ? nullptr : "log=quiet", words, short_limit),
                          {},
                          {},
                          {}};
            test.shuts_down = true;
            tests.push_back(std::move(test));
        }
    }
}

// The bare L1 of 32 bits: its checks directly and under L0.
void add_bare32(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* l0_command_line;
    };
    constexpr std::array<Case, 3> cases{{{"boot.bare32.mapped", "log=quiet"},
                                         {"boot.bare32.mapped-no-shadow-vmcs", "shadow-vmcs=off log=quiet"},
                                         {"boot.bare32.direct", nullptr}}};
    for (const Case& each : cases) {
        BootTest test{bare_run(each.name, each.l0_command_line, "", bare_limit), {}, {}, {"bare32-l1"}};
        test.run.request.plan.guest = bare32_l1_image();
        tests.push_back(std::move(test));
    }
}

// The bare L1's checks on other processors of the emulator's, which offer less or more than the usual one.
void add_bare_processors(std::vector<BootTest>& tests) {
    for (const char* const processor :
         {"core2_penryn_t9600", "corei5_lynnfield_750", "corei7_haswell_4770"}) {
        BootTest test{bare_run(fmt::format("boot.bare.direct.{}", processor), nullptr, "check", bare_limit),
                      {},
                      {},
                      {"bare-l1"}};
        test.run.request.processor = processor;
        tests.push_back(std::move(test));
    }
}

// The same under L0, on every processor of the emulator's that has VT-x and EPT: the older ones lack what L0
// needs, and L0 says what. A minute or two: by name only.
constexpr std::string_view models_name = "boot.models";

void add_models(std::vector<BootTest>& tests) {
    struct Case {
        const char* processor;
        const char* missing;  // null: nothing
    };
    constexpr std::array<Case, 8> cases{{
        {"corei5_lynnfield_750", "unrestricted guest"},
        {"corei5_arrandale_m520", nullptr},
        {"corei7_sandy_bridge_2600k", nullptr},
        {"corei7_ivy_bridge_3770k", nullptr},
        {"corei7_haswell_4770", nullptr},
        {"corei3_cnl", nullptr},
        {"corei7_icelake_u", nullptr},
        {"tigerlake", nullptr},
    }};
    for (const Case& each : cases) {
        const std::string name = fmt::format("{}.{}", models_name, each.processor);
        BootTest test{bare_run(name, "log=quiet", "check", bare_limit),
                      std::nullopt,
                      {},
                      {"l0", "l1-entry", "bare-l1"}};
        if (each.missing != nullptr) {
            test.ending = Ending::l0_stopped;
            test.word = each.missing;
            test.stages.clear();
        }
        test.run.request.processor = each.processor;
        tests.push_back(std::move(test));
    }
}

constexpr std::string_view information_name = "boot.world.l0";
constexpr std::string_view information_direct_name = "boot.world.direct";

// The machine around L1, asked by a 32-bit kernel: memory by every call of the firmware's, SMRAM, sleep
// states, and processors that L1 would start.
void add_world(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* l0_command_line;  // none: no L0
        const char* command_line;
        unsigned processors;
    };
    constexpr std::array<Case, 6> cases{{
        {"boot.world.chipset", "log=info", "smram sleep hole", 1},
        {information_name.data(), "log=info", "information  memory", 1},
        {information_direct_name.data(), nullptr, "information  memory", 1},
        {"boot.world.two-processors", "log=info", "smi processors=0", 2},
        {"boot.world.four-processors", "log=info", "processors=0 memory", 4},
        {"boot.world.two-processors-direct", nullptr, "processors=1", 2},
    }};
    for (const Case& each : cases) {
        EmulationRequest request;
        std::vector<std::string> stages{"world"};
        if (each.l0_command_line != nullptr) {
            request.plan.l0 = l0_image();
            request.plan.l0_command_line = each.l0_command_line;
            stages.insert(stages.begin(), {"l0", "l1-entry"});
        }
        request.plan.guest = world_kernel();
        request.plan.guest_kind = KernelKind::multiboot1;
        request.plan.guest_command_line = each.command_line;
        request.plan.modules = {{world_kernel(), "first  module's 'text'"}, {endings_kernel(), ""}};
        request.memory = bare_memory;
        request.processors = each.processors;
        request.limit = bare_limit;
        tests.push_back({{each.name, std::move(request)}, std::nullopt, {}, std::move(stages)});
    }
}

// The bare L1 against L0's trace: no exit missing, each flush with its cause, by mode.
void add_bare_trace(std::vector<BootTest>& tests) {
    for (const std::string_view mode : modes) {
        tests.push_back({bare_run(fmt::format("boot.trace.{}", mode),
                                  fmt::format("nested-vpid={} trace=on log=quiet", mode).c_str(),
                                  "check only=trace", bare_limit),
                         std::nullopt,
                         {},
                         {"l0", "l1-entry", "bare-l1"}});
    }
}

// With log=debug L0 says why a VM entry of L1's failed, with the fields, whoever found it: L0 (controls and
// host state) or the processor (guest state).
void add_explanations(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* command_line;
        std::vector<std::string_view> printed;
    };
    const std::array<Case, 3> cases{{
        {"boot.log.entry-controls",
         "check only=entry-controls",
         {"[L0] a VM entry of L1's breaks the rule pin_based_reserved_bits (SDM 3C 27.2.1.1): "
          "pin_based_vm_execution_controls 0x"}},
        {"boot.log.entry-host",
         "check only=entry-host",
         {"[L0] a VM entry of L1's breaks the rule host_cr0_fixed_bits (SDM 3C 27.2.2): host_cr0 0x"}},
        {"boot.log.entry-guest",
         "check only=entry-guest",
         {"[L0] the processor refused L2's guest state, which breaks the rule guest_rflags_reserved_bits "
          "(SDM 3C 27.3.1.4): guest_rflags 0x"}},
    }};
    for (const Case& each : cases) {
        BootTest test{bare_run(each.name, "log=debug", each.command_line, bare_limit),
                      std::nullopt,
                      {},
                      {"l0", "l1-entry", "bare-l1"}};
        test.printed = each.printed;
        tests.push_back(std::move(test));
    }
}

constexpr std::string_view linux_l2_name = "boot.linux.l2";
constexpr std::string_view linux_trace_name = "boot.linux.trace";
constexpr std::array<std::string_view, 4> linux_names{"boot.linux.mapped", "boot.linux.mapped-no-ept",
                                                      "boot.linux.bzimage", linux_trace_name};
constexpr std::string_view peer_name = "boot.peer.bare";

// Debian's Linux with KVM and its L2 guests: with EPT, and without it in L1's KVM; and started from Debian's
// own file, which unpacks itself.
Result<> add_linux(std::vector<BootTest>& tests) {
    const LinuxGuest guest =
        TRY(prepare_linux_guest([](std::string_view text) { fmt::print("{}\n", text); }));
    for (const std::string_view name : linux_names) {
        if (name == linux_trace_name) {
            QueuedRun traced =
                traced_linux_run("mapped", "l2_cpuid,l2_alternating_vpid12", guest, linux_limit);
            traced.name = name;
            tests.push_back({std::move(traced), std::nullopt, {}, {"l0", "l1-entry", "l1-user", "trace"}});
            continue;
        }
        QueuedRun run = linux_run(std::string{name}, "nested-vpid=mapped log=quiet", guest, linux_limit);
        BootPlan& plan = run.request.plan;
        if (name.ends_with("no-ept")) plan.guest_command_line += " flatback.ept=0";
        if (name.ends_with("bzimage")) {
            plan.guest = guest.bzimage;
            plan.guest_kind = KernelKind::linux_bzimage;
        }
        tests.push_back({std::move(run), std::nullopt, {}, {"l0", "l1-entry", "l1-user", "l2"}});
    }
    return {};
}

// What holds of any lat_ctx on Flatback with mapped tags, however short: a timer interrupt of L2's makes a
// few exits, and none of them flushes a tag of L2's.
std::string check_short_lat_ctx(const RunValues& values) {
    std::string wrong;
    const auto check = [&](std::string_view key, double least, double most) {
        const auto value = values.value(key);
        if (value && *value >= least && *value <= most) return;
        wrong += fmt::format("{}{} is {}, not from {} to {}", wrong.empty() ? "" : "; ", key,
                             values.number(key).value_or("missing"), least, most);
    };
    for (const std::string_view column : {"2p/0K", "8p/16K"}) {
        const std::string prefix = fmt::format("lat_ctx.flatback.mapped.{}.", column);
        check(prefix + "ticks", 1'000, 100'000);
        check(prefix + "switch_ticks", 100, 100'000);
        check(prefix + "l2_entries", 0.0001, 1);
        check(prefix + "l0_exits", 0.0001, 10);
        check(prefix + "l2_tag_flushes", 0, 0);
    }
    check("boot.l2", 1e7, 2e9);
    return wrong;
}

// Linux as L2, which runs a short lat_ctx and asks for L0's counters.
Result<> add_linux_l2(std::vector<BootTest>& tests) {
    const LinuxGuest guest =
        TRY(prepare_linux_guest([](std::string_view text) { fmt::print("{}\n", text); }));
    const LatCtxWords words{"columns=2p/0K,8p/16K", "switches=400"};
    QueuedRun run = linux_l2_run(std::string{linux_l2_name}, "nested-vpid=mapped log=quiet", guest,
                                 linux_limit, "flatback.mapped", words, "payloads=off");
    tests.push_back({std::move(run),
                     std::nullopt,
                     {},
                     {"l0", "l1-entry", "l1-user", "l2-linux", "l2-user", "l2-done"},
                     check_short_lat_ctx});
    return {};
}

// The trace that Linux wrote of nested-vpid=mapped: what is wrong with it; empty where nothing is.
std::string trace_is_wrong(const FinishedRun& run) {
    const auto trace = parse_trace(run.console);
    if (!trace) return trace.error().message;
    // Each vpid12 is flushed for once, when it gets its tag; KVM gives out a few while a VM starts.
    constexpr std::uint64_t most_tags = 16;
    std::uint64_t l2_entries = 0;
    std::uint64_t tags_flushed = 0;
    std::string_view last;
    for (const TraceEvent& event : view_events(trace->events)) {
        if (event.flush) {
            if (event.flush->instruction == "INVVPID") ++tags_flushed;
            continue;
        }
        const std::string_view now = event.kind == "entry" ? "entry" : "exit";
        if (now == last)
            return fmt::format("two times '{}' without the other between, tick {}", now, event.tick);
        last = now;
        if (event.kind == "entry" && event.to == "L2") ++l2_entries;
    }
    if (l2_entries < 1000) return fmt::format("only {} entries into L2", l2_entries);
    if (tags_flushed > most_tags) return fmt::format("{} tags were flushed in mode mapped", tags_flushed);
    return {};
}

// Above the peer's KVM the bare L1 has measured what a reflected exit takes.
std::string check_bare_on_peer(const RunValues& values) {
    constexpr std::string_view key = "bare_l1.l2_cpuid_reflected";
    const auto ticks = values.value(key);
    if (!ticks) return fmt::format("{} is missing", key);
    // More than the round's own few dozen instructions, or nobody was beneath.
    constexpr double least = 1'000;
    constexpr double most = 1'000'000;
    return *ticks > least && *ticks < most ? "" : fmt::format("{} is {}", key, *ticks);
}

// The peer, Debian's Linux with KVM as L0, and Debian's QEMU, with the L1 that starts soonest.
Result<> add_peer(std::vector<BootTest>& tests) {
    const LinuxGuest guest =
        TRY(prepare_linux_guest([](std::string_view text) { fmt::print("{}\n", text); }));
    const PeerGuest peer = TRY(prepare_peer_guest(guest));
    tests.push_back({peer_run(std::string{peer_name}, peer, "peer.l1=bare", linux_limit),
                     std::nullopt,
                     {},
                     {"peer-l0", "bare-l1"},
                     check_bare_on_peer,
                     {}});
    return {};
}

void judge_run(TestReport& report, const BootTest& test, const FinishedRun& run) {
    const std::string said = describe(run.outcome, run.transcript);
    if (test.shuts_down) {
        const bool shut_down = run.outcome.ending == Ending::triple_fault;
        report.add(run.name, shut_down && run.transcript.checks().empty(), said);
        return;
    }
    if (test.ending) {
        const bool good = run.outcome.ending == *test.ending && said.find(test.word) != std::string::npos;
        report.add(run.name, good, said);
        return;
    }
    for (const CheckRecord& check : run.transcript.checks()) {
        const std::string name = fmt::format("{}.{}", run.name, check.name);
        if (test.failing.empty()) {
            report.add(name, check.passed, check.why);
        } else {
            report.add(name, !check.passed && std::ranges::count(test.failing, check.name) == 1,
                       check.passed ? "passed" : check.why);
        }
    }
    for (const std::string_view name : test.failing) {
        const bool told = std::ranges::any_of(run.transcript.checks(),
                                              [&](const CheckRecord& check) { return check.name == name; });
        if (!told) report.fail(fmt::format("{}.{}", run.name, name), "nothing was told");
    }
    auto lacks = shortcomings(run, test.stages);
    // Failed checks are counted above, each by itself.
    std::erase_if(lacks, [&](const std::string& lack) { return lack.starts_with(run.name + ": check "); });
    if (test.judge_values == nullptr) {
        if (run.transcript.checks().empty()) lacks.emplace_back("no check was reported");
    } else if (std::string wrong = test.judge_values(RunValues{run.transcript}); !wrong.empty()) {
        lacks.push_back(std::move(wrong));
    }
    for (const std::string_view text : test.printed) {
        if (run.transcript.text().find(text) == std::string::npos)
            lacks.push_back(fmt::format("\"{}\" was not printed", text));
    }
    std::string why;
    for (const std::string& lack : lacks) why += (why.empty() ? "" : "; ") + lack;
    report.add(run.name, lacks.empty(), why);
    if (run.name == linux_trace_name) {
        const std::string wrong = trace_is_wrong(run);
        report.add(fmt::format("{}.events", run.name), wrong.empty(), wrong);
    }
}

// Where both runs were made.
void judge_registers(TestReport& report, const std::vector<FinishedRun>& runs) {
    const auto records = [&](std::string_view name) -> std::optional<RegisterRecords> {
        const auto found = std::ranges::find(runs, name, &FinishedRun::name);
        if (found == runs.end()) return std::nullopt;
        return RunValues{found->transcript}.texts_under("registers.");
    };
    const auto direct = records(registers_direct_name);
    const auto under_l0 = records(registers_name);
    if (!direct || !under_l0) return;
    const RegisterComparison compared =
        compare_registers(*direct, *under_l0, deliberate_register_differences());
    fmt::print("Registers that L0 has otherwise than the emulated processor, on purpose:\n");
    for (const std::string& line : compared.deliberate) fmt::print("  {}\n", line);
    report.add(fmt::format("{}.are-those-of-the-processor", registers_name),
               !direct->empty() && compared.unexpected.empty(),
               direct->empty() ? "no register was recorded"
                               : fmt::format("{}", fmt::join(compared.unexpected, "; ")));
}

// Where L0 differs from the processor that is emulated, as the SDM lets it: of bad controls and bad host
// state, and of a bad link pointer and other bad guest state, either may be found (3C 27.2, 27.3).
constexpr std::array<std::string_view, 2> open_orders{"bad-control-and-bad-host",
                                                      "bad-link-pointer-and-bad-guest"};

// What GRUB gives a Multiboot 1 kernel without L0, L0 gives it too, but for memory of its own and for what
// GRUB does not tell L0 itself: VBE's state in text mode.
void compare_information(TestReport& report, std::span<const FinishedRun> runs) {
    const auto texts = [&runs](std::string_view name) -> std::map<std::string, std::string> {
        std::map<std::string, std::string> found;
        for (const FinishedRun& run : runs) {
            if (run.name != name) continue;
            for (const auto& [key, text] : run.transcript.texts()) {
                const bool stated = key.starts_with("information.vbe") ||
                                    key.starts_with("information.map.") || key == "information.mem_lower" ||
                                    key == "information.mem_upper";
                if (key.starts_with("information.") && !stated) found.emplace(key, text);
            }
        }
        return found;
    };
    const auto direct = texts(information_direct_name);
    const auto under_l0 = texts(information_name);
    if (direct.empty() && under_l0.empty()) return;
    std::string wrong;
    auto keys = direct;
    keys.insert(under_l0.begin(), under_l0.end());
    for (const auto& [key, text] : keys) {
        const auto one = direct.find(key);
        const auto other = under_l0.find(key);
        const std::string said = one == direct.end() ? "nothing" : one->second;
        const std::string got = other == under_l0.end() ? "nothing" : other->second;
        if (said != got)
            wrong += fmt::format("{}{}: {} by GRUB, {} by L0", wrong.empty() ? "" : "; ", key, said, got);
    }
    report.add("boot.world.information-is-grubs", wrong.empty(), wrong);
}

// What the bare L1 reports of orders that the SDM leaves open: under L0 as on the processor itself.
void compare_orders(TestReport& report, std::span<const FinishedRun> runs) {
    constexpr std::string_view prefix = "bare_l1.order.";
    const auto direct = std::ranges::find(runs, bare_direct_name, &FinishedRun::name);
    if (direct == runs.end()) return;
    for (const FinishedRun& run : runs) {
        const bool checks = run.name.starts_with("boot.bare.") && !run.name.starts_with(registers_name);
        if (!checks || run.name.starts_with(bare_direct_name)) continue;
        for (const auto& [key, found] : direct->transcript.texts()) {
            if (!key.starts_with(prefix)) continue;
            const auto here = run.transcript.texts().find(key);
            const std::string text = here == run.transcript.texts().end() ? "nothing" : here->second;
            if (std::ranges::count(open_orders, key.substr(prefix.size())) != 0) continue;
            report.add(fmt::format("{}.as-direct.{}", run.name, key.substr(prefix.size())), text == found,
                       fmt::format("{}; directly {}", text, found));
        }
    }
}

}  // namespace

Result<> run_boot_tests(TestReport& report, bool with_linux) {
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    const std::filesystem::path damaged_guest = directory.path() / "damaged";
    TRY(write_file(damaged_guest, "this is no kernel"));

    std::vector<BootTest> tests;
    add_endings(tests);
    add_refusals(tests, damaged_guest);
    add_bare(tests);
    add_bare_without(tests);
    add_bare_registers(tests);
    add_bare_hangs(tests);
    add_bare_processors(tests);
    if (report.filter().starts_with(models_name)) add_models(tests);
    add_bare32(tests);
    add_world(tests);
    add_broken(tests);
    add_bare_trace(tests);
    add_explanations(tests);
    if (with_linux && report.selects_any(linux_names)) TRY(add_linux(tests));
    if (with_linux && report.selects(linux_l2_name)) TRY(add_linux_l2(tests));
    if (with_linux && report.selects(peer_name)) TRY(add_peer(tests));
    std::erase_if(tests, [&report](const BootTest& test) { return !report.selects(test.run.name); });
    // The longest first: two run at once, and the last one should not run alone for long.
    std::ranges::stable_sort(tests, std::ranges::greater{},
                             [](const BootTest& test) { return test.run.request.limit; });

    std::vector<QueuedRun> runs;
    for (const BootTest& test : tests) runs.push_back(test.run);
    Progress progress;
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));
    for (std::size_t index = 0; index < tests.size(); ++index)
        judge_run(report, tests[index], finished[index]);
    judge_registers(report, finished);
    compare_orders(report, finished);
    compare_information(report, finished);
    return {};
}

}  // namespace flatback::tools
