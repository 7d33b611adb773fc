// An MSR list, alone: in order, each entry once, and where it ends.
#include "nested/entry/msr_list.hpp"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <vector>

#include "tests/nested/l1_memory.hpp"

namespace flatback::nested_test::msr_list_test {
namespace {

using nested::MsrList;
using nested::MsrListEntry;

constexpr std::uint64_t list_address = 0x1'0ff0;  // its second entry lies on the next page
constexpr std::uint32_t most = 512;

struct Host {
    std::byte* l1_page(x86::Gpa<x86::L1> address) {
        ++pages_asked;
        return memory.page(address.value());
    }
    std::optional<std::uint64_t> read_msr(std::uint32_t msr) {
        const auto found = msrs.find(msr);
        return found == msrs.end() ? std::nullopt : std::optional{found->second};
    }
    bool write_msr(std::uint32_t msr, std::uint64_t value) {
        if (!msrs.contains(msr)) return false;
        msrs[msr] = value;
        written.emplace_back(msr, value);
        return true;
    }
    void note_written(const std::byte* where) { noted.push_back(where); }

    void put(std::uint32_t i, const MsrListEntry& entry) {
        const std::uint64_t address = list_address + i * 16;
        memory.write<std::uint32_t>(address, entry.index);
        memory.write<std::uint32_t>(address + 4, entry.reserved);
        memory.write<std::uint64_t>(address + 8, entry.value);
    }

    L1Memory memory;
    std::map<std::uint32_t, std::uint64_t> msrs{{x86::msr::ia32_star, 1},
                                                {x86::msr::ia32_lstar, 2},
                                                {x86::msr::ia32_apic_base, 3},
                                                {x86::msr::ia32_fs_base, 4},
                                                {x86::msr::ia32_gs_base, 5},
                                                {x86::msr::ia32_smbase, 6},
                                                {x86::msr::ia32_smm_monitor_ctl, 7},
                                                {x86::msr::ia32_bios_updt_trig, 8},
                                                {0x808, 9}};
    std::vector<std::pair<std::uint32_t, std::uint64_t>> written;
    std::vector<const std::byte*> noted;
    unsigned pages_asked = 0;
};

TEST(MsrList, IsLoadedInOrderAcrossAPage) {
    Host host;
    host.put(0, {x86::msr::ia32_star, 0, 0x11});
    host.put(1, {x86::msr::ia32_lstar, 0, 0x22});
    host.put(2, {x86::msr::ia32_star, 0, 0x33});
    EXPECT_TRUE(MsrList(host, list_address, 3, most).load());
    const std::vector<std::pair<std::uint32_t, std::uint64_t>> expected{
        {x86::msr::ia32_star, 0x11}, {x86::msr::ia32_lstar, 0x22}, {x86::msr::ia32_star, 0x33}};
    EXPECT_EQ(host.written, expected);
    EXPECT_EQ(host.pages_asked, 2U) << "once a page";
}

TEST(MsrList, IsStoredWhereItLies) {
    Host host;
    host.put(0, {x86::msr::ia32_star, 0, 0});
    host.put(1, {x86::msr::ia32_apic_base, 0, 0});
    EXPECT_TRUE(MsrList(host, list_address, 2, most).store());
    EXPECT_EQ(host.memory.read<std::uint64_t>(list_address + 8), 1U);
    EXPECT_EQ(host.memory.read<std::uint64_t>(list_address + 24), 3U);
    EXPECT_EQ(host.noted.size(), 2U) << "L0 wrote to L1's memory";
}

TEST(MsrList, EndsAtTheFirstEntryThatIsRefusedAndTellsWhich) {
    struct Case {
        MsrListEntry entry;
        bool load, store;
    };
    for (const Case& c : {Case{{x86::msr::ia32_star, 1, 0x44}, false, false},  // reserved bits
                          Case{{0x123, 0, 0x44}, false, false},                // no such MSR
                          Case{{0x808, 0, 0x44}, false, false},                // x2APIC
                          Case{{x86::msr::ia32_fs_base, 0, 0x44}, false, true},
                          Case{{x86::msr::ia32_gs_base, 0, 0x44}, false, true},
                          Case{{x86::msr::ia32_apic_base, 0, 0x44}, false, true},
                          Case{{x86::msr::ia32_smm_monitor_ctl, 0, 0x44}, false, true},
                          Case{{x86::msr::ia32_bios_updt_trig, 0, 0x44}, false, true},
                          Case{{x86::msr::ia32_smbase, 0, 0x44}, true, false}}) {
        Host host;
        host.put(0, {x86::msr::ia32_star, 0, 0x11});
        host.put(1, c.entry);
        host.put(2, {x86::msr::ia32_lstar, 0, 0x22});
        const auto loaded = MsrList(host, list_address, 3, most).load();
        ASSERT_EQ(loaded.has_value(), c.load) << std::hex << c.entry.index;
        EXPECT_EQ(host.msrs.at(x86::msr::ia32_star), 0x11U) << "what came before has been";
        if (!loaded) {
            EXPECT_EQ(loaded.error().number, 2U);
            EXPECT_EQ(loaded.error().entry.index, c.entry.index);
            EXPECT_EQ(loaded.error().entry.value, 0x44U);
            EXPECT_EQ(host.msrs.at(x86::msr::ia32_lstar), 2U);
        }
        EXPECT_EQ(MsrList(host, list_address, 3, most).store().has_value(), c.store)
            << std::hex << c.entry.index;
    }
}

TEST(MsrList, IsAsLongAsWasPromisedOrNothingOfItIsDone) {
    Host host;
    for (std::uint32_t i = 0; i < most; ++i) host.put(i, {x86::msr::ia32_star, 0, i});
    EXPECT_TRUE(MsrList(host, list_address, most, most).load());
    EXPECT_EQ(host.written.size(), most);
    host.written.clear();
    const auto refused = MsrList(host, list_address, most + 1, most).load();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number, most + 1);
    EXPECT_TRUE(host.written.empty());
    EXPECT_TRUE(MsrList(host, list_address, 0, most).load());
}

TEST(MsrList, EndsWhereL1HasNoMemory) {
    Host host;
    constexpr std::uint64_t before_the_hole = L1Memory::l0_start - 16;
    host.memory.write<std::uint64_t>(before_the_hole, x86::msr::ia32_star);
    host.memory.write<std::uint64_t>(before_the_hole + 8, 0x77);
    const auto refused = MsrList(host, before_the_hole, 2, most).load();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number, 2U);
    EXPECT_EQ(host.msrs.at(x86::msr::ia32_star), 0x77U);
}

}  // namespace
}  // namespace flatback::nested_test::msr_list_test
