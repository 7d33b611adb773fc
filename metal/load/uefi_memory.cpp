#include "metal/load/uefi_memory.hpp"

#include <algorithm>

#include "x86/paging.hpp"

namespace flatback::metal {
namespace {

// EFI_MEMORY_DESCRIPTOR.
namespace offset {
constexpr std::uint64_t type = 0;
constexpr std::uint64_t physical_start = 8;
constexpr std::uint64_t number_of_pages = 24;
constexpr std::uint64_t size = 40;  // of the fields that are known; firmware may have more behind them
}  // namespace offset

constexpr std::uint64_t most_descriptor_size = 4096;
constexpr std::uint64_t most_pages = std::uint64_t{1} << 40;

enum class Type : std::uint32_t {
    reserved = 0,
    loader_code = 1,
    loader_data = 2,
    boot_services_code = 3,
    boot_services_data = 4,
    conventional = 7,
};

// What is the system's once boot services have been left.
bool is_free(std::uint32_t type) {
    switch (static_cast<Type>(type)) {
        case Type::loader_code:
        case Type::loader_data:
        case Type::boot_services_code:
        case Type::boot_services_data:
        case Type::conventional:
            return true;
        case Type::reserved:
            break;
    }
    return false;
}

class MapWriter {
public:
    MapWriter(std::span<std::byte> to, std::uint64_t descriptor_size)
        : to_{to}, descriptor_size_{descriptor_size} {}

    // `range` of the firmware's descriptor, as `type`.
    void add(Bytes descriptor, PhysicalRange range, std::uint32_t type) {
        if (range.empty() || size_ + descriptor_size_ > to_.size()) return;
        const std::span<std::byte> place = to_.subspan(size_, descriptor_size_);
        copy_bytes(place.data(), descriptor.data(), descriptor_size_);
        static_cast<void>(write(place, offset::type, type));
        static_cast<void>(write(place, offset::physical_start, range.start));
        static_cast<void>(write(place, offset::number_of_pages, range.size() / x86::page_size_4k));
        size_ += descriptor_size_;
    }
    [[nodiscard]] std::uint64_t size() const { return size_; }

private:
    std::span<std::byte> to_;
    std::uint64_t descriptor_size_;
    std::uint64_t size_ = 0;
};

struct Descriptor {
    Bytes bytes;
    std::uint32_t type;
    PhysicalRange range;
};

template <typename Action>
void for_each_descriptor(const UefiMemory& uefi, Action&& action) {
    for (std::uint64_t at = 0; at + uefi.descriptor_size <= uefi.map.size(); at += uefi.descriptor_size) {
        const Bytes bytes = uefi.map.subspan(at, uefi.descriptor_size);
        const std::uint64_t start = *read<std::uint64_t>(bytes, offset::physical_start);
        const std::uint64_t pages =
            std::min(*read<std::uint64_t>(bytes, offset::number_of_pages), most_pages);
        action(Descriptor{
            bytes, *read<std::uint32_t>(bytes, offset::type), {start, start + pages * x86::page_size_4k}});
    }
}

// The whole pages of it: a page that is in part another's is that one's.
PhysicalRange whole_pages(PhysicalRange range) {
    constexpr std::uint64_t mask = x86::page_size_4k - 1;
    return {(range.start + mask) & ~mask, range.end & ~mask};
}

}  // namespace

bool UefiMemory::is_known() const {
    return system_table != 0 && !map.empty() && descriptor_size >= offset::size &&
           descriptor_size <= most_descriptor_size && descriptor_size % 8 == 0 &&
           map.size() % descriptor_size == 0;
}

std::uint64_t UefiMemory::most_bytes(const MemoryMap& memory) const {
    // Each border of `memory` cuts one descriptor in two.
    return map.size() + 2 * memory.entries().size() * std::uint64_t{descriptor_size};
}

std::uint64_t tell_uefi_memory(const UefiMemory& uefi, const MemoryMap& memory, std::span<std::byte> to) {
    MapWriter writer{to, uefi.descriptor_size};
    for_each_descriptor(uefi, [&](const Descriptor& descriptor) {
        const auto& [bytes, type, whole] = descriptor;
        if (!is_free(type)) {
            writer.add(bytes, whole, type);
            return;
        }
        std::uint64_t told = whole.start;
        for (const MemoryEntry& entry : memory.entries()) {
            const PhysicalRange usable = whole_pages(entry.range);
            if (entry.kind != MemoryKind::usable || !usable.overlaps(whole)) continue;
            const PhysicalRange shared{std::max(usable.start, whole.start), std::min(usable.end, whole.end)};
            writer.add(bytes, {told, shared.start}, static_cast<std::uint32_t>(Type::reserved));
            writer.add(bytes, shared, type);
            told = shared.end;
        }
        writer.add(bytes, {told, whole.end}, static_cast<std::uint32_t>(Type::reserved));
    });
    return writer.size();
}

std::optional<MemoryMap> without_boot_services(const UefiMemory& uefi, MemoryMap memory) {
    if (!uefi.is_known()) return memory;
    bool fits = true;
    for_each_descriptor(uefi, [&](const Descriptor& descriptor) {
        const auto type = static_cast<Type>(descriptor.type);
        if (type != Type::boot_services_code && type != Type::boot_services_data) return;
        fits = fits && memory.add(descriptor.range, MemoryKind::reserved);
    });
    if (!fits) return std::nullopt;
    return memory;
}

}  // namespace flatback::metal
