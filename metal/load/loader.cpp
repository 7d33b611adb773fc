#include "metal/load/loader.hpp"

#include "formats/linux_boot.hpp"
#include "metal/load/elf.hpp"
#include "metal/load/linux_loader.hpp"
#include "metal/load/multiboot1_loader.hpp"
#include "metal/load/multiboot2_loader.hpp"
#include "metal/load/placement.hpp"

namespace flatback::metal {

std::expected<L1Start, BootError> load_l1(const LoadRequest& request) {
    if (request.modules.empty() || request.modules[0].range.empty()) {
        return std::unexpected(BootError{
            "there is no L1: pass its kernel as the first module (GRUB: module2 FILE COMMAND-LINE)"});
    }
    Placement placement{request};
    if (const auto adopted = placement.adopt_modules(); !adopted) return std::unexpected(adopted.error());

    const Bytes file = placement.module_bytes(0);
    if (formats::linux_boot::is_bzimage(file)) return load_linux(request, placement);
    if (find_multiboot1_header(file)) return load_multiboot1(request, placement);
    if (formats::find_multiboot2_header(file)) return load_multiboot2(request, placement);
    if (formats::elf::is_elf(file)) {
        const auto image = parse_elf(file);
        if (!image) return std::unexpected(image.error());
        if (image->is_64_bit) return load_linux(request, placement);
    }
    return std::unexpected(
        BootError{"the L1 image is neither a Linux bzImage, nor an ELF64 vmlinux, nor a Multiboot kernel; "
                  "its size is",
                  file.size()});
}

}  // namespace flatback::metal
