// The same host as a program of user space, with its own answer to a flush that is dropped.
#include <cstdlib>
#include <flatback/machine/cpu/machine.hpp>
#include <flatback/tag/owed_flush.hpp>

#include "host.hpp"

void flatback::tag::unpaid_flush(const FlushTarget&) noexcept {
    std::abort();
}

int main() {
    if (const int wrong = use_the_engine()) return wrong;
    flatback::machine::Machine machine{{}};
    const auto done = machine.execute(0, {.opcode = flatback::machine::Opcode::nop});
    return done.kind == flatback::machine::Completion::Kind::done ? 0 : 10;
}
