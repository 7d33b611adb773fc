#include "guests/mm_stress/window.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <thread>

#include "guests/mm_stress/faulting_access.hpp"

namespace flatback::guests::window_test {
namespace {

constexpr std::size_t pages = 4;

TEST(FaultingAccess, TellsAFaultFromAValue) {
    catch_faults();
    void* const mapped = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(mapped, MAP_FAILED);
    auto* const word = static_cast<volatile std::uint64_t*>(mapped);
    EXPECT_EQ(try_read(word), 0U);
    EXPECT_FALSE(try_write(word, 1));
    ASSERT_EQ(::mprotect(mapped, 4096, PROT_READ | PROT_WRITE), 0);
    EXPECT_TRUE(try_write(word, 7));
    EXPECT_EQ(try_read(word), 7U);
    ASSERT_EQ(::mprotect(mapped, 4096, PROT_NONE), 0);
    EXPECT_FALSE(try_read(word));
    // And again: the first fault has left nothing behind.
    EXPECT_FALSE(try_read(word));
    ::munmap(mapped, 4096);
}

TEST(Window, TurnsOfEitherKindFindEveryValue) {
    catch_faults();
    auto window = Window::create(pages);
    ASSERT_TRUE(window);
    for (unsigned round = 0; round < 30; ++round) {
        const auto done = round % 4 == 3 ? window->fork_turn() : window->turn();
        ASSERT_TRUE(done) << done.error();
        const auto seen = window->look();
        ASSERT_TRUE(seen) << seen.error();
    }
}

// An address space is one for all threads: what one does to it the other sees.
TEST(Window, AnotherThreadSeesNothingOlderThanWasPublished) {
    catch_faults();
    auto window = Window::create(pages);
    ASSERT_TRUE(window);
    std::atomic<bool> over{false};
    std::string wrong;
    {
        const std::jthread other([&] {
            while (!over.load()) {
                if (const auto seen = window->look(); !seen) {
                    wrong = seen.error();
                    return;
                }
            }
        });
        for (unsigned round = 0; round < 300; ++round) {
            const auto done = window->turn();
            if (!done) ADD_FAILURE() << done.error();
        }
        over.store(true);
    }
    EXPECT_EQ(wrong, "");
}

}  // namespace
}  // namespace flatback::guests::window_test
