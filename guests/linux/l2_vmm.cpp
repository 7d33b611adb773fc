#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/io.h>
#include <sys/reboot.h>
#include <sys/time.h>
#include <termios.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "guests/linux/arguments.hpp"
#include "guests/linux/console_filter.hpp"
#include "guests/linux/counter_source.hpp"
#include "guests/linux/kexec.hpp"
#include "guests/linux/linux_vm.hpp"
#include "guests/linux/payload_run.hpp"
#include "guests/linux/record.hpp"

// The L1's user space: runs the L2 payloads and prints records. Status 0: all ran, all right.
namespace flatback::guests {
namespace {

/// The emulator ends the run when these bytes arrive here, one by one.
constexpr unsigned short shutdown_port = 0x8900;
constexpr std::string_view shutdown_word = "Shutdown";

/// A payload that runs longer than this hangs. Every one takes well under a second of emulated time.
constexpr time_t payload_seconds = 20;

int power_off() {
    ::tcdrain(STDOUT_FILENO);
    if (::ioperm(shutdown_port, 1, 1) == 0) {
        for (const char c : shutdown_word) {
            ::outb(static_cast<unsigned char>(c), shutdown_port);
        }
    }
    ::reboot(RB_POWER_OFF);
    return 1;
}

/// Makes a KVM_RUN that lasts too long return with EINTR.
void limit_time(time_t seconds) {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &action, nullptr);
    // The second expiry, a second later, is for a signal that arrived just before KVM_RUN.
    const itimerval timer{{seconds == 0 ? 0 : 1, 0}, {seconds, 0}};
    ::setitimer(ITIMER_REAL, &timer, nullptr);
}

void print_ratio(const std::string& key, std::uint64_t numerator, std::uint64_t denominator) {
    if (denominator != 0) {
        print_record("value", key + " " + format_ratio(numerator, denominator));
    }
}

void print_per_l2_entry(const std::string& prefix, const L0Counters& counters) {
    const std::uint64_t entries = counters[Counter::l2_entries];
    print_ratio(prefix + "per_l2_entry.l0_exits", counters[Counter::l0_exits], entries);
    print_ratio(prefix + "per_l2_entry.l2_tag_flushes", counters[Counter::l2_tag_flushes], entries);
    print_ratio(prefix + "per_l2_entry.l1_tag_flushes", counters[Counter::l1_tag_flushes], entries);
    print_ratio(prefix + "per_l2_entry.vmread_exits", counters[Counter::vmread_exits], entries);
    print_ratio(prefix + "per_l2_entry.vmwrite_exits", counters[Counter::vmwrite_exits], entries);
    print_ratio(prefix + "per_l2_entry.l0_vmreads", counters[Counter::vmreads_by_l0], entries);
    print_ratio(prefix + "per_l2_entry.l0_vmwrites", counters[Counter::vmwrites_by_l0], entries);
    print_value(prefix + "l2_entries", entries);
}

void print_exits(const std::string& prefix, const L0Counters& counters) {
    for (std::size_t reason = 0; reason < exit_reason_count; ++reason) {
        const std::uint64_t total = counters.handled[reason] + counters.reflected[reason];
        if (total == 0) {
            continue;
        }
        std::string name(exit_reason_name(reason));
        if (name.empty()) {
            name = "reason_" + std::to_string(reason);
        }
        print_text(prefix + "exits." + name, std::to_string(total));
        if (counters.reflected[reason] != 0) {
            print_text(prefix + "exits_reflected." + name, std::to_string(counters.reflected[reason]));
        }
    }
}

int run(const std::vector<PayloadId>& payloads, const std::string& named_mode) {
    const auto identity = identify_l0(hardware_cpuid);
    const std::string mode =
        !named_mode.empty() ? named_mode : std::string(identity ? identity->mode : "direct");
    const std::string prefix = "modes." + mode + ".";
    print_text("l1.mode", mode);
    if (identity) {
        print_text(prefix + "shadow_vmcs", identity->shadow_vmcs ? "on" : "off");
        print_value(prefix + "tag_slots", identity->tag_slots);
    }
    print_value(prefix + "l1_cpuid_ticks", measure_l1_cpuid());

    bool all_right = true;
    L0Counters total;
    for (const PayloadId id : payloads) {
        const Payload& which = payload(id);
        limit_time(payload_seconds);
        const auto result = run_payload(which, identity.has_value());
        limit_time(0);
        if (!result) {
            print_record("error", "l2-vmm: " + std::string(which.name) + ": " + result.error());
            all_right = false;
            continue;
        }
        const bool right = result->wrong.empty();
        print_record("check", std::string(which.name) + (right ? " pass" : " fail " + result->wrong));
        all_right = all_right && right;
        for (const Figure& figure : result->figures) {
            // A figure of a wrong run would be no measurement of the operation.
            if (right) {
                print_value(prefix + std::string(figure.key), figure.ticks);
            }
        }
        if (identity) {
            print_per_l2_entry(prefix + "payloads." + std::string(which.name) + ".", result->counters);
            if (id == PayloadId::cpuid) {
                print_exits(prefix, result->counters);
            }
        }
        total += result->counters;
    }
    if (identity) {
        print_per_l2_entry(prefix, total);
    }
    print_text(prefix + "l2_result", all_right ? "pass" : "fail");
    return all_right ? 0 : 1;
}

int fail_with(const Failure& failure) {
    print_record("error", "l2-vmm: " + failure);
    return 1;
}

/// The source of that word; null where the word is empty.
Expected<std::unique_ptr<CounterSource>> source_of(const std::string& word) {
    return word.empty() ? Expected<std::unique_ptr<CounterSource>>() : open_counter_source(word);
}

/// L0's counters, which it has for each processor: those of L1's processors, one after the other.
std::vector<L0Counters> read_l0_counters_of_each(unsigned processors) {
    std::vector<L0Counters> all;
    cpu_set_t before;
    if (::sched_getaffinity(0, sizeof before, &before) != 0) {
        return all;
    }
    for (unsigned processor = 0; processor < processors; ++processor) {
        cpu_set_t only;
        CPU_ZERO(&only);
        CPU_SET(processor, &only);
        if (::sched_setaffinity(0, sizeof only, &only) != 0) {
            break;
        }
        all.push_back(read_l0_counters(hardware_cpuid));
    }
    ::sched_setaffinity(0, sizeof before, &before);
    return all;
}

int boot_linux(const Arguments& arguments, std::uint64_t start) {
    const auto source = source_of(arguments.counters);
    if (!source) {
        return fail_with(source.error());
    }
    const auto identity = identify_l0(hardware_cpuid);
    // As many as L2 has run on.
    const unsigned processors = arguments.linux_guest.processors;
    const auto before = identity ? read_l0_counters_of_each(processors) : std::vector<L0Counters>{};
    const auto ran = run_linux(arguments.linux_guest, source->get(), start, arguments.boot_key);
    if (ran && identity) {
        const auto after = read_l0_counters_of_each(processors);
        L0Counters sum{};
        for (std::size_t each = 0; each < std::min(before.size(), after.size()); ++each) {
            sum += difference(before[each], after[each]);
        }
        print_exits("modes." + std::string(identity->mode) + ".l2_linux.", sum);
    }
    return ran ? 0 : fail_with("Linux as L2: " + ran.error());
}

/// Opens both before the first read: whoever is at the other end of two FIFOs waits for both.
int serve(const Arguments& arguments) {
    const auto source = source_of(arguments.counters);
    if (!source) {
        return fail_with(source.error());
    }
    const Descriptor input{::open(arguments.input.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
    if (input.number() < 0) {
        return fail_with(arguments.input + ": " + std::strerror(errno));
    }
    const Descriptor output{::open(arguments.output.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY)};
    if (output.number() < 0) {
        return fail_with(arguments.output + ": " + std::strerror(errno));
    }
    const auto served = serve_counters(input.number(), output.number(), **source);
    return served ? 0 : fail_with(served.error());
}

int copy_console(const Arguments& arguments) {
    ConsoleFilter console(arguments.start, arguments.boot_key, arguments.boot_stage);
    std::array<char, 4096> bytes{};
    for (;;) {
        const ssize_t count = ::read(STDIN_FILENO, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            console.finish();
            return console.user_space_reached() ? 0 : 1;
        }
        for (const char byte : std::span(bytes).first(static_cast<std::size_t>(count))) {
            console.append(byte);
        }
    }
}

int main_with(const std::vector<std::string_view>& words) {
    const std::uint64_t start = __rdtsc();
    const auto arguments = parse_arguments(words);
    if (!arguments) {
        print_record("error", "l2-vmm: " + arguments.error());
        return 2;
    }
    switch (arguments->action) {
        case Arguments::Action::run:
            return run(arguments->payloads, arguments->mode);
        case Arguments::Action::boot_linux:
            return boot_linux(*arguments, start);
        case Arguments::Action::kexec:
            return fail_with(kexec(arguments->linux_guest));
        case Arguments::Action::serve_counters:
            return serve(*arguments);
        case Arguments::Action::clock:
            print_line(std::to_string(start));
            return 0;
        case Arguments::Action::console:
            return copy_console(*arguments);
        case Arguments::Action::power_off:
            return power_off();
        case Arguments::Action::help: {
            const std::string text = usage();
            return ::write(STDOUT_FILENO, text.data(), text.size()) < 0 ? 1 : 0;
        }
    }
    return 2;
}

}  // namespace
}  // namespace flatback::guests

int main(int count, char** values) {
    return flatback::guests::main_with(std::vector<std::string_view>(values + 1, values + count));
}
