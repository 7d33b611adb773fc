#include "watch/trace_line.hpp"

#include <algorithm>

namespace flatback::watch {
namespace {

constexpr std::uint8_t no_digit = 0xFF;

constexpr std::array<std::uint8_t, 256> digit_values = [] {
    std::array<std::uint8_t, 256> values{};
    values.fill(no_digit);
    for (unsigned digit = 0; digit < 10; ++digit) values['0' + digit] = static_cast<std::uint8_t>(digit);
    for (unsigned digit = 10; digit < 16; ++digit) {
        values['a' + digit - 10] = static_cast<std::uint8_t>(digit);
        values['A' + digit - 10] = static_cast<std::uint8_t>(digit);
    }
    return values;
}();

/// What is left of a line; a step that does not fit fails, and so does every one after it.
class Cursor {
public:
    explicit Cursor(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

    [[nodiscard]] bool good() const { return good_; }
    [[nodiscard]] std::string_view rest() const { return {at_, static_cast<std::size_t>(end_ - at_)}; }

    [[nodiscard]] bool takes(std::string_view word) {
        if (!rest().starts_with(word)) return false;
        at_ += word.size();
        return true;
    }
    void expect(std::string_view word) { good_ = good_ && takes(word); }

    [[nodiscard]] std::uint64_t decimal() {
        std::uint64_t value = 0;
        const char* const begin = at_;
        for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
            value = value * 10 + static_cast<std::uint64_t>(*at_ - '0');
        }
        good_ = good_ && at_ != begin && at_ - begin <= 19;
        return value;
    }

