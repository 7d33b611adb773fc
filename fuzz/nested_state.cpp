#include "fuzz/nested_state.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "fuzz/prologue.hpp"
#include "judge/trial/machine_port.hpp"
#include "judge/trial/nested_world.hpp"
#include "machine/error.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/field.hpp"

namespace flatback::fuzz {

using namespace machine;

namespace {

using State = std::vector<std::byte>;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

/// Each change is an offset, what to do there, and a byte.
State changed(State state, std::span<const std::uint8_t> bytes) {
    enum : std::uint8_t { set, flip, insert, erase, resize };
    constexpr std::size_t size_at = 8;
    for (; bytes.size() >= 4; bytes = bytes.subspan(4)) {
        const auto value = std::byte{bytes[3]};
        const std::size_t offset = state.empty() ? 0 : (bytes[0] | bytes[1] << 8) % state.size();
        const auto at = state.begin() + static_cast<std::ptrdiff_t>(offset);
        // A field has 12 bytes.
        constexpr std::size_t field = 12;
        switch (bytes[2] % 5) {
            case set:
                if (!state.empty()) *at = value;
                break;
            case flip:
                if (!state.empty()) *at ^= value;
                break;
            case insert:
                if (state.size() < 100'000) state.insert(at, field, value);
                break;
            case erase:
                state.erase(at, at + static_cast<std::ptrdiff_t>(std::min(field, state.size() - offset)));
                break;
            default: {
                const auto size = static_cast<std::uint32_t>(state.size());
                if (state.size() >= size_at + 4) std::memcpy(&state[size_at], &size, sizeof size);
                break;
            }
        }
    }
    return state;
}

/// The guest executes something that exits, and something else.
void run_guest(NestedWorld& world) {
    Scenario say;
    for (int turn = 0; turn < 2; ++turn)
        say.l2().load(0x4000'0000).vmcall().l1().vmread(vmx::field::exit_reason).vmresume();
    Runner runner{world};
    try {
        runner.run(say.program());
    } catch (const EngineFailure& failure) {
        // L1's host state and lists may be such that it ends.
        if (std::string_view{failure.what()}.starts_with("the engine stopped")) fail(failure.what());
    } catch (const LimitReached&) {
    }
}

}  // namespace

void run_nested_state(std::span<const std::uint8_t> bytes) {
    if (bytes.empty() || bytes.size() > 60'000) return;
    NestedWorld world{{.shadow_vmcs = (bytes[0] & 1) != 0,
                       .memory_bytes = std::uint64_t{32} << 20,
                       .entry_limit = std::size_t{1} << 14}};
    Runner{world}.run(prologue());
    const State before = world.save_state(0, 0);
    const auto rest = bytes.subspan(1);
    State state;
    for (const std::uint8_t byte : rest) state.push_back(std::byte{byte});
    if ((bytes[0] & 2) != 0) state = changed(before, rest);
    if (world.restore_state(0, 0, state)) {
        if (world.save_state(0, 0) != before) fail("a state that was refused has had an effect");
    } else {
        const State first = world.save_state(0, 0);
        if (world.restore_state(0, 0, first)) fail("a state that L0 saved is refused");
        if (world.save_state(0, 0) != first) fail("a state that L0 saved is another when it is restored");
    }
    run_guest(world);
}

}  // namespace flatback::fuzz
