#include "tools/check/two_vms.hpp"

#include <fmt/format.h>

#include <charconv>
#include <utility>
#include <variant>

#include "tools/ground/json.hpp"
#include "tools/ground/paths.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {
namespace {

void count(VmChecks& checks, const SerialRecord& record) {
    if (std::holds_alternative<EndRecord>(record)) checks.ended = true;
    const auto* const check = std::get_if<CheckRecord>(&record);
    if (check == nullptr) return;
    ++(check->passed ? checks.passed : checks.failed);
    if (!check->passed && checks.first_lack.empty())
        checks.first_lack = fmt::format("{}: {}", check->name, check->why);
}

// "NAME N", as L0 tells it.
void take_value(TwoVms& run, std::string_view line) {
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos) return;
    const std::string_view name = line.substr(0, space);
    const std::string_view digits = line.substr(space + 1);
    for (const auto& [known, value] : {std::pair<std::string_view, std::uint64_t*>{"switches", &run.switches},
                                       {"switch_ticks", &run.switch_ticks},
                                       {"flushes", &run.flushes},
                                       {"tags_reused", &run.tags_reused}}) {
        if (name == known) std::from_chars(digits.data(), digits.data() + digits.size(), *value);
    }
}

std::string lack_of(std::string_view which, const VmChecks& checks) {
    if (!checks.ended) return fmt::format("{} did not come to its end", which);
    if (checks.failed != 0) return fmt::format("{}: {}", which, checks.first_lack);
    if (checks.passed == 0) return fmt::format("{} reported no check", which);
    return {};
}

}  // namespace

QueuedRun two_vms_run(std::string name, std::string_view first, std::string_view second,
                      std::chrono::seconds limit) {
    QueuedRun run = bare_run(std::move(name), "vm2=on log=info", first, limit);
    run.request.plan.modules = {{bare_l1_image(), std::string{second}}};
    return run;
}

TwoVms two_vms_of(const Transcript& transcript) {
    TwoVms run;
    for (const CheckRecord& check : transcript.checks()) count(run.vm1, check);
    run.vm1.ended = transcript.ended();
    std::string_view rest = transcript.text();
    while (!rest.empty()) {
        std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        constexpr std::string_view of_second = "[vm2] ";
        constexpr std::string_view of_l0 = "[two-vms] ";
        if (line.starts_with(of_l0)) take_value(run, line.substr(of_l0.size()));
        if (!line.starts_with(of_second)) continue;
        if (const auto record = parse_serial_record(line.substr(of_second.size()))) count(run.vm2, *record);
    }
    return run;
}

std::string what_two_vms_lack(const TwoVms& run) {
    std::string lacks = lack_of("the first VM", run.vm1);
    const std::string second = lack_of("the second VM", run.vm2);
    if (!lacks.empty() && !second.empty()) lacks += "; ";
    lacks += second;
    if (lacks.empty() && run.switches == 0) lacks = "L0 told of no switch between the two";
    return lacks;
}

std::string two_vms_text(const TwoVms& run) {
    const auto vm = [](std::string_view which, const VmChecks& checks) {
        return fmt::format("  {}: {} checks passed, {} failed\n", which, checks.passed, checks.failed);
    };
    return fmt::format(
        "Two bare L1s on one processor and one pool of tags\n{}{}  switches between them            {:>10}\n"
        "  ticks of a switch                {:>10}\n  flushes in all switches          {:>10}\n"
        "  tags that went to the other VM   {:>10}\n",
        vm("first VM, with the machine's devices", run.vm1), vm("second VM", run.vm2), run.switches,
        run.switch_ticks, run.flushes, run.tags_reused);
}

std::string two_vms_json(const TwoVms& run) {
    const auto vm = [](const VmChecks& checks) {
        return Json{{"passed", checks.passed}, {"failed", checks.failed}};
    };
    const double per_switch =
        run.switches != 0 ? static_cast<double>(run.flushes) / static_cast<double>(run.switches) : 0.0;
    const Json document{{"two_vms",
                         {{"switches", run.switches},
                          {"switch_ticks", run.switch_ticks},
                          {"vm1", vm(run.vm1)},
                          {"vm2", vm(run.vm2)},
                          {"tags_reused", run.tags_reused},
                          {"flushes_per_switch", per_switch}}}};
    return document.dump(2) + "\n";
}

}  // namespace flatback::tools
