#include "fuzz/trial_program.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "fuzz/prologue.hpp"
#include "judge/trial/random_program.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/bytes.hpp"

namespace flatback::fuzz {

using namespace machine;

namespace {

// What one run may take: a search gains more from many programs than from long ones.
constexpr std::size_t step_limit = 160;
constexpr std::size_t random_bytes_limit = 400;
constexpr std::uint64_t memory_limit = std::uint64_t{32} << 20;
constexpr std::size_t entry_limit = 1 << 14;

NestedWorld::Options options_of(std::uint8_t byte) {
    constexpr std::array<std::uint16_t, 8> pools = {65535, 65535, 0, 1, 2, 3, 4, 5};
    constexpr std::array<tag::Policy, 4> policies = {tag::Policy::mapped, tag::Policy::mapped,
                                                     tag::Policy::single, tag::Policy::off};
    return {.vcpus = 2,
            .tags = policies[byte >> 3 & 3],
            .shadow_vmcs = (byte & 0x20) == 0,
            .vpids = pools[byte & 7],
            .memory_bytes = memory_limit,
            .entry_limit = entry_limit,
            .interrupts = (byte & 0x80) == 0
                              ? NestedWorld::Options::Interrupts::are_l1s
                              : NestedWorld::Options::Interrupts::l0_acknowledges_as_they_go_in};
}

std::optional<Program> any_program(std::span<const std::uint8_t> bytes) {
    const auto steps = program_from_bytes(bytes, step_limit);
    if (!steps) return std::nullopt;
    Program program = prologue();
    program.steps.insert(program.steps.end(), steps->steps.begin(), steps->steps.end());
    return program;
}

}  // namespace

void run_trial_program(std::span<const std::uint8_t> bytes) {
    if (bytes.empty()) return;
    const NestedWorld::Options options = options_of(bytes[0]);
    const auto rest = bytes.subspan(1);
    const bool anything = (bytes[0] & 0x40) != 0;
    if (!anything && rest.size() > random_bytes_limit) return;
    const std::optional<Program> program =
        anything ? any_program(rest) : std::optional<Program>(random_program(rest));
    if (!program || !compare(*program, options)) return;
    std::fprintf(stderr, "bare and nested differ (%u tags, policy %u, %s shadow VMCS):\n%s", options.vpids,
                 static_cast<unsigned>(options.tags), options.shadow_vmcs ? "with" : "without",
                 account(*program, options).c_str());
    std::abort();
}

}  // namespace flatback::fuzz
