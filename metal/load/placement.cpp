#include "metal/load/placement.hpp"

#include <algorithm>
#include <cstring>

#include "x86/paging.hpp"

namespace flatback::metal {

using x86::page_size_4k;

std::expected<void, BootError> Placement::adopt_modules() {
    for (const Module& module : request_.modules) {
        const PhysicalRange range = module.range;
        if (range.end > request_.physical_size || !request_.memory.is_usable(range)) {
            return std::unexpected(BootError{"a module lies outside of usable memory at", range.start});
        }
        const bool shared = std::ranges::any_of(modules_.items(), [range](PhysicalRange other) {
            return !range.empty() && other.overlaps(range);
        });
        if (shared) return std::unexpected(BootError{"two modules overlap at", range.start});
        if (!modules_.push_back(range)) return std::unexpected(BootError{"there are too many modules"});
    }
    return {};
}

bool Placement::is_claimed(PhysicalRange range) const {
    return std::ranges::any_of(
        claims_.items(), [range](PhysicalRange other) { return !range.empty() && other.overlaps(range); });
}

std::expected<void, BootError> Placement::claim(PhysicalRange range) {
    if (range.empty()) return {};
    if (range.end > std::min(request_.physical_size, memory_below_4g.end) ||
        !request_.memory.is_usable(range)) {
        return std::unexpected(
            BootError{"the place for which the L1 image is linked is not free: the firmware keeps it (UEFI "
                      "keeps some below 16 MB), "
                      "L0 lives there, or there is no memory; link it elsewhere, start from BIOS, or use a "
                      "kernel that can be "
                      "relocated (a bzImage). It wants",
                      range.start});
    }
    if (is_claimed(range)) return std::unexpected(BootError{"parts of the L1 image overlap at", range.start});
    if (!claims_.push_back(range)) return std::unexpected(BootError{"the L1 image has too many parts"});
    return {};
}

std::expected<PhysicalRange, BootError> Placement::find(std::uint64_t size, std::uint64_t alignment,
                                                        PhysicalRange limits) const {
    InlineVector<PhysicalRange, Multiboot2Information::most_modules + most_claims> occupied;
    // Both vectors fit by the capacity.
    for (const PhysicalRange range : claims_.items()) static_cast<void>(occupied.push_back(range));
    for (const PhysicalRange range : modules_.items()) static_cast<void>(occupied.push_back(range));
    limits.end = std::min(limits.end, request_.physical_size);
    const auto place = request_.memory.find_highest(size, alignment, limits, occupied.items());
    if (!place) {
        return std::unexpected(
            BootError{"there is not enough free memory to load L1; give the machine more memory. Bytes "
                      "wanted in one piece:",
                      size});
    }
    return *place;
}

std::expected<PhysicalRange, BootError> Placement::claim_highest(std::uint64_t size, std::uint64_t alignment,
                                                                 PhysicalRange limits) {
    auto place = find(size, alignment, limits);
    if (!place) return place;
    if (!claims_.push_back(*place)) return std::unexpected(BootError{"the L1 image has too many parts"});
    return place;
}

std::expected<void, BootError> Placement::evacuate() {
    for (PhysicalRange& module : modules_.items()) {
        const bool aligned = module.start % page_size_4k == 0;
        if (module.empty() || (aligned && !is_claimed(module))) continue;
        // Clear of every module's present bytes, its own included: source and destination never overlap.
        const auto place = find(module.size(), page_size_4k, memory_below_4g);
        if (!place) return std::unexpected(place.error());
        copy_bytes(request_.physical + place->start, request_.physical + module.start, module.size());
        module = *place;
    }
    return {};
}

}  // namespace flatback::metal
