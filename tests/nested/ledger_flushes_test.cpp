// The ledger of known bugs (docs/tags.md), rows about which flush runs when: no flush too few, and none too
// many.
#include "nested/vmcs/vmcs12.hpp"
#include "tests/nested/ledger.hpp"

namespace flatback::nested_test::ledger_flushes_test {
namespace {

TEST(Ledger, Row02_VirtualCpusThatNeverRunAnL2TakeOneTagEachAndGiveItBack) {
    tag::VpidPool pool;
    {
        std::vector<std::unique_ptr<VirtualCpu>> many;
        for (unsigned n = 0; n < 8; ++n)
            many.push_back(std::make_unique<VirtualCpu>(VirtualCpu::Options{.pool = &pool}));
        EXPECT_EQ(pool.owned(), 8U) << "vpid01 of each";
    }
    EXPECT_EQ(pool.owned(), 0U);
}

TEST(Ledger, Row02_TagsOverVmxoffAndVmxonHaveOneOwnerAtATime) {
    tag::VpidPool pool{6};
    LedgerCpu first{{.pool = &pool}};
    LedgerCpu second{{.pool = &pool}};
    for (unsigned cycle = 0; cycle < 3; ++cycle) {
        const std::uint16_t a = first.run(1);
        const std::uint16_t b = second.run(1);
        EXPECT_NE(a, b);
        EXPECT_EQ(pool.owned(), 4U);
        first.leave_and_enter_vmx_operation();
        EXPECT_EQ(pool.owned(), 3U) << "VMXOFF gives the tag of L2 back, once";
        EXPECT_EQ(second.run(1), b);
    }
}

TEST(Ledger, Row10_DestroyedAnywhereNothingLeaks) {
    tag::VpidPool pool;
    for (unsigned stage = 0; stage < 6; ++stage) {
        LedgerCpu l1{{.pool = &pool}};
        if (stage >= 1) l1.run(1);
        if (stage >= 2) l1.run(2);
        if (stage >= 3) (void)l1.invvpid(1, 1);
        if (stage >= 4) l1.enter();
        if (stage >= 5) {
            l1.leave();
            EXPECT_EQ(l1.vmxoff(), vm_succeed);
        }
    }
    EXPECT_EQ(pool.owned(), 0U);
}

TEST(Ledger, Row11_Type0TouchesOneAddressAndNothingElse) {
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(1);
    l1.run(2);
    l1.run(1);
    EXPECT_EQ(l1.flushes_of([&] { EXPECT_EQ(l1.invvpid(0, 1, 0x5000), vm_succeed); }),
              Flushes{address_of_tag(tag, 0x5000)});
    EXPECT_EQ(l1.flushes_of([&] {
        l1.run_again();
        l1.run(2);
    }),
              Flushes{})
        << "and the entries after it are free";
}

TEST(Ledger, Row13_AChangeOfVpid12FlushesNothingButWhatIsNew) {
    LedgerCpu l1;
    Ept12 ept{l1};
    l1.use_ept(ept.eptp());
    const std::uint16_t one = l1.run(1);
    Flushes new_tag = l1.flushes_of([&] { l1.run(2); });
    const std::uint16_t two = l1.l2_tag();
    EXPECT_NE(one, two);
    EXPECT_EQ(new_tag, Flushes{whole_tag(two)}) << "an INVVPID of the new tag, no INVEPT of L1's root";
    EXPECT_EQ(l1.flushes_of([&] {
        l1.run(1);
        l1.run(2);
        l1.run(1);
    }),
              Flushes{});
}

TEST(Ledger, Row14_WithTheTagsExhaustedInvvpidFlushesVpid01) {
    tag::VpidPool pool{1};
    LedgerCpu l1{{.pool = &pool}};
    EXPECT_EQ(l1.run(1), l1.vpid01());
    EXPECT_EQ(l1.invvpids_of([&] { EXPECT_EQ(l1.invvpid(1, 1), vm_succeed); }),
              Flushes{whole_tag(l1.vpid01())});
    EXPECT_EQ(l1.invvpids_of([&] { EXPECT_EQ(l1.invvpid(0, 1, 0x1000), vm_succeed); }),
              Flushes{whole_tag(l1.vpid01())});
    EXPECT_EQ(l1.invvpids_of([&] { EXPECT_EQ(l1.invvpid(2), vm_succeed); }), Flushes{whole_tag(l1.vpid01())});
}

TEST(Ledger, Row14_WhoSharesVpid01IsKeptApartByFlushes) {
    tag::VpidPool pool{1};
    LedgerCpu l1{{.pool = &pool}};
    const Flush flush = whole_tag(l1.vpid01());
    l1.run(1);
    EXPECT_EQ(l1.invvpids_of([&] { l1.run_again(); }), (Flushes{flush, flush})) << "L1 to L2, L2 to L1";
    l1.enter();
    EXPECT_EQ(l1.invvpids_of([&] { EXPECT_EQ(l1.l2_exits({.reason = ExitReason::ept_violation}), l2_runs); }),
              Flushes{})
        << "L0's own exits cost nothing";
    l1.leave();
    EXPECT_GE(l1.tag_statistics().shared, 1U);
}

TEST(Ledger, Row15_TheFlushNamesTheDestination) {
    LedgerCpu l1;
    l1.use_vpid(1);
    l1.forget_flushes();
    l1.enter();
    ASSERT_EQ(l1.invvpids().size(), 1U);
    EXPECT_EQ(l1.invvpids().front(), whole_tag(l1.l2_tag()));
    EXPECT_EQ(l1.port.current(), l1.vmcs02_page()) << "which is current, with its tag and EPTP in place";
    EXPECT_NE(l1.l2_tag(), l1.vpid01());
}

TEST(Ledger, Row16_TheSameVpid12BackAndForthFlushesNothing) {
    for (const bool shadow : {false, true}) {
        LedgerCpu l1{{.shadow_vmcs = shadow}};
        Ept12 ept{l1};
        l1.use_ept(ept.eptp());
        l1.run(1);
        EXPECT_EQ(l1.flushes_of([&] {
            for (unsigned n = 0; n < 100; ++n) l1.run_again();
        }),
                  Flushes{});
        EXPECT_EQ(l1.tag_statistics().misses, 1U);
    }
}

TEST(Ledger, Row17_APageThatL0TookIsGoneForEveryEptContext) {
    LedgerCpu l1;
    Ept12 one{l1, 0x20'0000};
    Ept12 two{l1, 0x30'0000};
    for (Ept12* ept : {&one, &two}) {
        ept->map(0x5000, 0x1000'0000);
        l1.use_ept(ept->eptp());
        l1.use_vpid(1);
        l1.enter();
        ASSERT_EQ(l1.l2_touches(0x5000, 2), l2_runs);
        l1.leave();
    }
    l1.port.specials = {{0x1000'0000, 0x1000, x86::MemoryType::write_back, false}};
    const Flushes flushes = l1.flushes_of([&] { l1.ept01_changed(); });
    EXPECT_EQ(flushes.size(), 2U) << "both, while L1 runs";
    for (Ept12* ept : {&one, &two}) {
        l1.use_ept(ept->eptp());
        l1.enter();
        EXPECT_FALSE(l1.ept02_leaf(0x5000)) << "nothing is left of it";
        l1.leave();
    }
    EXPECT_GE(l1.flushes_of([&] {
                    l1.ept01_changed();
                    l1.run_again();
                }).size(),
              1U);
    EXPECT_EQ(l1.invvpids_of([&] { l1.run_again(); }), Flushes{});
}

TEST(Ledger, Row17_AfterL0TookAPageEpt01IsFlushedBeforeL1AndL2Run) {
    LedgerCpu l1;
    l1.run(1);
    l1.ept01_changed();
    const Flushes before_l2 = l1.flushes_of([&] { l1.enter(); });
    EXPECT_EQ(before_l2, (Flushes{{Flush::Kind::invept, 1, 0, FakePort::ept01, 0}}));
    EXPECT_EQ(l1.flushes_of([&] { l1.leave(); }), before_l2) << "L1's own mark";
    EXPECT_EQ(l1.flushes_of([&] { l1.run_again(); }), Flushes{}) << "once each";
}

TEST(Ledger, Row18_InveptOfAnInactiveEptpIsEffectiveAtItsNextUse) {
    LedgerCpu l1;
    Ept12 one{l1, 0x20'0000};
    Ept12 two{l1, 0x30'0000};
    one.map(0x5000, 0x1000'0000);
    l1.use_ept(one.eptp());
    l1.use_vpid(1);
    l1.enter();
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    l1.leave();
    l1.write(field::ept_pointer, two.eptp());
    l1.run_again();
    one.map(0x5000, 0x1000'1000);
    ASSERT_EQ(l1.invept(1, one.eptp()), vm_succeed);
    l1.write(field::ept_pointer, one.eptp());
    l1.enter();
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    EXPECT_EQ(l1.ept02_leaf(0x5000)->host, FakePort::host_of(0x1000'1000));
}

TEST(Ledger, Row20_FlushesAreCounted) {
    LedgerCpu l1;
    const auto before = l1.counters();
    l1.run(1);
    l1.run(2);
    for (unsigned n = 0; n < 10; ++n) l1.run(static_cast<std::uint16_t>(1 + n % 2));
    EXPECT_EQ(l1.counters().l2_tag_flushes - before.l2_tag_flushes, 2U) << "the first use of each";
    EXPECT_EQ(l1.counters().l1_tag_flushes, before.l1_tag_flushes);
    l1.run_without_vpid();
    EXPECT_EQ(l1.counters().l1_tag_flushes - before.l1_tag_flushes, 2U);
    EXPECT_EQ(l1.counters().l2_tag_flushes - before.l2_tag_flushes, 2U);
}

TEST(Ledger, Row21_TwoEptpsWithOneEp4taAreOneContext) {
    LedgerCpu l1;
    Ept12 ept{l1};
    ept.map(0x5000, 0x1000'0000);
    l1.use_vpid(1);
    l1.use_ept(ept.root() | 0x1e);
    l1.enter();
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    l1.leave();
    l1.write(field::ept_pointer, ept.root() | 0x18);  // uncacheable paging structures
    l1.enter();
    EXPECT_TRUE(l1.ept02_leaf(0x5000)) << "what the other filled";
    l1.leave();
    ASSERT_EQ(l1.invept(1, ept.root() | 0x1e), vm_succeed);
    l1.enter();
    EXPECT_FALSE(l1.ept02_leaf(0x5000)) << "INVEPT of either is of both";
}

TEST(Ledger, Row22_WhatL0DoesForL1sTranslationsIsUnderVpid01AndKeepsL2s) {
    LedgerCpu l1;
    l1.run(1);
    EXPECT_EQ(l1.flushes_of([&] { l1.l1_translations_changed(); }), Flushes{whole_tag(l1.vpid01())});
    EXPECT_EQ(l1.flushes_of([&] { l1.run_again(); }), Flushes{}) << "vpid12 1 keeps its own";
}

TEST(Ledger, Row23_ARequestOfL1sIsNotConsumedByL2) {
    LedgerCpu l1;
    l1.run(1);
    // Another CPU takes a page while L1 runs, and L1 enters L2 at once.
    l1.ept01_changed();
    l1.enter();
    EXPECT_GE(l1.flushes_of([&] { l1.leave(); }).size(), 1U) << "back in L1 its own contexts are flushed too";
}

TEST(Ledger, Row25_AnL2WithoutVpidIsFlushedUnderTheTagThatItRanUnder) {
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(1);
    EXPECT_EQ(l1.run_without_vpid(), l1.vpid01());
    const Flush flush = whole_tag(l1.vpid01());
    EXPECT_EQ(l1.flushes_of([&] { l1.run_again(); }), (Flushes{flush, flush}))
        << "at the entry and at the exit";
    EXPECT_EQ(l1.flushes_of([&] { EXPECT_EQ(l1.run(1), tag); }), Flushes{})
        << "slots of L2s with VPID survive";
}

}  // namespace
}  // namespace flatback::nested_test::ledger_flushes_test
