#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "guests/linux/record.hpp"
#include "guests/linux/word_reader.hpp"
#include "guests/mm_stress/faulting_access.hpp"
#include "guests/mm_stress/measure.hpp"
#include "guests/mm_stress/window.hpp"

// Threads that map, write, protect, unmap and fork, every value checked: what a Linux of several processors
// does to its page tables and to the TLBs of all. Status 0: no value was wrong.
namespace flatback::guests {
namespace {

struct Options {
    std::uint64_t threads = 4;
    std::uint64_t rounds = 200;
    std::uint64_t pages = 8;
    std::uint64_t measure = 1;
    std::string records = "mm_stress";
    bool help = false;
};

[[nodiscard]] Expected<Options> parse(std::span<const std::string_view> words) {
    Options options;
    WordReader reader(words);
    while (!reader.done()) {
        const std::string option(reader.next());
        if (option == "--records") {
            const auto key = reader.value("a key");
            if (!key) {
                return std::unexpected(key.error());
            }
            options.records = *key;
            continue;
        }
        std::uint64_t* target = nullptr;
        std::uint64_t least = 1;
        std::uint64_t most = 0;
        if (option == "--help") {
            options.help = true;
            continue;
        }
        if (option == "--threads") {
            target = &options.threads;
            most = 64;
        } else if (option == "--rounds") {
            target = &options.rounds;
            most = 100'000'000;
        } else if (option == "--pages") {
            target = &options.pages;
            most = 1024;
        } else if (option == "--measure") {
            target = &options.measure;
            least = 0;
            most = 1;
        } else {
            return std::unexpected("unknown argument '" + option + "'; see mm-stress --help");
        }
        const auto number = reader.number(least, most);
        if (!number) {
            return std::unexpected(number.error());
        }
        *target = *number;
    }
    return options;
}

/// Empty where every value was right.
[[nodiscard]] std::string stress(const Options& options) {
    std::vector<Window> windows;
    windows.reserve(options.threads);
    for (std::uint64_t number = 0; number < options.threads; ++number) {
        auto window = Window::create(options.pages);
        if (!window) {
            return window.error();
        }
        windows.push_back(std::move(*window));
    }
    std::mutex mutex;
    std::string first;
    std::atomic<bool> failed{false};
    {
        std::vector<std::jthread> threads;
        for (std::uint64_t number = 0; number < options.threads; ++number) {
            threads.emplace_back([&, number] {
                Window& own = windows[number];
                const Window& next = windows[(number + 1) % windows.size()];
                constexpr std::uint64_t forks_every = 8;
                for (std::uint64_t round = 0; round < options.rounds && !failed.load(); ++round) {
                    auto done = round % forks_every == forks_every - 1 ? own.fork_turn() : own.turn();
                    if (done && windows.size() > 1) {
                        done = next.look();
                    }
                    if (!done) {
                        const std::lock_guard lock(mutex);
                        if (!failed.exchange(true)) {
                            first = "thread " + std::to_string(number) + ", round " + std::to_string(round) +
                                    ": " + done.error();
                        }
                    }
                }
            });
        }
    }
    return first;
}

int run(std::span<const std::string_view> words) {
    const auto options = parse(words);
    if (!options) {
        print_record("error", "mm-stress: " + options.error());
        return 2;
    }
    if (options->help) {
        print_line(
            "usage: mm-stress [--threads N] [--rounds N] [--pages N] [--measure 0|1] [--records KEY]\n"
            "N threads (default 4) map, write, protect, unmap and fork N rounds (200) of N pages (8), and "
            "check "
            "every value.\n"
            "Then, unless --measure 0, what an interrupt and a TLB shootdown between two processors take.\n"
            "The records' keys begin with KEY (mm_stress).");
        return 0;
    }
    catch_faults();
    const std::string wrong = stress(*options);
    print_record("check", options->records + (wrong.empty() ? std::string(" pass") : " fail " + wrong));
    print_value(options->records + ".rounds", options->threads * options->rounds);
    if (!wrong.empty()) {
        return 1;
    }
    if (options->measure == 0) {
        return 0;
    }
    const auto ticks = measure_shootdown();
    if (!ticks) {
        print_record("error", "mm-stress: " + ticks.error());
        return 1;
    }
    print_value(options->records + ".interrupt_ticks", ticks->interrupt);
    print_value(options->records + ".shootdown_ticks", ticks->shootdown);
    print_value(options->records + ".alone_ticks", ticks->alone);
    return 0;
}

}  // namespace
}  // namespace flatback::guests

int main(int count, char** values) {
    const std::vector<std::string_view> words(values + 1, values + count);
    return flatback::guests::run(words);
}
