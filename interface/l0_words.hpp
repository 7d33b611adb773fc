// The words of L0's command line, NAME=VALUE: L0 refuses others when it boots, the tools before. N is a
// number.
#pragma once

#include <cstddef>
#include <string_view>

namespace flatback::interface {

inline constexpr std::string_view l0_words =
    "nested-vpid=mapped|single|off shadow-vmcs=on|off hypervisor=on|off vpid=on|off huge-pages=on|off "
    "cpus=N vm2=on|off demands=on|off x2apic=on|off apicv=on|off hlt-state=on|off uefi-runtime=on|off "
    "trace=on|off log=quiet|info|debug console=serial|screen|both|quiet";

// 1 to 9,999; 0: `text` is no such number.
[[nodiscard]] constexpr unsigned number_in(std::string_view text) {
    constexpr std::size_t most_digits = 4;
    unsigned number = 0;
    if (text.size() > most_digits) return 0;
    for (const char digit : text) {
        if (digit < '0' || digit > '9') return 0;
        number = number * 10 + static_cast<unsigned>(digit - '0');
    }
    return number;
}

// Whether `word` is one of them.
[[nodiscard]] constexpr bool is_l0_word(std::string_view word) {
    const std::size_t equals = word.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string_view value = word.substr(equals + 1);
    for (std::string_view rest = l0_words; !rest.empty();) {
        const std::string_view option = rest.substr(0, rest.find(' '));
        rest.remove_prefix(option.size());
        if (!rest.empty()) rest.remove_prefix(1);
        if (option.substr(0, option.find('=') + 1) != word.substr(0, equals + 1)) continue;
        for (std::string_view values = option.substr(equals + 1);;) {
            const std::size_t bar = values.find('|');
            if (values == "N") return number_in(value) != 0;
            if (values.substr(0, bar) == value) return true;
            if (bar == std::string_view::npos) return false;
            values.remove_prefix(bar + 1);
        }
    }
    return false;
}

static_assert(is_l0_word("cpus=2") && !is_l0_word("cpus=N") && !is_l0_word("cpus=0") && !is_l0_word("cpus="));
static_assert(is_l0_word("log=debug") && is_l0_word("nested-vpid=mapped") && !is_l0_word("log=") &&
              !is_l0_word("log=quiet|info") && !is_l0_word("log") && !is_l0_word("=on") && !is_l0_word(""));

}  // namespace flatback::interface
