#include <set>

#include "tests/nested_entry_checks/broken_rules.hpp"

namespace flatback::nested::testing_entry::table_test {
namespace {

TEST(EntryCheckTable, NamesEachRuleOnce) {
    std::set<std::string_view> names;
    for (const EntryCheckDescription& description : entry_check_table) {
        EXPECT_TRUE(names.insert(description.name).second) << description.name;
        EXPECT_TRUE(description.section.starts_with("SDM 3C 27.")) << description.name;
    }
    EXPECT_EQ(name_of(EntryCheck::vpid_not_zero), "vpid_not_zero");
    EXPECT_EQ(section_of(EntryCheck::vpid_not_zero), "SDM 3C 27.2.1.1");
    EXPECT_EQ(section_of(EntryCheck::host_rip_canonical), "SDM 3C 27.2.4");
    EXPECT_EQ(section_of(EntryCheck::guest_cs_type), "SDM 3C 27.3.1.2");
}

TEST(EntryCheckTable, HoldsNoRuleThatNoTestBreaks) {
    std::set<EntryCheck> broken;
    for (const auto* rules : {&broken_control_rules(), &broken_host_rules(), &broken_guest_rules()}) {
        for (const BrokenRule& rule : *rules) broken.insert(rule.expected);
    }
    for (const EntryCheckDescription& description : entry_check_table) {
        EXPECT_TRUE(broken.contains(description.check)) << description.name;
    }
}

TEST(EntryCheckTable, PutsEachRuleInOneGroup) {
    for (const EntryCheckDescription& description : entry_check_table) {
        const int groups = int{is_control_check(description.check)} +
                           int{is_host_state_check(description.check)} +
                           int{is_guest_state_check(description.check)};
        EXPECT_EQ(groups, 1) << description.name;
        EXPECT_EQ(is_control_check(description.check), description.section.starts_with("SDM 3C 27.2.1"));
        EXPECT_EQ(is_guest_state_check(description.check), description.section.starts_with("SDM 3C 27.3.1"));
    }
}

TEST(EntryCheckTable, GivesTheExitQualificationOfTheManual) {
    EXPECT_EQ(static_cast<int>(exit_qualification_of(EntryCheck::guest_cs_type)), 0);
    EXPECT_EQ(static_cast<int>(exit_qualification_of(EntryCheck::pdpte_reserved_bits)), 2);
    EXPECT_EQ(static_cast<int>(exit_qualification_of(EntryCheck::vmcs_link_pointer_address)), 4);
    EXPECT_EQ(static_cast<int>(exit_qualification_of(EntryCheck::vmcs_link_pointer_not_current)), 4);
}

}  // namespace
}  // namespace flatback::nested::testing_entry::table_test
