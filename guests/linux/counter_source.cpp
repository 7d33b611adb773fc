#include "guests/linux/counter_source.hpp"

#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <vector>

#include "guests/linux/descriptor.hpp"
#include "guests/linux/kvm_counters.hpp"
#include "guests/linux/l0_counters.hpp"

namespace flatback::guests {
namespace {

/// A reply comes within microseconds of emulated time, or never.
constexpr int reply_milliseconds = 5000;

class CpuidSource final : public CounterSource {
public:
    Expected<CounterTotals> read() override {
        return CounterTotals{.l2_entries = read_l0_counter(hardware_cpuid, Counter::l2_entries),
                             .l0_exits = read_l0_counter(hardware_cpuid, Counter::l0_exits),
                             .l2_tag_flushes = read_l0_counter(hardware_cpuid, Counter::l2_tag_flushes),
                             .l1_tag_flushes = read_l0_counter(hardware_cpuid, Counter::l1_tag_flushes)};
    }
};

/// Adds what is read up to a newline to `line`; false at the end of the input.
[[nodiscard]] Expected<bool> read_line(int input, std::string& line, int milliseconds) {
    line.clear();
    for (;;) {
        pollfd waited{input, POLLIN, 0};
        const int ready = ::poll(&waited, 1, milliseconds);
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        if (ready < 0) {
            return system_failure("waiting for the counter line");
        }
        if (ready == 0) {
            return std::unexpected("no reply on the counter line");
        }
        // Byte by byte: what follows the newline is not this line's. A terminal hands out whole lines, so
        // that a long read would do there, but a pipe does not.
        char next = 0;
        const ssize_t count = ::read(input, &next, 1);
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (count < 0) {
            return system_failure("reading the counter line");
        }
        if (count == 0) {
            return false;
        }
        if (next == '\n') {
            return true;
        }
        if (line.size() < counter_line_limit) {
            line.push_back(next);
        }
    }
}

[[nodiscard]] Expected<void> write_line(int output, std::string line) {
    line.push_back('\n');
    std::string_view left = line;
    while (!left.empty()) {
        const ssize_t count = ::write(output, left.data(), left.size());
        if (count < 0 && errno != EINTR) {
            return system_failure("writing the counter line");
        }
        left.remove_prefix(count < 0 ? 0 : static_cast<std::size_t>(count));
    }
    return {};
}

class LineSource final : public CounterSource {
public:
    explicit LineSource(Descriptor line) : line_(std::move(line)) {}

    [[nodiscard]] static Expected<std::unique_ptr<CounterSource>> open(const std::string& path) {
        Descriptor line{::open(path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC)};
        if (line.number() < 0) {
            return system_failure(path);
        }
        // No echo, no changes of line ends: the protocol's bytes as they are. Not a terminal: nothing to set.
        termios settings{};
        if (::tcgetattr(line.number(), &settings) == 0) {
            ::cfmakeraw(&settings);
            settings.c_cflag |= CLOCAL;
            ::cfsetspeed(&settings, B115200);
            if (::tcsetattr(line.number(), TCSANOW, &settings) < 0) {
                return system_failure(path);
            }
            ::tcflush(line.number(), TCIOFLUSH);
        }
        return std::make_unique<LineSource>(std::move(line));
    }

    Expected<CounterTotals> read() override {
        if (auto asked = write_line(line_.number(), std::string(counter_request)); !asked) {
            return std::unexpected(asked.error());
        }
        std::string reply;
        const auto got = read_line(line_.number(), reply, reply_milliseconds);
        if (!got) {
            return std::unexpected(got.error());
        }
        if (!*got) {
            return std::unexpected("the counter line was closed");
        }
        const auto totals = parse_counter_reply(reply);
        if (!totals) {
            return std::unexpected("the counter line answered: " + reply);
        }
        return *totals;
    }

private:
    Descriptor line_;
};

[[nodiscard]] CounterTotals medians(std::span<const CounterTotals> samples) {
    const auto median = [&samples](std::uint64_t CounterTotals::*member) {
        std::vector<std::uint64_t> values;
        for (const CounterTotals& sample : samples) {
            values.push_back(sample.*member);
        }
        const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
        std::ranges::nth_element(values, middle);
        return *middle;
    };
    return {median(&CounterTotals::l2_entries), median(&CounterTotals::l0_exits),
            median(&CounterTotals::l2_tag_flushes), median(&CounterTotals::l1_tag_flushes)};
}

}  // namespace

Expected<std::unique_ptr<CounterSource>> open_counter_source(std::string_view word) {
    constexpr std::string_view line_prefix = "line:";
    constexpr std::string_view kvm_prefix = "kvm:";
    if (word == "cpuid") {
        if (!identify_l0(hardware_cpuid)) {
            return std::unexpected("counters from cpuid: the hypervisor below is not Flatback");
        }
        return std::make_unique<CpuidSource>();
    }
    if (word.starts_with(line_prefix) && word.size() > line_prefix.size()) {
        return LineSource::open(std::string(word.substr(line_prefix.size())));
    }
    if (word.starts_with(kvm_prefix) && word.size() > kvm_prefix.size()) {
        return open_kvm_counters(std::string(word.substr(kvm_prefix.size())));
    }
    return std::unexpected("no source of counters is called '" + std::string(word) +
                           "'; there are cpuid, line:PATH and kvm:DIRECTORY");
}

Expected<CounterBracket> CounterBracket::calibrate(CounterSource& source) {
    constexpr std::size_t pairs = 9;
    std::array<CounterTotals, pairs> costs{};
    auto before = source.read();
    for (CounterTotals& cost : costs) {
        if (!before) {
            return std::unexpected(before.error());
        }
        const auto after = source.read();
        if (after) {
            cost = since(*before, *after);
        }
        before = after;
    }
    if (!before) {
        return std::unexpected(before.error());
    }
    return CounterBracket(source, medians(costs));
}

Expected<void> CounterBracket::begin() {
    const auto totals = source_->read();
    if (!totals) {
        return std::unexpected(totals.error());
    }
    before_ = *totals;
    return {};
}

Expected<CounterTotals> CounterBracket::end() {
    const auto totals = source_->read();
    if (!totals) {
        return std::unexpected(totals.error());
    }
    return since(cost_, since(before_, *totals));
}

std::string answer_counter_request(std::string_view request, CounterSource& source) {
    if (request != counter_request) {
        return "error unknown request";
    }
    const auto totals = source.read();
    return totals ? format_counter_reply(*totals) : "error " + totals.error();
}

Expected<void> serve_counters(int input, int output, CounterSource& source) {
    constexpr int for_ever = -1;
    std::string request;
    for (;;) {
        const auto got = read_line(input, request, for_ever);
        if (!got) {
            return std::unexpected(got.error());
        }
        if (!*got) {
            return {};
        }
        if (auto answered = write_line(output, answer_counter_request(request, source)); !answered) {
            return answered;
        }
    }
}

}  // namespace flatback::guests
