#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tools/check/boot_test.hpp"
#include "tools/check/l0_stops.hpp"
#include "tools/check/two_vms.hpp"
#include "tools/emulator/bochs_configuration.hpp"
#include "tools/ground/paths.hpp"
#include "tools/image/depth.hpp"

namespace flatback::tools {

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

// L0 as L1 of itself, a Multiboot2 kernel: the bare L1 is then two levels above the processor.
void add_bare_depth(std::vector<BootTest>& tests) {
    QueuedRun run = bare_run("boot.bare.depth-2", "log=quiet", "check only=vmcs-pointer", bare_limit);
    stack_levels(run.request.plan, 2, inner_l0_words);
    tests.push_back({std::move(run), std::nullopt, {}, {"l0", "l1-entry", "bare-l1"}});
}

// All checks two levels above the processor, some of them three. A part takes longer there.
void add_depths(std::vector<BootTest>& tests) {
    struct Case {
        unsigned levels;
        const char* words;
    };
    constexpr std::array<Case, 2> cases{{{2, "check limit=50"}, {3, "check only=vmcs* limit=50"}}};
    for (const Case& each : cases) {
        QueuedRun run =
            bare_run(fmt::format("{}.{}", depth_name, each.levels), "log=quiet", each.words, depth_limit);
        stack_levels(run.request.plan, each.levels, inner_l0_words);
        tests.push_back({std::move(run), std::nullopt, {}, {"l0", "l1-entry", "bare-l1"}});
    }
}

// Two L1s with guests of their own on one processor and one pool of tags: neither meets a translation of the
// other's. And one that shuts its processor down leaves the other unharmed.
void add_two_vms(std::vector<BootTest>& tests) {
    const std::vector<std::string> stages{"l0", "l1-entry", "bare-l1"};
    BootTest both{
        two_vms_run("boot.two-vms", "check only=stale*", "check only=stale* emulator=bochs", bare_limit),
        std::nullopt,
        {},
        stages};
    both.judge_text = [](const Transcript& transcript) { return what_two_vms_lack(two_vms_of(transcript)); };
    tests.push_back(std::move(both));
    BootTest death{two_vms_run("boot.two-vms.one-dies", "check only=launch",
                               "check only=broken-idt-of-no-length", bare_limit),
                   std::nullopt,
                   {},
                   stages};
    death.printed = {"the second VM has ended: triple fault"};
    tests.push_back(std::move(death));
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

// The bare L1 with several processors, of which it uses two.
void add_bare_several(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* l0_command_line;
        unsigned processors;
    };
    constexpr std::array<Case, 3> cases{{{"boot.bare.2-processors", "log=quiet", 2},
                                         {"boot.bare.4-processors", "log=quiet", 4},
                                         {"boot.bare.2-processors-direct", nullptr, 2}}};
    for (const Case& each : cases) {
        BootTest test{bare_run(each.name, each.l0_command_line, "check only=processors*", bare_limit),
                      {},
                      {},
                      {"bare-l1"}};
        if (each.l0_command_line != nullptr) test.stages = {"l0", "l1-entry", "bare-l1"};
        test.run.request.processors = each.processors;
        tests.push_back(std::move(test));
    }
    tests.push_back({bare_run("boot.bare.virtual-interrupts", "log=quiet apicv=on",
                              "check only=virtual-interrupts", bare_limit),
                     {},
                     {},
                     {"l0", "l1-entry", "bare-l1"}});
    tests.push_back(
        {bare_run("boot.bare.hlt-state", "log=quiet hlt-state=on", "check only=activity", bare_limit),
         {},
         {},
         {"l0", "l1-entry", "bare-l1"}});
    // With the local APICs as some firmware leaves them.
    BootTest x2apic{bare_run("boot.bare.x2apic", "log=quiet x2apic=on", "check only=x2apic", bare_limit),
                    {},
                    {},
                    {"l0", "l1-entry", "bare-l1"}};
    x2apic.run.request.processors = 2;
    tests.push_back(std::move(x2apic));
    BootTest entered{bare_run("boot.bare.x2apic-by-l1", "log=quiet", "check only=x2apic", bare_limit),
                     {},
                     {},
                     {"l0", "l1-entry", "bare-l1"}};
    entered.run.request.processors = 2;
    tests.push_back(std::move(entered));
}

namespace {

// On each processor a copy of the bare L1 has made as many checks as on any other, and at least so many.
template <unsigned processors, unsigned least>
std::string what_at_once_lacks(const RunValues& values) {
    if (values.value("everywhere.processors") != double{processors})
        return fmt::format("not {} processors", processors);
    const auto first = values.value("everywhere.checks_passed.cpu0");
    if (!first || *first < double{least}) return fmt::format("fewer than {} checks on the first", least);
    for (unsigned number = 1; number < processors; ++number) {
        if (values.value(fmt::format("everywhere.checks_passed.cpu{}", number)) != first)
            return fmt::format("other checks on processor {} than on the first", number);
    }
    return {};
}

template <unsigned processors, unsigned least>
BootTest at_once(std::string name, const char* l0_command_line, std::string_view words,
                 std::chrono::seconds limit) {
    BootTest test{bare_run(std::move(name), l0_command_line, words, limit), {}, {}, {"bare-l1"}};
    if (l0_command_line != nullptr) test.stages = {"l0", "l1-entry", "bare-l1"};
    test.run.request.processors = processors;
    for (unsigned number = 2; number <= processors; ++number)
        test.run.request.plan.modules.push_back({bare_l1_copy(number), {}});
    test.judge_values = what_at_once_lacks<processors, least>;
    return test;
}

}  // namespace

// Checks on two processors at once. Those of pages that L0 keeps copies of are most about the other one.
void add_bare_at_once(std::vector<BootTest>& tests) {
    tests.push_back(
        at_once<2, 40>("boot.bare.at-once", "log=quiet", "check everywhere only=vmcs*", bare_limit));
}

// All checks on all processors at once. Not directly: the emulator's other processors take an encoding that
// no field has, 681FH, for one.
void add_everywhere(std::vector<BootTest>& tests) {
    constexpr unsigned least = 500;
    constexpr const char* words = "check everywhere";
    tests.push_back(
        at_once<2, least>(fmt::format("{}.2-processors", everywhere_name), "log=quiet", words, depth_limit));
    tests.push_back(
        at_once<4, least>(fmt::format("{}.4-processors", everywhere_name), "log=quiet", words, depth_limit));
}

// One processor's shutdown, and a reset that it asks for, are the end of the whole machine, with L0 and
// without.
void add_second_processors_end(std::vector<BootTest>& tests) {
    struct Case {
        const char* part;
        Ending ending;
        std::string_view word;
    };
    constexpr std::array<Case, 2> cases{
        {{"shuts-down", Ending::triple_fault, ", processor 1"}, {"resets-the-machine", Ending::reset, ""}}};
    for (const Case& each : cases) {
        for (const bool direct : {true, false}) {
            BootTest test{
                bare_run(fmt::format("boot.bare.second-processor-{}{}", each.part, direct ? ".direct" : ""),
                         direct ? nullptr : "log=quiet",
                         fmt::format("check only=second-processor-{}", each.part), bare_limit),
                each.ending,
                direct ? "" : each.word,
                {}};
            test.run.request.processors = 2;
            test.judge_text = [](const Transcript& transcript) {
                return std::string{transcript.checks().empty() ? "" : "the first processor went on"};
            };
            tests.push_back(std::move(test));
        }
    }
}

// A fault of L0's own on one processor, while others are in L1, in an L2, halted, and wait to be started: L0
// says where each was.
void add_l0_stops(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        std::string_view word;
        const char* l0_command_line;
    };
    constexpr std::array<Case, 3> cases{{{"by-a-panic", "L1 has asked for it", "log=quiet trace=on"},
                                         {"by-an-exception", "exception 6 ", "log=quiet"},
                                         {"by-two-at-once", "L1 has asked for it", "log=quiet"}}};
    for (const Case& each : cases) {
        BootTest test{bare_run(fmt::format("boot.bare.l0-stops.{}", each.name), each.l0_command_line,
                               fmt::format("check only=l0-stops-{}", each.name), bare_limit),
                      Ending::l0_stopped,
                      each.word,
                      {}};
        test.run.request.plan.l0 = l0_image_that_stops();
        test.run.request.processors = 5;
        test.judge_text = what_ended_l0_lacks;
        tests.push_back(std::move(test));
    }
}

