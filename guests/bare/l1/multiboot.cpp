#include "guests/bare/l1/multiboot.hpp"

namespace flatback::guests {

constinit MultibootInformation boot_information{0};

std::string_view MultibootInformation::command_line() const {
    if ((word(0) & command_line_flag) == 0) return {};
    return reinterpret_cast<const char*>(std::uint64_t{word(command_line_address)});
}

}  // namespace flatback::guests
