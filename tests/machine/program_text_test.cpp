#include <gtest/gtest.h>

#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "machine/program/text.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::program_text_test {
namespace {

TEST(ProgramText, ReadsWhatAScenarioTells) {
    const auto program = read_program(R"(# two pages and one guest
edit map t1 0x40000000 d0 rwux
edit map t1 0x40200000 0x200000 rwu 2m   # not executable
l1 vmxon x
l1 prepare v0 1 e0 t1
l1 vmlaunch

l2 load 0x40000000
l2 store 0x40000000 7 user
@1.2 l1 vmwrite guest_rip 0x1000
l1 invvpid 1 2 0
edit ept_map e0 d0 d1 rwx
edit ept_map e0 d1 d1 r
l1 vmread 0x681e
l0 move_vcpu 1
l2 mov_to_cr3 t2+3|0x8000000000000000
)");
    ASSERT_TRUE(program) << program.error().describe("program");
    Scenario scenario;
    scenario.edit().map(1, 0x4000'0000, layout::data_page(0));
    scenario.map(1, 0x4020'0000, 0x20'0000, std::uint64_t{1} << 63 | 7, PageSize::size_2m);
    scenario.l1().vmxon().prepare(layout::vmcs_region(0), {.vpid = 1, .ept = 0, .tables = 1}).vmlaunch();
    scenario.l2().load(0x4000'0000).user_store(0x4000'0000, 7);
    scenario.on(1, 2).l1().vmwrite(vmx::field::guest_rip, 0x1000);
    scenario.on(0, 0).invvpid(1, 2);
    scenario.edit().ept_map(0, layout::data_page(0), layout::data_page(1));
    scenario.ept_map(0, layout::data_page(1), layout::data_page(1), 0x31);
    scenario.l1().vmread(vmx::field::guest_rip);
    scenario.l0().move_vcpu(1);
    scenario.l2().mov_to_cr3((layout::page_root(2) + 3) | std::uint64_t{1} << 63);
    EXPECT_EQ(write_program(*program), write_program(scenario.program()));
    EXPECT_EQ(*program, scenario.program());
}

TEST(ProgramText, WritesStepsThatItReadsBack) {
    Scenario scenario;
    scenario.l2().store(0x10, 0xABCD).l1().vmread(std::uint64_t{0x2011}).on(3, 1).vmxon();
    scenario.edit().map(2, 0x1000, 0x2000, 0x8000'0000'0000'0183).ept_unmap(1, 0x3000, PageSize::size_1g);
    const auto again = read_program(write_program(scenario.program()));
    ASSERT_TRUE(again) << again.error().describe("program");
    EXPECT_EQ(*again, scenario.program());
}

struct Broken {
    const char* text;
    const char* message;
};

class BrokenProgram : public testing::TestWithParam<Broken> {};

TEST_P(BrokenProgram, IsOneLineWithThePlaceAndTheRule) {
    const auto program = read_program(GetParam().text);
    ASSERT_FALSE(program);
    EXPECT_EQ(program.error().describe("f"), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, BrokenProgram,
    testing::Values(Broken{"l3 nop", "f:1:1: unknown actor \"l3\": l0, l1, l2 or edit"},
                    Broken{"\nl1", "f:2:3: the step is missing"},
                    Broken{"l1 vmlanch", "f:1:4: unknown step \"vmlanch\""},
                    Broken{"l1 vmptrld", "f:1:11: an operand is missing"},
                    Broken{"l1 vmptrld zz", "f:1:12: no number: \"zz\""},
                    Broken{"l1 vmptrld v64", "f:1:12: no number: \"v64\""},
                    Broken{"l1 vmptrld 0x1ffffffffffffffff", "f:1:12: no number: \"0x1ffffffffffffffff\""},
                    Broken{"l1 vmptrld 1+", "f:1:12: no number: \"1+\""},
                    Broken{"l1 nop nop", "f:1:8: too many operands: \"nop\""},
                    Broken{"edit map e1 0 0 rw", "f:1:10: a hierarchy is t0 to t7, not \"e1\""},
                    Broken{"edit map t1 0 0 rw 3m", "f:1:20: a page size is 4k, 2m or 1g, not \"3m\""},
                    Broken{"l1 map t1 0 0 rw", "f:1:1: \"map\" is not a step of l1"},
                    Broken{"edit vmxon x", "f:1:1: \"vmxon\" is not a step of edit"},
                    Broken{"l1 move_vcpu 1", "f:1:1: \"move_vcpu\" is not a step of l1"},
                    Broken{"@1 l1 nop", "f:1:1: a virtual CPU is written @VM.VCPU"},
                    Broken{"@8.0 l1 nop", "f:1:1: there are at most 8 VMs of 8 virtual CPUs"},
                    Broken{"@0.0", "f:1:5: who acts is missing: l0, l1, l2 or edit"},
                    Broken{"l1 vmread guest_rap", "f:1:11: no VMCS field: \"guest_rap\""},
                    Broken{"l1 \x01\x02", "f:1:4: unknown step \"??\""}));

}  // namespace
}  // namespace flatback::machine::program_text_test
