// From metal/boot/boot.S's first C++ call to run_l1.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <span>

#include "metal/boot/bare_start.hpp"
#include "metal/boot/boot_result.hpp"
#include "metal/console/screen_log.hpp"
#include "metal/firmware/firmware_memory_calls.hpp"
#include "metal/firmware/firmware_shadow.hpp"
#include "metal/firmware/multiprocessor_table.hpp"
#include "metal/firmware/processor_table.hpp"
#include "metal/firmware/sleep_states.hpp"
#include "metal/firmware/smram.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/interrupts.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/pci.hpp"
#include "metal/ground/serial.hpp"
#include "metal/ground/this_processor.hpp"
#include "metal/load/loader.hpp"
#include "metal/load/multiboot2.hpp"
#include "metal/memory/address_space.hpp"
#include "metal/memory/ept01.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/memory/read_memory_types.hpp"
#include "metal/memory/relocate.hpp"
#include "metal/processors/boot_apic.hpp"
#include "metal/processors/given_processors.hpp"
#include "metal/processors/other_processors.hpp"
#include "metal/processors/processor_checks.hpp"
#include "metal/processors/smm_base.hpp"
#include "x86/cpuid.hpp"
#include "x86/paging.hpp"

extern "C" {
using Constructor = void (*)();
extern const Constructor constructors_start[], constructors_end[];
}

