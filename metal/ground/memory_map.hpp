// Physical memory as the firmware reports it. Plain data: used by the boot code and by its tests on the host.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace flatback::metal {

// [start, end), physical byte addresses.
struct PhysicalRange {
    std::uint64_t start = 0;
    std::uint64_t end = 0;

    [[nodiscard]] constexpr std::uint64_t size() const { return end - start; }
    [[nodiscard]] constexpr bool empty() const { return end <= start; }
    [[nodiscard]] constexpr bool contains(std::uint64_t address) const {
        return address >= start && address < end;
    }
    [[nodiscard]] constexpr bool contains(PhysicalRange other) const {
        return other.start >= start && other.end <= end;
    }
    [[nodiscard]] constexpr bool overlaps(PhysicalRange other) const {
        return start < other.end && other.start < end;
    }
    friend constexpr bool operator==(PhysicalRange, PhysicalRange) = default;
};

// The numbers are those of E820, of Multiboot 1 and of Multiboot2 alike.
enum class MemoryKind : std::uint32_t {
    usable = 1,
    reserved = 2,
    acpi_reclaimable = 3,
    acpi_nvs = 4,
    unusable = 5,
};

struct MemoryEntry {
    PhysicalRange range;
    MemoryKind kind = MemoryKind::reserved;
    friend constexpr bool operator==(const MemoryEntry&, const MemoryEntry&) = default;
};

// Sorted by address, without overlaps and without empty entries: add() keeps it so.
class MemoryMap {
public:
    // What E820 in the Linux boot parameters can carry.
    static constexpr std::size_t capacity = 128;

    // Adds a range; where it overlaps earlier ones, the kind with the higher number wins (a reservation beats
    // RAM). False if the map is full: then it is left as it was.
    [[nodiscard]] bool add(PhysicalRange range, MemoryKind kind);
    [[nodiscard]] std::span<const MemoryEntry> entries() const { return {entries_.data(), count_}; }
    // All of the range lies in usable memory (of one or several adjoining entries).
    [[nodiscard]] bool is_usable(PhysicalRange range) const;
    // The end of the highest memory that holds anything of software's: usable, or ACPI's tables.
    [[nodiscard]] std::uint64_t end_of_memory() const;
    // The highest place for `size` bytes of usable memory, aligned (a power of two), inside `limits`, clear
    // of every range of `occupied`.
    [[nodiscard]] std::optional<PhysicalRange> find_highest(std::uint64_t size, std::uint64_t alignment,
                                                            PhysicalRange limits,
                                                            std::span<const PhysicalRange> occupied) const;

private:
    std::array<MemoryEntry, capacity> entries_{};
    std::size_t count_ = 0;
};

}  // namespace flatback::metal
