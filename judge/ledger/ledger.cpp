#include "judge/ledger/ledger.hpp"

#include <algorithm>
#include <utility>

#include "judge/trial/machine_port.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr.hpp"
#include "x86/paging.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;

constexpr std::uint64_t page_a = 0x4000'0000;
constexpr std::uint64_t page_b = 0x4000'1000;
constexpr std::uint64_t global_flags = 0x107;
constexpr std::uint64_t high_half = 0xFFFF'8000'4000'0000;
constexpr std::uint64_t vmcs_a = layout::vmcs_region(0);
constexpr std::uint64_t vmcs_b = layout::vmcs_region(1);
constexpr std::uint64_t vmcs_c = layout::vmcs_region(2);
constexpr std::uint64_t cr4_base =
    x86::cr4::physical_address_extension | x86::cr4::page_global_enable | x86::cr4::vmx_enable;

std::uint64_t data(unsigned index) {
    return layout::data_page(index);
}

/// Hierarchies 0 (L1's own), 1 and 2 map page A and page B to data pages of their own; EPT 0 and 1 map those
/// one to one and swapped.
Scenario world(std::uint8_t vm = 0) {
    Scenario say;
    say.on(vm, 0).edit();
    for (const unsigned hierarchy : {0U, 1U, 2U}) {
        say.map(hierarchy, page_a, data(2 * hierarchy)).map(hierarchy, page_b, data(2 * hierarchy + 1));
    }
    for (unsigned page = 0; page < 8; ++page) {
        say.poke(data(page), 0xA0 + page + 0x100U * vm);
        say.ept_map(0, data(page), data(page)).ept_map(1, data(page), data(7 - page));
    }
    say.l1();
    return say;
}

/// L2 has been launched and has read both pages; L1 runs.
void run_once(Scenario& say) {
    say.l1().vmlaunch().l2().load(page_a).load(page_b).vmcall().l1();
}
void look_again(Scenario& say) {
    say.l1().vmresume().l2().load(page_a).load(page_b).vmcall().l1();
}

class Ledger {
public:
    Ledger() {
        refused_operands();
        one_tag();
        two_tags();
        no_tags();
        contexts_of_ept();
        l0_moves();
        two_processors();
        other_rules();
        flushes_of_l0();
        for (LedgerCase& each : nmi_cases()) cases.push_back(std::move(each));
        for (LedgerCase& each : interrupt_cases()) cases.push_back(std::move(each));
    }
    std::vector<LedgerCase> cases;

private:
    void add(unsigned row, const char* name, const Scenario& say, const NestedWorld::Options& options = {},
             std::optional<LedgerCase::Cost> cost = std::nullopt) {
        cases.push_back({row, name, options, say.program(), cost});
    }
    static std::size_t now(const Scenario& say) { return say.program().steps.size(); }

