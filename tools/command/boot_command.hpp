// `flatback run --l1 FILE`: boots any bzImage, vmlinux or Multiboot 1 kernel as L1 and returns its serial
// output.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/emulator/bochs_configuration.hpp"
#include "tools/ground/error.hpp"

namespace flatback::tools {

// On what it runs. Ticks are exact on Bochs alone.
enum class Ground : std::uint8_t { bochs, kvm, qemu_tcg };

struct BootOptions {
    std::filesystem::path guest;
    Ground on = Ground::bochs;
    Firmware firmware = Firmware::bios;
    std::vector<std::string> modules;  // FILE, or FILE followed by a space and the string that goes with it
    std::string second_vm;             // the kernel of another VM, as a module; empty: there is none
    std::string guest_command_line;
    std::string l0_command_line;
    unsigned depth = 1;      // how many L0s are beneath L1, each L1 of the next
    bool above_kvm = false;  // L0 is itself a guest of Debian's KVM in the emulated machine
    unsigned memory = 1024;  // MB; of the guest of that KVM, where it is one
    std::chrono::seconds limit{300};
    std::optional<std::filesystem::path> serial_file;  // COM1's output goes there instead of standard output
    std::optional<std::filesystem::path> json_file;
    std::string processor{usual_processor};  // one of processor_models
    unsigned processors = 1;
    std::optional<std::filesystem::path> disk;         // a raw image, which the guest may write
    bool interactive = false;                          // COM1 is the terminal
    bool debug = false;                                // the emulator's debugger is
    bool direct = false;                               // without L0
    std::optional<std::filesystem::path> screen_file;  // a PNG file of the screen at the end
    std::optional<std::filesystem::path> trace_file;   // what is executed between two marks of the guest's
    bool records = false;  // what L1 prints are records (tools/emulator/serial_record.hpp), though it is no
                           // guest of Flatback's
};

// Runs it; says on standard error how it ended. Error: what kept it from running.
[[nodiscard]] Result<ExitStatus> boot_command(const BootOptions& options);

}  // namespace flatback::tools
