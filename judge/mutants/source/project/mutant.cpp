// Reads the number of the active mutant from FLATBACK_MUTANT. With FLATBACK_MUTANT_RECORD=FILE it writes a
// line for each test: its name, its microseconds, and the numbers of all mutants that it reached. The first
// line is of what came before any test.
#include "judge/mutants/source/project/mutant.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>

namespace flatback_mutants {

namespace {
unsigned char before_main[most];
}  // namespace

unsigned active = 0;
unsigned char* reached = before_main;

namespace {

// Before all that is initialised by a mutant. What a death test's process reaches counts too.
[[gnu::constructor(101)]] void begin() {
    if (const char* number = std::getenv("FLATBACK_MUTANT"))
        active = static_cast<unsigned>(std::strtoul(number, nullptr, 10));
    void* const shared = mmap(nullptr, most, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared != MAP_FAILED) reached = static_cast<unsigned char*>(shared);
}

class Recorder final : public testing::EmptyTestEventListener {
public:
    explicit Recorder(const char* file) : out_(file) {}

    void OnTestProgramStart(const testing::UnitTest&) override { line("-", 0); }
    void OnTestStart(const testing::TestInfo&) override { start_ = std::chrono::steady_clock::now(); }
    void OnTestEnd(const testing::TestInfo& test) override {
        const auto took = std::chrono::steady_clock::now() - start_;
        line(std::string(test.test_suite_name()) + "." + test.name(),
             std::chrono::duration_cast<std::chrono::microseconds>(took).count());
    }

private:
    void line(const std::string& name, long microseconds) {
        out_ << name << ' ' << microseconds;
        for (unsigned number = 1; number < most; ++number) {
            if (reached[number] != 0) out_ << ' ' << number;
        }
        out_ << '\n' << std::flush;
        std::fill(reached, reached + most, 0);
    }

    std::ofstream out_;
    std::chrono::steady_clock::time_point start_;
};

const bool recording = [] {
    const char* const file = std::getenv("FLATBACK_MUTANT_RECORD");
    if (file == nullptr) return false;
    testing::UnitTest::GetInstance()->listeners().Append(new Recorder(file));
    return true;
}();

}  // namespace

}  // namespace flatback_mutants
