#include "machine/geometric/geometry.hpp"

namespace flatback::machine {

namespace {

// docs/machine.md says where each figure comes from, and which are assumptions.
constexpr std::array<ArrayGeometry, 3> assumed_structures = {{{8, 4, 0}, {1, 4, 0}, {1, 2, 0}}};
constexpr ArrayGeometry assumed_guest_physical = {8, 4, 0};

constexpr std::array<TlbGeometry, 3> geometries = {{
    {.name = "haswell",
     .data = {{{16, 4, 0}, {8, 4, 0}, {1, 4, 0}}},
     .instruction = {{{32, 4, 0}, {1, 8, 0}, {1, 0, 0}}},
     .second = {128, 8, 0},
     .second_ways = {0xFF, 0xFF, 0},
     .second_1g = {1, 0, 0},
     .structures = assumed_structures,
     .guest_physical = assumed_guest_physical,
     .second_level_cycles = 8,
     .walk_reference_cycles = 12},
    {.name = "skylake-x",
     .data = {{{16, 4, 0}, {8, 4, 0}, {1, 4, 0}}},
     .instruction = {{{16, 8, 0}, {1, 8, 0}, {1, 0, 0}}},
     .second = {128, 12, 7},
     .second_ways = {0xFFF, 0xFFF, 0},
     .second_1g = {4, 4, 0},
     .structures = assumed_structures,
     .guest_physical = assumed_guest_physical,
     .second_level_cycles = 9,
     .walk_reference_cycles = 14},
    {.name = "ice-lake",
     .data = {{{16, 4, 0}, {8, 4, 0}, {1, 8, 0}}},
     .instruction = {{{16, 8, 0}, {1, 8, 0}, {1, 0, 0}}},
     // 2048 entries: 4-KByte pages may use all 16 ways, 2-MByte pages 8 of them, 1-GByte pages the other 8.
     .second = {128, 16, 7},
     .second_ways = {0xFFFF, 0x00FF, 0xFF00},
     .second_1g = {1, 0, 0},
     .structures = assumed_structures,
     .guest_physical = assumed_guest_physical,
     .second_level_cycles = 7,
     .walk_reference_cycles = 14},
}};

}  // namespace

std::span<const TlbGeometry> known_geometries() {
    return geometries;
}

const TlbGeometry* find_geometry(std::string_view name) {
    for (const TlbGeometry& geometry : geometries) {
        if (geometry.name == name) return &geometry;
    }
    return nullptr;
}

}  // namespace flatback::machine
