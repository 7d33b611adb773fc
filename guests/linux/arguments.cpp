#include "guests/linux/arguments.hpp"

#include <algorithm>
#include <limits>

#include "guests/linux/processor_table.hpp"
#include "guests/linux/word_reader.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t least_memory = 64;
constexpr std::uint64_t most_memory = 3072;  // one block, below the hole for devices
constexpr std::uint64_t most_milliseconds = 60'000;
constexpr std::uint64_t most_exits_a_mark = 1'000'000;

/// Stores a word or number that was read; true where there was one.
template <typename Value, typename Target>
[[nodiscard]] Expected<void> store(Expected<Value> read, Target& target) {
    if (!read) {
        return std::unexpected(read.error());
    }
    target = static_cast<Target>(std::move(*read));
    return {};
}

[[nodiscard]] Expected<void> take_payload(WordReader& words, Arguments& result) {
    const auto name = words.value("a name");
    if (!name) {
        return std::unexpected(name.error());
    }
    const auto found = std::ranges::find(all_payloads(), *name, &Payload::name);
    if (found == all_payloads().end()) {
        return std::unexpected("no payload is called '" + *name + "'");
    }
    result.payloads.push_back(found->id);
    return {};
}

/// One option with what belongs to it.
[[nodiscard]] Expected<void> take_option(WordReader& words, Arguments& result) {
    using Action = Arguments::Action;
    const std::string_view option = words.next();
    if (option == "--help") {
        result.action = Action::help;
    } else if (option == "--power-off") {
        result.action = Action::power_off;
    } else if (option == "--clock") {
        result.action = Action::clock;
    } else if (option == "--payload") {
        return take_payload(words, result);
    } else if (option == "--mode") {
        return store(words.value("a name"), result.mode);
    } else if (option == "--linux") {
        result.action = Action::boot_linux;
        return store(words.value("a kernel's file"), result.linux_guest.kernel);
    } else if (option == "--kexec") {
        result.action = Action::kexec;
        return store(words.value("a kernel's file"), result.linux_guest.kernel);
    } else if (option == "--initramfs") {
        return store(words.value("a file"), result.linux_guest.initramfs);
    } else if (option == "--cmdline") {
        return store(words.value("a text"), result.linux_guest.command_line);
    } else if (option == "--memory") {
        return store(words.number(least_memory, most_memory), result.linux_guest.memory_megabytes);
    } else if (option == "--cpus") {
        return store(words.number(1, most_l2_processors), result.linux_guest.processors);
    } else if (option == "--move") {
        return store(words.number(0, most_milliseconds), result.linux_guest.move_milliseconds);
    } else if (option == "--move-key") {
        return store(words.value("a key"), result.linux_guest.move_key);
    } else if (option == "--mark") {
        return store(words.number(0, most_exits_a_mark), result.linux_guest.exits_a_mark);
    } else if (option == "--boot-key") {
        return store(words.value("a key"), result.boot_key);
    } else if (option == "--boot-stage") {
        return store(words.value("a stage"), result.boot_stage);
    } else if (option == "--counters") {
        return store(words.value("a source"), result.counters);
    } else if (option == "--console") {
        result.action = Action::console;
        return store(words.number(0, std::numeric_limits<std::uint64_t>::max()), result.start);
    } else if (option == "--serve-counters") {
        result.action = Action::serve_counters;
        if (auto input = store(words.value("two files"), result.input); !input) {
            return input;
        }
        return store(words.value("two files"), result.output);
    } else {
        return std::unexpected("unknown argument '" + std::string(option) + "'");
    }
    return {};
}

}  // namespace

std::expected<Arguments, std::string> parse_arguments(std::span<const std::string_view> arguments) {
    Arguments result;
    WordReader words(arguments);
    while (!words.done()) {
        if (auto taken = take_option(words, result); !taken) {
            return std::unexpected(taken.error());
        }
    }
    if (result.action == Arguments::Action::serve_counters && result.counters.empty()) {
        return std::unexpected("--serve-counters needs --counters SOURCE");
    }
    if (result.action == Arguments::Action::kexec && result.linux_guest.initramfs.empty()) {
        return std::unexpected("--kexec needs --initramfs FILE");
    }
    if (result.payloads.empty()) {
        for (const Payload& each : all_payloads()) {
            result.payloads.push_back(each.id);
        }
    }
    return result;
}

std::string usage() {
    std::string text =
        "usage: l2-vmm [--payload NAME]... [--mode NAME]\n"
        "       l2-vmm --linux KERNEL [--initramfs FILE] [--cmdline TEXT] [--memory MB] [--counters SOURCE]\n"
        "              [--boot-key KEY] [--cpus N] [--move MS [--move-key KEY]] [--mark N]\n"
        "       l2-vmm --kexec KERNEL --initramfs FILE [--cmdline TEXT]\n"
        "       l2-vmm --serve-counters IN OUT --counters SOURCE\n"
        "       l2-vmm --clock | --console START [--boot-key KEY [--boot-stage STAGE]] | --power-off | "
        "--help\n"
        "Runs the named L2 payloads (default: all) on /dev/kvm and prints their figures.\n"
        "--mode            prints them as modes.NAME.…\n"
        "--linux           boots an uncompressed Linux (an ELF64 vmlinux) as L2, until it resets its "
        "machine.\n"
        "                  COM1 is its console, COM2 answers the request 'counters' from SOURCE.\n"
        "--kexec           starts such a Linux in the place of this machine's own\n"
        "--memory          of L2, 64 to 3072 MB (default 128)\n"
        "--cpus            of L2, 1 to 8 (default 1)\n"
        "--move            its virtual CPUs change places among this machine's processors every so many ms\n"
        "--move-key        the value that tells how often one was moved (default l2_linux.moves)\n"
        "--mark            'xchg %bx, %bx' for the emulator's debugger, before L2's first instruction and "
        "every N\n"
        "                  exits to a device behind it\n"
        "--counters        cpuid: Flatback as L0; line:PATH: whoever answers at PATH;\n"
        "                  kvm:DIRECTORY: KVM as L0, in its debugfs\n"
        "--boot-key        prints the ticks from the start to L2's line 'FLATBACK stage l2-user' as this "
        "value\n"
        "--boot-stage      another stage than l2-user\n"
        "--serve-counters  answers the requests that come from IN, on OUT\n"
        "--clock           prints the TSC, a START for --console\n"
        "--console         copies the console of another VMM from standard input, whole lines at once\n"
        "--power-off       ends the machine: Shutdown to port 0x8900, else power off.\n"
        "Payloads:";
    for (const Payload& each : all_payloads()) {
        text.append(" ").append(each.name);
    }
    return text + "\n";
}

}  // namespace flatback::guests
