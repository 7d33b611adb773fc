// What the boot code hands to the hypervisor proper: `run_l1(BootResult&)` is its only way out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "metal/memory_map.hpp"
#include "metal/options.hpp"
#include "metal/sleep_requests.hpp"
#include "vmx/capability.hpp"
#include "x86/address.hpp"

namespace flatback::metal {

class PagePool;
class Ept01;

// This processor, checked: everything that Flatback cannot do without is there (metal/processor_checks.hpp).
struct Processor {
    unsigned physical_address_width = 0;  // CPUID.80000008H:EAX[7:0]
    vmx::Capabilities capabilities;
    bool has_1g_pages = true;  // for L0's own paging; for EPT `capabilities` tells
    bool has_vpid = true;      // "enable VPID" and all types of INVVPID; else `capabilities` has none of them
};

// The registers and tables L1 starts with. All selectors not named are null or flat as its boot protocol
// wants.
struct L1Start {
    enum class Mode : std::uint8_t {
        // Linux 64-bit boot protocol: CR0.PG, CR4.PAE, EFER.LME|LMA; CS 0x10, DS/ES/SS 0x18.
        long_mode,
        // Multiboot 1: CR0.PE only, no paging; CS 0x08, DS/ES/FS/GS/SS 0x10, flat 4 GB, 32 bits.
        protected_mode,
    };
    Mode mode = Mode::long_mode;
    std::uint64_t rip = 0;
    std::uint64_t rsp = 0;
    std::uint64_t rax = 0;
    std::uint64_t rbx = 0;
    std::uint64_t rsi = 0;
    std::uint64_t cr3 = 0;  // 0 in protected mode
    std::uint64_t gdt_base =
        0;  // guest-physical (paging is identity); holds the descriptors of the selectors
    std::uint16_t gdt_limit = 0;
    std::uint16_t code_selector = 0;
    std::uint16_t data_selector = 0;
};

struct BootResult {
    const MemoryMap* memory = nullptr;  // as the firmware gave it; L0's region not cut out
    PhysicalRange region;               // L0's own memory
    PagePool* pages = nullptr;
    Ept01* ept01 = nullptr;
    Options options;
    Processor processor;
    L1Start l1;
    SleepControl sleep;
    x86::Hpa rsdp;  // 0 if the firmware has no ACPI
};

// Runs L1 until the machine stops. Called on the boot stack, in L0's final address space
// (metal/address_space.hpp), with IDT, GDT and TSS loaded, interrupts disabled, and nothing of VMX touched
// yet (CR4.VMXE = 0, no VMXON).
[[noreturn]] void run_l1(BootResult& boot);

}  // namespace flatback::metal
