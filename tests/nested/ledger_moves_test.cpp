// The ledger of known bugs (docs/tags.md), rows about owners of tags, physical CPUs and exhaustion.
#include "tests/nested/ledger.hpp"

namespace flatback::nested_test::ledger_moves_test {
namespace {

TEST(Ledger, Row19_WithoutEptAnEditThenInvvpidIsSeenAtTheNextEntry) {
    // L2's own page tables are the hardware's: all that is needed is the flush of its tag.
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(1);
    EXPECT_EQ(l1.vmcs02().get(field::ept_pointer), FakePort::ept01);
    EXPECT_EQ(l1.invvpids_of([&] {
        EXPECT_EQ(l1.invvpid(1, 1), vm_succeed);
        l1.run_again();
    }),
              Flushes{whole_tag(tag)});
}

TEST(Ledger, Row24_Vpid12OneTwoOneIsFlushedWhereL1SaidSo) {
    LedgerCpu l1;
    const std::uint16_t one = l1.run(1);
    const std::uint16_t two = l1.run(2);
    EXPECT_EQ(l1.invvpid(1, 1), vm_succeed);
    EXPECT_EQ(l1.invvpids_of([&] { l1.run(2); }), Flushes{}) << "not under 2";
    EXPECT_EQ(l1.invvpids_of([&] { l1.run(1); }), Flushes{whole_tag(one)}) << "but under 1";
    EXPECT_NE(one, two);
}

TEST(Ledger, Row27_AfterVmxoffNothingIsRemembered) {
    tag::VpidPool pool{3};
    LedgerCpu first{{.pool = &pool}};
    const std::uint16_t tag = first.run(1);
    EXPECT_EQ(first.vmxoff(), vm_succeed);
    LedgerCpu second{{.pool = &pool}};
    const std::uint16_t dirty = second.run(1);
    EXPECT_EQ(dirty, tag) << "another virtual machine takes the tag";
    EXPECT_EQ(second.vmxoff(), vm_succeed);
    first.enter_vmx_operation();
    first.make_vmcs(0);
    first.use_vpid(1);
    first.forget_flushes();
    ASSERT_EQ(first.vmlaunch(), l2_runs);
    EXPECT_EQ(first.l2_tag(), tag);
    EXPECT_EQ(first.invvpids(), Flushes{whole_tag(tag)});
}

TEST(Ledger, Row28_AnInvvpidOnAnotherCpuIsStillOwedWhereTheEntriesAre) {
    for (const std::uint64_t type : {0U, 1U, 2U, 3U}) {
        LedgerCpu l1;
        const std::uint16_t tag = l1.run(1);
        l1.port.physical_cpu = 1;
        EXPECT_EQ(l1.invvpids_of([&] { EXPECT_EQ(l1.invvpid(type, 1, 0x5000), vm_succeed); }), Flushes{})
            << type;
        l1.port.physical_cpu = 0;
        const Flushes back = l1.invvpids_of([&] { l1.run_again(); });
        ASSERT_EQ(back.size(), 1U) << type;
        EXPECT_EQ(back.front(), type == 0   ? address_of_tag(tag, 0x5000)
                                : type == 3 ? tag_but_globals(tag)
                                            : whole_tag(tag));
        EXPECT_EQ(l1.invvpids_of([&] { l1.run_again(); }), Flushes{}) << "once";
    }
}

TEST(Ledger, Row28_AnInveptOnAnotherCpuIsStillOwedWhereTheEntriesAre) {
    LedgerCpu l1;
    Ept12 ept{l1};
    ept.map(0x5000, 0x1000'0000);
    l1.use_ept(ept.eptp());
    l1.use_vpid(1);
    l1.enter();
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    const std::uint64_t pointer = l1.vmcs02().get(field::ept_pointer);
    l1.leave();
    const auto invepts_of_context = [&] {
        return std::ranges::count(l1.port.flushes, Flush{Flush::Kind::invept, 1, 0, pointer, 0});
    };
    // Only L1 runs on CPU 1, and executes INVEPT there.
    l1.port.physical_cpu = 1;
    ASSERT_EQ(l1.invept(1, ept.eptp()), vm_succeed);
    l1.port.physical_cpu = 0;
    l1.forget_flushes();
    l1.enter();
    EXPECT_EQ(invepts_of_context(), 1) << "CPU 0 still caches what was filled";
    l1.leave();
    // L2 runs on CPU 1 too, and then L1 executes INVEPT there.
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    l1.leave();
    l1.port.physical_cpu = 1;
    l1.run_again();
    ASSERT_EQ(l1.invept(2), vm_succeed);
    l1.run_again();
    l1.port.physical_cpu = 0;
    l1.forget_flushes();
    l1.enter();
    EXPECT_EQ(invepts_of_context(), 1) << "of a context that is empty by now";
}

TEST(Ledger, Row29_AFailingEntryGivesNothingToAnotherTag) {
    LedgerCpu l1;
    l1.run(1);
    l1.write(field::guest_rflags, 0);
    l1.use_vpid(2);
    const Flushes failing =
        l1.invvpids_of([&] { EXPECT_EQ(l1.vmresume(), l1_sees(ExitReason::entry_failure_guest_state)); });
    l1.write(field::guest_rflags, 2);
    const Flushes good = l1.invvpids_of([&] { l1.run_again(); });
    const std::uint16_t two = l1.l2_tag();
    Flushes all = failing;
    all.insert(all.end(), good.begin(), good.end());
    EXPECT_EQ(all, Flushes{whole_tag(two)}) << "vpid02 exactly once, and no vpid01";
}

TEST(Ledger, Row29_AnEntryThatTheProcessorRefusesGivesNothingToAnotherTag) {
    LedgerCpu l1;
    l1.run(1);
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::use_tpr_shadow);
    l1.write(field::virtual_apic_address, layout::apic_page);
    l1.write(field::tpr_threshold, 3);
    l1.use_vpid(2);
    Flushes all = l1.invvpids_of(
        [&] { EXPECT_EQ(l1.vmresume(), vm_fail(InstructionError::entry_with_invalid_control_fields)); });
    l1.write(field::tpr_threshold, 0);
    const Flushes good = l1.invvpids_of([&] { l1.run_again(); });
    all.insert(all.end(), good.begin(), good.end());
    EXPECT_EQ(all, Flushes{whole_tag(l1.l2_tag())});
}

TEST(Ledger, Row29_AnEntryThatIsRefusedBeforeItTouchesNoTag) {
    LedgerCpu l1;
    l1.run(1);
    EXPECT_EQ(l1.invvpid(1, 1), vm_succeed);
    l1.write(field::host_cr4, 0);
    EXPECT_EQ(l1.flushes_of([&] {
        EXPECT_EQ(l1.vmresume(), vm_fail(InstructionError::entry_with_invalid_host_state_fields));
    }),
              Flushes{});
    l1.write(field::host_cr4, 0x26a0);
    const Flushes owed = l1.invvpids_of([&] { l1.run_again(); });
    EXPECT_EQ(owed, Flushes{whole_tag(l1.l2_tag())});
}

TEST(Ledger, Row30_WithNoTagAtAllL1SeesAValidEntry) {
    tag::VpidPool pool{1};
    LedgerCpu first{{.pool = &pool}};
    LedgerCpu second{{.pool = &pool}};
    EXPECT_EQ(second.vpid01(), 0U);
    const Flushes flushes = second.invvpids_of([&] {
        EXPECT_EQ(second.run(7), 0U);
        EXPECT_EQ(second.invvpid(1, 7), vm_succeed);
        EXPECT_EQ(second.run_again(), 0U);
        EXPECT_EQ(second.run_without_vpid(), 0U);
    });
    EXPECT_EQ(flushes, Flushes{}) << "the processor flushes VPID 0 by itself";
    EXPECT_EQ(second.vmcs02().get(field::secondary_processor_based_vm_execution_controls) &
                  vmx::secondary::enable_vpid,
              0U);
}

TEST(Ledger, Row35_InvvpidReachesEveryEptContextOfTheVpid) {
    LedgerCpu l1;
    Ept12 one{l1, 0x20'0000};
    Ept12 two{l1, 0x30'0000};
    l1.use_ept(one.eptp());
    const std::uint16_t tag = l1.run(1);
    l1.write(field::ept_pointer, two.eptp());
    EXPECT_EQ(l1.run_again(), tag) << "one vpid12 with two EPTPs has one tag";
    EXPECT_EQ(l1.invvpid(1, 1), vm_succeed);
    EXPECT_EQ(l1.invvpids_of([&] { l1.run_again(); }), Flushes{whole_tag(tag)}) << "INVVPID is of all EP4TAs";
    l1.write(field::ept_pointer, one.eptp());
    EXPECT_EQ(l1.invvpids_of([&] { l1.run_again(); }), Flushes{});
}

TEST(Ledger, Row36_Vpid12MayWrap) {
    LedgerCpu l1;
    const std::uint16_t old = l1.run(1);
    for (std::uint16_t vpid12 = 2; vpid12 < 60; ++vpid12) l1.run(vpid12);
    l1.run(65535);
    EXPECT_EQ(l1.invvpid(2), vm_succeed) << "L1 begins anew";
    const Flushes flushes = l1.invvpids_of([&] { l1.run(1); });
    EXPECT_EQ(flushes, Flushes{whole_tag(l1.l2_tag())});
    EXPECT_TRUE(l1.l2_tag() == old || l1.tag_statistics().evictions > 0);
}

TEST(Ledger, Row37_ASlotIsJudgedByItsOwnCpu) {
    LedgerCpu l1;
    l1.run(1);
    l1.run(2);
    l1.port.physical_cpu = 1;
    EXPECT_EQ(l1.flushes_of([&] { l1.l1_translations_changed(); }).empty(), false) << "only L1 runs there";
    l1.port.physical_cpu = 0;
    EXPECT_EQ(l1.invvpids_of([&] {
        l1.run(1);
        l1.run(2);
    }),
              Flushes{whole_tag(l1.vpid01(), 0)})
        << "vpid01 moved back at the exit, the slots never left";
    l1.port.physical_cpu = 1;
    const Flushes there = l1.invvpids_of([&] { l1.run(1); });
    EXPECT_EQ(there, (Flushes{whole_tag(l1.l2_tag(), 1), whole_tag(l1.vpid01(), 1)}));
    l1.port.physical_cpu = 0;
    const Flushes back = l1.invvpids_of([&] { l1.run(2); });
    EXPECT_EQ(back, Flushes{whole_tag(l1.vpid01(), 0)}) << "slot 2 never left CPU 0";
    const Flushes moved = l1.invvpids_of([&] { l1.run(1); });
    EXPECT_EQ(moved, Flushes{whole_tag(l1.l2_tag(), 0)}) << "slot 1 did";
}

TEST(Tags, AMoveFlushesTheEptContextsToo) {
    LedgerCpu l1;
    Ept12 ept{l1};
    ept.map(0x5000, 0x1000'0000);
    l1.use_ept(ept.eptp());
    l1.use_vpid(1);
    l1.enter();
    ASSERT_EQ(l1.l2_touches(0x5000, 1), l2_runs);
    const std::uint64_t pointer = l1.vmcs02().get(field::ept_pointer);
    l1.leave();
    l1.port.physical_cpu = 1;
    l1.forget_flushes();
    l1.enter();
    EXPECT_EQ(std::ranges::count(l1.port.flushes, Flush{Flush::Kind::invept, 1, 0, pointer, 1}), 1);
    EXPECT_TRUE(l1.ept02_leaf(0x5000)) << "the tables themselves are as good as before";
}

TEST(Tags, AreFlushedWhereTheHostMovesARunningGuest) {
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(1);
    l1.enter();
    l1.port.physical_cpu = 1;
    EXPECT_EQ(l1.invvpids_of([&] { l1.prepare_reentry(); }), Flushes{whole_tag(tag, 1)});
    EXPECT_EQ(l1.invvpids_of([&] { l1.prepare_reentry(); }), Flushes{}) << "once";
    l1.leave();
    l1.port.physical_cpu = 2;
    EXPECT_EQ(l1.invvpids_of([&] { l1.prepare_reentry(); }), Flushes{whole_tag(l1.vpid01(), 2)})
        << "and L1 so too";
}

TEST(Tags, AreEvictedLeastRecentlyUsedFirst) {
    LedgerCpu l1;
    const auto capacity = static_cast<std::uint16_t>(l1.tag_capacity());
    for (std::uint16_t vpid12 = 1; vpid12 <= capacity; ++vpid12) l1.run(vpid12);
    l1.run(1);
    EXPECT_EQ(l1.tag_statistics().evictions, 0U);
    l1.run(static_cast<std::uint16_t>(capacity + 1));
    EXPECT_EQ(l1.tag_statistics().evictions, 1U);
    EXPECT_EQ(l1.invvpids_of([&] { l1.run(1); }), Flushes{}) << "used a moment ago";
    const Flushes oldest = l1.invvpids_of([&] { l1.run(2); });
    EXPECT_EQ(oldest, Flushes{whole_tag(l1.l2_tag())}) << "it had to go";
}

TEST(Tags, ExhaustedEvictBeforeTheyShare) {
    tag::VpidPool pool{3};
    LedgerCpu l1{{.pool = &pool}};
    const std::uint16_t one = l1.run(1);
    const std::uint16_t two = l1.run(2);
    EXPECT_EQ(l1.invvpids_of([&] { EXPECT_EQ(l1.run(3), one); }), Flushes{whole_tag(one)});
    EXPECT_EQ(l1.invvpids_of([&] { EXPECT_EQ(l1.run(2), two); }), Flushes{});
    EXPECT_EQ(l1.tag_statistics().shared, 0U);
}

TEST(Tags, WithTheSinglePolicyAreOneForAllVpid12) {
    LedgerCpu l1{{.tags = tag::Policy::single}};
    EXPECT_EQ(l1.tag_capacity(), 1U);
    const std::uint16_t tag = l1.run(1);
    EXPECT_EQ(l1.flushes_of([&] { l1.run_again(); }), Flushes{});
    EXPECT_EQ(l1.flushes_of([&] { EXPECT_EQ(l1.run(2), tag); }), Flushes{whole_tag(tag)})
        << "a change flushes";
    EXPECT_EQ(l1.flushes_of([&] { EXPECT_EQ(l1.run(1), tag); }), Flushes{whole_tag(tag)});
}

TEST(Tags, WithTheOffPolicyAreVpid01sAlone) {
    LedgerCpu l1{{.tags = tag::Policy::off}};
    EXPECT_EQ(l1.tag_capacity(), 0U);
    EXPECT_EQ(l1.run_again(), l1.vpid01());
    const Flush flush = whole_tag(l1.vpid01());
    EXPECT_EQ(l1.flushes_of([&] { l1.run_again(); }), (Flushes{flush, flush}));
}

TEST(Tags, OfTwoVmcssWithOneVpid12AreOne) {
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(1);
    l1.make_vmcs(1);
    l1.use_vpid(1);
    l1.forget_flushes();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.l2_tag(), tag);
    EXPECT_EQ(l1.port.flushes, Flushes{});
}

TEST(Tags, ManyInvvpidsMakeOneFlush) {
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(1);
    l1.run(2);
    EXPECT_EQ(l1.invvpids_of([&] {
        for (unsigned n = 0; n < 10; ++n) EXPECT_EQ(l1.invvpid(1, 1), vm_succeed);
        EXPECT_EQ(l1.invvpid(0, 1, 0x1000), vm_succeed);
        l1.run(1);
        l1.run(2);
    }),
              Flushes{whole_tag(tag)});
}

}  // namespace
}  // namespace flatback::nested_test::ledger_moves_test