    /// Without a prefix. `digits`: how many there were, 1 to 16.
    [[nodiscard]] std::uint64_t hexadecimal(unsigned& digits) {
        std::uint64_t value = 0;
        const char* const begin = at_;
        for (; at_ != end_; ++at_) {
            const std::uint8_t digit = digit_values[static_cast<unsigned char>(*at_)];
            if (digit == no_digit) break;
            value = value << 4 | digit;
        }
        const auto count = static_cast<std::size_t>(at_ - begin);
        good_ = good_ && count >= 1 && count <= 16;
        digits = static_cast<unsigned>(std::min<std::size_t>(count, 17));
        return value;
    }
    [[nodiscard]] std::uint64_t prefixed() {
        unsigned digits = 0;
        expect("0x");
        return hexadecimal(digits);
    }

private:
    const char* at_;
    const char* end_;
    bool good_ = true;
};

Operation operation_of(std::string_view text) {
    struct Word {
        std::string_view begin;
        Operation operation;
    };
    constexpr std::array<Word, 9> words{{
        {"vmlaunch", Operation::vm_entry},
        {"vmresume", Operation::vm_entry},
        {"mov cr0, ", Operation::mov_to_cr0},
        {"mov cr3, ", Operation::mov_to_cr3},
        {"mov cr4, ", Operation::mov_to_cr4},
        {"invlpg ", Operation::invlpg},
        {"invpcid ", Operation::invpcid},
        {"invvpid ", Operation::invvpid},
        {"invept ", Operation::invept},
    }};
    if (text.empty() || (text[0] != 'v' && text[0] != 'm' && text[0] != 'i')) return Operation::none;
    for (const Word& word : words) {
        if (text.starts_with(word.begin)) return word.operation;
    }
    return Operation::none;
}

// (0).[306439055] [0x000000200109] 0008:0000000000200109 (unk. ctxt): vmresume ; 0f01c3
bool read_instruction(std::string_view text, TraceLine& line) {
    Cursor cursor{text};
    TracedInstruction& instruction = line.instruction;
    cursor.expect("(");
    line.processor = static_cast<unsigned>(cursor.decimal());
    cursor.expect(").[");
    instruction.tick = cursor.decimal();
    if (cursor.good() && cursor.rest().starts_with("] ???")) {
        instruction.physical = instruction.instruction_pointer = 0;
        instruction.in_64_bit_mode = false;
        instruction.text = {};
        instruction.operation = Operation::hidden;
        return true;
    }
    cursor.expect("] [");
    instruction.physical = cursor.prefixed();
    cursor.expect("] ");
    unsigned digits = 0;
    static_cast<void>(cursor.hexadecimal(digits));  // CS
    cursor.expect(":");
    instruction.instruction_pointer = cursor.hexadecimal(digits);
    instruction.in_64_bit_mode = digits == 16;
    cursor.expect(" (");
    if (!cursor.good()) return false;
    // Between the parentheses may stand a symbol of the debugger's.
    constexpr std::string_view end_of_symbol = "): ";
    const std::size_t end = cursor.rest().find(end_of_symbol);
    if (end == std::string_view::npos) return false;
    instruction.text = cursor.rest().substr(end + end_of_symbol.size());
    instruction.operation = operation_of(instruction.text);
    return true;
}

bool read_target(std::string_view name, TracedAccess& access) {
    access.target = Target::page_structure;
    if (name.starts_with("EPT ")) {
        access.target = Target::ept_structure;
        name.remove_prefix(4);
    }
    if (name == "PML4E") {
        access.level = 4;
    } else if (name == "PDPTE") {
        access.level = 3;
    } else if (name == "PDE") {
        access.level = 2;
    } else if (name == "PTE") {
        access.level = 1;
    } else {
        access.target = name == "VMCS" ? Target::vmcs : Target::other;
        access.level = 0;
    }
    return true;
}

// [CPU0 RD]: LIN 0x0000000000217000 PHY 0x000000217000 (len=8, WB): 0x00000000 0x00000003
// [CPU0 RD]: PHY 0x00000021d478 (len=8, INVALID): 0x00000000 0x0021C01E	; VMCS
bool read_access(std::string_view text, TraceLine& line) {
    Cursor cursor{text};
    TracedAccess& access = line.access;
    cursor.expect("[CPU");
    line.processor = static_cast<unsigned>(cursor.decimal());
    if (cursor.takes(" RD]: ")) {
        access.direction = Direction::read;
    } else if (cursor.takes(" WR]: ")) {
        access.direction = Direction::write;
    } else if (cursor.takes(" RW]: ")) {
        access.direction = Direction::read_and_write;
    } else {
        return false;
    }
    access.has_linear = cursor.takes("LIN ");
    if (access.has_linear) {
        access.linear = cursor.prefixed();
        cursor.expect(" ");
    }
    cursor.expect("PHY ");
    access.physical = cursor.prefixed();
    cursor.expect(" (len=");
    const std::uint64_t length = cursor.decimal();
    cursor.expect(", ");
    if (!cursor.good() || length == 0 || length > 64) return false;
    access.length = static_cast<std::uint8_t>(length);
    // The memory type in between is a word.
    constexpr std::string_view end_of_type = "): ";
    const std::size_t end = cursor.rest().find(end_of_type);
    if (end == std::string_view::npos) return false;
    cursor = Cursor{cursor.rest().substr(end + end_of_type.size())};

    // Words of at most 32 bits, the highest first.
    const unsigned words = length <= 4 ? 1 : static_cast<unsigned>(length / 4);
    if (length > 4 && length % 4 != 0) return false;
    const unsigned digits_of_word = length < 4 ? 2 * static_cast<unsigned>(length) : 8;
    for (std::size_t index = 0; index < (words + 1) / 2; ++index) access.value[index] = 0;
    for (unsigned word = words; word-- != 0;) {
        unsigned digits = 0;
        cursor.expect("0x");
        const std::uint64_t value = cursor.hexadecimal(digits);
        // Fewer: the line has been cut off.
        if (!cursor.good() || digits != digits_of_word) return false;
        access.value[word / 2] |= value << (word % 2 * 32);
        if (word != 0) cursor.expect(" ");
    }
    if (!cursor.good()) return false;
    if (cursor.rest().empty()) {
        access.target = Target::memory;
        access.level = 0;
        return true;
    }
    cursor.expect("\t; ");
    return cursor.good() && read_target(cursor.rest(), access);
}

}  // namespace

void read_line(std::string_view text, TraceLine& line) {
    line.kind = TraceLine::Kind::other;
    if (text.empty()) return;
    if (text[0] == '[') {
        if (read_access(text, line)) line.kind = TraceLine::Kind::access;
    } else if (text[0] == '(') {
        if (read_instruction(text, line)) line.kind = TraceLine::Kind::instruction;
    }
}

}  // namespace flatback::watch
