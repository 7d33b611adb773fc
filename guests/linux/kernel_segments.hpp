#pragma once

#include <cstdint>
#include <expected>

#include "formats/bytes.hpp"
#include "formats/elf.hpp"
#include "guests/linux/failure.hpp"

namespace flatback::guests {

/// What an uncompressed kernel's file has for a place in memory; what is beyond `contents` is zero.
struct KernelSegment {
    formats::Bytes contents;
    std::uint64_t physical;
    std::uint64_t memory_size;  ///< at least that of the contents
};

/// Calls `place` with each segment of an ELF64 vmlinux, in the file's order: whether it has its place. The
/// result is the kernel's physical entry. `no_place`: the error of a segment that has none, or that is larger
/// in the file than in memory.
template <typename Place>
[[nodiscard]] Expected<std::uint64_t> place_kernel(formats::Bytes file, const char* no_place, Place&& place) {
    namespace elf = formats::elf;
    const auto header = elf::read_header(file);
    if (!header || !header->is_for_x86() || !header->is_64_bit()) {
        return std::unexpected("the kernel is no ELF64 file for x86-64 (an uncompressed vmlinux)");
    }
    std::uint64_t entry = 0;
    for (std::uint64_t i = 0; i < header->segments.count; ++i) {
        const auto segment = elf::read_segment(file, *header, i);
        if (!segment) {
            return std::unexpected("the kernel's file is cut short");
        }
        if (segment->type != elf::segment_load) {
            continue;
        }
        const auto contents = formats::slice(file, segment->offset, segment->file_size);
        if (!contents) {
            return std::unexpected("the kernel's file is cut short");
        }
        if (segment->file_size > segment->memory_size ||
            !place(KernelSegment{*contents, segment->physical, segment->memory_size})) {
            return std::unexpected(no_place);
        }
        // The entry is linear in some kernels' files, physical in Linux's own.
        if (header->entry - segment->linear < segment->memory_size) {
            entry = header->entry - segment->linear + segment->physical;
        } else if (header->entry - segment->physical < segment->memory_size) {
            entry = header->entry;
        }
    }
    if (entry == 0) {
        return std::unexpected("the kernel's entry lies outside of its segments");
    }
    return entry;
}

}  // namespace flatback::guests
