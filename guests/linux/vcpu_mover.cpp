#include "guests/linux/vcpu_mover.hpp"

#include <sched.h>

#include <utility>

namespace flatback::guests {

VcpuMover::VcpuMover(std::vector<pid_t> threads) : threads_(std::move(threads)) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (::sched_getaffinity(0, sizeof allowed, &allowed) < 0) {
        return;
    }
    for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
        if (CPU_ISSET(static_cast<unsigned>(processor), &allowed)) {
            processors_.push_back(processor);
        }
    }
}

bool VcpuMover::move() {
    if (processors_.size() < 2) {
        return false;
    }
    ++turn_;
    for (std::size_t number = 0; number < threads_.size(); ++number) {
        cpu_set_t only;
        CPU_ZERO(&only);
        CPU_SET(static_cast<unsigned>(processors_[(number + turn_) % processors_.size()]), &only);
        if (::sched_setaffinity(threads_[number], sizeof only, &only) == 0) {
            ++moves_;
        }
    }
    return true;
}

}  // namespace flatback::guests
