#include "guests/linux/processor_table.hpp"

#include <array>
#include <cstring>
#include <numeric>

#include "formats/bytes.hpp"

namespace flatback::guests {
namespace {

using formats::put;

struct [[gnu::packed]] FloatingPointer {
    std::array<char, 4> signature{'_', 'M', 'P', '_'};
    std::uint32_t table = 0;
    std::uint8_t paragraphs = 1;
    std::uint8_t revision = 4;
    std::uint8_t checksum = 0;
    std::array<std::uint8_t, 5> features{};  // no default configuration; virtual wire mode
};
static_assert(sizeof(FloatingPointer) == 16);

struct [[gnu::packed]] Header {
    std::array<char, 4> signature{'P', 'C', 'M', 'P'};
    std::uint16_t length = 0;
    std::uint8_t revision = 4;
    std::uint8_t checksum = 0;
    std::array<char, 8> manufacturer{'F', 'L', 'A', 'T', 'B', 'A', 'C', 'K'};
    std::array<char, 12> product{'L', '2', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
    std::uint32_t oem_table = 0;
    std::uint16_t oem_table_size = 0;
    std::uint16_t entries = 0;
    std::uint32_t local_apic = 0xFEE0'0000;
    std::uint16_t extended_length = 0;
    std::uint8_t extended_checksum = 0;
    std::uint8_t reserved = 0;
};
static_assert(sizeof(Header) == 44);

struct [[gnu::packed]] Processor {
    std::uint8_t type = 0;
    std::uint8_t apic_id = 0;
    std::uint8_t apic_version = 0x14;
    std::uint8_t flags = 0;
    std::uint32_t signature = 0;
    std::uint32_t features = 0x201;  // an FPU, a local APIC
    std::array<std::uint32_t, 2> reserved{};
};
static_assert(sizeof(Processor) == 20);
constexpr std::uint8_t is_enabled = 1;
constexpr std::uint8_t is_first = 2;

struct [[gnu::packed]] Bus {
    std::uint8_t type = 1;
    std::uint8_t number = 0;
    std::array<char, 6> name{'I', 'S', 'A', ' ', ' ', ' '};
};
static_assert(sizeof(Bus) == 8);

static_assert(sizeof(FloatingPointer) + sizeof(Header) + most_l2_processors * sizeof(Processor) +
                  sizeof(Bus) <=
              processor_table_limit);

/// What makes the sum of the bytes 0.
[[nodiscard]] std::uint8_t complement(std::span<const std::byte> bytes) {
    const auto sum = std::accumulate(bytes.begin(), bytes.end(), 0U, [](unsigned so_far, std::byte byte) {
        return so_far + static_cast<unsigned>(byte);
    });
    return static_cast<std::uint8_t>(0x100 - (sum & 0xFF));
}

}  // namespace

void write_processor_table(std::span<std::byte> memory, unsigned processors) {
    constexpr std::uint64_t table = processor_table_address + sizeof(FloatingPointer);
    std::uint64_t at = table + sizeof(Header);
    for (unsigned number = 0; number < processors; ++number) {
        Processor entry;
        entry.apic_id = static_cast<std::uint8_t>(number);
        entry.flags = number == 0 ? is_enabled | is_first : is_enabled;
        put(memory, at, entry);
        at += sizeof entry;
    }
    put(memory, at, Bus{});
    at += sizeof(Bus);

    Header header;
    header.entries = static_cast<std::uint16_t>(processors + 1);
    header.length = static_cast<std::uint16_t>(at - table);
    put(memory, table, header);
    header.checksum = complement(memory.subspan(table, header.length));
    put(memory, table, header);

    FloatingPointer pointer;
    pointer.table = static_cast<std::uint32_t>(table);
    put(memory, processor_table_address, pointer);
    pointer.checksum = complement(memory.subspan(processor_table_address, sizeof pointer));
    put(memory, processor_table_address, pointer);
}

}  // namespace flatback::guests
