#include "guests/random/promise.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/random/options.hpp"

namespace flatback::guests {
namespace {

template <typename Visit>
void each(Capabilities& all, Visit visit) {
    for (vmx::ControlCapability* control : {&all.pin, &all.primary, &all.secondary, &all.exit, &all.entry}) {
        visit(control->allowed0);
        visit(control->allowed1);
    }
    for (std::uint64_t* value :
         {&all.misc, &all.ept_vpid, &all.cr0_fixed0, &all.cr0_fixed1, &all.cr4_fixed0, &all.cr4_fixed1})
        visit(*value);
}

}  // namespace

void put_promise(Line& line) {
    std::string_view separator;
    each(capabilities, [&line, &separator](const auto& value) {
        line << separator;
        separator = ",";
        constexpr std::string_view digits = "0123456789abcdef";
        for (unsigned shift = 64; shift > 0; shift -= 4) {
            const std::uint64_t rest = std::uint64_t{value} >> (shift - 4);
            if (rest != 0 || shift == 4) line << std::string_view{&digits[rest & 15], 1};
        }
    });
}

void take_promise(std::string_view text) {
    each(capabilities, [&text](auto& value) {
        value = static_cast<std::remove_reference_t<decltype(value)>>(take_hexadecimal(text));
    });
}

}  // namespace flatback::guests
