#include "metal/load/segments.hpp"

#include <cstring>

namespace flatback::metal {

std::expected<void, BootError> claim_segments(Placement& placement, const ElfImage& image) {
    for (const ElfSegment& segment : image.segments.items()) {
        if (auto claimed = placement.claim(segment.memory); !claimed) return claimed;
    }
    return {};
}

void copy_segments(const Placement& placement, const ElfImage& image, Bytes file) {
    for (const ElfSegment& segment : image.segments.items()) {
        const std::span<std::byte> memory = placement.bytes(segment.memory);
        copy_bytes(memory.data(), file.data() + segment.file_offset, segment.file_size);
        const auto rest = memory.subspan(segment.file_size);
        if (!rest.empty()) std::memset(rest.data(), 0, rest.size());
    }
}

}  // namespace flatback::metal
