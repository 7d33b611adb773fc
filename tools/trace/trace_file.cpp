#include "tools/trace/trace_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <set>
#include <span>
#include <vector>

namespace flatback::tools {
namespace {

constexpr std::string_view mark = "FLATBACK-TRACE ";
constexpr std::string_view begin_word = "begin ";
constexpr std::string_view begin_mark = "FLATBACK-TRACE begin ";
constexpr std::string_view end_word = "end check=";
constexpr std::uint64_t most_capacity = std::uint64_t{1} << 24;  // half a gigabyte

std::optional<std::uint64_t> number(std::string_view digits, int base) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    return value;
}

// Takes one word off the front; words are separated by one blank.
std::string_view take_word(std::string_view& rest) {
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    return word;
}

class Reader final {
public:
    explicit Reader(std::string_view text, std::size_t line) : rest_{text}, line_{line} {}

    // Behind what has been read, to where the next trace begins; false: there is none.
    bool go_to_next() {
        const std::size_t start = rest_.find(begin_mark);
        if (start == std::string_view::npos) return false;
        line_ += static_cast<std::size_t>(std::ranges::count(rest_.substr(0, start), '\n'));
        rest_.remove_prefix(start);
        return true;
    }

    Result<Trace> read() {
        Trace trace;
        const std::uint64_t count = TRY(read_header(trace));
        trace.events.reserve(count);
        std::uint64_t check = trace::check_start;
        while (trace.events.size() < count) {
            trace.events.push_back(TRY(read_event(trace.events.size(), count)));
            const trace::Event& event = trace.events.back();
            for (const std::uint64_t word : {event.tsc, event.what, event.nested, event.operand})
                check = trace::check_step(check, word);
        }
        const std::string_view line = TRY(next_line(count, count));
        if (!line.starts_with(end_word)) return wrong("the trace has more events than it says, or no end");
        if (number(line.substr(end_word.size()), 16) != check)
            return wrong("the check does not fit: the trace is damaged");
        return trace;
    }

    std::unexpected<Error> wrong(std::string_view what) const {
        return fail(ExitStatus::input_file, fmt::format("trace, line {}: {}", line_, what));
    }

private:
    // The rest of the next line behind its mark.
    Result<std::string_view> next_line(std::uint64_t have, std::uint64_t count) {
        const std::size_t end = rest_.find('\n');
        if (end == std::string_view::npos) {
            return fail(ExitStatus::input_file,
                        fmt::format("the trace is cut off after {} of {} events", have, count));
        }
        std::string_view line = rest_.substr(0, end);
        rest_.remove_prefix(end + 1);
        ++line_;
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (!line.starts_with(mark)) return wrong("not a line of a trace");
        return line.substr(mark.size());
    }

    // How many events follow.
    Result<std::uint64_t> read_header(Trace& trace) {
        std::string_view words = TRY(next_line(0, 0));
        words.remove_prefix(begin_word.size());
        std::optional<std::uint64_t> version;
        std::optional<std::uint64_t> capacity;
        std::optional<std::uint64_t> written;
        std::optional<std::uint64_t> events;
        while (!words.empty()) {
            const std::string_view word = take_word(words);
            const std::size_t equals = word.find('=');
            const std::string_view name = word.substr(0, equals);
            const std::string_view value =
                equals == std::string_view::npos ? std::string_view{} : word.substr(equals + 1);
            if (name == "mode") {
                trace.mode = value;
                continue;
            }
            std::optional<std::uint64_t>* const known = name == "version"    ? &version
                                                        : name == "capacity" ? &capacity
                                                        : name == "written"  ? &written
                                                        : name == "events"   ? &events
                                                        : name == "tsc_khz"  ? &trace.tsc_khz
                                                                             : nullptr;
            if (known == nullptr) return wrong(fmt::format("unknown word '{}'", word));
            *known = number(value, 10);
            if (!*known) return wrong(fmt::format("'{}' has no number", word));
        }
        if (version != trace::format_version) {
            return wrong(fmt::format("format version {}; this flatback reads version {}",
                                     version ? fmt::format("{}", *version) : "unknown",
                                     trace::format_version));
        }
        static constexpr std::array<std::string_view, 3> modes{"mapped", "single", "off"};
        if (std::ranges::find(modes, trace.mode) == modes.end())
            return wrong(fmt::format("mode '{}' is none of mapped, single, off", trace.mode));
        if (!capacity || !written || !events) return wrong("capacity, written or events is missing");
        if (*capacity > most_capacity || *events > std::min(*capacity, *written))
            return wrong("the sizes cannot be true");
        if (trace.tsc_khz == std::uint64_t{0}) return wrong("a TSC of 0 kHz");
        trace.capacity = *capacity;
        trace.written = *written;
        return *events;
    }