    void refused_operands() {
        NestedWorld::Options off;
        off.tags = tag::Policy::off;
        {
            Scenario say = world();
            say.vmxon().invvpid_single(1).prepare(vmcs_a, {.tables = 1}).invvpid_all();
            run_once(say);
            add(1, "InvvpidThatIsNotOfferedIsInvalidOpcodeAndTheVmLives", say, off);
        }
        {
            Scenario say = world();
            say.vmxon().invvpid_single(1).invvpid_all().prepare(vmcs_a, {.tables = 1}).invvpid_single(1);
            run_once(say);
            add(3, "InvvpidNeedsNoCurrentVmcsNorOneWithVpid", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1}).invvpid(4, 1).invvpid(9, 1);
            run_once(say);
            add(4, "ABadTypeIsError28AndRipAdvances", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1});
            run_once(say);
            say.edit().map(1, page_a, data(4)).l1().invvpid_single(1);
            look_again(say);
            add(5, "Type1Works", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1});
            for (std::uint64_t type = 4; type < 128; ++type) say.invvpid(type, 1).invvpid(0 - type, 1);
            for (const std::uint64_t type : {1U, 2U, 3U})
                say.invvpid(0 - type, 1).invvpid(type + (1ULL << 32), 1);
            say.invvpid(std::uint64_t{1} << 63, 1);
            run_once(say);
            add(6, "EveryTypeThatIsNotListedIsError28", say);
        }
        {
            Scenario say = world();
            say.vmxon()
                .prepare(vmcs_a, {.vpid = 1})
                .invvpid(0, 0, page_a)
                .invvpid(1, 0)
                .invvpid(3, 0)
                .invvpid(2, 0);
            run_once(say);
            add(7, "Vpid0IsError28ForTypes0And1And3", say);
        }
        {
            Scenario say = world();
            say.vmxon().rdmsr(x86::msr::ia32_vmx_ept_vpid_cap).rdmsr(x86::msr::ia32_vmx_procbased_ctls2);
            say.prepare(vmcs_a, {.tables = 1}).vmread(field::virtual_processor_identifier);
            say.vmwrite(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_vpid)
                .vmlaunch();
            say.invvpid_all();
            add(8, "ControlCapabilityAndInvvpidVanishTogether", say, off);
        }
        {
            Scenario say = world();
            say.vmxon().rdmsr(x86::msr::ia32_vmx_ept_vpid_cap).rdmsr(x86::msr::ia32_vmx_procbased_ctls2);
            say.prepare(vmcs_a, {.vpid = 1, .tables = 1}).vmread(field::virtual_processor_identifier);
            run_once(say);
            for (const std::uint64_t type : {0U, 1U, 2U, 3U}) say.invvpid(type, 1, page_a);
            add(8, "ControlCapabilityAndInvvpidAreThereTogether", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1});
            run_once(say);
            for (unsigned bit = 16; bit < 64; ++bit)
                say.invvpid(bit % 4, 1 | std::uint64_t{1} << bit, page_a);
            // The descriptor's second half lies on a page that is not mapped.
            say.edit().map(0, 0x4100'0000, data(40)).unmap(0, 0x4100'1000).poke(data(40) + 0xFF8, 1);
            say.l1().invvpid_at(1, 0x4100'0FF8).invvpid_at(2, 0x4100'0FF8).invvpid_at(1, 0x4200'0000);
            look_again(say);
            add(9, "TheWholeDescriptorIsReadAndItsReservedBitsAreChecked", say);
        }
        {
            Scenario say = world();
            say.vmxon()
                .prepare(vmcs_a, {.vpid = 1})
                .vmwrite(field::virtual_processor_identifier, 0)
                .vmlaunch();
            say.vmwrite(field::virtual_processor_identifier, 1);
            run_once(say);
            add(12, "Vpid0WithVpidEnabledIsError7", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1});
            // Bits 62:57 hold a LAM tag; what is below would be canonical.
            say.invvpid_address(1, 0x2A00'0000'4000'0000).invvpid_address(1, 0x7E00'0000'4000'0000);
            run_once(say);
            add(26, "ALamTaggedAddressIsError28", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1}).invvpid_address(1, 0x0000'8000'0000'0000);
            say.invvpid_address(1, 0xFFFF'7FFF'FFFF'F000).invvpid_address(1, 0x0000'7FFF'FFFF'F000);
            run_once(say);
            add(33, "TheCanonicalTestLooksAtBit47", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1});
            run_once(say);
            say.edit().map(1, page_a, data(6)).map(1, page_b, data(7));
            say.l1().invvpid_address(1, page_a).invvpid_single(1);
            look_again(say);
            add(33, "WhatInvvpidSaysIsDoneIsDone", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1});
            run_once(say);
            say.edit().map(1, page_a, data(6));
            const std::size_t from = now(say);
            say.l1().invvpid_all();
            look_again(say);
            add(33, "InvvpidOfAllContextsIsNoRawOne", say, {}, LedgerCase::Cost{from, 1, 0});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1});
            run_once(say);
            for (const std::uint64_t garbage : {0U, 7U, 0xFFFFU}) {
                say.edit().map(1, page_a, data(garbage == 7 ? 4 : 6)).l1().invvpid(2, garbage);
                look_again(say);
            }
            add(34, "Type2TakesEverythingWhateverTheVpidFieldHolds", say);
        }
    }

    void one_tag() {
        {
            Scenario say = world();
            say.edit().map(1, page_a, data(2), global_flags).l1().vmxon().prepare(vmcs_a, {.vpid = 1});
            say.vmlaunch().l2().mov_to_cr4(cr4_base | x86::cr4::pcid_enable);
            for (const std::uint64_t pcid : {1U, 2U}) {
                say.mov_to_cr3(layout::page_root(1) | pcid).load(page_a).load(page_b);
            }
            say.vmcall().edit().map(1, page_a, data(6), global_flags).map(1, page_b, data(7));
            const std::size_t from = now(say);
            say.l1().invvpid_address(1, page_a).vmresume().l2().load(page_a);
            say.mov_to_cr3(layout::page_root(1) | 1 | x86::cr3::no_flush).load(page_a).load(page_b);
            add(11, "Type0TakesAGlobalAddressAndNoOther", say, {}, LedgerCase::Cost{from, 0, 0, 1});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1}).vmlaunch().l2();
            say.mov_to_cr4(cr4_base | x86::cr4::pcid_enable).load(page_a);
            for (const std::uint64_t pcid : {1U, 2U})
                say.mov_to_cr3(layout::page_root(1) | pcid).load(page_a);
            say.vmcall().edit().map(1, page_a, data(6));
            const std::size_t from = now(say);
            say.l1().invvpid_address(1, page_a).vmresume().l2().load(page_a);
            for (const std::uint64_t pcid : {1U, 0U})
                say.mov_to_cr3(layout::page_root(1) | pcid | x86::cr3::no_flush).load(page_a);
            add(11, "Type0TakesOneAddressInAllPcids", say, {}, LedgerCase::Cost{from, 0, 0, 1});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 12});
            run_once(say);
            const std::size_t from = now(say);
            for (unsigned i = 0; i < 4; ++i) look_again(say);
            add(16, "SameVpid12EntersWithoutFlushing", say, {}, LedgerCase::Cost{from, 0, 0});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1}).vmlaunch().l2();
            say.mov_to_cr4(cr4_base | x86::cr4::pcid_enable).load(page_a);
            say.mov_to_cr3(layout::page_root(2) | 5).load(page_a).load(page_b).vmcall();
            say.edit().map(1, page_a, data(6)).map(2, page_a, data(7)).l1().invvpid_single(1).vmresume();
            say.l2().load(page_a).mov_to_cr3(layout::page_root(1) | x86::cr3::no_flush).load(page_a);
            add(19, "AnEditOfAPteIsSeenAfterInvvpidInCurrentAndEarlierRoots", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1}).load(page_a).load(page_b);
            run_once(say);
            const std::size_t from = now(say);
            say.edit().map(1, page_a, data(6)).map(0, page_a, data(7));
            say.l1()
                .vmresume()
                .l2()
                .mov_to_cr4(cr4_base & ~x86::cr4::page_global_enable)
                .load(page_a)
                .vmcall();
            say.l1().load(page_a).load(page_b);
            add(22, "TogglingPgeInL2DropsItsOwnEntriesOnly", say, {}, LedgerCase::Cost{from, 0, 0});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1}).load(page_a).load(page_b);
            run_once(say);
            say.edit().map(1, page_a, data(6)).map(1, page_b, data(7));
            const std::size_t from = now(say);
            say.l1().invvpid_address(1, page_a).load(page_a).invvpid_single(1).load(page_b);
            look_again(say);
            add(22, "AFlushOfAnL2sReachesThatL2", say, {}, LedgerCase::Cost{from, 1, 0, 1});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1}).load(page_a);
            say.edit().map(0, page_a, data(7)).l1().mov_to_cr3(layout::page_root(0)).vmlaunch();
            say.l2().load(page_a).vmcall().l1().load(page_a);
            say.edit()
                .map(0, page_a, data(6))
                .l1()
                .mov_to_cr4(cr4_base & ~x86::cr4::page_global_enable)
                .vmresume();
            say.l2().vmcall().l1().load(page_a);
            add(23, "WhatL1DroppedRightBeforeAnEntryIsGoneWhenItIsBack", say);
        }
        {
            Scenario say = world();
            say.edit().map(1, page_a, data(2), global_flags).l1().vmxon().prepare(vmcs_a, {.vpid = 1});
            run_once(say);
            say.edit().map(1, page_a, data(6)).map(1, page_b, data(7));
            const std::size_t from = now(say);
            say.l1().invvpid_retaining_globals(1);
            look_again(say);
            say.invvpid_single(1);
            look_again(say);
            add(31, "Type3TakesAllButGlobals", say, {},
                LedgerCase::Cost{.counted_from = from, .invvpids = 2, .invepts = 0, .whole_contexts = 1});
        }
        {
            Scenario say = world();
            say.edit().map(1, high_half, data(2)).l1().vmxon().prepare(vmcs_a, {.vpid = 500}).vmlaunch();
            say.l2()
                .load(high_half)
                .vmcall()
                .edit()
                .map(1, high_half, data(6))
                .l1()
                .invvpid_address(500, high_half);
            say.vmresume().l2().load(high_half);
            add(32, "HighHalfAddressesAreAccepted", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 3});
            say.vmwrite(field::guest_rflags, 0)
                .vmlaunch();  // bit 1 must be 1: the entry fails after it left L1
            say.vmwrite(field::guest_rflags, x86::rflags::fixed_one).load(page_a);
            say.invvpid_single(3);
            const std::size_t from = now(say);
            say.vmlaunch().l2().load(page_a).vmcall().l1().vmresume().l2().load(page_a);
            add(29, "AFailedEntryLeavesTheFlushForTheNext", say, {}, LedgerCase::Cost{from, 1, 0});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 2});
            run_once(say);
            say.edit()
                .map(1, page_a, data(6))
                .l1()
                .invvpid_single(2)
                .vmwrite(field::guest_rflags, 0)
                .vmresume();
            say.vmwrite(field::guest_rflags, x86::rflags::fixed_one);
            look_again(say);
            add(29, "AFailedEntryTakesNoFlushFromTheGoodOne", say);
        }
    }

    void two_tags() {
        const auto two = [](Scenario& say) {
            say.vmxon().prepare(vmcs_b, {.vpid = 2, .tables = 2});
            run_once(say);
            say.prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
        };
        {
            Scenario say = world();
            two(say);
            say.edit().map(2, page_a, data(6));
            const std::size_t from = now(say);
            say.l1().invvpid_single(2).vmresume().l2().load(page_a).vmcall().l1().vmptrld(vmcs_b);
            look_again(say);
            add(13, "InvvpidOfAnInactiveVpid12TakesThatOne", say, {}, LedgerCase::Cost{from, 1, 0});
        }
        {
            Scenario say = world();
            two(say);
            say.edit().map(1, page_a, data(6)).map(2, page_b, data(7)).l1().invvpid_single(1).vmptrld(vmcs_b);
            say.invvpid_single(2);
            look_again(say);
            say.vmptrld(vmcs_a);
            look_again(say);
            add(15, "TheFlushIsOfTheDestination", say);
        }
        {
            Scenario say = world();
            two(say);
            const std::size_t from = now(say);
            for (unsigned i = 0; i < 3; ++i) {
                say.vmptrld(vmcs_b);
                look_again(say);
                say.vmptrld(vmcs_a);
                look_again(say);
            }
            add(20, "TwoVpid12TakingTurnsFlushNothing", say, {}, LedgerCase::Cost{from, 0, 0});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_b, {.vpid = 2, .tables = 1});
            run_once(say);
            say.prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            say.edit().map(1, page_a, data(6)).l1().invvpid_single(1).vmptrld(vmcs_b).invvpid_single(2);
            look_again(say);
            say.edit().map(1, page_a, data(7)).l1().vmptrld(vmcs_a).invvpid_single(1);
            look_again(say);
            say.vmptrld(vmcs_b).invvpid_single(2);
            look_again(say);
            add(24, "Vpid12OneTwoOneWithEditsBetween", say);
        }
        {
            Scenario say = world();
            say.vmxon();
            for (const std::uint16_t vpid : {std::uint16_t{1}, std::uint16_t{65534}, std::uint16_t{65535}}) {
                say.prepare(vpid == 1 ? vmcs_a : vmcs_b, {.vpid = vpid, .tables = 1});
                run_once(say);
            }
            say.edit().map(1, page_a, data(6)).l1().invvpid_all().prepare(vmcs_c, {.vpid = 1, .tables = 1});
            run_once(say);
            add(36, "NothingOfTheOldVpid12SurvivesAWrap", say);
        }
        {
            // More vpid12 than slots: those that lost theirs come back to a tag that was another's.
            Scenario say = world();
            say.vmxon();
            for (std::uint16_t vpid = 1; vpid <= 40; ++vpid) {
                say.prepare(layout::vmcs_region(vpid), {.vpid = vpid, .tables = 1 + vpid % 2U});
                run_once(say);
            }
            say.edit().map(1, page_a, data(6)).map(2, page_a, data(7)).l1().invvpid_all();
            for (std::uint16_t vpid = 1; vpid <= 40; vpid = static_cast<std::uint16_t>(vpid + 3)) {
                say.vmptrld(layout::vmcs_region(vpid));
                look_again(say);
            }
            add(0, "AnEvictedVpid12FindsNothingOfAnothers", say);
        }
    }

    void no_tags() {
        NestedWorld::Options one;
        one.vpids = 1;
        NestedWorld::Options none;
        none.vpids = 0;
        NestedWorld::Options single;
        single.tags = tag::Policy::single;
        const auto program = [] {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1}).load(page_a);
            run_once(say);
            say.edit().map(1, page_a, data(6)).map(0, page_b, data(7)).l1().invvpid_single(1).load(page_a);
            look_again(say);
            say.prepare(vmcs_b, {.vpid = 2, .tables = 2});
            run_once(say);
            say.load(page_a);
            say.edit().map(2, page_a, data(6)).l1().invvpid_address(2, page_a);
            look_again(say);
            say.vmptrld(vmcs_a);
            look_again(say);
            return say;
        };
        add(14, "WithoutASecondTagInvvpidReachesTheSharedOne", program(), one);
        add(30, "WithoutAnyTagL1StillSeesAValidEntry", program(), none);
        add(0, "OneTagForAllVpid12", program(), single);
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_b, {.vpid = 1, .tables = 2});
            run_once(say);
            say.prepare(vmcs_a, {.tables = 1}).load(page_a);
            run_once(say);
            say.edit().map(1, page_a, data(6)).map(0, page_a, data(7)).l1().load(page_a);
            look_again(say);
            say.load(page_a);
            say.edit().map(0, page_a, data(6)).l1().vmresume().l2().vmcall().l1().load(page_a);
            add(25, "EntryAndExitWithoutVpidDropWhatL1AndThatL2Have", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_b, {.vpid = 1, .tables = 2});
            run_once(say);
            say.prepare(vmcs_a, {.tables = 1});
            run_once(say);
            say.vmptrld(vmcs_b);
            const std::size_t from = now(say);
            // vpid01 is flushed at the turn to L1 only; the tag of vpid12 = 1 never.
            look_again(say);
            add(25, "TheTagsOfOthersSurviveAnL2WithoutVpid", say, {}, LedgerCase::Cost{from, 0, 0});
        }
    }

    void contexts_of_ept() {
        const auto with_ept = [](unsigned ept) { return Guest{.vpid = 1, .ept = ept, .tables = 1}; };
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_b, {.vpid = 2, .ept = 1, .tables = 1});
            run_once(say);
            say.prepare(vmcs_a, with_ept(0));
            run_once(say);
            say.edit().ept_map(1, data(2), data(7)).l1().invept_single(layout::eptp(1));
            look_again(say);
            say.vmptrld(vmcs_b);
            look_again(say);
            add(18, "InveptOfAnInactiveEptpIsEffectiveAtItsNextUse", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, with_ept(0));
            run_once(say);
            say.edit().ept_map(0, data(2), data(7)).l1().invept_single(layout::eptp(0) | 0x40);
            look_again(say);
            say.edit().ept_map(0, data(2), data(6)).l1().vmwrite(field::ept_pointer, layout::eptp(0) | 0x40);
            say.invept_single(layout::eptp(0));
            look_again(say);
            add(21, "TwoEptpsWithOneEp4taAreOneContext", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, with_ept(0));
            run_once(say);
            say.vmwrite(field::ept_pointer, layout::eptp(1));
            look_again(say);
            say.edit().map(1, page_a, data(5)).l1().invvpid_single(1);
            look_again(say);
            say.vmwrite(field::ept_pointer, layout::eptp(0));
            look_again(say);
            add(35, "InvvpidReachesEveryEptContextOfAVpid", say);
        }
        {
            // SDM 3C 29.4.3.1: an EPT violation drops what was cached for its address.
            Scenario say = world();
            say.edit()
                .ept_map(0, data(2), data(2), 0x31)
                .l1()
                .vmxon()
                .prepare(vmcs_a, with_ept(0))
                .vmlaunch();
            say.l2().load(page_a).store(page_a, 1).edit().ept_map(0, data(2), data(7)).l1().vmresume();
            say.l2().load(page_a).store(page_a, 2).load(page_a);
            add(0, "AnEptViolationDropsWhatWasCachedForItsAddress", say);
        }
        {
            // The same, where EPT12 has one page and L0 several: what is cached of page B goes with the
            // violation at page A. INVLPG leaves of page B only its guest-physical mapping.
            constexpr std::uint64_t large_page = 0xA0'0000;
            constexpr std::uint64_t other_frames = 0x60'0000;
            constexpr std::uint64_t read_only = 0x31;
            Scenario say = world();
            say.poke(other_frames + 0x3000, 0xBB)
                .edit()
                .ept_map(0, large_page, data(0), read_only, PageSize::size_2m)
                .map(1, page_a, large_page + 0x2000)
                .map(1, page_b, large_page + 0x3000)
                .l0()
                .take_page(data(9))
                .l1()
                .vmxon()
                .prepare(vmcs_a, with_ept(0))
                .vmlaunch();
            say.l2().load(page_a).load(page_b).invlpg(page_b).store(page_a, 1);
            say.edit().ept_map(0, large_page, other_frames, Scenario::ept_flags, PageSize::size_2m);
            say.l1().vmresume().l2().load(page_b).store(page_a, 2).load(page_a);
            add(0, "AnEptViolationDropsEveryPieceOfItsPage", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, with_ept(0));
            run_once(say);
            const std::size_t from = now(say);
            for (unsigned i = 0; i < 3; ++i) look_again(say);
            add(20, "L2WithEptIsEnteredWithoutFlushing", say, {}, LedgerCase::Cost{from, 0, 0});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, with_ept(0));
            run_once(say);
            say.edit().ept_map(0, data(2), data(7)).l1();
            const std::size_t from = now(say);
            say.invept_all();
            look_again(say);
            add(20, "InveptOfOneContextInUseIsOneInvept", say, {}, LedgerCase::Cost{from, 0, 1});
        }
    }

    void l0_moves() {
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .ept = 0, .tables = 1}).load(page_a);
            run_once(say);
            say.l0().take_page(data(2)).take_page(data(0)).l1().load(page_a);
            look_again(say);
            say.load(page_a);
            add(17, "APageThatL0TookIsOutOfReachOfL1AndL2", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .ept = 0, .tables = 1});
            run_once(say);
            say.load(page_a).l0().take_page(data(0)).l1().vmresume().l2().load(page_b).vmcall();
            say.l1().load(page_a);
            add(23, "WhatL0OwesL1RightBeforeAnEntryIsPaidToL1", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_b, {.vpid = 2, .tables = 1});
            run_once(say);
            say.prepare(vmcs_a, {.vpid = 1, .ept = 0, .tables = 1}).vmlaunch().l2().load(page_a);
            say.l0().take_page(data(2)).l2().load(page_a).vmcall().l1().vmptrld(vmcs_b);
            look_again(say);
            add(17, "APageThatL0TookWhileL2RanIsOutOfReachOfEveryContext", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            say.l0().move_vcpu(1).edit().map(1, page_a, data(6)).l1().invvpid_single(1);
            look_again(say);
            say.l0().move_vcpu(0);
            look_again(say);
            add(28, "RunOnAInvvpidOnBBackOnA", say);
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .ept = 0, .tables = 1});
            run_once(say);
            say.l0().move_vcpu(1).edit().ept_map(0, data(2), data(7)).l1().invept_single(layout::eptp(0));
            look_again(say);
            say.l0().move_vcpu(0);
            look_again(say);
            add(28, "RunOnAInveptOnBBackOnA", say);
        }
        for (const bool ept : {false, true}) {
            Scenario say = world();
            const Guest guest = ept ? Guest{.vpid = 1, .ept = 0, .tables = 1} : Guest{.vpid = 1, .tables = 1};
            say.vmxon().prepare(vmcs_a, guest);
            run_once(say);
            say.l0().move_vcpu(1);
            look_again(say);
            if (ept) {
                say.edit().ept_map(0, data(2), data(7)).l1().invept_single(layout::eptp(0));
            } else {
                say.edit().map(1, page_a, data(6)).l1().invvpid_single(1);
            }
            look_again(say);
            add(28, ept ? "InveptOnTheProcessorMovedTo" : "InvvpidOnTheProcessorMovedTo", say);
        }
        {
            // An L1 with two processors: VMCLEAR on the one, VMPTRLD on the other, and INVVPID there, as what
            // an earlier stay has left is stale. One flush a move, and none while it stays.
            Scenario say = world();
            say.on(0, 1).l1().vmxon().on(0, 0).vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            const auto move_to = [&](std::uint8_t vcpu) {
                say.vmclear(vmcs_a).on(0, vcpu).l1().vmptrld(vmcs_a).invvpid_single(1);
                run_once(say);
                look_again(say);
                look_again(say);
            };
            move_to(1);
            move_to(0);
            const std::size_t from = now(say);
            constexpr unsigned moves = 6;
            for (unsigned move = 0; move < moves; ++move) {
                say.edit().map(1, page_a, data(move % 2 == 0 ? 6 : 2)).l1();
                move_to(move % 2 == 0 ? 1 : 0);
            }
            NestedWorld::Options apart;
            apart.vcpus = 2;
            add(28, "AnL2ThatL1MovesIsFlushedOnceAMove", say, apart,
                LedgerCase::Cost{
                    .counted_from = from, .invvpids = moves, .invepts = 0, .least_invvpids = moves});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1}).load(page_a);
            run_once(say);
            say.l0().move_vcpu(1).edit().map(1, page_a, data(6)).map(0, page_a, data(7));
            say.l1().invvpid_single(1).mov_to_cr3(layout::page_root(0)).load(page_a);
            say.l0().move_vcpu(0).l1().load(page_a);
            look_again(say);
            add(37, "MovesWhileOnlyL1RanAreCountedPerTag", say);
        }
        {
            // Back on A only L1 has run when L2 does: what that L2 left there is as old as before.
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            say.l0().move_vcpu(1);
            look_again(say);
            say.edit().map(1, page_a, data(6)).l1().invvpid_single(1);
            look_again(say);
            const std::size_t from = now(say);
            say.l0().move_vcpu(0).l1().load(page_a).load(page_b);
            look_again(say);
            // L1's tag and the L2's, and EPT01 with each: an INVEPT beside an INVVPID hides its absence.
            add(37, "AMoveIsPaidForPerTag", say, {},
                LedgerCase::Cost{.counted_from = from, .invvpids = 2, .invepts = 2, .least_invvpids = 2});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            say.l0().move_vcpu(1);
            look_again(say);
            const std::size_t from = now(say);
            look_again(say);
            add(20, "AfterAMoveOnlyTheFirstEntryFlushes", say, {}, LedgerCase::Cost{from, 0, 0});
        }
        {
            // A VM gives its tags back at VMXOFF; another takes and dirties them.
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            say.vmxoff().l0().on(1, 0).create_vm(1);
            Scenario other = world(1);
            other.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(other);
            other.vmxoff();
            Program program = say.program();
            const auto append = [&program](const Program& more) {
                program.steps.insert(program.steps.end(), more.steps.begin(), more.steps.end());
            };
            append(other.program());
            Scenario back;
            back.edit()
                .map(1, page_a, data(6))
                .l1()
                .vmxon()
                .invvpid_all()
                .prepare(vmcs_a, {.vpid = 1, .tables = 1});
            const std::size_t from = program.steps.size() + now(back);
            run_once(back);
            append(back.program());
            NestedWorld::Options few;
            few.vpids = 3;  // both vpid01, and one that goes round
            cases.push_back({27, "ATagThatCameBackFromAnotherVmIsFlushedFirst", few, program,
                             LedgerCase::Cost{from, 1, 1, 0, 1}});
        }
        {
            // A VM with L2s under two vpid12, one of them with EPT, that fails an entry and leaves VMX
            // operation.
            Scenario say = world();
            say.vmxon().prepare(vmcs_b, {.vpid = 2, .ept = 0, .tables = 2});
            run_once(say);
            say.prepare(vmcs_a, {.vpid = 1, .tables = 1}).vmlaunch().l2().load(page_a);
            say.l0().move_vcpu(1).l2().load(page_b).vmcall().l1().vmwrite(field::guest_rflags, 0).vmresume();
            say.vmwrite(field::guest_rflags, x86::rflags::fixed_one)
                .invvpid_single(2)
                .vmresume()
                .l2()
                .vmcall();
            say.l1().vmclear(vmcs_a).vmxoff();
            LedgerCase which{10, "DestroyedAtAnyPointAVmLeavesNoTag", {}, say.program()};
            which.leaves_no_tag = true;
            cases.push_back(std::move(which));
        }
        {
            // Two VMs on one processor, both with vpid12 = 1: neither finds anything of the other's.
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            say.l0().on(1, 0).create_vm(1);
            Scenario other = world(1);
            other.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(other);
            const std::size_t from = now(say) + now(other);
            other.on(0, 0);
            look_again(other);
            other.on(1, 0);
            look_again(other);
            other.on(0, 0).invvpid_all().on(1, 0);
            look_again(other);
            Program program = say.program();
            const Program more = other.program();
            program.steps.insert(program.steps.end(), more.steps.begin(), more.steps.end());
            cases.push_back({2, "NoTagHasTwoOwners", {}, program, LedgerCase::Cost{from, 0, 0}});
        }
        {
            // Two virtual CPUs of one VM on one processor: what they cached differs in the tag only.
            Scenario say = world();
            for (unsigned round = 0; round < 3; ++round) {
                for (const std::uint8_t vcpu : {std::uint8_t{0}, std::uint8_t{1}}) {
                    say.on(0, vcpu).l1().vmxon();
                    say.prepare(vcpu == 0 ? vmcs_a : vmcs_b, {.vpid = 1, .tables = 1U + vcpu});
                    run_once(say);
                }
                for (const std::uint8_t vcpu : {std::uint8_t{0}, std::uint8_t{1}}) {
                    say.on(0, vcpu);
                    look_again(say);
                    say.vmxoff();
                }
            }
            NestedWorld::Options together;
            together.vcpus = 2;
            together.processors = 1;
            add(2, "VirtualCpusOnOneProcessorShareNoTag", say, together);
        }
    }

    /// An L1 with two processors, each with L2s of its own.
    void two_processors() {
        NestedWorld::Options apart;
        apart.vcpus = 2;
        const auto begin = [] {
            Scenario say = world();
            say.on(0, 1).l1().vmxon().on(0, 0).vmxon();
            return say;
        };
        {
            // Refused on the one, while the other runs an L2 under VPID 1; then the other way round.
            Scenario say = begin();
            say.prepare(vmcs_a, {.vpid = 1, .tables = 1}).vmlaunch().l2().load(page_a);
            say.on(0, 1).l1().prepare(vmcs_b, {.vpid = 1, .tables = 2});
            say.vmwrite(field::virtual_processor_identifier, 0).vmlaunch();
            say.vmread(field::vm_instruction_error)
                .vmwrite(field::virtual_processor_identifier, 1)
                .vmlaunch();
            say.l2().load(page_a).load(page_b).on(0, 0).load(page_b).vmcall().l1();
            say.vmread(field::vm_instruction_error)
                .vmwrite(field::virtual_processor_identifier, 0)
                .vmresume();
            say.vmread(field::vm_instruction_error).on(0, 1).l2().load(page_a).vmcall().l1();
            say.vmread(field::vm_instruction_error);
            look_again(say);
            say.on(0, 0).vmwrite(field::virtual_processor_identifier, 1);
            look_again(say);
            add(12, "Vpid0OnOneProcessorIsError7ThereAlone", say, apart);
        }
        for (const bool runs_l2 : {true, false}) {
            // Whoever runs on the other processor is called out of its guest before it goes on.
            Scenario say = begin();
            say.on(0, 1).l1().prepare(vmcs_b, {.vpid = 2, .tables = 2});
            run_once(say);
            say.prepare(vmcs_a, {.vpid = 1, .ept = 0, .tables = 1}).load(page_a);
            if (runs_l2) say.vmlaunch().l2().load(page_a).load(page_b);
            say.on(0, 0).l0().take_page(data(2)).take_page(data(0)).on(0, 1);
            if (runs_l2) {
                say.l2().load(page_a).load(page_b).vmcall();
            } else {
                say.l1().load(page_a).load(page_b);
            }
            say.on(0, 0).l0().take_page(data(4)).on(0, 1).l1().load(page_a).vmptrld(vmcs_b);
            look_again(say);
            add(17,
                runs_l2 ? "APageThatL0TookIsOutOfReachOfAnL2OnAnotherProcessor"
                        : "APageThatL0TookIsOutOfReachOfL1OnAnotherProcessor",
                say, apart);
        }
        {
            // One gives its tag back and the other takes it, and the reverse: what the first has left on its
            // processor under that tag is of no use, nor is what the second has on its own.
            Scenario say = begin();
            say.prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            say.vmclear(vmcs_a).vmxoff().on(0, 1).l1().prepare(vmcs_b, {.vpid = 1, .tables = 2});
            run_once(say);
            say.vmclear(vmcs_b).vmxoff();
            say.edit().map(1, page_a, data(6)).map(2, page_a, data(7)).on(0, 0).l1().vmxon().invvpid_all();
            const std::size_t from = now(say);
            say.prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            say.vmclear(vmcs_a).vmxoff().on(0, 1).l1().vmxon().invvpid_all();
            say.prepare(vmcs_b, {.vpid = 1, .tables = 2});
            run_once(say);
            NestedWorld::Options few = apart;
            few.vpids = 3;  // both vpid01, and one that goes round
            add(27, "ATagThatCameBackFromAnotherProcessorIsFlushedFirst", say, few,
                LedgerCase::Cost{.counted_from = from, .invvpids = 2, .invepts = 2, .least_invvpids = 2});
        }
        for (const bool ept : {false, true}) {
            // One vpid12, with an L2 on each. Each processor is flushed by the INVVPID or INVEPT that is
            // executed there, once.
            Scenario say = begin();
            const auto guest = [ept](unsigned tables) {
                return ept ? Guest{.vpid = 1, .ept = 0, .tables = tables}
                           : Guest{.vpid = 1, .tables = tables};
            };
            say.prepare(vmcs_a, guest(1));
            run_once(say);
            say.on(0, 1).l1().prepare(vmcs_b, guest(1));
            run_once(say);
            const auto flush = [&](std::uint8_t processor) {
                say.on(0, processor).l1();
                if (ept) {
                    say.invept_single(layout::eptp(0));
                } else {
                    say.invvpid_single(1);
                }
            };
            const std::size_t from = now(say);
            for (const unsigned frame : {6U, 5U}) {
                if (ept) {
                    say.edit().ept_map(0, data(2), data(frame));
                } else {
                    say.edit().map(1, page_a, data(frame));
                }
                // By turns, each first once.
                const std::uint8_t first = frame == 6 ? 0 : 1;
                const auto second = static_cast<std::uint8_t>(1 - first);
                flush(first);
                look_again(say);
                flush(second);
                look_again(say);
                say.on(0, first);
                look_again(say);
            }
            constexpr std::size_t flushes = 4;
            add(28,
                ept ? "InveptReachesTheProcessorThatExecutesIt" : "InvvpidReachesTheProcessorThatExecutesIt",
                say, apart,
                ept ? LedgerCase::Cost{from, 0, flushes}
                    : LedgerCase::Cost{.counted_from = from,
                                       .invvpids = flushes,
                                       .invepts = 0,
                                       .least_invvpids = flushes});
        }
        {
            // L1 has its L2 go to the other processor and come back. Here only L1 has run meanwhile, which
            // has executed the INVVPID.
            Scenario say = begin();
            say.prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            say.vmclear(vmcs_a).on(0, 1).l1().vmptrld(vmcs_a);
            run_once(say);
            say.edit().map(1, page_a, data(6)).on(0, 0).l1().load(page_a).invvpid_single(1).load(page_b);
            say.on(0, 1).l1().invvpid_single(1);
            look_again(say);
            const std::size_t from = now(say);
            say.vmclear(vmcs_a).on(0, 0).l1().vmptrld(vmcs_a);
            run_once(say);
            add(37, "WhatL1FlushedWhileItsL2WasElsewhereIsGoneWhenItIsBack", say, apart,
                LedgerCase::Cost{.counted_from = from, .invvpids = 1, .invepts = 0, .least_invvpids = 1});
        }
    }

    /// Flushes that are L0's own affair (docs/tags.md).
    void flushes_of_l0() {
        {
            // MOV to CR4 exits where VMXE changes, and L0 does what PGE does in the processor's place.
            Scenario say = world();
            say.edit().map(0, page_a, data(2), global_flags).l1().load(page_a);
            say.edit().map(0, page_a, data(6), global_flags).l1();
            say.mov_to_cr4(cr4_base & ~x86::cr4::page_global_enable & ~x86::cr4::vmx_enable).load(page_a);
            add(0, "AMovToCr4ThatL0MakesDropsGlobalTranslations", say);
        }
        {
            // More EPTPs than L0 keeps contexts of: the one that goes round maps something else than what it
            // had.
            Scenario say = world();
            constexpr unsigned eptps = 16;
            const auto root = [](unsigned index) { return data(30 + index); };
            for (unsigned index = 0; index < eptps; ++index)
                say.edit().poke(root(index), (layout::ept_root(0) + 0x1000) | 7);
            say.l1().vmxon().prepare(vmcs_a, {.vpid = 1, .ept = 0, .tables = 1});
            for (unsigned index = 0; index < eptps; ++index) {
                say.vmwrite(field::ept_pointer, root(index) | 0x1E).vmlaunch().vmresume();
                say.l2().load(page_a).vmcall().l1();
            }
            for (const unsigned index : {1U, 0U}) {
                say.vmwrite(field::ept_pointer, layout::eptp(index)).vmresume();
                say.l2().load(page_a).vmcall().l1();
            }
            add(0, "AnEptContextThatIsGivenToAnotherEptpIsEmpty", say);
        }
        {
            // EPT02 has a few tables only: they go round among the pages that L2 touches.
            Scenario say = world();
            constexpr unsigned regions = 14;
            for (unsigned index = 0; index < regions; ++index) {
                const std::uint64_t guest_physical = (std::uint64_t{index} + 1) << 30;
                say.edit().map(1, page_a + (2 + index) * 0x1000ULL, guest_physical);
                say.ept_map(0, guest_physical, data(10 + index)).poke(data(10 + index), 0xE0 + index);
            }
            say.l1().vmxon().prepare(vmcs_a, {.vpid = 1, .ept = 0, .tables = 1}).vmlaunch();
            for (unsigned round = 0; round < 3; ++round) {
                for (unsigned index = 0; index < regions; ++index)
                    say.l2().load(page_a + (2 + (round * 5 + index * 3) % regions) * 0x1000ULL);
            }
            NestedWorld::Options few;
            few.l0_pages = 38;
            add(0, "TablesThatEpt02TakesBackAreForgotten", say, few);
        }
    }

    void other_rules() {
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            const std::size_t from = now(say);
            say.invvpid_single(9).invvpid_address(9, page_a);
            look_again(say);
            add(20, "InvvpidOfAVpid12ThatNeverRanFlushesNothing", say, {}, LedgerCase::Cost{from, 0, 0});
        }
        {
            Scenario say = world();
            say.vmxon().prepare(vmcs_a, {.vpid = 1, .tables = 1});
            run_once(say);
            const std::size_t from = now(say);
            for (unsigned i = 0; i < 5; ++i) say.invvpid_single(1);
            look_again(say);
            add(20, "ManyInvvpidsOfOneVpid12AreOneFlush", say, {}, LedgerCase::Cost{from, 1, 0});
        }
    }
};

}  // namespace

