// The ledger of known bugs (docs/tags.md), rows about INVVPID's operands and about what is offered. Row
// numbers are the ledger's.
#include "tests/nested/ledger.hpp"
#include "vmx/exit_qualification.hpp"

namespace flatback::nested_test::ledger_operands_test {
namespace {

TEST(Ledger, Row01_InvvpidThatIsNotOfferedIsUndefinedAndL1Lives) {
    VirtualCpu l1{{.tags = tag::Policy::off}};
    l1.prepare();
    EXPECT_EQ(l1.invvpid(2), invalid_opcode);
    l1.vmcs01().set(field::guest_ss_access_rights, 0xc0f3);
    l1.vmcs01().set(field::guest_ss_selector, 0x1b);
    l1.vmcs01().set(field::guest_cs_access_rights, 0xa0fb);
    l1.vmcs01().set(field::guest_cs_selector, 0x23);
    EXPECT_EQ(l1.invvpid(2), invalid_opcode) << "at any privilege level";
    l1.vmcs01().set(field::guest_ss_access_rights, 0xc093);
    l1.vmcs01().set(field::guest_ss_selector, 0x18);
    l1.vmcs01().set(field::guest_cs_access_rights, 0xa09b);
    l1.vmcs01().set(field::guest_cs_selector, 0x10);
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
}

TEST(Ledger, Row03_InvvpidNeedsNoCurrentVmcsAndNoneWithVpid) {
    VirtualCpu l1;
    l1.enter_vmx_operation();
    EXPECT_EQ(l1.invvpid(2), vm_succeed);
    EXPECT_EQ(l1.invvpid(1, 5), vm_succeed);
    EXPECT_EQ(l1.invvpid(7), vm_fail_invalid);
    l1.make_vmcs(0);
    EXPECT_EQ(l1.invvpid(0, 5, 0x1000), vm_succeed) << "the current VMCS has VPID off";
    EXPECT_EQ(l1.port.flushes, Flushes{}) << "nothing can be cached of a vpid12 that never ran";
}

TEST(Ledger, Row04_ABadTypeIsError28AndTheInstructionIsOver) {
    LedgerCpu l1;
    EXPECT_EQ(l1.invvpid(4, 1), bad_operand);  // RIP's advance is part of the outcome
}

TEST(Ledger, Row05_Type1Works) {
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(1);
    l1.run_again();
    EXPECT_EQ(l1.invvpids_of([&] {
        EXPECT_EQ(l1.invvpid(1, 1), vm_succeed);
        l1.run_again();
    }),
              Flushes{whole_tag(tag)});
}

TEST(Ledger, Row06_EveryTypeButFourIsError28) {
    LedgerCpu l1;
    for (int type = -127; type <= 127; ++type) {
        const bool offered = type >= 0 && type <= 3;
        EXPECT_EQ(l1.invvpid(static_cast<std::uint64_t>(type), 1), offered ? vm_succeed : bad_operand)
            << type;
    }
    for (const std::uint64_t type : {1ULL << 63, 1ULL << 32, 1ULL << 32 | 1, 0x1'0000'0002ULL}) {
        EXPECT_EQ(l1.invvpid(type, 1), bad_operand) << std::hex << type;
    }
}

TEST(Ledger, Row07_Vpid0IsError28ForTypes0And1And3) {
    LedgerCpu l1;
    for (const std::uint64_t type : {0U, 1U, 3U}) EXPECT_EQ(l1.invvpid(type, 0), bad_operand) << type;
    EXPECT_EQ(l1.invvpid(2, 0), vm_succeed);
}

TEST(Ledger, Row08_ControlCapabilityAndInvvpidAppearAndVanishTogether) {
    for (const auto policy : {tag::Policy::mapped, tag::Policy::single, tag::Policy::off}) {
        VirtualCpu l1{{.tags = policy}};
        const bool offered = policy != tag::Policy::off;
        EXPECT_EQ(l1.capabilities.promised.secondary_processor_based.may_set(vmx::secondary::enable_vpid),
                  offered);
        EXPECT_EQ(l1.capabilities.promised.ept_vpid.value & nested::offered::vpid,
                  offered ? nested::offered::vpid : 0U);
        EXPECT_EQ(l1.offers_invvpid(), offered);
        l1.prepare();
        EXPECT_EQ(l1.invvpid(2), offered ? vm_succeed : invalid_opcode);
        EXPECT_EQ(l1.vmread(field::virtual_processor_identifier.encoding).kind == Outcome::Kind::succeeded,
                  offered);
        l1.use_secondary(vmx::secondary::enable_vpid);
        if (offered) l1.write(field::virtual_processor_identifier, 3);
        EXPECT_EQ(l1.vmlaunch(),
                  offered ? l2_runs : vm_fail(InstructionError::entry_with_invalid_control_fields));
    }
}

TEST(Ledger, Row09_ReservedBitsOfTheDescriptorAreError28ForEveryType) {
    LedgerCpu l1;
    for (const std::uint64_t type : {0U, 1U, 2U, 3U}) {
        for (unsigned bit = 16; bit < 64; ++bit) {
            EXPECT_EQ(l1.invvpid(type, 1 | 1ULL << bit), bad_operand) << type << " " << bit;
        }
        EXPECT_EQ(l1.invvpid(type, 0xffff), vm_succeed);
    }
}

TEST(Ledger, Row09_ADescriptorAcrossAnUnmappedPageIsAPageFault) {
    LedgerCpu l1;
    l1.port.memory.write<std::uint64_t>(layout::level1_table + 0xa * 8, 0);
    for (const std::uint64_t type : {0U, 1U, 2U, 3U}) {
        l1.port.registers.at(3) = 0x9ff8;
        l1.port.registers.at(2) = type;
        EXPECT_EQ(l1.execute(ExitReason::invvpid, memory_operand(3)), page_fault(0));
        EXPECT_EQ(l1.port.cr2, 0xa000U);
    }
    l1.port.registers.at(3) = 1ULL << 47;
    EXPECT_EQ(l1.execute(ExitReason::invvpid, memory_operand(3), 0, 2), general_protection);
}

TEST(Ledger, Row12_AnEntryWithVpid0IsError7) {
    LedgerCpu l1;
    l1.run(1);
    l1.write(field::virtual_processor_identifier, 0);
    EXPECT_EQ(l1.vmresume(), vm_fail(InstructionError::entry_with_invalid_control_fields));
    l1.write(field::virtual_processor_identifier, 1);
    EXPECT_EQ(l1.flushes_of([&] { l1.run_again(); }), Flushes{}) << "and it cost vpid12 1 nothing";
}

TEST(Ledger, Row26_AnAddressWithALamTagIsError28) {
    LedgerCpu l1;
    EXPECT_EQ(l1.invvpid(0, 1, 0x7f00'0000'0000'1000), bad_operand);
    EXPECT_EQ(l1.invvpid(0, 1, 0x0000'8000'0000'0000), bad_operand);
    EXPECT_EQ(l1.invvpid(1, 1, 0x7f00'0000'0000'1000), vm_succeed) << "other types do not look at it";
}

TEST(Ledger, Row31_EveryTypeThatIsOfferedWorks) {
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(5);
    l1.run_again();
    EXPECT_EQ(l1.invvpids_of([&] {
        EXPECT_EQ(l1.invvpid(0, 5, 0x1234'5000), vm_succeed);
        l1.run_again();
    }),
              Flushes{address_of_tag(tag, 0x1234'5000)});
    EXPECT_EQ(l1.invvpids_of([&] {
        EXPECT_EQ(l1.invvpid(1, 5), vm_succeed);
        l1.run_again();
    }),
              Flushes{whole_tag(tag)});
    EXPECT_EQ(l1.invvpids_of([&] {
        EXPECT_EQ(l1.invvpid(2), vm_succeed);
        l1.run_again();
    }),
              Flushes{whole_tag(tag)});
    EXPECT_EQ(l1.invvpids_of([&] {
        EXPECT_EQ(l1.invvpid(3, 5), vm_succeed);
        l1.run_again();
    }),
              Flushes{tag_but_globals(tag)});
    EXPECT_EQ(l1.counters().invvpid, (std::array<std::uint64_t, 4>{1, 1, 1, 1}));
}

TEST(Ledger, Row32_HighHalfAddressesAreAcceptedAndTheHardwareNeverHoldsVpid12) {
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(0x1234);
    EXPECT_NE(tag, 0x1234U);
    EXPECT_EQ(l1.vmcs02().get(field::virtual_processor_identifier), tag);
    EXPECT_EQ(l1.invvpids_of([&] { EXPECT_EQ(l1.invvpid(0, 0x1234, 0xffff'8000'0000'1000), vm_succeed); }),
              Flushes{address_of_tag(tag, 0xffff'8000'0000'1000)});
    EXPECT_EQ(l1.read(field::virtual_processor_identifier), 0x1234U) << "and L1 never sees the tag";
}

TEST(Ledger, Row33_CanonicalMeansBit47AndAllContextsMeansL1sOwn) {
    LedgerCpu l1;
    EXPECT_EQ(l1.invvpid(0, 1, 1ULL << 47), bad_operand);
    EXPECT_EQ(l1.invvpid(0, 1, (1ULL << 47) - 1), vm_succeed);
    EXPECT_EQ(l1.invvpid(0, 1, ~0ULL << 47), vm_succeed);
    EXPECT_EQ(l1.invvpid(0, 1, ~0ULL << 48), bad_operand);
    l1.run(1);
    // FakePort fails the test on a hardware INVVPID of all contexts.
    EXPECT_EQ(l1.invvpid(2), vm_succeed);
    l1.run_again();
}

TEST(Ledger, Row34_Type2DoesNotLookAtTheVpid) {
    LedgerCpu l1;
    const std::uint16_t tag = l1.run(1);
    for (const std::uint64_t vpid : {0U, 1U, 77U, 0xffffU}) {
        EXPECT_EQ(l1.invvpids_of([&] {
            EXPECT_EQ(l1.invvpid(2, vpid), vm_succeed);
            l1.run_again();
        }),
                  Flushes{whole_tag(tag)})
            << vpid;
    }
}

}  // namespace
}  // namespace flatback::nested_test::ledger_operands_test
