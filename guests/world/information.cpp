// The Multiboot 1 information, field by field, to compare what different boot loaders give. Addresses of what
// it points to are not printed: each loader has its own.
#include "guests/world/support.hpp"

namespace world {
namespace {

Line& key(Line& line, const char* name) {
    return line << name << " ";
}

}  // namespace

void print_information(u32 information) {
    const auto field = [&](u32 offset) -> u32 { return memory<u32>(information + offset); };
    const u32 flags = field(0);
    const auto print = [](const char* name, u64 value) {
        Line line{"FLATBACK text information."};
        key(line, name) << value;
    };
    const auto print_text = [](const char* name, u32 text) {
        Line line{"FLATBACK text information."};
        key(line, name) << "'" << reinterpret_cast<const char*>(text) << "'";
    };
    // VBE's has a line of its own.
    print("flags", flags & ~(1u << 11));
    print("mem_lower", field(4));
    print("mem_upper", field(8));
    print("boot_device", field(12));
    print_text("cmdline", field(16));
    print("mods_count", field(20));
    for (u32 index = 0; index < field(20); ++index) {
        const u32 module = field(24) + 16 * index;
        Line line{"FLATBACK text information.module."};
        line.decimal(index) << " " << u64{memory<u32>(module + 4) - memory<u32>(module)} << " "
                            << u64{memory<u32>(module) & 0xFFF} << " '"
                            << reinterpret_cast<const char*>(memory<u32>(module + 8)) << "'";
    }
    if ((flags & 1 << 5) != 0) {
        const u32 count = field(28);
        print("elf_sections", count);
        print("elf_section_size", field(32));
        print("elf_string_section", field(40));
        for (u32 index = 0; index < count; ++index) {
            const u32 section = field(36) + field(32) * index;
            Line line{"FLATBACK text information.section."};
            line.decimal(index);
            // Name, type, flags; the address of what is loaded by its segment; size.
            for (u32 offset = 0; offset <= 8; offset += 4) line << " " << u64{memory<u32>(section + offset)};
            if ((memory<u32>(section + 8) & 2) != 0) line << " " << u64{memory<u32>(section + 12)};
            line << " " << u64{memory<u32>(section + 20)};
        }
    }
    u32 number = 0;
    const u32 map = field(48);
    for (u32 at = map; at < map + field(44); at += memory<u32>(at) + 4) {
        Line line{"FLATBACK text information.map."};
        line.decimal(++number) << " " << u64{memory<u32>(at)} << " " << memory<u64>(at + 4) << " "
                               << memory<u64>(at + 12) << " " << u64{memory<u32>(at + 20)};
    }
    print("drives_length", (flags & 1 << 7) != 0 ? field(52) : 0);
    print("config_table", (flags & 1 << 8) != 0 ? field(60) : 0);
    print_text("boot_loader_name", field(64));
    print("apm_table", (flags & 1 << 10) != 0 ? field(68) : 0);
    if ((flags & 1 << 11) != 0) {
        print("vbe_mode", memory<u16>(information + 80));
        print("vbe_interface_segment", memory<u16>(information + 82));
    }
    if ((flags & 1 << 12) != 0) {
        print("framebuffer_address", memory<u64>(information + 88));
        print("framebuffer_pitch", field(96));
        print("framebuffer_width", field(100));
        print("framebuffer_height", field(104));
        print("framebuffer_bits", memory<u8>(information + 108));
        print("framebuffer_type", memory<u8>(information + 109));
    }
}

}  // namespace world