const std::vector<LedgerCase>& ledger() {
    static const Ledger all;
    return all.cases;
}

const LedgerCase* find_ledger_case(const std::string& name) {
    const auto found =
        std::ranges::find_if(ledger(), [&](const LedgerCase& each) { return each.name == name; });
    return found == ledger().end() ? nullptr : &*found;
}

namespace {

struct FlushCount {
    std::size_t invvpids = 0;
    std::size_t whole_contexts = 0;
    std::size_t addresses = 0;
    std::size_t invepts = 0;
    std::size_t of_all_contexts = 0;
};

/// What L0 executes from step `from` on.
FlushCount count_flushes(const Program& program, NestedWorld::Options options, std::size_t from) {
    options.record_flushes = true;
    NestedWorld world(options);
    Runner runner(world);
    FlushCount count;
    for (std::size_t number = 0; number < program.steps.size(); ++number) {
        runner.step(program.steps[number]);
        for (const HardwareFlush& flush : world.take_flushes()) {
            if (flush.type == 2) ++count.of_all_contexts;  // of both instructions
            if (number < from) continue;
            if (flush.invept) {
                ++count.invepts;
            } else if (flush.type == 0) {
                ++count.addresses;
            } else {
                ++count.invvpids;
                if (flush.type == 1) ++count.whole_contexts;
            }
        }
    }
    return count;
}

/// The least number of steps after which the end of every VM leaves a tag that is owned; nullopt: there is
/// none.
std::optional<std::size_t> leaves_a_tag(const Program& program, const NestedWorld::Options& options) {
    for (std::size_t steps = 0; steps <= program.steps.size(); ++steps) {
        NestedWorld world(options);
        Runner runner(world);
        for (std::size_t number = 0; number < steps; ++number) runner.step(program.steps[number]);
        for (unsigned vm = 0; vm < program_vm_limit; ++vm) {
            if (world.vcpu_count(vm) != 0) world.destroy_vm(vm);
        }
        if (world.tags_owned() != 0) return steps;
    }
    return std::nullopt;
}

}  // namespace

