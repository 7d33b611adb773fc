#include "tools/emulator/location.hpp"

#include <fmt/format.h>

#include "tools/emulator/elf_symbols.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/printable.hpp"

namespace flatback::tools {
namespace {

struct Running {
    std::string who;
    std::optional<std::string> symbol;
};

Running who_runs(const ProcessorState& state, const Programs& programs) {
    const std::uint64_t address = state.instruction_pointer;
    if (!state.in_vmx_guest) {
        if (programs.l0) {
            if (auto symbol = symbol_in_file(*programs.l0, address)) return {"L0", std::move(symbol)};
        }
        auto symbol = symbol_in_file(programs.l1, address);
        return {symbol ? "L1" : "L1, or the firmware or boot loader before it,", std::move(symbol)};
    }
    if (!programs.l0) return {"a guest of L1's", {}};
    if (!programs.vmcs01 || !programs.current_vmcs) return {"L1 or a guest of L1's", {}};
    if (*programs.vmcs01 != *programs.current_vmcs) return {"a guest of L1's", {}};
    return {"L1", symbol_in_file(programs.l1, address)};
}

}  // namespace

std::optional<std::string> symbol_in_file(const std::filesystem::path& file, std::uint64_t address) {
    const auto bytes = read_file(file);
    const auto symbol = bytes ? symbol_at(*bytes, address) : std::nullopt;
    return symbol ? std::optional{printable(*symbol)} : std::nullopt;
}

std::string describe_location(const ProcessorState& state, const Programs& programs) {
    const Running running = who_runs(state, programs);
    std::string text = fmt::format("{} was running, at {} {:0{}x}", running.who, state.narrow ? "EIP" : "RIP",
                                   state.instruction_pointer, state.narrow ? 8 : 16);
    if (running.symbol) text += fmt::format(" ({})", *running.symbol);
    text += fmt::format(", {}", state.mode);
    if (state.privilege) text += fmt::format(", CPL {}", *state.privilege);
    if (state.cr3) text += fmt::format(", CR3 {:x}", *state.cr3);
    return text;
}

}  // namespace flatback::tools
