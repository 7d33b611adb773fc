// A kernel that asks the machine around it: what a boot loader, the firmware and the chipset say to an L1.
// The words of its command line choose: memory, smram, processors=N (how many more may start), information,
// hole, sleep, registers, smi.
#include "guests/world/support.hpp"

namespace world {
namespace {

// The text behind `name` where the command line has it as (the beginning of) a word, or null.
const char* word(const char* line, const char* name) {
    for (const char* at = line; *at != 0; ++at) {
        if (at != line && at[-1] != ' ') continue;
        u32 length = 0;
        while (name[length] != 0 && at[length] == name[length]) ++length;
        if (name[length] == 0) return at + length;
    }
    return nullptr;
}

}  // namespace

extern "C" void world_main(u32 loader, u32 information) {
    out8(0x3FB, 0x03);  // 8 data bits
    print_line("FLATBACK stage world");
    if (loader != 0x2BADB002 || (memory<u32>(information) & 4) == 0) {
        print_line("FLATBACK error world: no command line");
    } else {
        const char* line = reinterpret_cast<const char*>(memory<u32>(information + 16));
        if (word(line, "information") != nullptr) print_information(information);
        if (word(line, "memory") != nullptr) check_memory(information);
        if (word(line, "smram") != nullptr) check_smram();
        if (word(line, "smi") != nullptr) check_smi();
        if (const char* count = word(line, "processors=")) check_processors(static_cast<u32>(*count - '0'));
        if (word(line, "hole") != nullptr) check_hole(information);
        if (word(line, "sleep") != nullptr) check_sleep();
        if (word(line, "registers") != nullptr) check_sleep_in_memory();
    }
    print_line("FLATBACK end");
    while ((in8(0x3FD) & 0x40) == 0) {  // until the last character has left
    }
    for (const char* text = "Shutdown"; *text != 0; ++text) out8(0x8900, static_cast<u8>(*text));
}

}  // namespace world
