#include "guests/random/world.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/multiboot.hpp"
#include "guests/bare/l1/reserved_memory.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/l1_state.hpp"
#include "guests/random/log.hpp"

extern "C" {
extern std::uint64_t boot_pml4[];
extern std::uint64_t boot_pdpt[];
}

namespace flatback::guests {

constinit World world{};
constinit Places places{};

namespace {

constexpr std::uint64_t present = 1;
constexpr std::uint64_t page_writable = 2;
constexpr std::uint64_t page_user = 4;
constexpr std::uint64_t page_global = 1U << 8;
constexpr std::uint64_t page_uncached = 0x18;
constexpr std::uint64_t page_no_execute = 1ULL << 63;
constexpr std::uint64_t page_reserved = 1ULL << 51;

Page* window_directory;

// What print_memory_changes saw last of the pages from `first` on.
struct Seen {
    const Page* first;
    std::size_t count;
    Page* copy;
    std::string_view name;
};
constinit Seen seen[7]{};

void watch(Seen& what, std::string_view name, const Page* first, std::size_t count);

Page* take_pages(std::size_t count) {
    Page* const first = allocate_page();
    for (std::size_t i = 1; i < count; ++i) allocate_page();
    return first;
}

void zero(Page* first, std::size_t count) {
    auto* words = first->words;
    std::size_t size = count * page_size / 8;
    asm volatile("rep stosq" : "+D"(words), "+c"(size) : "a"(0) : "memory");
}

std::uint64_t& l2_word(std::uint64_t guest_physical) {
    return *reinterpret_cast<std::uint64_t*>(sandbox_bytes(guest_physical));
}
std::uint32_t& l2_dword(std::uint64_t guest_physical) {
    return *reinterpret_cast<std::uint32_t*>(sandbox_bytes(guest_physical));
}

// What the structures of the same linear addresses lead to is the same too. They are small enough to be read
// and written by two halves.
void make_l2_paging_without_ept() {
    using namespace l2_memory;
    const std::uint64_t sandbox = physical(world.sandbox);
    const std::uint64_t tables = sandbox + without_ept;
    const auto entry64 = [](std::uint64_t place) -> std::uint64_t& { return l2_word(place + without_ept); };
    entry64(pml4) = l2_word(pml4) + tables;
    entry64(pdpt) = l2_word(pdpt) + tables;
    entry64(directory) = l2_word(directory) + tables;
    entry64(pae_pdpt) = l2_word(pae_pdpt) + tables;
    l2_dword(directory32 + without_ept) = l2_dword(directory32) + static_cast<std::uint32_t>(tables);
    for (std::uint64_t page = 0; page < sandbox_pages; ++page) {
        const std::uint64_t entry = l2_word(table + page * 8);
        entry64(table + page * 8) = entry == 0 ? 0 : entry + sandbox;
        const std::uint32_t entry32 = l2_dword(table32 + page * 4);
        l2_dword(table32 + page * 4 + without_ept) =
            entry32 == 0 ? 0 : entry32 + static_cast<std::uint32_t>(sandbox);
    }
    constexpr std::uint64_t all = present | page_writable | page_user;
    const auto last = [&](std::uint64_t linear, std::uint64_t entry) {
        entry64(table + linear / page_size * 8) = entry;
        l2_dword(table32 + linear / page_size * 4 + without_ept) = static_cast<std::uint32_t>(entry);
    };
    last(nothing, no_memory | all);
    last(alias, (sandbox + data) | all);
}

void make_l2_paging() {
    using namespace l2_memory;
    constexpr std::uint64_t all = present | page_writable | page_user;
    l2_word(pml4) = pdpt | all;
    l2_word(pdpt) = directory | all;
    l2_word(directory) = table | all;
    l2_word(pae_pdpt) = directory | present;
    l2_dword(directory32) = static_cast<std::uint32_t>(table32 | all);
    // The pages past the sandbox are mapped too.
    for (std::uint64_t page = 0; page < sandbox_pages + 4; ++page) {
        l2_word(table + page * 8) = page * page_size | all;
        l2_dword(table32 + page * 4) = static_cast<std::uint32_t>(page * page_size | all);
    }
    const auto both = [](std::uint64_t page, std::uint64_t bits) {
        l2_word(table + page * 8) = bits == 0 ? 0 : page * page_size | bits;
        l2_dword(table32 + page * 4) = bits == 0 ? 0 : static_cast<std::uint32_t>(page * page_size | bits);
    };
    constexpr std::uint64_t first = data / page_size;
    both(first + 1, present | page_user);
    both(first + 2, 0);
    both(first + 3, present | page_writable);
    l2_word(table + (first + 4) * 8) |= page_no_execute;
    l2_word(table + (first + 5) * 8) |= page_reserved;
    both(first + 6, all | page_global);
    make_l2_paging_without_ept();
}

void make_l2_descriptors() {
    using namespace l2_memory;
    const std::uint64_t descriptors[] = {
        0,
        0x00AF9B000000FFFF,  // 08: 64-bit code
        0x00CF93000000FFFF,  // 10: data
        0x00CF9B000000FFFF,  // 18: 32-bit code
        0x000F9B000000FFFF,  // 20: 16-bit code
        0x00CFF3000000FFFF,  // 28: data of user mode
        0x00AFFB000000FFFF,  // 30: 64-bit code of user mode
        0x00CFFB000000FFFF,  // 38: 32-bit code of user mode
        0x00008B0000000087 | tss64 << 16,
        0,
        0x000093000000FFFF,  // 50: 16-bit data
        0x00CF13000000FFFF,  // 58: data, not present
        0x00008B0000000087 | tss32 << 16,
        0x00008900000000FF | tss32 << 16,
        0x00CF97000000FFFF,  // 70: data that grows down
        0x00CF9F000000FFFF,  // 78: conforming code
    };
    for (unsigned i = 0; i < 16; ++i) l2_word(gdt + i * 8) = descriptors[i];
    for (std::uint64_t vector = 0; vector < 256; ++vector) {
        const std::uint64_t handler = handlers + vector * 16;
        // Half of the gates let user mode in.
        const std::uint64_t type = (vector & 1) != 0 ? 0xEEULL : 0x8EULL;
        l2_word(idt64 + vector * 16) =
            (handler & 0xFFFF) | 0x08ULL << 16 | type << 40 | (handler >> 16 & 0xFFFF) << 48;
        l2_word(idt32 + vector * 8) =
            (handler & 0xFFFF) | 0x18ULL << 16 | type << 40 | (handler >> 16 & 0xFFFF) << 48;
        l2_dword(real_mode_vectors + vector * 4) =
            static_cast<std::uint32_t>((handlers16 >> 4) << 16 | vector * 16);
        // mov eax, vector; vmcall; jmp -5. The same bytes in 32- and 64-bit code.
        l2_word(handler) = 0xB8 | vector << 8 | 0xC1010FULL << 40;
        l2_word(handler + 8) = 0xFBEB;
        // mov ax, vector; vmcall; jmp -5, in 16-bit code.
        l2_word(handlers16 + vector * 16) = 0xB8 | vector << 8 | 0xC1010FULL << 24 | 0xFBEBULL << 48;
    }
    l2_word(tss64 + 4) = stack;
    for (unsigned i = 0; i < 7; ++i) l2_word(tss64 + 0x24 + i * 8) = stack - 0x800;
    l2_dword(tss64 + 0x64) = 0x68 << 16;
    l2_dword(tss32 + 4) = static_cast<std::uint32_t>(stack);
    l2_dword(tss32 + 8) = 0x10;
    l2_dword(tss32 + 0x64) = 0x68 << 16;
}

void make_ept(Page* pages) {
    zero(pages, 4);
    constexpr std::uint64_t leaf = ept::all_rights | ept::write_back;
    for (unsigned i = 0; i < 3; ++i) pages[i].words[0] = physical(&pages[i + 1]) | ept::all_rights;
    for (std::uint64_t page = 0; page < sandbox_pages; ++page)
        pages[3].words[page] = physical(&world.sandbox[page]) | leaf;
    pages[3].words[l2_memory::local_apic / page_size] = 0xFEE00000 | ept::readable;
    pages[3].words[l2_memory::nothing / page_size] = no_memory | ept::all_rights;
    pages[3].words[l2_memory::alias / page_size] =
        physical(&world.sandbox[l2_memory::data / page_size]) | leaf;
}

void make_window() {
    constexpr std::uint64_t plain = present | page_writable;
    const std::uint64_t bits[window_pages] = {
        plain,
        plain,
        0,
        present,
        plain | page_user,
        plain | page_no_execute,
        0,
        plain,
        0,
        plain | page_reserved,
        plain | page_global,
        present | page_user,
        plain | page_uncached,
        present | page_no_execute,
        plain | page_user,
        0,
    };
    for (unsigned page = 0; page < window_pages; ++page) {
        const Page* const behind = page == user_code ? world.code : &world.operands[page];
        world.window_table->words[page] = bits[page] == 0 ? 0 : physical(behind) | bits[page];
    }
    boot_pml4[0] |= page_user;
    boot_pdpt[window >> 30] = physical(window_directory) | plain | page_user;
    window_directory->words[0] = physical(world.window_table) | plain | page_user;
    write_cr3(read_cr3());
}

std::uint64_t checksum(const Page* first, std::size_t count, std::uint64_t sum) {
    const std::uint64_t* word = first->words;
    const std::uint64_t* const end = word + count * page_size / 8;
    for (; word < end; word += 4) {
        asm("crc32q (%1), %0\n\tcrc32q 8(%1), %0\n\tcrc32q 16(%1), %0\n\tcrc32q 24(%1), %0"
            : "+r"(sum)
            : "r"(word), "m"(*reinterpret_cast<const std::uint64_t(*)[4]>(word)));
    }
    return sum;
}

void find_places(bool under_l0) {
    constexpr std::uint64_t more_than_firmware_keeps = 1 << 20;
    places.hidden = no_memory;
    const MemoryHole hole = top_reserved_range();
    if (under_l0 && hole.end - hole.begin > more_than_firmware_keeps)
        places.hidden = (hole.begin + (hole.end - hole.begin) / 2) & ~(page_size - 1);
    boot_information.each_range([](const MemoryRange& range) {
        const std::uint64_t end = range.base + range.size;
        if (end <= no_memory && end > places.end) places.end = end;
    });
}

void watch(Seen& what, std::string_view name, const Page* first, std::size_t count) {
    what = {first, count, take_pages(count), name};
}

}  // namespace

void print_memory_changes() {
    for (const Seen& what : seen) {
        for (std::size_t page = 0; page < what.count; ++page) {
            for (std::size_t word = 0; word < page_size / 8; ++word) {
                const std::uint64_t now = what.first[page].words[word];
                std::uint64_t& before = what.copy[page].words[word];
                if (now == before) continue;
                Line line;
                line << "  change " << what.name;
                put(line, "at", page * page_size + word * 8);
                put(line, "was", before);
                put(line, "is", now);
                log_line(line);
                before = now;
            }
        }
    }
}

void remember_memory() {
    for (const Seen& what : seen) {
        for (std::size_t page = 0; page < what.count; ++page) what.copy[page] = what.first[page];
    }
}

void make_world(bool under_l0) {
    find_places(under_l0);
    world.sandbox = take_pages(sandbox_pages);
    world.operands = take_pages(window_pages);
    world.ept = take_pages(4);
    world.ept_other = take_pages(4);
    for (Page*& region : world.vmcs) region = allocate_page();
    for (Page** page : {&world.window_table, &world.code, &world.vmxon, &world.msr_bitmap, &world.io_bitmap_a,
                        &world.io_bitmap_b, &world.entry_load, &world.exit_store, &world.exit_load,
                        &world.virtual_apic, &window_directory})
        *page = allocate_page();
    watch(seen[0], "l2", world.sandbox, sandbox_pages);
    watch(seen[1], "operand", world.operands, window_pages);
    watch(seen[2], "ept", world.ept, 4);
    watch(seen[3], "other_ept", world.ept_other, 4);
    watch(seen[4], "window", world.window_table, 1);
    watch(seen[5], "exit_store", world.exit_store, 1);
    watch(seen[6], "virtual_apic", world.virtual_apic, 1);
}

void reset_sandbox() {
    zero(world.sandbox, sandbox_pages);
    make_l2_paging();
    make_l2_descriptors();
}

namespace {
void forget_translations() {
    const InvalidationDescriptor everything{};
    if (capabilities.has_invept()) try_invept(invept_type::all_contexts, &everything);
    if (capabilities.has_invvpid()) try_invvpid(invvpid_type::all_contexts, &everything);
}
}  // namespace

void reset_l2_memory() {
    reset_sandbox();
    make_ept(world.ept);
    make_ept(world.ept_other);
    forget_translations();
}

bool reset_world() {
    if (world.in_vmx_operation) try_vmxoff();
    world.in_vmx_operation = false;
    world.case_over = false;
    world.virtual_nmis_are_blocked = false;
    reset_l1_state();
    reset_sandbox();
    zero(world.operands, window_pages);
    make_ept(world.ept);
    make_ept(world.ept_other);
    make_window();
    for (Page* page : {world.msr_bitmap, world.io_bitmap_a, world.io_bitmap_b, world.entry_load,
                       world.exit_store, world.exit_load, world.virtual_apic, world.code})
        zero(page, 1);
    zero(world.vmxon, 1);
    world.vmxon->words[0] = capabilities.revision();
    const std::uint64_t vmxon = physical(world.vmxon);
    if (try_vmxon(&vmxon) != vm_succeed) return false;
    world.in_vmx_operation = true;
    // What an earlier case left behind in the processor.
    forget_translations();
    for (unsigned i = 0; i < vmcs_regions; ++i) {
        zero(world.vmcs[i], 1);
        world.vmcs[i]->words[0] = capabilities.revision();
        const std::uint64_t address = physical(world.vmcs[i]);
        try_vmclear(&address);
        world.launched[i] = false;
        world.guest_written[i] = false;
    }
    nmi_count = 0;
    external_count = 0;
    last_external_vector = 0;
    return true;
}

unsigned current_vmcs() {
    std::uint64_t address = 0;
    if (!world.in_vmx_operation) return vmcs_regions;
    vmptrst(address);
    for (unsigned i = 0; i < vmcs_regions; ++i) {
        if (address == physical(world.vmcs[i])) return i;
    }
    return vmcs_regions;
}

std::uint64_t ept_pointer(bool other) {
    return physical(other ? world.ept_other : world.ept) | 6 | (3U << 3);
}

std::uint64_t& window_entry(unsigned page) {
    return world.window_table->words[page];
}

std::uint64_t sandbox_checksum() {
    return checksum(world.sandbox, sandbox_pages, 1);
}

std::uint64_t structures_checksum() {
    std::uint64_t sum = 1;
    for (const Page* page : {world.window_table, world.msr_bitmap, world.io_bitmap_a, world.io_bitmap_b,
                             world.entry_load, world.exit_store, world.exit_load, world.virtual_apic})
        sum = checksum(page, 1, sum);
    sum = checksum(world.ept, 4, sum);
    sum = checksum(world.ept_other, 4, sum);
    return checksum(world.operands, window_pages, sum);
}

}  // namespace flatback::guests
