#include "metal/load/multiboot2_loader.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "metal/load/multiboot2.hpp"
#include "metal/load/segments.hpp"
#include "x86/paging.hpp"

namespace flatback::metal {
namespace {

using formats::Multiboot2Header;

// Of the information structure (section 3.6).
namespace tag {
constexpr std::uint32_t end = 0;
constexpr std::uint32_t command_line = 1;
constexpr std::uint32_t loader_name = 2;
constexpr std::uint32_t module = 3;
constexpr std::uint32_t basic_memory = 4;
constexpr std::uint32_t memory_map = 6;
constexpr std::uint32_t vbe = 7;
constexpr std::uint32_t framebuffer = 8;
constexpr std::uint32_t acpi_old = 14;
constexpr std::uint32_t acpi_new = 15;
constexpr std::uint32_t load_base = 21;
}  // namespace tag

constexpr std::string_view own_name = "Flatback";
constexpr std::array<std::uint64_t, 3> descriptors = {0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF};
constexpr std::uint16_t code_selector = 0x08;
constexpr std::uint16_t data_selector = 0x10;

// The block: descriptors, a stack, and from here on the information.
constexpr std::uint64_t information_at = 0x1000;
constexpr std::uint64_t map_entry_size = 24;

// Counts the bytes, and writes them where it has room: once without, for the size, and once with.
class Information {
public:
    explicit Information(std::span<std::byte> bytes) : bytes_(bytes) {}

