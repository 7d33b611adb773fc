// The writes of L1's that every one of its processors is to notice: what metal/memory/copied_pages.hpp wants
// of L0.
#include "metal/l0/cpu.hpp"
#include "metal/processors/given_processors.hpp"

namespace flatback::metal {
namespace {

constinit CopiedPages copied_pages;

CopiedPages::Processors running_processors() {
    CopiedPages::Processors running = 0;
    for (const ProcessorLocal* const each : given_processors()) {
        if (each->start.load() != ProcessorLocal::Start::waits)
            running |= CopiedPages::Processors{1} << each->number;
    }
    return running;
}
static_assert(most_processors <= 64);

void ask_to_close(unsigned processor) {
    ask(*given_processors()[processor], request::close_kept);
}

void notice_own_writes_to(std::uint64_t page) {
    Cpu& cpu = *this_processor().cpu;
    cpu.vcpu.notice_writes_to(cpu.port.l1_page(x86::Gpa<x86::L1>{page}));
}

std::uint64_t writes_of_other_l0s() {
    std::uint64_t writes = 0;
    for (const ProcessorLocal* const each : given_processors()) {
        if (each != &this_processor()) writes += each->cpu->vcpu.written_by_l0();
    }
    return writes;
}

}  // namespace

std::optional<OtherProcessors> other_processors() {
    if (given_processors().size() == 1) return std::nullopt;
    return OtherProcessors{.kept = copied_pages,
                           .running = running_processors,
                           .ask = ask_to_close,
                           .closed_here = notice_own_writes_to,
                           .writes_of_l0 = writes_of_other_l0s,
                           .here = this_processor_number()};
}

}  // namespace flatback::metal
