#include "guests/linux/kvm_counters.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>

#include "guests/linux/descriptor.hpp"

namespace flatback::guests {
namespace {

[[nodiscard]] Expected<std::uint64_t> read_number(const std::string& path) {
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.number() < 0) {
        return system_failure(path);
    }
    std::array<char, 32> text{};
    const ssize_t count = ::read(file.number(), text.data(), text.size());
    if (count < 0) {
        return system_failure(path);
    }
    const auto number = parse_debugfs_number({text.data(), static_cast<std::size_t>(count)});
    if (!number) {
        return std::unexpected(path + " does not hold one decimal number");
    }
    return *number;
}

class KvmSource final : public CounterSource {
public:
    explicit KvmSource(std::string directory) : directory_(std::move(directory)) {}

    Expected<CounterTotals> read() override {
        CounterTotals totals;
        struct Named {
            const char* file;
            std::uint64_t CounterTotals::*member;
        };
        static constexpr std::array<Named, 3> files{{{"/exits", &CounterTotals::l0_exits},
                                                     {"/nested_run", &CounterTotals::l2_entries},
                                                     {"/tlb_flush", &CounterTotals::l2_tag_flushes}}};
        for (const Named& each : files) {
            const auto number = read_number(directory_ + each.file);
            if (!number) {
                return std::unexpected(number.error());
            }
            totals.*each.member = *number;
        }
        return totals;
    }

private:
    std::string directory_;
};

}  // namespace

Expected<std::unique_ptr<CounterSource>> open_kvm_counters(std::string directory) {
    auto source = std::make_unique<KvmSource>(std::move(directory));
    // A directory that is not KVM's is said now, and not in the middle of a benchmark.
    if (const auto first = source->read(); !first) {
        return std::unexpected(first.error());
    }
    return source;
}

std::optional<std::uint64_t> parse_debugfs_number(std::string_view text) {
    if (text.ends_with('\n')) {
        text.remove_suffix(1);
    }
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return number;
}

}  // namespace flatback::guests