    void begin(std::uint32_t type) {
        at_ = (at_ + 7) & ~std::uint64_t{7};
        start_ = at_;
        add(type);
        add(std::uint32_t{0});
    }
    template <typename T>
    void add(T value) {
        static_cast<void>(write(bytes_, at_, value));
        at_ += sizeof value;
    }
    void add_bytes(const void* from, std::uint64_t size) {
        if (at_ + size <= bytes_.size()) copy_bytes(bytes_.data() + at_, from, size);
        at_ += size;
    }
    void add_text(std::string_view text) {
        add_bytes(text.data(), text.size());
        add(std::uint8_t{0});
    }
    void end() { static_cast<void>(write(bytes_, start_ + 4, static_cast<std::uint32_t>(at_ - start_))); }
    [[nodiscard]] std::uint64_t size() const { return at_; }

private:
    std::span<std::byte> bytes_;
    std::uint64_t at_ = 8;  // behind the total size and a reserved word
    std::uint64_t start_ = 0;
};

std::uint32_t kilobytes_from(const MemoryMap& memory, std::uint64_t start, std::uint64_t limit) {
    for (const MemoryEntry& entry : memory.entries()) {
        if (entry.kind == MemoryKind::usable && entry.range.contains(start))
            return static_cast<std::uint32_t>((std::min(entry.range.end, limit) - start) / 1024);
    }
    return 0;
}

void add_memory(Information& information, const MemoryMap& memory) {
    information.begin(tag::basic_memory);
    information.add(kilobytes_from(memory, 0, 0xA0000));
    information.add(kilobytes_from(memory, 0x100000, memory_below_4g.end));
    information.end();
    information.begin(tag::memory_map);
    information.add(static_cast<std::uint32_t>(map_entry_size));
    information.add(std::uint32_t{0});
    for (const MemoryEntry& entry : memory.entries()) {
        information.add(entry.range.start);
        information.add(entry.range.size());
        information.add(static_cast<std::uint32_t>(entry.kind));
        information.add(std::uint32_t{0});
    }
    information.end();
}

void add_copy(Information& information, std::uint32_t type, Bytes body) {
    if (body.empty()) return;
    information.begin(type);
    information.add_bytes(body.data(), body.size());
    information.end();
}

// Addresses are below 4 GB (Placement).
void add_all(Information& information, const LoadRequest& request, const Placement& placement,
             std::uint64_t load_base) {
    constexpr std::uint64_t old_rsdp_size = 20;
    information.begin(tag::command_line);
    information.add_text(request.modules[0].command_line);
    information.end();
    information.begin(tag::loader_name);
    information.add_text(request.loader_name.empty() ? own_name : request.loader_name);
    information.end();
    for (std::size_t index = 1; index < request.modules.size(); ++index) {
        information.begin(tag::module);
        information.add(static_cast<std::uint32_t>(placement.module_range(index).start));
        information.add(static_cast<std::uint32_t>(placement.module_range(index).end));
        information.add_text(request.modules[index].command_line);
        information.end();
    }
    add_memory(information, request.memory);
    add_copy(information, tag::vbe, request.vbe);
    add_copy(information, tag::framebuffer, request.framebuffer);
    add_copy(information, request.rsdp.size() > old_rsdp_size ? tag::acpi_new : tag::acpi_old, request.rsdp);
    information.begin(tag::load_base);
    information.add(static_cast<std::uint32_t>(load_base));
    information.end();
    information.begin(tag::end);
    information.end();
}

PhysicalRange extent(const ElfImage& image) {
    PhysicalRange all = image.segments.items().front().memory;
    for (const ElfSegment& segment : image.segments.items()) {
        all.start = std::min(all.start, segment.memory.start);
        all.end = std::max(all.end, segment.memory.end);
    }
    return all;
}

// Where the image goes: `displacement` bytes up, or down, from where it was linked.
std::expected<std::uint64_t, BootError> place_image(const Multiboot2Header& header, Placement& placement,
                                                    ElfImage& image) {
    const auto claimed = claim_segments(placement, image);
    if (claimed) return std::uint64_t{0};
    if (!header.relocatable) return std::unexpected(claimed.error());
    const PhysicalRange linked = extent(image);
    const std::uint64_t alignment = std::max<std::uint64_t>(header.alignment, x86::page_size_4k);
    const auto place = placement.claim_highest(
        linked.size(), alignment, {header.least_address, std::uint64_t{header.most_address} + 1});
    if (!place) return std::unexpected(claimed.error());
    const std::uint64_t displacement = place->start - linked.start;
    for (ElfSegment& segment : image.segments.items()) {
        segment.memory.start += displacement;
        segment.memory.end += displacement;
    }
    return displacement;
}

}  // namespace

std::expected<L1Start, BootError> load_multiboot2(const LoadRequest& request, Placement& placement) {
    const Bytes original = placement.module_bytes(0);
    const auto header = formats::find_multiboot2_header(original);
    if (!header) return std::unexpected(BootError{"the L1 image has no Multiboot2 header"});
    if (header->unknown_tag != 0)
        return std::unexpected(
            BootError{"the Multiboot2 kernel demands what Flatback does not know; the header's tag is",
                      header->unknown_tag});
    if (header->loads_by_addresses)
        return std::unexpected(BootError{
            "the Multiboot2 kernel gives load addresses in its header; Flatback loads ELF files only"});
    auto image = parse_elf(original);
    if (!image) return std::unexpected(image.error());
    auto entry = image->physical_entry();
    if (header->entry) {
        const bool inside = std::ranges::any_of(image->segments.items(), [&](const ElfSegment& segment) {
            return segment.memory.contains(*header->entry);
        });
        entry = inside ? std::optional<std::uint64_t>{*header->entry} : std::nullopt;
    }
    if (!entry)
        return std::unexpected(
            BootError{"the entry of the L1 image lies outside of its segments", image->entry});

    const auto displacement = place_image(*header, placement, *image);
    if (!displacement) return std::unexpected(displacement.error());
    const std::uint64_t load_base = extent(*image).start;
    Information counted{{}};
    add_all(counted, request, placement, load_base);
    const std::uint64_t size = information_at + counted.size();
    auto place = placement.claim_highest(size, x86::page_size_4k, low_memory);
    if (!place) place = placement.claim_highest(size, x86::page_size_4k, memory_below_4g);
    if (!place) return std::unexpected(place.error());
    if (const auto moved = placement.evacuate(); !moved) return std::unexpected(moved.error());

    copy_segments(placement, *image, placement.module_bytes(0));
    const std::span<std::byte> block = placement.bytes(*place);
    std::memset(block.data(), 0, block.size());
    copy_bytes(block.data(), descriptors.data(), sizeof descriptors);
    const std::span<std::byte> bytes = block.subspan(information_at);
    Information information{bytes};
    add_all(information, request, placement, load_base);
    static_cast<void>(write(bytes, 0, static_cast<std::uint32_t>(information.size())));
    return L1Start{.mode = L1Start::Mode::protected_mode,
                   .rip = *entry + *displacement,
                   .rsp = place->start + information_at,
                   .rax = multiboot2_magic,
                   .rbx = place->start + information_at,
                   .gdt_base = place->start,
                   .gdt_limit = sizeof descriptors - 1,
                   .code_selector = code_selector,
                   .data_selector = data_selector};
}

}  // namespace flatback::metal