namespace flatback::metal {

namespace {

constexpr std::uint64_t own_size = 32ULL << 20;
constexpr std::uint64_t second_vm_size = 32ULL << 20;
constexpr PhysicalRange region_limits{0x100000, 0x1'0000'0000};

// Everything the boot leaves behind; nothing in it is ever destroyed.
struct BootState {
    alignas(8) std::array<std::byte, 65536> multiboot_bytes;
    Multiboot2Information multiboot;
    MemoryMap memory;
    PagePool pages;
    BootResult result;
    alignas(Ept01) std::array<std::byte, sizeof(Ept01)> ept01;
    alignas(MemoryTypes) std::array<std::byte, sizeof(MemoryTypes)> memory_types;
};
constinit BootState state{};

[[noreturn]] void refuse_input(const BootError& error) {
    panic_begin();
    if (error.value) {
        log::line(error.what, " ", log::hex(*error.value));
    } else {
        log::line(error.what);
    }
    refuse_finish();
}

// Copies the information structure, which lies in memory that L1 will get, and parses the copy.
void read_multiboot(std::uint32_t magic, std::uint32_t address) {
    if (magic != multiboot2_magic) {
        refuse("not started by a Multiboot2 boot loader (EAX is ", log::hex(magic),
               "); start Flatback with GRUB 2's multiboot2");
    }
    const auto* const source = static_cast<const std::byte*>(direct_map(x86::Hpa{address}));
    std::uint32_t size = 0;
    std::memcpy(&size, source, sizeof size);
    if (size > state.multiboot_bytes.size()) {
        refuse("the boot loader's information takes ", size,
               " bytes; shorten command lines or pass fewer modules");
    }
    std::memcpy(state.multiboot_bytes.data(), source, size);
    auto parsed = parse_multiboot2({state.multiboot_bytes.data(), size});
    if (!parsed) refuse_input(parsed.error());
    state.multiboot = *parsed;
    state.memory = state.multiboot.memory;
}

Options read_options() {
    const auto options = parse_options(state.multiboot.command_line);
    const auto console = options ? options->console : Console::both;
    if (console == Console::both || console == Console::screen)
        show_log_on_screen(state.multiboot.framebuffer);
    log::set_console(console);
    if (!options) {
        refuse("\"", options.error().word, "\" is not an option; there are: ", valid_options);
    }
    log::set_level(options->log);
    return *options;
}

// The highest memory below 4 GB, because L1 images want low memory, clear of what GRUB has put there.
PhysicalRange choose_region() {
    const std::uint64_t region_size = own_size + (state.result.options.second_vm ? second_vm_size : 0);
    InlineVector<PhysicalRange, Multiboot2Information::most_modules + 1> occupied;
    static_cast<void>(occupied.push_back(loaded_image()));
    for (const Module& module : state.multiboot.modules.items())
        static_cast<void>(occupied.push_back(module.range));
    const auto find_in = [&](const MemoryMap& memory) {
        return memory.find_highest(region_size, x86::page_size_2m, region_limits, occupied.items());
    };
    const auto clear = without_boot_services(state.multiboot.uefi, state.memory);
    auto region = clear ? find_in(*clear) : std::nullopt;
    if (!region) region = find_in(state.memory);
    if (!region) {
        refuse("there are no ", region_size >> 20,
               " MB of free memory below 4 GB for L0; give the machine more memory");
    }
    return *region;
}

// Which the tables show L1: identifiers of APICs, this processor's first.
std::optional<ProcessorTableChange> show_processors(std::span<const std::uint32_t> apic_ids) {
    auto* const physical = static_cast<std::byte*>(direct_map(x86::Hpa{0}));
    const auto change = keep_processors(physical, direct_map_size(), state.multiboot.rsdp, apic_ids);
    if (!change) {
        log::info("warning: ", change.error().what, " ", log::hex(change.error().value.value_or(0)),
                  "; other processors stay visible to L1, which must not start them");
    }
    const WritableFirmwareShadow writable;
    const auto older = keep_processors_in_multiprocessor_table(physical, direct_map_size(), apic_ids);
    if (older.read_only)
        log::info(
            "warning: the MultiProcessor Specification's table cannot be written; it still lists "
            "processors that L1 does not have");
    if (!change) return std::nullopt;
    return *change;
}

// This one, and of the others as many as there are and L0's command line allows. Without a hypervisor they
// are the kernel's to start, as the machine has them.
std::span<const std::uint32_t> choose_processors(std::span<std::uint32_t> ids) {
    auto* const physical = static_cast<std::byte*>(direct_map(x86::Hpa{0}));
    const auto listed = list_processors(physical, direct_map_size(), state.multiboot.rsdp, ids);
    const auto found = ids.first(std::min(listed.value_or(0), ids.size()));
    const std::uint32_t own = own_apic_id();
    const auto at = std::ranges::find(found, own);
    const Options& options = state.result.options;
    const BootApic apic;
    if (at == found.end() || (options.hypervisor && !apic.is_enabled())) {
        ids[0] = own;
        return ids.first(1);
    }
    std::rotate(found.begin(), at, at + 1);
    return found.first(options.processors == 0 ? found.size()
                                               : std::min<std::size_t>(options.processors, found.size()));
}

void take_processors() {
    std::array<std::uint32_t, most_processors> ids{};
    const auto chosen = choose_processors(ids);
    const auto change = show_processors(chosen);
    if (change && change->disabled != 0) {
        log::info("this machine has ", change->processors, " processors; L1 gets ", chosen.size(),
                  ", the others are marked absent in ACPI");
    }
    // Without a table there may be others all the same.
    if (!state.result.options.hypervisor || (change && change->listed == 1)) return;
    InlineVector<PhysicalRange, Multiboot2Information::most_modules> occupied;
    for (const Module& module : state.multiboot.modules.items())
        static_cast<void>(occupied.push_back(module.range));
    const auto others = change ? change->disabled + static_cast<unsigned>(chosen.size()) - 1 : 0;
    start_other_processors(others, chosen, state.result.processor, state.pages, state.memory,
                           occupied.items());
    if (given_processors().size() == chosen.size()) return;
    InlineVector<std::uint32_t, most_processors> came;
    for (const ProcessorLocal* each : given_processors()) static_cast<void>(came.push_back(each->apic_id));
    static_cast<void>(show_processors(came.items()));
}

// Before anything is loaded below 1 MB.
void close_system_management() {
    lock_smram();
    const BootApic apic;
    if (!state.result.options.hypervisor || !apic.is_enabled()) return;
    const std::array this_processor{own_apic_id()};
    if (move_system_management_bases(apic, this_processor, state.pages) != 0)
        log::info("the firmware has no handler of system-management interrupts: they do nothing");
}

// Where the chipset keeps the base of the ports: PMBASE, at the same place in Intel's PIIX4 (290562, 6.2.16)
// and in the ISA bridge of its later chipsets (ICH9: 316972, 13.1.13). 0: not there, or it has another value.
std::uint32_t find_port_base(const SleepControl& control) {
    constexpr std::uint32_t intel = 0x8086;
    constexpr std::uint32_t piix4_power_management = 0x7113;
    constexpr std::uint32_t isa_bridge = 0x0601;
    constexpr std::uint32_t base_offset = 0x40;
    constexpr std::uint32_t request_offset = 5;  // of the second byte of PM1a control
    for (std::uint32_t number = 0; number < 32 * 8; ++number) {
        const pci::Function function{.device = number / 8, .function = number % 8};
        const std::uint32_t identifier = pci::read_32(function, 0);
        if ((identifier & 0xFFFF) != intel) continue;
        const bool known = identifier >> 16 == piix4_power_management ||
                           (number == 31 * 8 && pci::read_32(function, 8) >> 16 == isa_bridge);
        if (!known) continue;
        const std::uint32_t base = pci::read_32(function, base_offset) & 0xFFC0;
        for (const std::uint16_t port : control.requests()) {
            if (port == base + request_offset) return pci::address_of(function, base_offset);
        }
    }
    return 0;
}

// PCIEXBAR, of Intel's host bridges from the 9xx on (3 Series: 316966, 5.1.26): taken for it where it says
// what the firmware's table says.
bool fix_memory_configuration(SleepControl& control) {
    constexpr std::uint32_t offset = 0x60;
    constexpr std::uint32_t enabled = 1;
    constexpr std::uint32_t not_address = (1U << 26) - 1;
    const std::uint32_t low = pci::read_32({}, offset);
    const std::uint32_t high = pci::read_32({}, offset + 4);
    if ((low & enabled) == 0 ||
        (std::uint64_t{high} << 32 | (low & ~not_address)) != *control.memory_configuration) {
        return false;
    }
    control.fix(pci::address_of({}, offset));
    control.fix(pci::address_of({}, offset + 4));
    return true;
}

void hide_sleep() {
    if (!state.result.options.hypervisor) return;
    state.result.sleep = find_sleep_control(static_cast<std::byte*>(direct_map(x86::Hpa{0})),
                                            direct_map_size(), state.multiboot.rsdp);
    const bool watches_any =
        !state.result.sleep.requests().empty() || state.result.sleep.request_bytes_used != 0;
    if (watches_any && !state.result.sleep.tells_power_off()) {
        log::info(
            "warning: ACPI's tables do not tell how the machine is switched off, so that L0 does not "
            "watch its sleep registers; L1 must not suspend it");
        state.result.sleep = {};
    }
    if (const std::uint32_t base = find_port_base(state.result.sleep); base != 0) {
        state.result.sleep.fix(base);
        if (state.result.sleep.memory_configuration && !fix_memory_configuration(state.result.sleep))
            log::info(
                "warning: L0 does not know how this chipset moves configuration space in memory, by which an "
                "L1 could then move the ports of ACPI's power management; L1 must not suspend the machine");
    }
    state.result.kept = KeptRegisters{state.result.sleep};
    const auto hidden = hide_sleep_states(static_cast<std::byte*>(direct_map(x86::Hpa{0})), direct_map_size(),
                                          state.multiboot.rsdp);
    if (!hidden)
        log::info("warning: ", hidden.error().what, " ", log::hex(hidden.error().value.value_or(0)),
                  "; L1 must not suspend the machine to memory, from which it would wake without L0");
}

// Every way by which L1 may ask for memory says the same from here on.
MemoryMap memory_of_l1() {
    MemoryMap memory = state.memory;
    if (!memory.add(state.result.region, MemoryKind::reserved)) {
        refuse_input(BootError{"the memory map has too many ranges", MemoryMap::capacity});
    }
    // UEFI has no such calls: what stands at their vectors is memory like any other.
    if (state.multiboot.from_uefi) return memory;
    if (const auto hooked =
            hook_firmware_memory_calls(static_cast<std::byte*>(direct_map(x86::Hpa{0})), memory);
        !hooked) {
        log::info("warning: ", hooked.error().what, " ", log::hex(hooked.error().value.value_or(0)),
                  "; the firmware's calls go on to name L0's memory usable");
    }
    return memory;
}

// The last module is its kernel. It is copied to the end of the VM's memory, as a boot loader would have it.
void load_second_vm() {
    BootResult& result = state.result;
    const std::span<const Module> modules = state.multiboot.modules.items();
    if (modules.size() < 2)
        refuse("vm2=on takes the last module as the second VM's kernel: there is but one module");
    const PhysicalRange memory{result.region.end - second_vm_size, result.region.end};
    Module kernel = modules.back();
    constexpr std::uint64_t most = second_vm_size / 2;
    if (kernel.range.size() > most)
        refuse("the second VM's kernel has ", kernel.range.size(), " bytes, of ", most, " that it may have");
    auto* const physical = static_cast<std::byte*>(direct_map(x86::Hpa{memory.start}));
    std::memset(physical, 0, second_vm_size);
    const std::uint64_t start = (second_vm_size - kernel.range.size()) & ~(x86::page_size_4k - 1);
    std::memcpy(physical + start, direct_map(x86::Hpa{kernel.range.start}), kernel.range.size());
    kernel.range = {start, start + kernel.range.size()};
    constexpr PhysicalRange low{0, 0xA0000};
    constexpr PhysicalRange hole{low.end, 0x100000};
    LoadRequest request{.physical = physical,
                        .physical_size = second_vm_size,
                        .memory = {},
                        .modules = {&kernel, 1},
                        .loader_name = "Flatback",
                        .boot_device = {},
                        .vbe = {},
                        .framebuffer = {},
                        .rsdp = {}};
    static_cast<void>(request.memory.add(low, MemoryKind::usable));
    static_cast<void>(request.memory.add(hole, MemoryKind::reserved));
    static_cast<void>(request.memory.add({hole.end, second_vm_size}, MemoryKind::usable));
    const auto loaded = load_l1(request);
    if (!loaded) refuse_input(loaded.error());
    result.second_vm = SecondVmImage{.memory = memory, .start = *loaded};
}

void load_l1_image() {
    const std::span<const Module> modules = state.multiboot.modules.items();
    LoadRequest request{.physical = static_cast<std::byte*>(direct_map(x86::Hpa{0})),
                        .physical_size = direct_map_size(),
                        .memory = memory_of_l1(),
                        .modules = modules.first(modules.size() - (state.result.second_vm ? 1 : 0)),
                        .loader_name = state.multiboot.loader_name,
                        .boot_device = state.multiboot.boot_device,
                        .vbe = state.multiboot.vbe,
                        .framebuffer = state.multiboot.framebuffer,
                        .rsdp = state.multiboot.rsdp,
                        .has_text_screen = state.multiboot.has_text_screen,
                        .from_uefi = state.multiboot.from_uefi,
                        .uefi = state.multiboot.uefi,
                        .uefi_runtime = state.result.options.uefi_runtime};
    const auto start = load_l1(request);
    if (!start) refuse_input(start.error());
    state.result.l1 = *start;
}

}  // namespace

extern "C" [[noreturn]] void boot_main(std::uint32_t magic, std::uint32_t information,
                                       std::int64_t displacement) {
    take_address_space({.image_offset = kernel_base - static_cast<std::uint64_t>(displacement)});
    serial::initialize();
    make_interrupt_tables();
    load_descriptor_tables(first_processor);
    // The boot loader may have left a line half written.
    log::line("\nFLATBACK stage l0");
    for (const Constructor* constructor = constructors_start; constructor != constructors_end;
         ++constructor) {
        (*constructor)();
    }
    BootResult& result = state.result;
    read_multiboot(magic, information);
    result.options = read_options();
    if (result.options.second_vm || result.options.demands) result.options.processors = 1;
    result.processor = check_processor(result.options);
    if (!result.processor.has_vpid) result.options.nested_vpid = NestedVpid::off;
    result.region = choose_region();
    log::info("L0 lives at ", log::hex(result.region.start), " to ", log::hex(result.region.end), ", ",
              image_size() / 1024, " KB of image, loaded at ", log::hex(loaded_image().start));

    state.pages.add({result.region.start + image_size(), result.region.start + own_size});
    relocate(result.region.start, state.pages, result.processor, state.memory.end_of_memory());
    follow_direct_map();

    result.memory_types = new (state.memory_types.data())
        MemoryTypes(read_memory_types(result.processor.physical_address_width));
    result.memory = &state.memory;
    result.pages = &state.pages;
    result.ept01 =
        new (state.ept01.data()) Ept01(state.pages, *result.memory_types, result.region, result.processor);
    log::info("EPT of L1: ", result.ept01->size() >> 30, " GB, ",
              state.pages.total_pages() - state.pages.free_pages(), " pages of L0's pool used, ",
              state.pages.free_pages(), " free");
    close_system_management();
    take_processors();
    hide_sleep();
    if (result.options.second_vm) load_second_vm();
    load_l1_image();
    log::info("L1 loaded: starts at ", log::hex(result.l1.rip),
              result.l1.mode == L1Start::Mode::long_mode ? " in long mode" : " in protected mode");
    if (!result.options.hypervisor) {
        if (result.l1.mode != L1Start::Mode::long_mode)
            refuse("hypervisor=off starts Linux only; a Multiboot L1 needs no L0 for that");
        start_without_hypervisor(result);
    }
    run_l1(result);
}

}  // namespace flatback::metal
