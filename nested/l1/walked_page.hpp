// A page of L1's linear addresses that an operand lay in, and what the walk to it read: while memory still
// has that, the result holds (docs/engine.md, "Operands").
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace flatback::nested {

struct alignas(128) WalkedPage {
    static constexpr std::uint64_t no_page = 1;  // no linear address of a page
    std::uint64_t linear_page = no_page;
    std::uint64_t cr3 = 0;
    bool writable = false;         // the walk was one for a write
    std::uint32_t rule_field = 0;  // where a rule of translation is that mattered; 0: none did
    std::uint64_t rule_mask = 0;
    std::uint64_t rule_value = 0;
    static constexpr std::uint64_t both_rules = ~std::uint64_t{0};  // which no field's rules are
    std::byte* page = nullptr;
    std::array<const std::uint64_t*, 4> entries{};
    std::array<std::uint64_t, 4> values{};

    [[nodiscard]] std::byte* at(std::uint64_t offset) const {
        if (page == nullptr) __builtin_unreachable();  // of one that is remembered
        return page + offset;
    }
};

}  // namespace flatback::nested