namespace {

std::optional<std::string> judge_case(const LedgerCase& which, const DefectMaker& defect,
                                      const TrialLimits& limits) {
    NestedWorld::Options options = limits.applied_to(which.options);
    const auto with_fresh_defect = [&](auto&& run) {
        const std::unique_ptr<Defect> fresh = defect ? defect() : nullptr;
        options.defect = fresh.get();
        return run();
    };
    if (const auto difference = with_fresh_defect([&] { return compare(which.program, options); })) {
        return defect ? difference->text : account(which.program, options);
    }
    if (which.leaves_no_tag) {
        const auto steps = with_fresh_defect([&] { return leaves_a_tag(which.program, options); });
        if (steps)
            return "destroyed after " + std::to_string(*steps) + " steps, the VMs leave a tag that is owned";
    }
    if (!which.cost) return std::nullopt;
    const LedgerCase::Cost& most = *which.cost;
    const FlushCount count =
        with_fresh_defect([&] { return count_flushes(which.program, options, most.counted_from); });
    if (count.invvpids >= most.least_invvpids && count.invvpids <= most.invvpids &&
        count.invepts <= most.invepts && count.addresses <= most.addresses && count.of_all_contexts == 0 &&
        count.whole_contexts <= most.whole_contexts) {
        return std::nullopt;
    }
    return std::to_string(count.invvpids) + " INVVPIDs (" + std::to_string(count.whole_contexts) +
           " of global translations too), " + std::to_string(count.addresses) + " of an address, " +
           std::to_string(count.invepts) + " INVEPTs, " + std::to_string(count.of_all_contexts) +
           " of all contexts, where " + std::to_string(most.invvpids) + ", " +
           std::to_string(most.addresses) + ", " + std::to_string(most.invepts) + " and 0 are enough (and " +
           std::to_string(most.least_invvpids) + " INVVPIDs needed)";
}

}  // namespace

std::optional<std::string> judge(const LedgerCase& which, const DefectMaker& defect,
                                 const TrialLimits& limits) {
    try {
        return judge_case(which, defect, limits);
    } catch (const EngineFailure& failure) {
        return failure.what();
    }
}

}  // namespace flatback::machine
