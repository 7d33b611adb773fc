// The CD image that a run boots from: GRUB, L0, the guest and its modules.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tools/ground/error.hpp"
#include "tools/image/guest_kernel.hpp"

namespace flatback::tools {

struct BootModule {
    std::filesystem::path file;
    std::string text;  // the string that goes with it
};

// What GRUB is to load.
struct BootPlan {
    std::optional<std::filesystem::path> l0;  // none: the guest is booted without one
    std::string l0_command_line;
    unsigned levels = 1;  // how many L0s there are, the guest among them (tools/image/depth.hpp)
    std::filesystem::path guest;
    KernelKind guest_kind = KernelKind::multiboot1;
    std::string guest_command_line;
    std::vector<BootModule> modules;  // for a Linux guest the first is the initramfs
    // In place of the firmware's FADT and DSDT, and beside its others: their bytes.
    std::vector<std::string> acpi_tables{};
};

// GRUB's configuration for a plan. Files are named by place: /boot/l0, /boot/l1, /boot/m0, …, /boot/a0, …
// Where GRUB cannot load one of them, it prints an error record with loader_mark(plan), whose WHERE is grub,
// on COM1 and stops the machine.
[[nodiscard]] std::string grub_configuration(const BootPlan& plan);

// The mark of the records that GRUB prints (Speakers::mark). The same plan has the same mark, as runs must
// repeat to the instruction; a guest that is not told it does not print it by chance.
[[nodiscard]] std::string loader_mark(const BootPlan& plan);

// A word or text as GRUB's script language takes it literally.
[[nodiscard]] std::string grub_quote(std::string_view text);

// The words of a text, each quoted by itself and followed by a space: GRUB puts a command line together again
// from words, with single spaces.
[[nodiscard]] std::string grub_words(std::string_view text);

// The line of grub-mkrescue's output that tells most about its failure.
[[nodiscard]] std::string grub_telling_line(std::string_view output);

// Writes the image; `directory` is for what is needed meanwhile.
// Error: input_file for the plan's files; missing_program for GRUB's tools; output_file.
[[nodiscard]] Result<> make_boot_image(const BootPlan& plan, const std::filesystem::path& directory,
                                       const std::filesystem::path& image);

}  // namespace flatback::tools
