// Segments near the legal, and their limits near an operand.
#include "guests/bare/l1/outcome.hpp"
#include "guests/random/code.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/fields.hpp"
#include "guests/random/log.hpp"
#include "guests/random/narrow_parts.hpp"
#include "vmx/field.hpp"

namespace flatback::guests {
namespace {

enum Instruction : std::uint8_t { vmptrst, vmptrld, vmread, vmwrite };
constexpr unsigned instructions = 4;

constexpr std::uint8_t prefixes[] = {0x26, 0x64, 0x65, 0x3E};
constexpr std::uint8_t loads[] = {0xC0, 0xE0, 0xE8, 0xD8};  // ModRM of MOV Sreg, AX

// Where POP leaves the flags: in the script that is running.
std::uint32_t flags_after;

std::uint64_t draw_descriptor(Random& random, std::uint32_t offset) {
    constexpr std::uint64_t present = 1ULL << 47;
    constexpr std::uint64_t code_or_data = 1ULL << 44;
    constexpr std::uint64_t big = 1ULL << 54;
    constexpr std::uint64_t granularity = 1ULL << 55;
    const std::uint64_t type =
        random.number({3ULL, 3ULL, 3ULL, 1ULL, 5ULL, 7ULL, 7ULL, 9ULL, 0xBULL, 0xFULL});
    std::uint64_t bits = type << 40 | code_or_data | present | big;
    if (random.one_in(16)) bits ^= random.number({present, code_or_data, 3ULL << 45});
    if (random.one_in(6)) bits ^= big;
    if (random.one_in(8)) bits |= 3ULL << 45;
    std::uint64_t limit = offset + random.number({0ULL, 3ULL, 6ULL, 7ULL, 8ULL, 0x100ULL}) - random.below(2);
    if (random.one_in(3)) {
        bits |= granularity;
        limit = random.one_in(2) ? limit >> 12 : 0xFFFFF;
    }
    return bits | (limit & 0xFFFF) | (limit >> 16 & 0xF) << 48;
}

}  // namespace

NarrowOperand draw_narrow_operand(Random& random) {
    NarrowOperand operand{};
    operand.base_below = static_cast<std::uint32_t>(
        random.number({0ULL, 4ULL, 0xFF8ULL, 0x12344ULL, 0xFFFFULL, 0xFFFFF000ULL, 0xFFFFFFFCULL}));
    operand.descriptor = draw_descriptor(random, operand.base_below);
    operand.selector = selector::drawn | (random.one_in(8) ? 3U : 0U);
    // A null selector may be loaded; an access through it is #GP(0).
    if (random.one_in(16)) operand.selector = 0;
    operand.instruction = static_cast<std::uint32_t>(random.below(instructions));
    operand.segment = static_cast<std::uint32_t>(random.below(4));
    if (operand.instruction < vmread) return operand;
    std::uint64_t encoding = 0;
    do {
        encoding = draw_field(random, operand.instruction == vmwrite);
    } while (!vmx::is_well_formed(encoding) || vmx::width(encoding) == vmx::FieldWidth::bits16);
    operand.encoding = static_cast<std::uint32_t>(encoding);
    if (operand.instruction == vmwrite) operand.written = operand.encoding;
    return operand;
}

std::uint32_t write_narrow_code(const NarrowOperand& operand, std::uint32_t linear) {
    const std::uint64_t base = linear - operand.base_below;
    set_drawn_descriptor(operand.descriptor | (base & 0xFFFFFF) << 16 | (base >> 24 & 0xFF) << 56);
    const std::uint8_t prefix = prefixes[operand.segment];
    const auto place = static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(&flags_after));
    flags_after = 0;
    Emitter code{code_memory(), code_size};
    code.with_immediate({0xB8}, operand.selector, 4);      // mov eax, selector
    code.bytes({0x8E, loads[operand.segment]});            // mov segment, ax
    code.with_immediate({0xB8}, operand.base_below, 4);    // mov eax, offset
    code.with_immediate({0xBA}, operand.encoding, 4);      // mov edx, field
    code.with_immediate({0x68}, 2 | arithmetic_flags, 4);  // push; popf
    code.bytes({0x9D});
    switch (operand.instruction) {
        case vmptrst:
            code.bytes({prefix, 0x0F, 0xC7, 0x38});
            break;
        case vmptrld:
            code.bytes({prefix, 0x0F, 0xC7, 0x30});
            break;
        case vmread:
            code.bytes({prefix, 0x0F, 0x78, 0x10});
            break;
        default:
            code.bytes({prefix, 0x0F, 0x79, 0x10});
    }
    code.bytes({0x9C});
    code.with_immediate({0x36, 0x8F, 0x05}, place, 4);  // pop ss:[flags_after]
    code.bytes({0xC3});
    return static_cast<std::uint32_t>(reinterpret_cast<std::uint64_t>(code_memory()));
}

void put_narrow_operand(const NarrowOperand& operand, const NarrowScript& script, std::uint64_t memory) {
    Line line;
    line << "  operand";
    put(line, "instruction", operand.instruction);
    put(line, "segment", operand.segment);
    put(line, "selector", operand.selector);
    put(line, "descriptor", operand.descriptor);
    put(line, "at", operand.base_below);
    if (script.vector == NarrowScript::no_exception) {
        put(line, "flags", flags_after & arithmetic_flags);
    } else {
        put(line, "vector", script.vector);
        put(line, "error", script.error);
        put(line, "offset", script.offset);
    }
    if (operand.encoding != 0) put(line, "field", operand.encoding);
    put(line, "memory", memory);
    log_line(line);
}

}  // namespace flatback::guests
