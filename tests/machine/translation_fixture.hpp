#pragma once

#include <cstdint>

#include "machine/memory/physical_memory.hpp"
#include "machine/translation/context.hpp"
#include "machine/translation/structure_editor.hpp"
#include "x86/paging.hpp"

namespace flatback::machine::test {

inline constexpr std::uint64_t present = x86::page_entry::present;
inline constexpr std::uint64_t writable = x86::page_entry::writable;
inline constexpr std::uint64_t user = x86::page_entry::user;
inline constexpr std::uint64_t accessed = x86::page_entry::accessed;
inline constexpr std::uint64_t dirty = x86::page_entry::dirty;
inline constexpr std::uint64_t global = x86::page_entry::global;
inline constexpr std::uint64_t no_execute = x86::page_entry::execute_disable;
inline constexpr std::uint64_t ordinary = present | writable | user;

/// EPT: read, write, execute, write-back.
inline constexpr std::uint64_t ept_ordinary = 0x37;

inline constexpr Access load{AccessKind::read, false};
inline constexpr Access store{AccessKind::write, false};
inline constexpr Access fetch{AccessKind::fetch, false};
inline constexpr Access user_load{AccessKind::read, true};
inline constexpr Access user_store{AccessKind::write, true};
inline constexpr Access user_fetch{AccessKind::fetch, true};

/// Host memory with one set of paging structures at guest-physical 1 MB and EPT structures wherever asked.
/// Without EPT the guest-physical addresses are host-physical ones.
struct Structures {
    PhysicalMemory memory{};
    std::uint64_t pml4 = 0x10'0000;
    std::uint64_t next_guest_table = 0x10'1000;
    std::uint64_t next_ept_table = 0x80'0000;

    void map(std::uint64_t linear_address, std::uint64_t physical, std::uint64_t flags = ordinary,
             PageSize size = PageSize::size_4k) {
        StructureEditor<PagingFormat, PhysicalMemory>(memory, pml4, next_guest_table)
            .map(linear_address, physical, size, flags);
    }
    std::uint64_t entry_address(std::uint64_t linear_address, unsigned level) {
        return StructureEditor<PagingFormat, PhysicalMemory>(memory, pml4, next_guest_table)
            .entry_address(linear_address, level);
    }
    std::uint64_t entry(std::uint64_t linear_address, unsigned level) {
        return memory.read(entry_address(linear_address, level));
    }

    std::uint64_t new_ept() {
        const std::uint64_t root = next_ept_table;
        next_ept_table += x86::page_size;
        return root | 6 | 3 << 3;  // write-back, a walk of four levels
    }
    void map_ept(std::uint64_t eptp, std::uint64_t guest_physical, std::uint64_t host_physical,
                 std::uint64_t flags = ept_ordinary, PageSize size = PageSize::size_4k) {
        StructureEditor<EptFormat, PhysicalMemory>(memory, eptp & ~std::uint64_t{0xFFF}, next_ept_table)
            .map(guest_physical, host_physical, size, flags);
    }
    std::uint64_t ept_entry_address(std::uint64_t eptp, std::uint64_t guest_physical, unsigned level) {
        return StructureEditor<EptFormat, PhysicalMemory>(memory, eptp & ~std::uint64_t{0xFFF},
                                                          next_ept_table)
            .entry_address(guest_physical, level);
    }
    std::uint64_t ept_entry(std::uint64_t eptp, std::uint64_t guest_physical, unsigned level) {
        return memory.read(ept_entry_address(eptp, guest_physical, level));
    }

    [[nodiscard]] TranslationContext context() const {
        TranslationContext result;
        result.pml4 = pml4;
        return result;
    }
    [[nodiscard]] TranslationContext context(std::uint64_t eptp, std::uint16_t vpid = 1) const {
        TranslationContext result = context();
        result.vpid = vpid;
        result.ept_in_use = true;
        result.ept.eptp = eptp;
        return result;
    }
};

}  // namespace flatback::machine::test
