#include "tag/owed_flush.hpp"

#include <gtest/gtest.h>

#include <type_traits>
#include <utility>

#include "tests/tag/unpaid_flushes.hpp"
#include "tests/tag/virtual_cpu.hpp"

namespace owed_flush_test {
namespace {

using flatback::tag::ContentMark;
using flatback::tag::EptMark;
using flatback::tag::Extent;
using flatback::tag::FlushTarget;
using flatback::tag::OwedFlush;
using flatback::tag::TagNumber;
using flatback::tag_test::cpu_a;
using flatback::tag_test::cpu_b;
using flatback::tag_test::ExpectUnpaidFlushes;
using flatback::x86::LinearAddress;

template <typename Flush>
concept CanBePaid = requires(Flush flush) {
    static_cast<Flush>(flush).paid();
};
static_assert(CanBePaid<OwedFlush&&> && !CanBePaid<OwedFlush&>, "paying takes the flush away");
static_assert(!std::is_copy_constructible_v<OwedFlush>, "a flush is owed once");

constexpr TagNumber tag{7};

OwedFlush whole_context(ContentMark& mark, EptMark& ept) {
    return OwedFlush{FlushTarget{tag, cpu_a, Extent::single_context, {}, false}, &mark, &ept};
}

TEST(OwedFlush, MarksTheContentValidOnlyWhenPaid) {
    ContentMark mark;
    EptMark ept;
    OwedFlush flush = whole_context(mark, ept);
    EXPECT_FALSE(mark.valid_on(cpu_a)) << "rule 2: committed late";
    std::move(flush).paid();
    EXPECT_TRUE(mark.valid_on(cpu_a));
    EXPECT_FALSE(mark.valid_on(cpu_b));
}

TEST(EptMark, TellsWhyTheContextsAreToBeFlushed) {
    EptMark ept;
    EXPECT_EQ(ept.cause_on(cpu_a), flatback::tag::FlushCause::ept_contexts_new);
    auto receipt = ept.take();
    ept.commit(receipt, cpu_a);
    ept.mark_stale();
    EXPECT_EQ(ept.cause_on(cpu_a), flatback::tag::FlushCause::ept_contexts_stale);
    EXPECT_EQ(ept.cause_on(cpu_b), flatback::tag::FlushCause::cpu_changed);
}

TEST(OwedFlush, StaysOwedWhenKept) {
    ContentMark mark;
    EptMark ept;
    whole_context(mark, ept).keep();
    EXPECT_FALSE(mark.valid_on(cpu_a));
    EXPECT_EQ(mark.debt_on(cpu_a).extent, Extent::single_context);
}

TEST(OwedFlush, IsReportedWithItsTargetWhenDropped) {
    ContentMark mark;
    EptMark ept;
    ExpectUnpaidFlushes dropped;
    { const OwedFlush flush = whole_context(mark, ept); }
    ASSERT_EQ(dropped.seen().size(), 1U);
    EXPECT_EQ(dropped.seen()[0].tag, tag);
    EXPECT_EQ(dropped.seen()[0].cpu, cpu_a);
    EXPECT_FALSE(mark.valid_on(cpu_a));
}

TEST(OwedFlush, IsNotReportedWhenPaidKeptOrMovedFrom) {
    ContentMark mark;
    EptMark ept;
    ExpectUnpaidFlushes dropped;
    {
        OwedFlush first = whole_context(mark, ept);
        OwedFlush second = std::move(first);
        std::move(second).paid();
        whole_context(mark, ept).keep();
    }
    EXPECT_TRUE(dropped.seen().empty());
}

TEST(OwedFlush, PaidTwiceCountsOnce) {
    ContentMark mark;
    EptMark ept;
    OwedFlush flush = whole_context(mark, ept);
    std::move(flush).paid();
    mark.forget();
    std::move(flush).paid();  // NOLINT(bugprone-use-after-move): the point of it
    EXPECT_FALSE(mark.valid_on(cpu_a));
}

TEST(OwedFlush, PaysNothingThatWasRaisedAfterIt) {
    ContentMark mark;
    EptMark ept;
    OwedFlush flush = whole_context(mark, ept);
    mark.invalidate(Extent::address, LinearAddress{0x1000});
    std::move(flush).paid();
    EXPECT_FALSE(mark.valid_on(cpu_a));
    EXPECT_NE(mark.debt_on(cpu_a).extent, Extent::nothing);
}

TEST(OwedFlush, PaysNothingOnceTheTagHasANewUse) {
    ContentMark mark;
    EptMark ept;
    OwedFlush flush = whole_context(mark, ept);
    mark.forget();
    std::move(flush).paid();
    EXPECT_EQ(mark.cpu(), flatback::tag::Cpu::none);
    EXPECT_EQ(mark.debt_on(cpu_a).extent, Extent::single_context);
}

TEST(OwedFlush, PaysNothingOnceALaterOneWasTaken) {
    ContentMark mark;
    EptMark ept;
    OwedFlush on_a = whole_context(mark, ept);
    OwedFlush on_b{FlushTarget{tag, cpu_b, Extent::single_context, {}, true}, &mark, &ept};
    std::move(on_b).paid();
    std::move(on_a).paid();
    EXPECT_TRUE(mark.valid_on(cpu_b));
    EXPECT_FALSE(mark.valid_on(cpu_a)) << "the tag has been used on B since";
}

TEST(OwedFlush, OfTheEptContextsIsCommittedToo) {
    ContentMark mark;
    EptMark ept;
    OwedFlush{FlushTarget{TagNumber::none, cpu_a, Extent::nothing, {}, true}, &mark, &ept}.paid();
    EXPECT_TRUE(ept.valid_on(cpu_a));
    EXPECT_FALSE(ept.valid_on(cpu_b));
    EXPECT_FALSE(mark.valid_on(cpu_a)) << "INVEPT is not INVVPID";

    whole_context(mark, ept).paid();
    ept.mark_stale();
    EXPECT_FALSE(ept.valid_on(cpu_a));
    EXPECT_TRUE(mark.valid_on(cpu_a));
}

TEST(OwedFlush, OfTheEptContextsDoesNotCoverAPageTakenWhileItRan) {
    ContentMark mark;
    EptMark ept;
    OwedFlush flush{FlushTarget{TagNumber::none, cpu_a, Extent::nothing, {}, true}, &mark, &ept};
    ept.mark_stale();  // by another CPU
    std::move(flush).paid();
    EXPECT_FALSE(ept.valid_on(cpu_a));
}

TEST(Extent, TwoFlushesMakeTheLeastThatDoesBoth) {
    using flatback::tag::both;
    const LinearAddress a{0x1000};
    const LinearAddress same_page_as_a{0x1fff};
    const LinearAddress b{0x2000};
    EXPECT_EQ(both(Extent::nothing, {}, Extent::address, a), Extent::address);
    EXPECT_EQ(both(Extent::address, a, Extent::nothing, {}), Extent::address);
    EXPECT_EQ(both(Extent::address, a, Extent::address, same_page_as_a), Extent::address);
    EXPECT_EQ(both(Extent::address, a, Extent::address, b), Extent::single_context);
    EXPECT_EQ(both(Extent::address, a, Extent::single_context_retaining_globals, {}), Extent::single_context)
        << "an individual address takes a global translation, retaining globals does not";
    EXPECT_EQ(both(Extent::single_context_retaining_globals, {}, Extent::address, a), Extent::single_context);
    EXPECT_EQ(
        both(Extent::single_context_retaining_globals, {}, Extent::single_context_retaining_globals, {}),
        Extent::single_context_retaining_globals);
    EXPECT_EQ(both(Extent::single_context_retaining_globals, {}, Extent::single_context, {}),
              Extent::single_context);
    EXPECT_EQ(both(Extent::single_context, {}, Extent::address, a), Extent::single_context);
}

}  // namespace
}  // namespace owed_flush_test
