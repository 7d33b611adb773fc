#include "tools/emulator/bochs_configuration.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace flatback::tools {
namespace {

// Bochs keeps more than this of the guest's memory out of its own: it swaps blocks to a file.
constexpr unsigned most_host_memory = 2048;

// The registers of the CMOS memory that Bochs' firmware reads.
constexpr std::size_t equipment = 0x14;
constexpr std::size_t base_memory = 0x15;      // KB, 2 bytes
constexpr std::size_t extended_memory = 0x17;  // KB above 1 MB, 2 bytes
constexpr std::size_t checksum_first = 0x10;
constexpr std::size_t checksum_end = 0x2E;           // the checksum, high byte first, stands here
constexpr std::size_t extended_memory_again = 0x30;  // as 0x17
constexpr std::size_t memory_above_16_mb = 0x34;     // units of 64 KB, 2 bytes
constexpr std::size_t boot_flags = 0x38;
constexpr std::size_t boot_order = 0x3D;
constexpr std::size_t firmware_flags = 0x3F;

// Debian's ovmf. Bochs takes no firmware of more than 2 MB: not the newer image of 4 MB.
constexpr std::string_view uefi_firmware = "/usr/share/ovmf/OVMF.fd";
constexpr std::string_view bios_firmware = "/usr/share/bochs/BIOS-bochs-latest";

std::string image_line(const EmulatedPc& pc) {
    return pc.medium == Medium::cd
               ? fmt::format("ata0-master: type=cdrom, path={}, status=inserted\n", pc.image.string())
               : fmt::format("ata0-master: type=disk, mode=flat, path={}\n", pc.image.string());
}

// Several processors are the cores of one package, as a PC's are: Linux tries the TSCs of packages against
// each other for twenty milliseconds a pair, those of cores for two.
//
// MWAIT does not wait. Bochs 2.7 ends it by a store of another processor's only where that one has no direct
// way to the page: MONITOR takes such ways from the others by the monitored line's physical address, where
// they go by linear ones. The waking store of a Linux (TIF_NEED_RESCHED) is then not seen, until the
// processor's next interrupt.
std::string processors_of(const EmulatedPc& pc) {
    if (pc.processors == 1) return "1";
    return fmt::format("1:{}:1, mwait_is_nop=1", pc.processors);
}

// Its geometry is what Bochs makes of its size.
std::string disk_line(const EmulatedPc& pc) {
    if (!pc.disk) return {};
    return fmt::format("ata0-slave: type=disk, mode=flat, path={}\n", pc.disk->string());
}

}  // namespace

std::string bochs_configuration(const EmulatedPc& pc) {
    return fmt::format(
        "config_interface: textconfig\n"
        "display_library: sdl2\n"
        "plugin_ctrl: serial=1, unmapped=1, biosdev=1, speaker=0, e1000=0, sb16=0\n"
        "romimage: file={}\n"
        "vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n"
        "cpu: model={}, count={}, ips={}, reset_on_triple_fault=0, ignore_bad_msrs=1\n"
        "memory: guest={}, host={}\n"
        // Nothing of the host's clock reaches the guest: runs can be repeated.
        "clock: sync=none, time0=1700000000\n"
        "cmosimage: file={}, rtc_init=time0\n"
        "pci: enabled=1, chipset=i440fx{}\n"
        "boot: {}\n"
        "ata0: enabled=1\n"
        "{}{}"
        "com1: enabled=1, mode={}, dev={}\n"
        // Guests know by this port that Bochs is beneath them, and what it is known to do wrong.
        "port_e9_hack: enabled=1\n"
        "log: {}\n"
        "magic_break: enabled={:d}\n"
        // A panic that Bochs can go on after is the guest's affair: the log tells.
        "panic: action=report\n"
        "error: action=report\n"
        "info: action=report\n"
        "debug: action=ignore\n",
        pc.firmware == Firmware::uefi ? uefi_firmware : bios_firmware, pc.processor, processors_of(pc),
        pc.instructions_per_second, pc.memory, std::min(pc.memory, most_host_memory), pc.cmos.string(),
        // UEFI's firmware knows a display by its place on the PCI bus.
        pc.firmware == Firmware::uefi ? ", slot1=pcivga" : "", pc.medium == Medium::cd ? "cdrom" : "disk",
        image_line(pc), disk_line(pc), pc.serial_is_terminal ? "term" : "file", pc.serial.string(),
        pc.log.string(), pc.magic_breaks);
}

std::array<std::uint8_t, 128> cmos_image(unsigned memory, Medium medium) {
    std::array<std::uint8_t, 128> cmos = {};
    const auto put = [&cmos](std::size_t index, unsigned value) {
        cmos[index] = static_cast<std::uint8_t>(value);
    };
    const auto put_word = [&put](std::size_t index, unsigned value) {
        put(index, value & 0xFF);
        put(index + 1, value >> 8);
    };
    put(0x0A, 0x26);       // the clock's divider and rate
    put(0x0B, 0x02);       // 24 hours
    put(0x0D, 0x80);       // the battery is good
    put(equipment, 0x06);  // a coprocessor and a mouse
    put_word(base_memory, 640);
    const unsigned extended = std::min(memory * 1024 - 1024, 0xFC00U);
    put_word(extended_memory, extended);
    put_word(extended_memory_again, extended);
    put_word(memory_above_16_mb, std::min((memory - 16) * 16, 0xFFFFU));
    put(boot_flags, 0x01);                                // no check of a floppy disk's signature
    put(boot_order, medium == Medium::cd ? 0x03 : 0x02);  // this first, nothing else
    put(firmware_flags, 0x01);                            // fast boot
    unsigned sum = 0;
    for (std::size_t index = checksum_first; index < checksum_end; ++index) sum += cmos[index];
    put(checksum_end, sum >> 8);
    put(checksum_end + 1, sum & 0xFF);
    return cmos;
}

}  // namespace flatback::tools
