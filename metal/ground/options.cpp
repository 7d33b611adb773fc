#include "metal/ground/options.hpp"

namespace flatback::metal {
namespace {

constexpr std::string_view processors_word = "cpus=";

// False if the word is not one of valid_options.
bool apply(std::string_view word, Options& options) {
    if (word == "nested-vpid=mapped") {
        options.nested_vpid = NestedVpid::mapped;
    } else if (word == "nested-vpid=single") {
        options.nested_vpid = NestedVpid::single;
    } else if (word == "nested-vpid=off") {
        options.nested_vpid = NestedVpid::off;
    } else if (word == "shadow-vmcs=on") {
        options.shadow_vmcs = true;
    } else if (word == "shadow-vmcs=off") {
        options.shadow_vmcs = false;
    } else if (word == "hypervisor=on") {
        options.hypervisor = true;
    } else if (word == "hypervisor=off") {
        options.hypervisor = false;
    } else if (word == "vpid=on") {
        options.vpid = true;
    } else if (word == "vpid=off") {
        options.vpid = false;
    } else if (word == "huge-pages=on") {
        options.huge_pages = true;
    } else if (word == "huge-pages=off") {
        options.huge_pages = false;
    } else if (word.starts_with(processors_word) &&
               interface::number_in(word.substr(processors_word.size())) != 0) {
        options.processors = interface::number_in(word.substr(processors_word.size()));
    } else if (word == "vm2=on") {
        options.second_vm = true;
    } else if (word == "vm2=off") {
        options.second_vm = false;
    } else if (word == "demands=on") {
        options.demands = true;
    } else if (word == "demands=off") {
        options.demands = false;
    } else if (word == "x2apic=on") {
        options.x2apic = true;
    } else if (word == "x2apic=off") {
        options.x2apic = false;
    } else if (word == "apicv=on") {
        options.apicv = true;
    } else if (word == "apicv=off") {
        options.apicv = false;
    } else if (word == "hlt-state=on") {
        options.hlt_state = true;
    } else if (word == "hlt-state=off") {
        options.hlt_state = false;
    } else if (word == "uefi-runtime=on") {
        options.uefi_runtime = true;
    } else if (word == "uefi-runtime=off") {
        options.uefi_runtime = false;
    } else if (word == "trace=on") {
        options.trace = true;
    } else if (word == "trace=off") {
        options.trace = false;
    } else if (word == "log=quiet") {
        options.log = LogLevel::quiet;
    } else if (word == "log=info") {
        options.log = LogLevel::info;
    } else if (word == "log=debug") {
        options.log = LogLevel::debug;
    } else if (word == "console=serial") {
        options.console = Console::serial;
    } else if (word == "console=screen") {
        options.console = Console::screen;
    } else if (word == "console=both") {
        options.console = Console::both;
    } else if (word == "console=quiet") {
        options.console = Console::quiet;
    } else {
        return false;
    }
    return true;
}

}  // namespace

std::expected<Options, OptionError> parse_options(std::string_view command_line) {
    constexpr std::string_view blanks = " \t\r\n";
    Options options;
    while (true) {
        const std::size_t start = command_line.find_first_not_of(blanks);
        if (start == std::string_view::npos) return options;
        command_line.remove_prefix(start);
        const std::string_view word = command_line.substr(0, command_line.find_first_of(blanks));
        if (!apply(word, options)) return std::unexpected(OptionError{word});
        command_line.remove_prefix(word.size());
    }
}

}  // namespace flatback::metal
