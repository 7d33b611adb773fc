#include "fuzz/judged_program.hpp"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "fuzz/prologue.hpp"
#include "machine/error.hpp"
#include "machine/program/bare_world.hpp"
#include "machine/program/bytes.hpp"
#include "machine/program/judged_tlb.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/text.hpp"

namespace flatback::fuzz {

using namespace machine;

namespace {

[[noreturn]] void broken(const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

}  // namespace

void run_judged_program(std::span<const std::uint8_t> bytes) {
    const auto program = program_from_bytes(bytes, 1024);
    if (!program) return;
    BareWorld world({.vcpus = 2, .machine = {.memory = {.limit_bytes = 4 << 20}, .make_tlb = [] {
                                                 return std::make_unique<JudgedTlb>(
                                                     *find_geometry("haswell"),
                                                     [] { broken("an outcome that is not permitted"); },
                                                     RetentiveTlb::Options{.entry_limit = 1 << 14});
                                             }}});
    Runner runner(world);
    try {
        for (const Step& step : prologue().steps) runner.step(step);
        for (const Step& step : program->steps) runner.step(step);
    } catch (const LimitReached&) {
        // A bound of ours, or a thing that is said not to be modelled.
    }
}

void read_and_write_program(std::span<const std::uint8_t> bytes) {
    const auto program =
        read_program(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    if (!program) {
        if (program.error().describe("program").find('\n') != std::string::npos)
            broken("an error of two lines");
        return;
    }
    const auto again = read_program(write_program(*program));
    if (!again || !(*again == *program)) broken("what was written is not what was read");
}

}  // namespace flatback::fuzz
