#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "guests/linux/payload.hpp"

namespace flatback::guests {

/// A Linux to boot, as L2 or in this machine's place.
struct LinuxArguments {
    std::string kernel;     ///< an ELF64 vmlinux
    std::string initramfs;  ///< empty: none
    std::string command_line;
    std::size_t memory_megabytes = 128;
    unsigned processors = 1;
    /// Its virtual CPUs change places among L1's processors every so many milliseconds; 0: L1 has them where
    /// it will.
    unsigned move_milliseconds = 0;
    std::string move_key = "l2_linux.moves";  ///< of how often one of them was moved
    /// Marks for the emulator's debugger: before its first instruction, and whenever virtual CPU 0 has come
    /// out to a device so often again; 0: none.
    unsigned exits_a_mark = 0;
};

struct Arguments {
    enum class Action { run, boot_linux, kexec, serve_counters, clock, console, power_off, help };
    Action action = Action::run;
    /// In the order they run; all of them where none was named.
    std::vector<PayloadId> payloads;
    std::string mode;  ///< of the payloads' keys; empty: what the hypervisor below says, or "direct"
    LinuxArguments linux_guest;
    /// As open_counter_source() takes it; empty: requests for counters are answered with an error.
    std::string counters;
    /// The key of the ticks until L2 is in user space; empty: not printed.
    std::string boot_key;
    std::string boot_stage = "l2-user";  ///< of console: the stage that says so
    std::string input;                   ///< of serve_counters
    std::string output;                  ///< of serve_counters
    std::uint64_t start = 0;             ///< of console: the TSC when the other VMM was started
};

/// `arguments` without the program's name. The error is one line for the user.
[[nodiscard]] std::expected<Arguments, std::string> parse_arguments(
    std::span<const std::string_view> arguments);

[[nodiscard]] std::string usage();

}  // namespace flatback::guests
