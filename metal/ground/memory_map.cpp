#include "metal/ground/memory_map.hpp"

namespace flatback::metal {
namespace {

// Adding one range to a full map can split every entry at most once more in two places.
constexpr std::size_t work_capacity = 2 * MemoryMap::capacity + 4;

struct Work {
    std::array<MemoryEntry, work_capacity> entries{};
    std::size_t count = 0;

    // In ascending order; joins an entry of the same kind that ends where this one starts.
    void append(PhysicalRange range, MemoryKind kind) {
        if (range.empty()) return;
        if (count > 0 && entries[count - 1].kind == kind && entries[count - 1].range.end == range.start) {
            entries[count - 1].range.end = range.end;
            return;
        }
        entries[count++] = {range, kind};
    }
};

}  // namespace

bool MemoryMap::add(PhysicalRange range, MemoryKind kind) {
    if (range.empty()) return true;
    Work work;
    std::uint64_t covered = range.start;  // of the new range, everything below is in `work`
    for (const MemoryEntry& entry : entries()) {
        // The new range's part before this entry.
        if (covered < range.end && covered < entry.range.start) {
            const std::uint64_t end = std::min(range.end, entry.range.start);
            work.append({covered, end}, kind);
            covered = end;
        }
        const std::uint64_t shared_start = std::clamp(range.start, entry.range.start, entry.range.end);
        const std::uint64_t shared_end = std::clamp(range.end, shared_start, entry.range.end);
        work.append({entry.range.start, shared_start}, entry.kind);
        work.append({shared_start, shared_end}, std::max(entry.kind, kind));
        work.append({shared_end, entry.range.end}, entry.kind);
        if (shared_end > shared_start) covered = shared_end;
    }
    if (covered < range.end) work.append({covered, range.end}, kind);
    if (work.count > capacity) return false;
    std::copy_n(work.entries.begin(), work.count, entries_.begin());
    count_ = work.count;
    return true;
}

bool MemoryMap::is_usable(PhysicalRange range) const {
    if (range.empty()) return range.start == range.end;
    // Adjoining entries of one kind are one entry.
    return std::ranges::any_of(entries(), [range](const MemoryEntry& entry) {
        return entry.kind == MemoryKind::usable && entry.range.contains(range);
    });
}

std::uint64_t MemoryMap::end_of_memory() const {
    std::uint64_t end = 0;
    for (const MemoryEntry& entry : entries()) {
        const bool memory = entry.kind == MemoryKind::usable || entry.kind == MemoryKind::acpi_reclaimable ||
                            entry.kind == MemoryKind::acpi_nvs;
        if (memory) end = std::max(end, entry.range.end);
    }
    return end;
}

std::optional<PhysicalRange> MemoryMap::find_highest(std::uint64_t size, std::uint64_t alignment,
                                                     PhysicalRange limits,
                                                     std::span<const PhysicalRange> occupied) const {
    if (size == 0) return std::nullopt;
    for (std::size_t index = count_; index-- > 0;) {
        if (entries_[index].kind != MemoryKind::usable) continue;
        const std::uint64_t bottom = std::max(entries_[index].range.start, limits.start);
        std::uint64_t top = std::min(entries_[index].range.end, limits.end);
        while (top >= bottom && top - bottom >= size) {
            const std::uint64_t start = (top - size) & ~(alignment - 1);
            if (start < bottom) break;
            const PhysicalRange place{start, start + size};
            const auto obstacle = std::ranges::find_if(
                occupied, [place](PhysicalRange other) { return !other.empty() && other.overlaps(place); });
            if (obstacle == occupied.end()) return place;
            top = obstacle->start;
        }
    }
    return std::nullopt;
}

}  // namespace flatback::metal
