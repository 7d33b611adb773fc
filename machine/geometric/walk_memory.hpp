#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "machine/memory/physical_memory.hpp"
#include "machine/translation/page_walk.hpp"

namespace flatback::machine::geometric {

/// What is counted of one EPT walk.
struct EptRead {
    PageSize size = PageSize::size_4k;
    EptRights rights = 0;
    bool translated = false;
    bool dirty = false;
    bool flags_set =
        false;  // no accessed flag is left to set, nor dirty flags where accesses count as writes
    unsigned reads = 0;
    std::uint64_t host_physical = 0;
};

/// What a walk answers and reads.
struct Walked {
    struct Table {
        std::uint64_t address = 0;  // guest-physical, where EPT is in use
        EptRead ept{};
    };
    Outcome outcome{};
    PageMapping mapping{};
    unsigned reads = 0;
    bool final_ept_walked = false;
    EptRead final_ept{};
    using Tables = std::array<Table, 4>;
    const Tables* tables = nullptr;  // of use until the next walk
};

/// Walks as `walk_pages` and `set_page_flags` do, and remembers the way to the last tables for as long as no
/// paging structure has changed (PhysicalMemory::structure_version): only entries of the last level are read
/// again. A walk that has a flag to set, or does not translate, is made in full.
class WalkMemory {
public:
    /// The context of the walks that follow.
    void use(const TranslationContext& context);
    /// Sets the accessed and dirty flags where the walk translates.
    void walk(PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
              Access access, Walked& walked);

private:
    /// The way to the page table of 2 MB of linear addresses.
    struct Way {
        std::uint64_t region = ~std::uint64_t{0};
        std::uint64_t version = 0;
        std::uint64_t context = 0;
        std::uint64_t table_host = 0;
        GuestRights rights{};
        Walked::Tables tables{};
    };
    /// The way through EPT to a large page, or to the page table of 2 MB of guest-physical addresses.
    struct EptWay {
        std::uint64_t region = ~std::uint64_t{0};
        std::uint64_t version = 0;
        std::uint64_t context = 0;
        std::uint64_t host = 0;  // of the large page, or of the table
        EptRead read{};          // of the large page; rights: those before the page table's entry
        bool large = false;
    };

    [[nodiscard]] bool recall(const PhysicalMemory& memory, const TranslationContext& context,
                              std::uint64_t linear_address, Access access, Walked& walked);
    [[nodiscard]] bool recall_ept(const PhysicalMemory& memory, const TranslationContext& context,
                                  std::uint64_t guest_physical, EptRead& read);
    void remember(const PhysicalMemory& memory, const TranslationContext& context,
                  std::uint64_t linear_address);
    void remember_ept(const PhysicalMemory& memory, const TranslationContext& context);

    static constexpr std::size_t ways_kept = 64;
    static constexpr std::size_t contexts_kept = 16;

    std::array<Way, ways_kept> ways_{};
    std::array<EptWay, ways_kept> ept_ways_{};
    /// The contexts of late, and their numbers: never the same for two.
    struct Known {
        TranslationContext context{};
        std::uint64_t number = 0;
    };
    std::array<Known, contexts_kept> known_{};
    std::size_t next_known_ = 0;
    std::uint64_t number_ = 0;  // of the context that is in use
    std::uint64_t last_number_ = 0;
    const PhysicalMemory* memory_ = nullptr;
    PageWalk walk_{};
    Walked::Tables tables_{};
};

}  // namespace flatback::machine::geometric
