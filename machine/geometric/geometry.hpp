#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace flatback::machine {

/// One set-associative array of entries. `sets` is a power of two.
struct ArrayGeometry {
    unsigned sets = 1;
    unsigned ways = 0;
    /// 0: the set is the low bits of the page number; N: those XORed with the next N bits (Gras et al.,
    /// TLBleed, 2018).
    unsigned xor_bits = 0;
};

/// A processor's translation caches, by page size: 4 KB, 2 MB, 1 GB.
struct TlbGeometry {
    std::string_view name;
    std::array<ArrayGeometry, 3> data{};         // L1, loads and stores
    std::array<ArrayGeometry, 3> instruction{};  // L1, fetches
    ArrayGeometry second{};                      // L2, shared by code and data
    /// Ways of `second` that a page of each size may be in, as bit masks; 0: it is not kept there.
    std::array<std::uint32_t, 3> second_ways{};
    ArrayGeometry second_1g{};  // a separate array for 1-GByte pages, where there is one
    /// Paging-structure caches, by level of the entry: PDE, PDPTE, PML4E. For EPT's own structures the same
    /// again.
    std::array<ArrayGeometry, 3> structures{};
    /// Guest-physical mappings: what serves the addresses of tables in a two-dimensional walk.
    ArrayGeometry guest_physical{};
    /// Cycles that a hit in the second level costs over one in the first, and that one reference of a walk
    /// costs.
    unsigned second_level_cycles = 7;
    unsigned walk_reference_cycles = 14;
};

/// Haswell, Skylake-X, Ice Lake. docs/machine.md says where each figure comes from, and which are
/// assumptions.
[[nodiscard]] std::span<const TlbGeometry> known_geometries();

/// Null: no processor of that name is known.
[[nodiscard]] const TlbGeometry* find_geometry(std::string_view name);

}  // namespace flatback::machine
