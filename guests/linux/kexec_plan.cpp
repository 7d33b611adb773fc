#include "guests/linux/kexec_plan.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "formats/linux_boot.hpp"
#include "guests/linux/kernel_segments.hpp"

namespace flatback::guests {
namespace {

using formats::Bytes;
using formats::put;
using namespace formats::linux_boot;

constexpr std::uint64_t page_size = 4096;
constexpr std::uint64_t usable_memory = 1;  // in the e820 table
constexpr std::uint64_t entry_limit = std::uint64_t{1} << 32;

// Of the first segment.
constexpr std::uint64_t low_address = 0x10000;
constexpr std::uint64_t command_line_page = page_size;
constexpr std::uint64_t code_page = 2 * page_size;
constexpr std::uint64_t low_size = 3 * page_size;

struct Range {
    std::uint64_t begin;
    std::uint64_t end;
};

[[nodiscard]] std::uint64_t whole_pages(std::uint64_t size) {
    return (size + page_size - 1) & ~(page_size - 1);
}

[[nodiscard]] std::vector<Range> usable_ranges(Bytes boot_parameters) {
    std::vector<Range> ranges;
    const std::uint64_t count = formats::read<std::uint8_t>(boot_parameters, offset::e820_count).value_or(0);
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t at = offset::e820_table + i * e820_entry_size;
        const auto start = formats::read<std::uint64_t>(boot_parameters, at);
        const auto size = formats::read<std::uint64_t>(boot_parameters, at + 8);
        const auto kind = formats::read<std::uint32_t>(boot_parameters, at + 16);
        if (start && size && kind == usable_memory && *size <= ~*start) {
            ranges.push_back({*start, *start + *size});
        }
    }
    return ranges;
}

[[nodiscard]] bool within(const std::vector<Range>& ranges, std::uint64_t address, std::uint64_t size) {
    return std::ranges::any_of(ranges, [&](const Range& range) {
        return address >= range.begin && address < range.end && size <= range.end - address;
    });
}

/// The highest page below 4 GB from which so many bytes are usable.
[[nodiscard]] std::optional<std::uint64_t> highest_place(const std::vector<Range>& ranges,
                                                         std::uint64_t size) {
    std::optional<std::uint64_t> place;
    for (const Range& range : ranges) {
        const std::uint64_t end = std::min(range.end, entry_limit) & ~(page_size - 1);
        if (end > range.begin && end - range.begin >= size) {
            place = std::max(place.value_or(0), (end - size) & ~(page_size - 1));
        }
    }
    return place;
}

/// The kernel enters with nothing in its registers; the next one wants RSI to be where boot_params are.
void write_code(std::span<std::byte> code, std::uint32_t boot_parameters, std::uint32_t kernel) {
    constexpr std::uint8_t move_to_esi = 0xBE;
    constexpr std::uint8_t move_to_eax = 0xB8;
    constexpr std::array<std::uint8_t, 2> jump_to_rax{0xFF, 0xE0};
    put(code, 0, move_to_esi);
    put(code, 1, boot_parameters);
    put(code, 5, move_to_eax);
    put(code, 6, kernel);
    put(code, 10, jump_to_rax);
}

/// Adds the kernel's segments; its physical entry.
[[nodiscard]] Expected<std::uint64_t> add_kernel(Bytes file, const std::vector<Range>& ranges,
                                                 std::vector<KexecSegment>& segments) {
    const auto entry =
        place_kernel(file, "a segment of the kernel has no place in this machine's memory",
                     [&](const KernelSegment& segment) {
                         const std::uint64_t size = whole_pages(segment.memory_size);
                         if (segment.physical % page_size != 0 || !within(ranges, segment.physical, size)) {
                             return false;
                         }
                         segments.push_back({segment.contents, segment.physical, size});
                         return true;
                     });
    if (entry && *entry >= entry_limit) {
        return std::unexpected("the kernel's entry lies outside of its segments");
    }
    return entry;
}

}  // namespace

Expected<KexecPlan> plan_kexec(std::span<const std::byte> boot_parameters, const LinuxFiles& files) {
    if (boot_parameters.size() != page_size) {
        return std::unexpected("boot_params are not of one page");
    }
    if (files.command_line.size() > command_line_limit) {
        return std::unexpected("the command line is longer than " + std::to_string(command_line_limit));
    }
    const std::vector<Range> ranges = usable_ranges(boot_parameters);
    if (!within(ranges, low_address, low_size)) {
        return std::unexpected("this machine's memory is not usable at 64 KB");
    }
    KexecPlan plan{std::vector<std::byte>(low_size), {}, low_address + code_page};
    const std::span low{plan.low};
    plan.segments.push_back({low, low_address, low_size});
    const auto kernel = add_kernel(files.kernel, ranges, plan.segments);
    if (!kernel) {
        return std::unexpected(kernel.error());
    }
    const std::uint64_t size = whole_pages(files.initramfs.size());
    const auto place = highest_place(ranges, size);
    const bool free = place && std::ranges::all_of(plan.segments, [&](const KexecSegment& segment) {
                          return *place >= segment.address + segment.size || *place + size <= segment.address;
                      });
    if (!free) {
        return std::unexpected("kernel and initramfs do not fit into this machine's memory");
    }
    if (size != 0) {
        plan.segments.push_back({files.initramfs, *place, size});
    }
    std::ranges::copy(boot_parameters, plan.low.begin());
    put(low, offset::command_line, static_cast<std::uint32_t>(low_address + command_line_page));
    put(low, offset::ramdisk, static_cast<std::uint32_t>(size == 0 ? 0 : *place));
    put(low, offset::ramdisk_size, static_cast<std::uint32_t>(files.initramfs.size()));
    // What the loader of the Linux that runs added to the header was in memory that is now in use.
    put(low, offset::setup_data, std::uint64_t{0});
    std::memcpy(low.subspan(command_line_page).data(), files.command_line.data(), files.command_line.size());
    write_code(low.subspan(code_page), static_cast<std::uint32_t>(low_address),
               static_cast<std::uint32_t>(*kernel));
    return plan;
}

}  // namespace flatback::guests
