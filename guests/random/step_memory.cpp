#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/l2_code.hpp"
#include "guests/random/log.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

void change_ept(Random& random, Line& line) {
    Page* const tables = random.one_in(4) ? world.ept_other : world.ept;
    const std::uint64_t level = random.one_in(6) ? random.below(3) : 3;
    const std::uint64_t index = level == 3 ? random.below(sandbox_pages + 3) : 0;
    std::uint64_t& entry = tables[level].words[index];
    switch (random.below(7)) {
        case 0:
            entry = (entry & ~7ULL) | random.below(8);
            break;
        case 1:
            entry ^= random.bit_of(0x38 | 0x47);  // memory type, ignore PAT, rights
            break;
        case 2:
            entry = 0;
            break;
        case 3:
            entry |= 1ULL << (46 + random.below(6));  // past the physical-address width
            break;
        case 4:
            if (level != 3) break;
            entry = physical(&world.sandbox[random.below(sandbox_pages)]) | 0x37;
            break;
        default:
            // As it was.
            if (level != 3) {
                entry = physical(&tables[level + 1]) | ept::all_rights;
            } else if (index < sandbox_pages) {
                entry = physical(&world.sandbox[index]) | ept::all_rights | ept::write_back;
            }
    }
    put(line, "level", level);
    put(line, "index", index);
    put(line, "entry", entry & 0xFFF0000000000FFF);
    // A processor may hold what it cached of the old entry until INVEPT: no comparison before that.
    const InvalidationDescriptor descriptor{ept_pointer(tables == world.ept_other), 0};
    const bool single = random.one_in(2);
    try_invept(single ? invept_type::single_context : invept_type::all_contexts, &descriptor);
}

void change_l2_paging(Random& random, Line& line) {
    const std::uint64_t page =
        random.one_in(2) ? l2_memory::data / page_size + random.below(7) : random.below(sandbox_pages);
    const std::uint64_t table = random.number(
        {l2_memory::table, l2_memory::table, l2_memory::table32, l2_memory::directory, l2_memory::pae_pdpt});
    // Of those with L1's addresses only the last level: a bit that makes a page large makes it another one.
    const bool last_level = table == l2_memory::table || table == l2_memory::table32;
    const std::uint64_t base = last_level && random.one_in(4) ? l2_memory::without_ept : 0;
    auto* const entry = sandbox_bytes(base + table +
                                      (table == l2_memory::table32 ? page * 4
                                       : table == l2_memory::table ? page * 8
                                                                   : 0));
    const std::uint64_t bit = random.bit_of(0x1FF);
    *reinterpret_cast<std::uint32_t*>(entry) ^= static_cast<std::uint32_t>(bit);
    put(line, "table", base + table);
    put(line, "page", page);
    put(line, "bit", bit);
    const InvalidationDescriptor everything{};
    if (capabilities.has_invvpid()) try_invvpid(invvpid_type::all_contexts, &everything);
}

void change_window(Random& random, Line& line) {
    const std::uint64_t page = random.below(window_pages);
    // Present pages stay inside this case's own memory; bit 63 is reserved while EFER.NXE is 0.
    const std::uint64_t bit =
        random.number({1ULL, 2ULL, 4ULL, 1ULL << 63, 1ULL << 63, 1ULL << 8, 1ULL << 5, 1ULL << 6});
    if (page == user_code || window_entry(static_cast<unsigned>(page)) == 0) return;
    window_entry(static_cast<unsigned>(page)) ^= bit;
    invalidate_page(reinterpret_cast<void*>(window_address_of(static_cast<unsigned>(page))));
    put(line, "page", page);
    put(line, "bit", bit);
}

}  // namespace

void step_memory(Random& random) {
    Line line;
    switch (random.below(5)) {
        case 0:
        case 1:
            if (!world.in_vmx_operation) return;
            line << "ept";
            change_ept(random, line);
            break;
        case 2:
            if (!world.in_vmx_operation) return;
            line << "paging";
            change_l2_paging(random, line);
            break;
        case 3:
            line << "window";
            change_window(random, line);
            break;
        default: {
            line << "sandbox";
            reset_sandbox();
            write_l2_code(random, random.of({16U, 32U, 64U}));
        }
    }
    log_line(line);
}

}  // namespace flatback::guests