namespace {

// What L0's Port does not keep here, and how. L1's write to where it has no memory goes through, to a page
// whose content is thrown away (metal/l0/hole_writes.hpp); and the emulator is told to take an MSR that it
// does not know (tools/emulator/bochs_configuration.cpp), which that guarantee ends with.
struct NotKept {
    std::string_view check;
    std::string_view how;
};
constexpr std::array<NotKept, 2> not_kept{
    {{"port.l1_page-has-nothing-where-L1-has-no-memory",
      "handle_ept01_violation() promises a page where L1 has none"},
     {"port.L1's-MSRs-are-as-promised", "an MSR that is nowhere is not #GP(0)"}}};
constexpr unsigned least_guarantees = 18;

std::string what_the_port_lacks(const Transcript& transcript) {
    unsigned told = 0;
    for (const CheckRecord& check : transcript.checks()) {
        if (!check.name.starts_with("port.")) continue;
        ++told;
        const auto known = std::ranges::find(not_kept, check.name, &NotKept::check);
        if (known != not_kept.end() && check.why != known->how)
            return fmt::format("{}: \"{}\"", check.name, check.why);
    }
    return told >= least_guarantees ? "" : fmt::format("L0 tried {} guarantees of its Port", told);
}

}  // namespace

// The tests of a Port (port_tests/) on L0's own, before L1 starts, which then runs as ever.
void add_l0_port(std::vector<BootTest>& tests) {
    BootTest test{bare_run("boot.bare.port", "log=quiet", "check only=invalidation", bare_limit),
                  std::nullopt,
                  {},
                  {"l0", "l1-entry", "bare-l1"}};
    test.run.request.plan.l0 = l0_image_that_tests_its_port();
    for (const NotKept& each : not_kept) test.failing.push_back(each.check);
    test.judge_text = what_the_port_lacks;
    tests.push_back(std::move(test));
}

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

}  // namespace flatback::tools
