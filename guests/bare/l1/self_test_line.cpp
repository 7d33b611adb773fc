#include "guests/bare/l1/self_test_line.hpp"

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/serial.hpp"

namespace flatback::guests {

constinit SelfTestResults self_test_results{};

namespace {

constexpr std::string_view own_prefix = "bare_l1.";

constexpr std::string_view version = FLATBACK_VERSION;

constexpr bool is_letter_or_digit(char character) {
    return (character >= '0' && character <= '9') || (character >= 'A' && character <= 'Z');
}
constexpr char upper(char character) {
    return character >= 'a' && character <= 'z' ? static_cast<char>(character - 'a' + 'A') : character;
}

// The characters of registers, from the lowest byte.
template <std::size_t Count>
std::array<char, Count * 4> characters_of(const std::array<std::uint32_t, Count>& words) {
    std::array<char, Count * 4> text{};
    for (std::size_t i = 0; i < text.size(); ++i)
        text[i] = static_cast<char>(words[i / 4] >> (i % 4 * 8) & 0xFF);
    return text;
}

}  // namespace

void SelfTestResults::keep_value(std::string_view name, std::uint64_t number) {
    if (!name.starts_with(own_prefix)) return;
    name.remove_prefix(own_prefix.size());
    for (std::size_t i = 0; i < values_.size(); ++i) {
        if (interface::self_test_values[i] != name) continue;
        values_[i] = {number, true};
        measured_ = true;
    }
}

void SelfTestResults::add(char character) {
    if (size_ < text_.size()) text_[size_++] = character;
}

void SelfTestResults::add(std::string_view text) {
    for (const char character : text) add(character);
}

void SelfTestResults::add_number(std::uint64_t number) {
    std::array<char, interface::self_test_most_digits> digits{};
    std::size_t first = digits.size();
    do {
        digits[--first] = static_cast<char>('0' + number % 10);
        number /= 10;
    } while (number != 0 && first != 0);
    add(std::string_view{digits.data() + first, digits.size() - first});
}

// CPUID leaves 80000002H to 80000004H; of what is no letter or digit, one '-' each.
void SelfTestResults::add_name_of_processor() {
    constexpr std::uint32_t first_leaf = 0x80000002;
    constexpr std::uint32_t last_leaf = 0x80000004;
    if (cpuid(0x80000000).eax < last_leaf) return add("UNKNOWN");
    bool gap = false;
    bool any = false;
    for (std::uint32_t leaf = first_leaf; leaf <= last_leaf; ++leaf) {
        const CpuidResult part = cpuid(leaf);
        for (const char character : characters_of<4>({part.eax, part.ebx, part.ecx, part.edx})) {
            const char shown = upper(character);
            if (!is_letter_or_digit(shown)) {
                gap = any;
                continue;
            }
            if (gap) add('-');
            add(shown);
            gap = false;
            any = true;
        }
    }
    if (!any) add("UNKNOWN");
}

std::string_view SelfTestResults::make_line() {
    if (!measured_) return {};
    constexpr std::string_view hexadecimal = "0123456789ABCDEF";
    const auto add_hexadecimal = [&](std::uint32_t number, unsigned digits) {
        for (unsigned at = digits; at-- > 0;) add(hexadecimal[number >> (4 * at) & 15]);
    };
    size_ = 0;
    add(interface::self_test_mark);
    add('/');
    add(version);
    add('/');
    const CpuidResult features = cpuid(1);
    add_hexadecimal(features.eax, 8);
    add('/');
    add_name_of_processor();
    add('/');
    bool under = false;
    if ((features.ecx >> 31) != 0) {
        const CpuidResult hypervisor = cpuid(0x40000000);
        for (const char character : characters_of<3>({hypervisor.ebx, hypervisor.ecx, hypervisor.edx})) {
            if (!is_letter_or_digit(upper(character))) continue;
            add(upper(character));
            under = true;
        }
    }
    if (!under) add("NOTHING");
    add('/');
    add_number(passed_);
    add('.');
    add_number(failed_);
    add('/');
    for (std::size_t i = 0; i < values_.size(); ++i) {
        if (i != 0) add('.');
        if (values_[i].measured) {
            add_number(values_[i].number);
        } else {
            add('-');
        }
    }
    const std::uint32_t checksum = interface::self_test_checksum({text_.data(), size_});
    add('/');
    add_hexadecimal(checksum, 8);
    return {text_.data(), size_};
}

void keep_for_self_test(RecordKind kind, std::string_view name, std::string_view, std::uint64_t number) {
    if (kind == RecordKind::value) self_test_results.keep_value(name, number);
    if (kind == RecordKind::pass || kind == RecordKind::fail)
        self_test_results.keep_check(kind == RecordKind::pass);
}

// Longer than a Line holds.
void report_self_test() {
    const std::string_view line = self_test_results.make_line();
    if (line.empty()) return;
    for (const std::string_view part : {std::string_view{"FLATBACK text self_test.line "}, line})
        for (const char character : part) write_serial(character);
    write_serial('\n');
}

}  // namespace flatback::guests
