#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace flatback::machine::price {

/// A range of processor cycles, because sources disagree.
struct Range {
    double low = 0;
    double high = 0;

    Range& operator+=(const Range& other) {
        low += other.low;
        high += other.high;
        return *this;
    }
};

[[nodiscard]] inline Range operator*(double count, const Range& each) {
    return {count * each.low, count * each.high};
}

/// Where a cost comes from.
enum class Basis : std::uint8_t {
    published,  // both ends are in the source named
    derived,    // reckoned from the source named, as it says
    assumed,    // no measurement was found; chosen wide
};

[[nodiscard]] std::string_view name_of(Basis basis);

/// What one event costs the processor itself, without any software. In cycles.
struct Cost {
    Range cycles{};
    Basis basis = Basis::assumed;
    std::string_view source;  // one line: who, where, what was measured
};

/// What an emulator that counts instructions leaves out, on a processor that `known_geometries` has too.
struct ProcessorCosts {
    std::string_view name;
    Cost world_switch;         // one VM exit and the VM entry that ends it
    Cost flush_instruction;    // one INVVPID, without the misses that follow
    Cost page_walk_reference;  // one reference of a page walk to a paging structure
};

[[nodiscard]] std::span<const ProcessorCosts> known_costs();

/// Null: no processor of that name is known.
[[nodiscard]] const ProcessorCosts* find_costs(std::string_view name);

}  // namespace flatback::machine::price
