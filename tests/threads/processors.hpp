// Several processors in one test: threads that each run virtual CPUs of their own, and one beside them that
// writes to the memory which they share.
#pragma once

#include <gtest/gtest.h>

#include <barrier>
#include <exception>
#include <functional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "tests/nested/ledger.hpp"

namespace flatback::threads_test {

using namespace nested_test;

// Where what the processors share lies (SharedL1Pages). The extended page tables are where layout:: has them.
namespace shared {
inline constexpr std::uint64_t page_tables = 0x30'0000;  // PML4, PDPT, PD, PT
inline constexpr std::uint64_t operands = 0x31'0000;     // two pages
inline constexpr std::uint64_t msr_bitmap = 0x33'0000;
inline constexpr std::uint64_t io_bitmaps = 0x33'1000;
inline constexpr std::uint64_t msr_list = 0x33'4000;
// The VMCS regions from here on.
inline constexpr unsigned first_vmcs = 0x330;
static_assert(layout::vmcs_region(first_vmcs) == 0x34'0000);
}  // namespace shared

// One processor's thread: what it throws fails the test.
inline std::jthread run_processor(unsigned cpu, const std::function<void()>& body) {
    return std::jthread([cpu, body] {
        try {
            body();
        } catch (const std::exception& error) {
            ADD_FAILURE() << "processor " << cpu << ": " << error.what();
        }
    });
}

// The same on each of `count` processors, begun together.
inline void on_processors(unsigned count, const std::function<void(unsigned cpu)>& body) {
    std::barrier begin(count);
    std::vector<std::jthread> threads;
    for (unsigned cpu = 0; cpu < count; ++cpu) {
        threads.push_back(run_processor(cpu, [cpu, &begin, &body] {
            begin.arrive_and_wait();
            body(cpu);
        }));
    }
}

// A processor or a device that writes beside what runs meanwhile, again and again until it is destroyed.
class Writer {
public:
    explicit Writer(std::function<void(unsigned round)> write)
        : thread_([write = std::move(write)](const std::stop_token& stop) {
              for (unsigned round = 0; !stop.stop_requested(); ++round) write(round);
          }) {}

private:
    std::jthread thread_;
};

}  // namespace flatback::threads_test
