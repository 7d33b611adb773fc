#include "guests/mm_stress/measure.hpp"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <thread>

#include "guests/linux/statistics.hpp"

namespace flatback::guests {
namespace {

constexpr std::size_t page_size = 4096;
constexpr std::size_t pages = 16;
constexpr std::size_t rounds = 101;

[[nodiscard]] bool run_on(unsigned processor) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(processor, &only);
    return ::sched_setaffinity(0, sizeof only, &only) == 0;
}

/// Times `operation` after `before`, again and again.
template <typename Before, typename Operation>
[[nodiscard]] std::uint64_t median_of(Before&& before, Operation&& operation) {
    std::array<std::uint64_t, rounds> ticks;
    for (std::uint64_t& each : ticks) {
        before();
        const std::uint64_t start = __rdtsc();
        operation();
        each = __rdtsc() - start;
    }
    return median_per_operation(ticks, 1);
}

/// Another thread, on the second processor: it reads the pages, round by round, until the object is gone.
class Reader final {
public:
    explicit Reader(const volatile std::byte* start)
        : thread_([this, start] {
              there_ = run_on(1);
              while (!over_.load()) {
                  for (std::size_t page = 0; page < pages; ++page) {
                      (void)start[page * page_size];
                  }
                  rounds_.fetch_add(1);
              }
          }) {}
    ~Reader() { over_.store(true); }

    /// Returns when it has read every page again.
    void wait_for_round() const {
        const std::uint64_t now = rounds_.load();
        while (rounds_.load() < now + 2) {
            _mm_pause();
        }
    }
    [[nodiscard]] bool is_there() const { return there_; }

private:
    std::atomic<bool> over_{false};
    std::atomic<bool> there_{false};
    std::atomic<std::uint64_t> rounds_{0};
    std::jthread thread_;
};

}  // namespace

Expected<ShootdownTicks> measure_shootdown() {
    cpu_set_t before;
    CPU_ZERO(&before);
    if (::sched_getaffinity(0, sizeof before, &before) < 0) {
        return system_failure("sched_getaffinity");
    }
    void* const mapped =
        ::mmap(nullptr, pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        return system_failure("mmap");
    }
    if (!run_on(0)) {
        return system_failure("sched_setaffinity to processor 0");
    }
    volatile std::byte* const start = static_cast<std::byte*>(mapped);
    // Every page present and writable for this thread before, read-only behind.
    const auto write_all = [&] {
        for (std::size_t page = 0; page < pages; ++page) {
            start[page * page_size] = std::byte{1};
        }
    };
    const auto allow = [&] {
        ::mprotect(mapped, pages * page_size, PROT_READ | PROT_WRITE);
        write_all();
    };
    const auto forbid = [&] { ::mprotect(mapped, pages * page_size, PROT_READ); };
    ShootdownTicks result;
    result.alone = median_of(allow, forbid);
    allow();
    ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    bool there = false;
    {
        const Reader reader(start);
        reader.wait_for_round();
        there = reader.is_there();
        result.interrupt =
            median_of([&] { reader.wait_for_round(); },
                      [] { ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0); });
        result.shootdown = median_of(
            [&] {
                allow();
                reader.wait_for_round();
            },
            forbid);
    }
    ::sched_setaffinity(0, sizeof before, &before);
    ::munmap(mapped, pages * page_size);
    if (!there) {
        return std::unexpected("there is no second processor");
    }
    return result;
}

}  // namespace flatback::guests
