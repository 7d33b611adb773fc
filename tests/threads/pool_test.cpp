// One pool of tags for engines that many processors run, more of them than tags: no tag is two guests' at
// once, and none is used with what another left under it.
#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <tuple>
#include <utility>

#include "tests/threads/processors.hpp"

namespace flatback::threads_test::pool_test {
namespace {

constexpr unsigned processors = 4;
constexpr std::uint16_t tags = 20;
constexpr std::uint16_t l1_itself = 0;

// Who left translations under a tag: the engine, its guest's vpid12, and how often the engine has moved by
// then.
using Owner = std::tuple<unsigned, std::uint16_t, unsigned>;

struct Engine {
    Engine(unsigned its_number, tag::VpidPool& pool)
        : number(its_number), l1({.pool = &pool, .physical_cpu = processors}) {}
    const unsigned number;
    LedgerCpu l1;
    // A guest's stay ends where it runs on another processor or under another tag, where its tag goes to
    // another guest of L1's, and where L1 leaves VMX operation.
    unsigned stay_of(std::uint16_t vpid12, std::uint16_t tag) {
        const Stay now{l1.port.physical_cpu, tag};
        std::erase_if(stays_, [&](const auto& other) {
            return other.first == vpid12 ? !(other.second.first == now) : other.second.first.tag == tag;
        });
        const auto [found, began] = stays_.try_emplace(vpid12, now, 0U);
        if (began) found->second.second = ++stays_begun_;
        return found->second.second;
    }
    void leave_and_enter_vmx_operation() {
        l1.leave_and_enter_vmx_operation();
        std::erase_if(stays_, [](const auto& stay) { return stay.first != l1_itself; });
    }

private:
    struct Stay {
        unsigned cpu;
        std::uint16_t tag;
        friend bool operator==(const Stay&, const Stay&) = default;
    };
    std::map<std::uint16_t, std::pair<Stay, unsigned>> stays_;
    unsigned stays_begun_ = 0;
};

// What a processor runs is in the midst of it; -1 nobody.
std::array<std::atomic<int>, tags + 1> running;

// A processor's TLB: by tag, whose translations it may have.
class Tlb {
public:
    explicit Tlb(unsigned cpu) : cpu_(cpu) {}
    // The guest is entered under its tag, and the engine has executed its flushes.
    void enter(Engine& engine, std::uint16_t tag, std::uint16_t vpid12, bool flush_is_asked) {
        const Owner owner{engine.number, vpid12, engine.stay_of(vpid12, tag)};
        const auto flushed = std::ranges::count(engine.l1.port.flushes, whole_tag(tag, cpu_));
        const auto found = content_.find(tag);
        const bool its_own = found != content_.end() && found->second == owner;
        const bool shares_vpid01 = tag == engine.l1.vpid01() && vpid12 != l1_itself;
        if (!its_own || flush_is_asked) {
            EXPECT_GE(flushed, 1) << "tag " << tag << " of engine " << engine.number << ", vpid12 " << vpid12;
        }
        if (!shares_vpid01) {
            EXPECT_LE(flushed, its_own && !flush_is_asked ? 0 : 1)
                << "tag " << tag << " of engine " << engine.number << ", vpid12 " << vpid12;
        }
        content_[tag] = owner;
        const int before = running.at(tag).exchange(static_cast<int>(engine.number));
        EXPECT_EQ(before, -1) << "tag " << tag << " is another guest's at this moment";
        std::this_thread::yield();
    }
    void leave(std::uint16_t tag) { running.at(tag) = -1; }

private:
    unsigned cpu_;
    std::map<std::uint16_t, Owner> content_;
};

void run_a_while(Engine& engine, Tlb& tlb, unsigned cpu, std::mt19937& random) {
    LedgerCpu& l1 = engine.l1;
    l1.port.physical_cpu = cpu;
    l1.forget_flushes();
    l1.prepare_reentry();
    tlb.enter(engine, l1.vpid01(), l1_itself, false);
    tlb.leave(l1.vpid01());
    for (unsigned turns = random() % 4; turns > 0; --turns) {
        const auto vpid12 = static_cast<std::uint16_t>(1 + random() % 4);
        if (random() % 16 == 0) engine.leave_and_enter_vmx_operation();
        l1.forget_flushes();
        const bool asked = random() % 4 == 0;
        if (asked) {
            ASSERT_EQ(l1.invvpid(1, vpid12), vm_succeed);
        }
        l1.enter_with(vpid12);
        const std::uint16_t tag = l1.l2_tag();
        ASSERT_NE(tag, 0);
        tlb.enter(engine, tag, vpid12, asked);
        tlb.leave(tag);
        l1.forget_flushes();
        l1.leave();
        tlb.enter(engine, l1.vpid01(), l1_itself, false);
        tlb.leave(l1.vpid01());
    }
}

TEST(TagPool, EnginesThatMoveBetweenProcessorsNeverShareATag) {
    std::ranges::for_each(running, [](auto& who) { who = -1; });
    tag::VpidPool pool{tags};
    std::mutex lock;
    std::deque<std::unique_ptr<Engine>> waiting;
    for (unsigned n = 0; n < processors + 2; ++n) waiting.push_back(std::make_unique<Engine>(n, pool));
    on_processors(processors, [&](unsigned cpu) {
        Tlb tlb{cpu};
        std::mt19937 random{cpu};
        for (unsigned round = 0; round < 60; ++round) {
            std::unique_ptr<Engine> engine;
            {
                const std::lock_guard guard{lock};
                engine = std::move(waiting.front());
                waiting.pop_front();
            }
            run_a_while(*engine, tlb, cpu, random);
            const std::lock_guard guard{lock};
            waiting.push_back(std::move(engine));
        }
    });
    EXPECT_LE(pool.owned(), pool.size());
    waiting.clear();
    EXPECT_EQ(pool.owned(), 0U);
}

}  // namespace
}  // namespace flatback::threads_test::pool_test
