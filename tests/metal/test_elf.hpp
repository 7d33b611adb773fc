// ELF files for tests.
#pragma once

#include <vector>

#include "test_bytes.hpp"

namespace flatback::metal {

struct TestSegment {
    std::uint64_t physical;
    Bytes contents;
    std::uint64_t memory_size;
    std::uint64_t linear = 0;
    std::uint32_t type = 1;
};

// The program headers follow the file's header; contents lie from offset 0x1000 on, a page each at least.
inline TestBytes make_elf64(std::uint64_t entry, const std::vector<TestSegment>& segments) {
    TestBytes elf(0x1000);
    elf.put<std::uint32_t>(0, 0x464C457F);
    elf.put<std::uint8_t>(4, 2);
    elf.put<std::uint8_t>(5, 1);
    elf.put<std::uint16_t>(16, 2);
    elf.put<std::uint16_t>(18, 62);
    elf.put<std::uint64_t>(24, entry);
    elf.put<std::uint64_t>(32, 64);
    elf.put<std::uint16_t>(54, 56);
    elf.put<std::uint16_t>(56, static_cast<std::uint16_t>(segments.size()));
    std::size_t header = 64;
    for (const TestSegment& segment : segments) {
        elf.pad_to(0x1000);
        elf.put<std::uint32_t>(header, segment.type);
        elf.put<std::uint64_t>(header + 8, elf.size());
        elf.put<std::uint64_t>(header + 16, segment.linear);
        elf.put<std::uint64_t>(header + 24, segment.physical);
        elf.put<std::uint64_t>(header + 32, segment.contents.size());
        elf.put<std::uint64_t>(header + 40, segment.memory_size);
        for (const std::byte byte : segment.contents) elf.append(byte);
        header += 56;
    }
    return elf;
}

inline TestBytes make_elf32(std::uint32_t entry, const std::vector<TestSegment>& segments) {
    TestBytes elf(0x1000);
    elf.put<std::uint32_t>(0, 0x464C457F);
    elf.put<std::uint8_t>(4, 1);
    elf.put<std::uint8_t>(5, 1);
    elf.put<std::uint16_t>(16, 2);
    elf.put<std::uint16_t>(18, 3);
    elf.put<std::uint32_t>(24, entry);
    elf.put<std::uint32_t>(28, 52);
    elf.put<std::uint16_t>(42, 32);
    elf.put<std::uint16_t>(44, static_cast<std::uint16_t>(segments.size()));
    std::size_t header = 52;
    for (const TestSegment& segment : segments) {
        elf.pad_to(0x1000);
        elf.put<std::uint32_t>(header, segment.type);
        elf.put<std::uint32_t>(header + 4, static_cast<std::uint32_t>(elf.size()));
        elf.put<std::uint32_t>(header + 8, static_cast<std::uint32_t>(segment.linear));
        elf.put<std::uint32_t>(header + 12, static_cast<std::uint32_t>(segment.physical));
        elf.put<std::uint32_t>(header + 16, static_cast<std::uint32_t>(segment.contents.size()));
        elf.put<std::uint32_t>(header + 20, static_cast<std::uint32_t>(segment.memory_size));
        for (const std::byte byte : segment.contents) elf.append(byte);
        header += 32;
    }
    return elf;
}

}  // namespace flatback::metal
