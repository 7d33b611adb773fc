#include "guests/linux/l0_trace.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "interface/information_leaves.hpp"

namespace flatback::guests {
namespace {

namespace sub = trace::subleaf;

constexpr std::uint32_t highest_leaf_in = interface::information_leaf;

std::expected<CpuidResult, TraceError> describe(CpuidFunction cpuid) {
    const auto identity = identify_l0(cpuid);
    if (!identity) return std::unexpected("this machine does not run on Flatback (CPUID leaf 40000000H)");
    if (cpuid(highest_leaf_in, 0).eax < trace::leaf) {
        return std::unexpected("this Flatback has no trace; it is older than this program");
    }
    const CpuidResult format = cpuid(trace::leaf, sub::format);
    if ((format.edx & trace::state::available) == 0) {
        return std::unexpected("L0 was booted without trace=on");
    }
    if (format.eax != trace::format_version || format.ebx != sizeof(trace::Event) || format.ecx == 0) {
        return std::unexpected("L0's trace has format " + std::to_string(format.eax) +
                               ", this program knows format " + std::to_string(trace::format_version));
    }
    return format;
}

std::uint64_t pair(std::uint32_t low, std::uint32_t high) {
    return low | std::uint64_t{high} << 32;
}

trace::Event event_at(CpuidFunction cpuid, std::uint64_t place) {
    const CpuidResult first = cpuid(trace::leaf, sub::event_half(place, 0));
    const CpuidResult second = cpuid(trace::leaf, sub::event_half(place, 1));
    return {pair(first.eax, first.ebx), pair(first.ecx, first.edx), pair(second.eax, second.ebx),
            pair(second.ecx, second.edx)};
}

void append_hexadecimal(std::string& text, std::uint64_t value) {
    std::array<char, 16> digits;
    const auto [end, error] = std::to_chars(digits.begin(), digits.end(), value, 16);
    text.append(digits.begin(), end);
}

}  // namespace

std::expected<void, TraceError> start_l0_trace(CpuidFunction cpuid) {
    if (const auto format = describe(cpuid); !format) return std::unexpected(format.error());
    cpuid(trace::leaf, sub::start);
    return {};
}

std::expected<void, TraceError> stop_l0_trace(CpuidFunction cpuid) {
    if (const auto format = describe(cpuid); !format) return std::unexpected(format.error());
    cpuid(trace::leaf, sub::stop);
    return {};
}

std::expected<L0Trace, TraceError> read_l0_trace(CpuidFunction cpuid, std::uint64_t most) {
    // First of all: what comes after it would only push out what is wanted.
    cpuid(trace::leaf, sub::stop);
    const auto format = describe(cpuid);
    if (!format) return std::unexpected(format.error());
    L0Trace result;
    result.capacity = format->ecx;
    const CpuidResult written = cpuid(trace::leaf, sub::written);
    result.written = pair(written.eax, written.edx);
    result.mode = std::string(identify_l0(cpuid)->mode);
    const std::uint64_t count = std::min({result.written, result.capacity, most});
    result.events.reserve(count);
    for (std::uint64_t i = result.written - count; i < result.written; ++i) {
        result.events.push_back(event_at(cpuid, i % result.capacity));
    }
    return result;
}

std::string format_l0_trace(const L0Trace& trace) {
    std::string text = "FLATBACK-TRACE begin version=" + std::to_string(trace::format_version) +
                       " mode=" + trace.mode + " capacity=" + std::to_string(trace.capacity) +
                       " written=" + std::to_string(trace.written) +
                       " events=" + std::to_string(trace.events.size()) + "\n";
    std::uint64_t check = trace::check_start;
    for (const trace::Event& event : trace.events) {
        text += "FLATBACK-TRACE";
        for (const std::uint64_t word : {event.tsc, event.what, event.nested, event.operand}) {
            text += ' ';
            append_hexadecimal(text, word);
            check = trace::check_step(check, word);
        }
        text += '\n';
    }
    text += "FLATBACK-TRACE end check=";
    append_hexadecimal(text, check);
    return text + "\n";
}

}  // namespace flatback::guests
