#include <sched.h>
#include <sys/io.h>
#include <unistd.h>

#include <charconv>
#include <span>
#include <string>
#include <string_view>

#include "guests/linux/l0_trace.hpp"

// `l0-trace`: starts, stops and reads L0's trace from within L1. Status 0: done; 1: no trace to be had;
// 2: wrong arguments.
namespace flatback::guests {
namespace {

constexpr std::string_view usage_text =
    "usage: l0-trace start | stop | dump [--last N] [--port-e9]\n"
    "start: forgets what L0 recorded and records. stop: keeps what there is.\n"
    "dump: stops, and writes the newest events (N a processor; default: all that L0 keeps) to standard "
    "output,\n"
    "or to port 0xE9, which the emulator Bochs writes to its own output (needs root).\n";

/// Bochs' debug port: one byte at a time, without an interrupt or an exit.
constexpr unsigned short debug_port = 0xE9;

int complain(std::string_view what) {
    const std::string line = "l0-trace: " + std::string(what) + "\n";
    return ::write(STDERR_FILENO, line.data(), line.size()) < 0 ? 1 : 1;
}

bool write_all(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

struct DumpOptions {
    std::uint64_t last = ~std::uint64_t{0};
    bool port = false;
};

bool parse_dump(std::span<const std::string_view> words, DumpOptions& options) {
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] == "--port-e9") {
            options.port = true;
        } else if (words[i] == "--last" && i + 1 < words.size()) {
            const std::string_view number = words[++i];
            const auto [end, error] =
                std::from_chars(number.data(), number.data() + number.size(), options.last);
            if (error != std::errc{} || end != number.data() + number.size()) return false;
        } else {
            return false;
        }
    }
    return true;
}

/// L0 has a ring for each processor, and a processor reaches its own. Goes on to each that this program may
/// use, and does `work()` there, until that is false.
template <typename Work>
bool on_each_processor(const Work& work) {
    cpu_set_t all;
    // Where there are more than this set can name, there is the one on which it runs.
    if (::sched_getaffinity(0, sizeof all, &all) != 0) return work();
    for (std::size_t processor = 0; processor < CPU_SETSIZE; ++processor) {
        if (!CPU_ISSET(processor, &all)) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(processor, &one);
        // It may just have been taken offline.
        if (::sched_setaffinity(0, sizeof one, &one) == 0 && !work()) return false;
    }
    return true;
}

int dump(const DumpOptions& options) {
    std::string why;
    std::string text;
    // On all first: what reading makes happen on another would push out what is wanted.
    on_each_processor([] { return stop_l0_trace(hardware_cpuid).has_value(); });
    const bool read = on_each_processor([&] {
        const auto trace = read_l0_trace(hardware_cpuid, options.last);
        if (trace) {
            text += format_l0_trace(*trace);
        } else {
            why = trace.error();
        }
        return trace.has_value();
    });
    if (!read) return complain(why);
    if (!options.port) return write_all(text) ? 0 : complain("standard output cannot be written");
    if (::ioperm(debug_port, 1, 1) != 0) return complain("port 0xE9 is not allowed to this user");
    const char* from = text.data();
    std::size_t count = text.size();
    asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(debug_port) : "memory");
    return 0;
}

int main_with(std::span<const std::string_view> words) {
    const std::string_view command = words.empty() ? std::string_view{} : words[0];
    DumpOptions options;
    if (command == "dump" && parse_dump(words.subspan(1), options)) return dump(options);
    if (words.size() == 1 && (command == "start" || command == "stop")) {
        std::string why;
        const bool done = on_each_processor([&] {
            const auto each =
                command == "start" ? start_l0_trace(hardware_cpuid) : stop_l0_trace(hardware_cpuid);
            if (!each) why = each.error();
            return each.has_value();
        });
        return done ? 0 : complain(why);
    }
    const int file = command == "--help" ? STDOUT_FILENO : STDERR_FILENO;
    const bool said = ::write(file, usage_text.data(), usage_text.size()) > 0;
    return command == "--help" && said ? 0 : 2;
}

}  // namespace
}  // namespace flatback::guests

int main(int count, char** values) {
    const std::vector<std::string_view> words(values + 1, values + count);
    return flatback::guests::main_with(words);
}
