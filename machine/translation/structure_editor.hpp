#pragma once

#include <cstdint>

#include "../../x86/paging_bits.hpp"
#include "../rules/address.hpp"
#include "access.hpp"

namespace flatback::machine {

/// Memory as an editor of paging structures sees it: quadwords at addresses of one address space.
template <typename Memory>
concept StructureMemory = requires(Memory& memory, std::uint64_t address) {
    { memory.read(address) } -> std::convertible_to<std::uint64_t>;
    memory.write(address, std::uint64_t{});
};

/// Which of the two formats an editor writes: the bits of an entry that points to a table, and the bit of one
/// that maps a large page, are in different places.
struct PagingFormat {
    static constexpr std::uint64_t table_flags = x86::page_entry::present | x86::page_entry::writable |
                                                 x86::page_entry::user | x86::page_entry::accessed;
    static constexpr std::uint64_t in_use = x86::page_entry::present;
};
struct EptFormat {
    static constexpr std::uint64_t table_flags = 7;  // read, write, execute
    static constexpr std::uint64_t in_use = 7;
};

/// Edits 4-level structures as software does: by stores, without a thought for what is cached. New tables
/// come from ascending pages that start at `next_table`.
template <typename Format, StructureMemory Memory>
class StructureEditor {
public:
    StructureEditor(Memory& memory, std::uint64_t root, std::uint64_t& next_table)
        : memory_(memory), root_(root), next_table_(next_table) {}

    /// The address of the entry of `level` for `address`; makes the tables above it where they are absent.
    /// Where an entry above maps a large page, it is replaced by an empty table.
    [[nodiscard]] std::uint64_t entry_address(std::uint64_t address, unsigned level) {
        std::uint64_t table = root_;
        for (unsigned above = 4; above > level; --above) {
            const std::uint64_t place = table + 8 * std::uint64_t{rules::structure_index(address, above)};
            std::uint64_t entry = memory_.read(place);
            const bool large = above <= 3 && (entry & x86::page_entry::page_size) != 0;
            if ((entry & Format::in_use) == 0 || large) {
                entry = next_table_ | Format::table_flags;
                next_table_ += x86::page_size_4k;
                memory_.write(place, entry);
            }
            table = entry & x86::page_entry::address_mask;
        }
        return table + 8 * std::uint64_t{rules::structure_index(address, level)};
    }

    /// Maps one page. `flags` are the low bits (and bit 63) of the entry, without the bit that says "large".
    void map(std::uint64_t address, std::uint64_t target, PageSize size, std::uint64_t flags) {
        const unsigned level = static_cast<unsigned>(size) + 1;
        const std::uint64_t large = size == PageSize::size_4k ? 0 : x86::page_entry::page_size;
        memory_.write(entry_address(address, level), page_base(target, size) | flags | large);
    }

    void set_entry(std::uint64_t address, unsigned level, std::uint64_t entry) {
        memory_.write(entry_address(address, level), entry);
    }

private:
    Memory& memory_;
    std::uint64_t root_;
    std::uint64_t& next_table_;
};

}  // namespace flatback::machine
