#include "tools/command/trace_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "tools/emulator/bochs_configuration.hpp"
#include "tools/ground/about.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/output.hpp"
#include "tools/stack/progress.hpp"
#include "tools/stack/stack_runs.hpp"
#include "tools/trace/trace_file.hpp"
#include "tools/trace/trace_output.hpp"

namespace flatback::tools {
namespace {

constexpr std::size_t usual_lines = 60;
constexpr std::uint64_t hertz_per_khz = 1000;

std::span<const trace::Event> selected(const Trace& trace, const TraceOptions& options) {
    std::span<const trace::Event> events{trace.events};
    if (options.window) {
        // The ticks of a file need not be in order: from the first event inside to the last.
        const auto inside = [&](const trace::Event& event) {
            return event.tsc >= options.window->first && event.tsc < options.window->second;
        };
        const auto first = std::ranges::find_if(events, inside);
        auto end = events.end();
        while (end != first && !inside(*(end - 1))) --end;
        events = {first, end};
    }
    if (options.last && *options.last < events.size())
        events = events.last(static_cast<std::size_t>(*options.last));
    return events;
}

// Printed where nothing was asked for, as the files get everything: the last time that L2 ran. What comes
// after it is mostly L1 reading the trace.
std::span<const TraceEvent> usual_lines_of(std::span<const TraceEvent> events) {
    std::size_t end = events.size();
    while (end != 0 && events[end - 1].from != "L2") --end;
    if (end == 0) end = events.size();
    return events.first(end).last(std::min(usual_lines, end));
}

Result<> put_out(const Trace& trace, const TraceOptions& options) {
    const auto chosen = selected(trace, options);
    if (chosen.empty()) {
        const std::string held = trace.events.empty()
                                     ? "the trace holds no events"
                                     : fmt::format("the trace holds none there: its ticks are {}:{}",
                                                   trace.events.front().tsc, trace.events.back().tsc);
        return fail(ExitStatus::input_file, fmt::format("no events: {}", held));
    }
    // Before the window is cut: who handled an exit is seen from what comes after it.
    const std::vector<TraceEvent> all = view_events(trace.events);
    const auto offset = static_cast<std::size_t>(chosen.data() - trace.events.data());
    const std::span<const TraceEvent> events{all.data() + offset, chosen.size()};
    const TraceFacts facts{trace.mode, trace.written, trace.tsc_khz};
    const std::span<const TraceEvent> printed =
        options.window || options.last ? events : usual_lines_of(events);
    fmt::print(text_stream(options.json_file, options.perfetto_file), "{}\n{}",
               render_trace(printed, static_cast<std::size_t>(printed.data() - events.data())),
               render_trace_summary(events, facts));
    if (options.json_file) TRY(write_output(*options.json_file, with_about(trace_json(events, facts))));
    if (options.perfetto_file) TRY(write_output(*options.perfetto_file, perfetto_json(events, facts)));
    if (options.raw_file) TRY(write_file(*options.raw_file, format_trace(trace)));
    return {};
}

Result<Trace> traced_by(const FinishedRun& run) {
    const std::vector<std::string> lacks = shortcomings(run, {"l0", "l1-entry", "l1-user", "trace"});
    for (const std::string& lack : lacks) fmt::print(stderr, "flatback: {}\n", lack);
    if (!lacks.empty()) return fail(ExitStatus::incomplete, "the run that was to be traced went wrong");
    auto trace = parse_trace(run.console);
    if (!trace) {
        return fail(ExitStatus::incomplete, fmt::format("{}: what L1 wrote of L0's trace cannot be used: {}",
                                                        run.name, trace.error().message));
    }
    // The emulated TSC counts instructions, at the rate that Bochs was given.
    trace->tsc_khz = instructions_per_second / hertz_per_khz;
    return trace;
}

Result<ExitStatus> trace_runs(const TraceOptions& options) {
    const LinuxGuest guest = TRY(prepare_linux_guest(tell));
    std::vector<QueuedRun> runs;
    for (const std::string& mode : options.modes)
        runs.push_back(traced_linux_run(mode, options.payloads, guest, options.limit));
    Progress progress;
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));
    for (const FinishedRun& run : finished) {
        const Trace trace = TRY(traced_by(run));
        TRY(put_out(trace, options));
    }
    return ExitStatus::success;
}

}  // namespace

std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_window(std::string_view text) {
    const char* const end = text.data() + text.size();
    std::uint64_t first = 0;
    std::uint64_t second = 0;
    const auto begun = std::from_chars(text.data(), end, first);
    if (begun.ec != std::errc{} || begun.ptr == end || *begun.ptr != ':') return std::nullopt;
    const auto ended = std::from_chars(begun.ptr + 1, end, second);
    if (ended.ec != std::errc{} || ended.ptr != end || first >= second) return std::nullopt;
    return std::pair{first, second};
}

Result<ExitStatus> trace_command(const TraceOptions& options) {
    for (const auto& file : {options.json_file, options.perfetto_file})
        if (file) TRY(check_output(*file));
    if (options.raw_file) TRY(check_writable(*options.raw_file));
    if (!options.file) return trace_runs(options);
    const Bytes bytes = TRY(read_file(*options.file));
    auto trace = parse_trace(text_of(bytes));
    if (!trace)
        return fail(trace.error().status,
                    fmt::format("{}: {}", options.file->string(), trace.error().message));
    if (options.tsc_khz) trace->tsc_khz = options.tsc_khz;
    TRY(put_out(*trace, options));
    return ExitStatus::success;
}

}  // namespace flatback::tools
