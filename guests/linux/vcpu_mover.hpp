#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <vector>

namespace flatback::guests {

/// Has the threads of an L2's virtual CPUs change places among the processors of this machine.
class VcpuMover final {
public:
    /// For the processors on which this process may run now.
    explicit VcpuMover(std::vector<pid_t> threads);

    /// Every thread to the next processor. False where there is only one.
    bool move();
    [[nodiscard]] std::uint64_t moves() const { return moves_; }

private:
    std::vector<pid_t> threads_;
    std::vector<int> processors_;
    std::uint64_t turn_ = 0;
    std::uint64_t moves_ = 0;  ///< of one thread
};

}  // namespace flatback::guests
