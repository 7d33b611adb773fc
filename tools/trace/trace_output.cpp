#include "tools/trace/trace_output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "tools/ground/format_number.hpp"
#include "tools/ground/json.hpp"

namespace flatback::tools {
namespace {

constexpr double khz_per_mhz = 1000;  // ticks a microsecond = MHz

std::string whole(std::uint64_t value) {
    return format_number(static_cast<double>(value));
}

std::string hexadecimal(std::uint64_t value) {
    return fmt::format("0x{:x}", value);
}

// "tag 2 (vpid12 1)"
std::string tag_of(const TraceEvent& event) {
    std::string text = event.vpid == 0 ? "no tag" : fmt::format("tag {}", event.vpid);
    if (event.vpid12 != 0) text += fmt::format(" (vpid12 {})", event.vpid12);
    return text;
}

std::string text_of(const TraceEvent& event) {
    const std::string levels = fmt::format("{:>2} -> {:<2}", event.from, event.to);
    if (event.kind == "exit") {
        const std::string_view handled = event.handled_by.empty()   ? "the trace ends here"
                                         : event.handled_by == "L1" ? "reflected to L1"
                                                                    : "handled by L0";
        return fmt::format("{}  exit   {:<32} {:<20} {}, RIP {}", levels, event.reason, handled,
                           tag_of(event), hexadecimal(event.operand));
    }
    if (event.kind == "entry") {
        std::string text = fmt::format("{}  entry  {:<53} {}", levels, "", tag_of(event));
        if (event.operand != 0) text += fmt::format(", injects {}", hexadecimal(event.operand));
        return text;
    }
    if (event.flush) {
        const TraceFlush& flush = *event.flush;
        const bool tag = flush.instruction == "INVVPID";
        std::string target =
            tag ? tag_of(event) : fmt::format("EP4TA {}", hexadecimal(event.operand & ~0xfffULL));
        if (tag && flush.type == 0) target += fmt::format(" address {}", hexadecimal(event.operand));
        return fmt::format("   L0     flush  {:<53} {}: {}", flush.instruction + " " + flush.type_name,
                           target, flush.why);
    }
    if (event.kind == "refused-entry")
        return fmt::format("{}  entry refused, VM-instruction error {}", levels, event.error);
    return fmt::format("{}  {}", levels, event.kind);
}

Json json_of(const TraceEvent& event) {
    Json json{{"tick", event.tick}, {"cpu", event.cpu},   {"kind", event.kind},    {"from", event.from},
              {"to", event.to},     {"vpid", event.vpid}, {"vpid12", event.vpid12}};
    if (event.vmcs12 != 0) json["vmcs12"] = hexadecimal(event.vmcs12);
    if (event.kind == "exit") {
        json["reason"] = event.reason;
        json["handled_by"] = event.handled_by.empty() ? Json(nullptr) : Json(event.handled_by);
        json["rip"] = hexadecimal(event.operand);
    } else if (event.kind == "entry" && event.operand != 0) {
        json["injects"] = hexadecimal(event.operand);
    } else if (event.kind == "refused-entry") {
        json["error"] = event.error;
    } else if (event.flush) {
        const bool tag = event.flush->instruction == "INVVPID";
        Json target =
            tag ? Json{{"vpid", event.vpid}} : Json{{"ep4ta", hexadecimal(event.operand & ~0xfffULL)}};
        if (tag && event.flush->type == 0) target["address"] = hexadecimal(event.operand);
        json["flush"] = {{"instruction", event.flush->instruction},
                         {"type", event.flush->type},
                         {"type_name", event.flush->type_name},
                         {"target", target},
                         {"why", event.flush->why}};
    }
    return json;
}

// A stretch of time at one level, of one CPU.
struct Stretch {
    std::string level;
    std::string name;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    const TraceEvent* opened_by = nullptr;
};

std::string name_of_guest(const TraceEvent& entry) {
    if (entry.to != "L2") return entry.to;
    return entry.vpid12 != 0 ? fmt::format("L2 vpid12 {}", entry.vpid12) : "L2";
}

// From each exit to the next entry L0 runs, from there to the next exit the guest. What stands before the
// first and after the last switch of a CPU is not known.
std::vector<Stretch> stretches_of(std::span<const TraceEvent> events) {
    std::vector<Stretch> result;
    std::map<unsigned, const TraceEvent*> last;
    for (const TraceEvent& event : events) {
        const bool to_l0 = event.kind == "exit" || event.kind == "refused-entry";
        if (!to_l0 && event.kind != "entry") continue;
        const TraceEvent*& before = last[event.cpu];
        if (before != nullptr && event.tick >= before->tick) {
            const std::string name = before->kind == "entry"  ? name_of_guest(*before)
                                     : before->kind == "exit" ? before->reason
                                                              : "refused entry";
            result.push_back({before->to, name, before->tick, event.tick, before});
        }
        before = &event;
    }
    return result;
}

struct SummaryKey {
    std::string from;
    std::string reason;
    std::string handled_by;
    auto operator<=>(const SummaryKey&) const = default;
};

template <typename Key>
std::vector<std::pair<Key, std::uint64_t>> most_first(const std::map<Key, std::uint64_t>& counts) {
    std::vector<std::pair<Key, std::uint64_t>> sorted(counts.begin(), counts.end());
    std::ranges::stable_sort(sorted, std::ranges::greater{}, &std::pair<Key, std::uint64_t>::second);
    return sorted;
}

Json json_of(const TraceFacts& facts) {
    return {{"mode", facts.mode},
            {"ticks_per_us",
             facts.tsc_khz ? Json(static_cast<double>(*facts.tsc_khz) / khz_per_mhz) : Json(nullptr)},
            {"events_written", facts.written}};
}

// Text that came out of a file need not be UTF-8.
std::string dump(const Json& json) {
    constexpr int indentation = 1;
    return json.dump(indentation, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string render_trace(std::span<const TraceEvent> events, std::size_t skipped) {
    std::string text = fmt::format("{:>16} {:>9} CPU\n", "tick", "+ticks");
    if (skipped != 0) text += fmt::format("{:>16}\n", fmt::format("({} before)", whole(skipped)));
    std::uint64_t before = events.empty() ? 0 : events.front().tick;
    for (const TraceEvent& event : events) {
        text += fmt::format("{:>16} {:>9} {:>3} {}\n", event.tick, event.tick - before, event.cpu,
                            text_of(event));
        before = event.tick;
    }
    return text;
}

std::string render_trace_summary(std::span<const TraceEvent> events, const TraceFacts& facts) {
    std::map<SummaryKey, std::uint64_t> exits;
    std::map<std::string, std::uint64_t> flushes;
    std::map<std::string, std::uint64_t> ticks;
    std::uint64_t l2_entries = 0;
    for (const TraceEvent& event : events) {
        if (event.kind == "exit") ++exits[{event.from, event.reason, event.handled_by}];
        if (event.kind == "entry" && event.to == "L2") ++l2_entries;
        if (event.flush) ++flushes[fmt::format("{:<8} {}", event.flush->instruction, event.flush->why)];
    }
    for (const Stretch& each : stretches_of(events)) ticks[each.level] += each.end - each.begin;

    std::string text = fmt::format("nested-vpid={}: {} events of {} that L0 recorded; {} entries into L2\n",
                                   facts.mode, whole(events.size()), whole(facts.written), whole(l2_entries));
    text += "  ticks:";
    for (const auto& [level, sum] : ticks) text += fmt::format("  {} {}", level, whole(sum));
    text += "\n  exits:\n";
    for (const auto& [key, count] : most_first(exits)) {
        text += fmt::format("    {:>10}  {} {:<32} {}\n", whole(count), key.from, key.reason,
                            key.handled_by.empty()                       ? "(last event)"
                            : key.from == "L2" && key.handled_by == "L1" ? "reflected to L1"
                                                                         : "handled by L0");
    }
    text += flushes.empty() ? "  flushes: none\n" : "  flushes:\n";
    for (const auto& [what, count] : most_first(flushes))
        text += fmt::format("    {:>10}  {}\n", whole(count), what);
    return text;
}

std::string trace_json(std::span<const TraceEvent> events, const TraceFacts& facts) {
    Json json = json_of(facts);
    Json& list = json["events"] = Json::array();
    for (const TraceEvent& event : events) list.push_back(json_of(event));
    return dump(json);
}

std::string perfetto_json(std::span<const TraceEvent> events, const TraceFacts& facts) {
    // Times are microseconds; where the TSC's rate is not known, one tick stands for one.
    const double ticks_per_unit = facts.tsc_khz ? static_cast<double>(*facts.tsc_khz) / khz_per_mhz : 1;
    const std::uint64_t start = events.empty() ? 0 : events.front().tick;
    const auto time = [&](std::uint64_t tick) { return static_cast<double>(tick - start) / ticks_per_unit; };
    static constexpr std::array<std::string_view, 3> levels{"L0", "L1", "L2"};
    const auto track = [](std::string_view level) {
        return static_cast<std::size_t>(std::ranges::find(levels, level) - levels.begin());
    };

    Json list = Json::array();
    std::map<unsigned, bool> cpus;
    for (const TraceEvent& event : events) cpus[event.cpu] = true;
    for (const auto& [cpu, present] : cpus) {
        list.push_back({{"name", "process_name"},
                        {"ph", "M"},
                        {"pid", cpu},
                        {"args", {{"name", fmt::format("CPU {}", cpu)}}}});
        for (const std::string_view level : levels) {
            list.push_back({{"name", "thread_name"},
                            {"ph", "M"},
                            {"pid", cpu},
                            {"tid", track(level)},
                            {"args", {{"name", level}}}});
            list.push_back({{"name", "thread_sort_index"},
                            {"ph", "M"},
                            {"pid", cpu},
                            {"tid", track(level)},
                            {"args", {{"sort_index", track(level)}}}});
        }
    }
    for (const Stretch& each : stretches_of(events)) {
        Json args{{"ticks", each.end - each.begin},
                  {"vpid", each.opened_by->vpid},
                  {"vpid12", each.opened_by->vpid12}};
        if (each.level == "L0") {
            args["from"] = each.opened_by->from;
            args["handled_by"] = each.opened_by->handled_by;
        }
        list.push_back({{"name", each.name},
                        {"cat", each.level},
                        {"ph", "X"},
                        {"ts", time(each.begin)},
                        {"dur", time(each.end) - time(each.begin)},
                        {"pid", each.opened_by->cpu},
                        {"tid", track(each.level)},
                        {"args", args}});
    }
    for (const TraceEvent& event : events) {
        if (!event.flush || event.tick < start) continue;
        Json args = json_of(event)["flush"];
        args["vpid12"] = event.vpid12;
        list.push_back({{"name", fmt::format("{} {}", event.flush->instruction, event.flush->type_name)},
                        {"cat", "flush"},
                        {"ph", "i"},
                        {"s", "t"},
                        {"ts", time(event.tick)},
                        {"pid", event.cpu},
                        {"tid", track("L0")},
                        {"args", args}});
    }
    Json json{{"displayTimeUnit", "ns"}, {"otherData", json_of(facts)}};
    json["otherData"]["first_tick"] = start;
    json["otherData"]["time_unit"] = facts.tsc_khz ? "microseconds" : "ticks, shown as microseconds";
    json["traceEvents"] = std::move(list);
    return dump(json);
}

}  // namespace flatback::tools
