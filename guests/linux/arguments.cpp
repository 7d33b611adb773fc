#include "guests/linux/arguments.hpp"

#include <algorithm>

namespace flatback::guests {

std::expected<Arguments, std::string> parse_arguments(std::span<const std::string_view> arguments) {
    Arguments result;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string_view argument = arguments[i];
        if (argument == "--help") {
            result.action = Arguments::Action::help;
        } else if (argument == "--power-off") {
            result.action = Arguments::Action::power_off;
        } else if (argument == "--payload") {
            if (++i == arguments.size()) {
                return std::unexpected("--payload needs a name");
            }
            const auto found = std::ranges::find(all_payloads(), arguments[i], &Payload::name);
            if (found == all_payloads().end()) {
                return std::unexpected("no payload is called '" + std::string(arguments[i]) + "'");
            }
            result.payloads.push_back(found->id);
        } else {
            return std::unexpected("unknown argument '" + std::string(argument) + "'");
        }
    }
    if (result.payloads.empty()) {
        for (const Payload& each : all_payloads()) {
            result.payloads.push_back(each.id);
        }
    }
    return result;
}

std::string usage() {
    std::string text =
        "usage: l2-vmm [--payload NAME]... | --power-off | --help\n"
        "Runs the named L2 payloads (default: all) on /dev/kvm and prints their figures.\n"
        "--power-off ends the machine: Shutdown to port 0x8900, else power off.\nPayloads:";
    for (const Payload& each : all_payloads()) {
        text.append(" ").append(each.name);
    }
    return text + "\n";
}

}  // namespace flatback::guests
