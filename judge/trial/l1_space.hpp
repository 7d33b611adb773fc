#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "machine/memory/physical_memory.hpp"

namespace flatback::machine {

/// Gives L0's own pages, each once: a page that was ever a table of some EPT context is never one of
/// another's.
class L0Pages {
public:
    explicit L0Pages(PhysicalMemory& memory, std::uint64_t limit) : memory_(memory), limit_(limit) {}

    /// A zeroed page; nullopt at the limit.
    [[nodiscard]] std::optional<std::uint64_t> allocate();
    /// The page is L0's.
    [[nodiscard]] bool owns(std::uint64_t address) const { return address >= first && address < next_; }

private:
    static constexpr std::uint64_t first = 0x10'0000;

    PhysicalMemory& memory_;
    std::uint64_t limit_;
    std::uint64_t next_ = first;
};

/// One L1's physical memory: 64 GBytes, at an offset in the machine's, with the EPT01 that maps them. Single
/// pages may be elsewhere.
class L1Space {
public:
    static constexpr unsigned address_bits = 36;
    static constexpr std::uint64_t bytes = std::uint64_t{1} << address_bits;

    L1Space(PhysicalMemory& memory, L0Pages& pages, unsigned vm);
    L1Space(const L1Space&) = delete;
    L1Space& operator=(const L1Space&) = delete;

    [[nodiscard]] std::uint64_t ept01_pointer() const;

    struct Place {
        std::uint64_t host;
        unsigned page_shift;
    };
    /// Where an L1-physical address is, and how large the piece around it that EPT01 maps in one.
    [[nodiscard]] std::optional<Place> host_of(std::uint64_t l1_physical) const;
    /// The reverse; nullopt: not this L1's memory, or not any longer.
    [[nodiscard]] std::optional<std::uint64_t> l1_of(std::uint64_t host) const;

    /// Gives a page another frame with the same content; the old frame is L0's again and holds what no L1 may
    /// see.
    bool move_page(std::uint64_t l1_physical);

    static constexpr std::uint64_t secret = 0x5EC2'E75E'C2E7'5EC2;

private:
    std::uint64_t table_below(std::uint64_t table, unsigned level, std::uint64_t l1_physical);

    PhysicalMemory& memory_;
    L0Pages& pages_;
    std::uint64_t offset_;
    std::uint64_t root_;
    std::map<std::uint64_t, std::uint64_t> moved_;       // L1-physical page to host page
    std::map<std::uint64_t, std::uint64_t> moved_back_;  // host page to L1-physical page
};

}  // namespace flatback::machine
