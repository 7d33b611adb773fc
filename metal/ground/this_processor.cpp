#include "metal/ground/this_processor.hpp"

#include "metal/ground/instructions.hpp"

namespace flatback::metal {

constinit ProcessorLocal first_processor{};
constinit std::atomic<bool> processors_stop{false};

void stop_this_processor(std::uint64_t rip, StoppedIn in) {
    ProcessorLocal& here = this_processor();
    here.stopped_in = in;
    here.stopped_at.store(rip);
    halt_forever();
}

}  // namespace flatback::metal