    Result<trace::Event> read_event(std::uint64_t have, std::uint64_t count) {
        std::string_view words = TRY(next_line(have, count));
        std::array<std::uint64_t, trace::words_per_event> values{};
        for (std::uint64_t& value : values) {
            const auto word = number(take_word(words), 16);
            if (!word) return wrong(fmt::format("event {} of {} is damaged", have + 1, count));
            value = *word;
        }
        if (!words.empty()) return wrong(fmt::format("event {} of {} has too many words", have + 1, count));
        return trace::Event{values[0], values[1], values[2], values[3]};
    }

    std::string_view rest_;
    std::size_t line_;
};

std::set<unsigned> processors_of(const Trace& trace) {
    std::set<unsigned> processors;
    for (const trace::Event& event : trace.events) processors.insert(event.cpu());
    return processors;
}

// By their times; of each processor in the order that it has.
std::vector<trace::Event> merge(std::span<const Trace> traces) {
    std::vector<trace::Event> events;
    std::vector<std::size_t> next(traces.size(), 0);
    for (;;) {
        std::optional<std::size_t> oldest;
        for (std::size_t i = 0; i < traces.size(); ++i) {
            if (next[i] == traces[i].events.size()) continue;
            if (!oldest || traces[i].events[next[i]].tsc < traces[*oldest].events[next[*oldest]].tsc)
                oldest = i;
        }
        if (!oldest) return events;
        events.push_back(traces[*oldest].events[next[*oldest]++]);
    }
}

}  // namespace

Result<Trace> parse_trace(std::string_view text) {
    Reader reader{text, 0};
    if (!reader.go_to_next()) {
        return fail(ExitStatus::input_file,
                    "no trace in it (no line 'FLATBACK-TRACE begin'); l0-trace dump makes one in L1");
    }
    std::vector<Trace> traces{TRY(reader.read())};
    std::set<unsigned> seen = processors_of(traces.front());
    // What follows of other processors is of the same time. Of one that was there it is another trace.
    while (reader.go_to_next()) {
        Trace another = TRY(reader.read());
        const std::set<unsigned> processors = processors_of(another);
        if (std::ranges::any_of(processors, [&](unsigned each) { return seen.contains(each); })) break;
        if (another.mode != traces.front().mode)
            return reader.wrong("the trace of another processor has another mode");
        seen.insert(processors.begin(), processors.end());
        traces.push_back(std::move(another));
    }
    Trace result = traces.front();
    if (traces.size() == 1) return result;
    result.events = merge(traces);
    for (const Trace& each : std::span{traces}.subspan(1)) {
        result.capacity += each.capacity;
        result.written += each.written;
        if (!result.tsc_khz) result.tsc_khz = each.tsc_khz;
    }
    return result;
}

std::string format_trace(const Trace& trace) {
    std::string text =
        fmt::format("{}{}version={} mode={} capacity={} written={} events={}", mark, begin_word,
                    trace::format_version, trace.mode, trace.capacity, trace.written, trace.events.size());
    if (trace.tsc_khz) text += fmt::format(" tsc_khz={}", *trace.tsc_khz);
    text += '\n';
    std::uint64_t check = trace::check_start;
    for (const trace::Event& event : trace.events) {
        text +=
            fmt::format("{}{:x} {:x} {:x} {:x}\n", mark, event.tsc, event.what, event.nested, event.operand);
        for (const std::uint64_t word : {event.tsc, event.what, event.nested, event.operand})
            check = trace::check_step(check, word);
    }
    return text + fmt::format("{}{}{:x}\n", mark, end_word, check);
}

}  // namespace flatback::tools
