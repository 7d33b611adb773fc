// The image for real machines: one ISO file for BIOS and UEFI, that boots as a CD and, copied to it as it is,
// from a stick or disk. GRUB's menu offers what is in it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tools/ground/error.hpp"
#include "tools/image/boot_image.hpp"

namespace flatback::tools {

// An entry of the menu: L0 with this L1.
struct MenuEntry {
    std::string id;     // of letters, digits, '-' and '_': the names of its files, and the menu's first entry
    std::string title;  // as a person reads it
    BootPlan plan;      // with an L0
    bool draws = false;  // its L1 draws on pixels where there are some: from BIOS it gets a graphics mode
};

struct HybridImage {
    std::vector<MenuEntry> entries;
    std::size_t first = 0;  // the entry that is booted where nobody chooses
    unsigned seconds = 10;  // how long the menu waits for that; 0: not at all
};

// GRUB's configuration. Files are /boot/l0, and /boot/ID/l1, /boot/ID/m0, … of each entry.
[[nodiscard]] std::string hybrid_menu(const HybridImage& image);

// Writes the image; `directory` is for what is needed meanwhile. The programs are written without debugging
// information: firmware reads slowly.
// Error: input_file for the entries' files; missing_program for GRUB's tools; output_file.
[[nodiscard]] Result<> make_hybrid_image(const HybridImage& image, const std::filesystem::path& directory,
                                         const std::filesystem::path& to);

}  // namespace flatback::tools
