#include "guests/linux/counter_source.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

namespace flatback::guests::counter_source_test {
namespace {

/// Counts as an L0 would of which each reading costs some exits and entries, and one now and then more.
class CostlySource final : public CounterSource {
public:
    Expected<CounterTotals> read() override {
        ++readings_;
        totals_.l2_entries += 40;
        totals_.l0_exits += readings_ % 5 == 0 ? 97U : 90U;
        return totals_;
    }
    void happen(const CounterTotals& more) {
        totals_.l2_entries += more.l2_entries;
        totals_.l0_exits += more.l0_exits;
        totals_.l2_tag_flushes += more.l2_tag_flushes;
        totals_.l1_tag_flushes += more.l1_tag_flushes;
    }

private:
    unsigned readings_ = 0;
    CounterTotals totals_{1000, 2000, 3000, 4000};
};

class BrokenSource final : public CounterSource {
public:
    Expected<CounterTotals> read() override { return std::unexpected("it went wrong"); }
};

TEST(CounterBracket, LeavesOutWhatTheReadingsCost) {
    CostlySource source;
    auto bracket = CounterBracket::calibrate(source);
    ASSERT_TRUE(bracket);
    ASSERT_TRUE(bracket->begin());
    source.happen({5, 7, 1, 2});
    EXPECT_EQ(*bracket->end(), (CounterTotals{5, 7, 1, 2}));
}

TEST(CounterBracket, TellsThatAReadingFailed) {
    BrokenSource source;
    const auto bracket = CounterBracket::calibrate(source);
    ASSERT_FALSE(bracket);
    EXPECT_EQ(bracket.error(), "it went wrong");
}

TEST(CounterLine, AServerAnswersRequestsUntilTheInputEnds) {
    std::array<int, 2> request{};
    std::array<int, 2> reply{};
    ASSERT_EQ(::pipe(request.data()), 0);
    ASSERT_EQ(::pipe(reply.data()), 0);
    const std::string_view asked = "counters\nhow many?\ncounters\n";
    ASSERT_EQ(::write(request[1], asked.data(), asked.size()), static_cast<ssize_t>(asked.size()));
    ::close(request[1]);
    CostlySource source;
    EXPECT_TRUE(serve_counters(request[0], reply[1], source));
    std::array<char, 1024> bytes{};
    const ssize_t count = ::read(reply[0], bytes.data(), bytes.size());
    ASSERT_GT(count, 0);
    EXPECT_EQ(std::string_view(bytes.data(), static_cast<std::size_t>(count)),
              "counters l2_entries=1040 l0_exits=2090 l2_tag_flushes=3000 l1_tag_flushes=4000\n"
              "error unknown request\n"
              "counters l2_entries=1080 l0_exits=2180 l2_tag_flushes=3000 l1_tag_flushes=4000\n");
    for (const int each : {request[0], reply[0], reply[1]}) {
        ::close(each);
    }
}

TEST(CounterLine, AFailedReadingIsAnswered) {
    BrokenSource source;
    EXPECT_EQ(answer_counter_request("counters", source), "error it went wrong");
}

TEST(CounterSourceWords, MistakesAreToldInOneLine) {
    EXPECT_EQ(open_counter_source("vmcall").error(),
              "no source of counters is called 'vmcall'; there are cpuid, line:PATH and kvm:DIRECTORY");
    EXPECT_FALSE(open_counter_source("line:"));
    EXPECT_EQ(open_counter_source("line:/nowhere/tty").error(), "/nowhere/tty: No such file or directory");
}

}  // namespace
}  // namespace flatback::guests::counter_source_test
