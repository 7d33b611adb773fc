// What one case may touch: L1's operands, its VMCS regions and lists, and L2's sandbox. All of it is made
// anew for each case, so that a case depends on its seed and on nothing else.
#pragma once

#include <cstdint>

#include "guests/bare/l1/pages.hpp"

namespace flatback::guests {

// L2's guest-physical memory: 64 pages from 0 up, mapped by EPT12 onto the sandbox.
constexpr std::uint64_t sandbox_pages = 64;
namespace l2_memory {
constexpr std::uint64_t real_mode_vectors = 0x0;
constexpr std::uint64_t pml4 = 0x1000;
constexpr std::uint64_t pdpt = 0x2000;
constexpr std::uint64_t directory = 0x3000;  // of 4-level and PAE paging
constexpr std::uint64_t table = 0x4000;
constexpr std::uint64_t pae_pdpt = 0x5000;
constexpr std::uint64_t directory32 = 0x6000;
constexpr std::uint64_t table32 = 0x7000;
constexpr std::uint64_t gdt = 0x8000;
constexpr std::uint64_t idt64 = 0x9000;
constexpr std::uint64_t idt32 = 0xA000;
constexpr std::uint64_t tss64 = 0xB000;
constexpr std::uint64_t tss32 = 0xC000;
constexpr std::uint64_t code = 0x10000;
constexpr std::uint64_t handlers = 0x18000;    // 32- and 64-bit, 16 bytes for each vector
constexpr std::uint64_t handlers16 = 0x19000;  // 16-bit
constexpr std::uint64_t user_stack = 0x27000;
constexpr std::uint64_t stack = 0x2F000;
constexpr std::uint64_t data = 0x30000;  // and six pages mapped with something amiss, see world.cpp
// The paging structures again, for an L2 without EPT: with L1's physical addresses, at those above plus this.
constexpr std::uint64_t without_ept = 0x37000;
// Past the sandbox: guest-physical pages that lead elsewhere.
constexpr std::uint64_t local_apic = 0x40000;  // read-only
constexpr std::uint64_t nothing = 0x41000;     // past the end of the machine's memory
constexpr std::uint64_t alias = 0x42000;       // of `data`
constexpr std::uint64_t unmapped = 0x43000;
}  // namespace l2_memory

// The window's pages: what is behind each is the physical page of the same number in World::operands.
constexpr std::uint64_t window = 5ULL << 30;
enum WindowPage : std::uint8_t {
    writable = 0,
    writable_next = 1,
    hole = 2,
    read_only = 3,
    user = 4,
    no_execute = 5,
    hole_too = 6,
    last_before_hole = 7,
    third_hole = 8,
    reserved_bit = 9,
    global = 10,
    user_read_only = 11,
    uncached = 12,
    no_execute_read_only = 13,
    user_code = 14,
    window_pages = 16,
};

constexpr unsigned vmcs_regions = 3;

struct World {
    Page* sandbox;   // sandbox_pages
    Page* operands;  // window_pages
    Page* window_table;
    Page* code;
    Page* vmxon;
    Page* vmcs[vmcs_regions];
    Page* ept;        // PML4, PDPT, directory, table
    Page* ept_other;  // another root and its three, the same memory
    Page* msr_bitmap;
    Page* io_bitmap_a;
    Page* io_bitmap_b;
    Page* entry_load;
    Page* exit_store;
    Page* exit_load;
    Page* virtual_apic;

    // What this L1 knows of itself.
    bool in_vmx_operation;
    bool launched[vmcs_regions];
    bool guest_written[vmcs_regions];  // L1 changed a field since L2 last ran
    unsigned
        favorite_page;  // of the window: half of the operands are there, so that what an L0 remembers is used
    // An L2 with virtual NMIs left so: the emulator keeps it (Deviation::virtual_nmi_blocking_left).
    bool virtual_nmis_are_blocked;
    bool case_over;  // nothing that follows could be compared
};
extern World world;

// Places outside this L1's own memory. A page where an L0 keeps itself, or, without an L0, no_memory: both
// read as ones and take no write. And the end of memory, with nothing behind it.
constexpr std::uint64_t no_memory = 0xC0000000;
struct Places {
    std::uint64_t hidden;
    std::uint64_t end;
};
extern Places places;

// Once: takes the pages. Without an L0 nothing of the memory map is taken for one's.
void make_world(bool under_l0);

// For each case: L1's registers, MSRs, descriptor tables and memory as at the first; VMX operation is left
// and entered again, the VMCS regions are cleared. False where VMXON failed.
bool reset_world();

// L2's memory alone, as at the first; and with it the EPT12s, of which no processor has cached anything then.
void reset_sandbox();
void reset_l2_memory();

// Which of world.vmcs is current by VMPTRST; vmcs_regions where none of them.
unsigned current_vmcs();

std::uint64_t ept_pointer(bool other);

inline std::uint64_t window_address_of(unsigned page) {
    return window + page * page_size;
}
std::uint64_t& window_entry(unsigned page);

inline std::uint8_t* sandbox_bytes(std::uint64_t guest_physical) {
    return reinterpret_cast<std::uint8_t*>(world.sandbox) + guest_physical;
}

// Checksums, by CRC32: L2's memory; what L1 gave to the processor (EPT12, bitmaps, lists, the window's
// tables).
std::uint64_t sandbox_checksum();
std::uint64_t structures_checksum();

// A line for every quadword of both that is another one than at the last call.
void print_memory_changes();
void remember_memory();

}  // namespace flatback::guests
