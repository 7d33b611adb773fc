// What the boot code hands to the hypervisor proper: `run_l1(BootResult&)` is its only way out.
#pragma once

#include <cstdint>
#include <optional>

#include "metal/firmware/kept_registers.hpp"
#include "metal/firmware/sleep_requests.hpp"
#include "metal/ground/memory_map.hpp"
#include "metal/ground/options.hpp"
#include "metal/ground/processor.hpp"
#include "metal/load/l1_start.hpp"
#include "x86/address.hpp"

namespace flatback::metal {

class PagePool;
class Ept01;
class MemoryTypes;

// The second VM: its memory, of L0's own region, and how it begins.
struct SecondVmImage {
    PhysicalRange memory;
    L1Start start;
};

struct BootResult {
    const MemoryMap* memory = nullptr;  // as the firmware gave it; L0's region not cut out
    PhysicalRange region;               // L0's own memory
    PagePool* pages = nullptr;
    const MemoryTypes* memory_types = nullptr;
    Ept01* ept01 = nullptr;  // of this processor: each has its own
    Options options;
    Processor processor;
    L1Start l1;
    SleepControl sleep;
    KeptRegisters kept;
    std::optional<SecondVmImage> second_vm;
    x86::Hpa rsdp;  // 0 if the firmware has no ACPI
};

// Runs L1 until the machine stops. Called on the boot stack, in L0's final address space
// (metal/memory/address_space.hpp), with IDT, GDT and TSS loaded, interrupts disabled, and nothing of VMX
// touched yet (CR4.VMXE = 0, no VMXON).
[[noreturn]] void run_l1(BootResult& boot);

}  // namespace flatback::metal
