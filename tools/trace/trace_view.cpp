#include "tools/trace/trace_view.hpp"

#include <fmt/format.h>

#include <array>

namespace flatback::tools {
namespace {

using trace::Event;
using trace::Kind;

constexpr std::uint64_t injection_valid = std::uint64_t{1} << 31;

std::string name_of_level(trace::Level level) {
    return level <= trace::Level::l2 ? fmt::format("L{}", static_cast<unsigned>(level))
                                     : fmt::format("level {}", static_cast<unsigned>(level));
}

std::string name_of_reason(const Event& event) {
    const std::string_view name = vmx::name_of(event.reason());
    return name == "?" ? fmt::format("reason {}", event.code()) : std::string{name};
}

TraceFlush flush_of(const Event& event) {
    static constexpr std::array<std::string_view, 4> tag_types{
        "individual-address", "single-context", "all-contexts", "single-context-retaining-globals"};
    static constexpr std::array<std::string_view, 3> ept_types{"", "single-context", "all-contexts"};
    const bool tag = event.kind() == Kind::flush_tag;
    const std::span<const std::string_view> types =
        tag ? std::span<const std::string_view>{tag_types} : std::span<const std::string_view>{ept_types};
    const unsigned type = event.flush_type();
    const std::string_view why = tag::name_of(event.cause());
    const bool known = type < types.size() && !types[type].empty();
    return {tag ? "INVVPID" : "INVEPT", type, known ? std::string{types[type]} : fmt::format("type {}", type),
            why.empty() ? fmt::format("cause {}", static_cast<unsigned>(event.cause())) : std::string{why}};
}

// Who handled an exit is told by what L0 enters next on that CPU.
std::string handler_of(std::span<const Event> events, std::size_t index) {
    const Event& exit = events[index];
    for (const Event& later : events.subspan(index + 1)) {
        if (later.cpu() != exit.cpu()) continue;
        if (later.kind() == Kind::exit) break;
        if (later.kind() != Kind::entry) continue;
        return exit.from() == trace::Level::l2 && later.to() == trace::Level::l1 ? "L1" : "L0";
    }
    return {};
}

}  // namespace

std::vector<TraceEvent> view_events(std::span<const Event> events) {
    std::vector<TraceEvent> result;
    result.reserve(events.size());
    for (std::size_t i = 0; i < events.size(); ++i) {
        const Event& event = events[i];
        TraceEvent view;
        view.tick = event.tsc;
        view.cpu = event.cpu();
        view.from = name_of_level(event.from());
        view.to = name_of_level(event.to());
        view.vpid = event.vpid();
        view.vpid12 = event.vpid12();
        view.vmcs12 = event.vmcs12();
        view.operand = event.operand;
        switch (event.kind()) {
            case Kind::exit:
                view.kind = "exit";
                view.reason = name_of_reason(event);
                view.handled_by = handler_of(events, i);
                break;
            case Kind::entry:
                view.kind = "entry";
                // A word that is not valid injects nothing (SDM 3C 25.8.3).
                if ((event.operand & injection_valid) == 0) view.operand = 0;
                break;
            case Kind::flush_tag:
            case Kind::flush_ept:
                view.kind = "flush";
                view.flush = flush_of(event);
                break;
            case Kind::refused_entry:
                view.kind = "refused-entry";
                view.error = event.code();
                break;
            default:
                view.kind = fmt::format("kind {}", static_cast<unsigned>(event.kind()));
        }
        result.push_back(std::move(view));
    }
    return result;
}

}  // namespace flatback::tools
