// The page-modification log (SDM 3C 29.3.6) and TSC scaling (26.3) of the modelled processor.
#include <cstdint>

#include "tests/machine/scenario_fixture.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::log_test {
namespace {

namespace field = vmx::field;

constexpr std::uint64_t log_page = layout::data_page(40);
constexpr std::uint64_t eptp = layout::eptp(0) | 1U << 6;
constexpr std::uint32_t secondary = vmx::secondary::enable_ept | vmx::secondary::enable_vpid;

struct Log : test::BareScenario {
    void with_log(std::uint64_t index) {
        one_guest({.vpid = 1, .ept = 0, .tables = 1});
        say.vmwrite(field::ept_pointer, eptp)
            .vmwrite(field::secondary_processor_based_vm_execution_controls,
                     secondary | vmx::secondary::enable_pml)
            .vmwrite(field::pml_address, log_page)
            .vmwrite(field::pml_index, index);
        launch();
    }
    std::uint64_t entry(std::uint64_t index) { return world.read(0, log_page + 8 * index); }
    std::uint64_t read(auto which) {
        say.l1().vmread(which);
        return now().value;
    }
};

TEST_F(Log, NotesTablesAndThePageOfAWriteFromItsIndexDown) {
    with_log(511);
    say.l2().load(test::page_a);
    EXPECT_TRUE(succeeded(now()));
    // All tables are in one page of 2 MBytes, which is noted by the first access to it.
    EXPECT_EQ(entry(511), layout::page_root(1));
    EXPECT_EQ(entry(510), 0U) << "a read";
    say.l2().store(test::page_a + 0x128, 1).store(test::page_a, 2).store(test::page_b, 3).vmcall();
    now();
    EXPECT_EQ(entry(510), layout::data_page(0));
    EXPECT_EQ(entry(509), layout::data_page(1));
    EXPECT_EQ(entry(508), 0U);
    EXPECT_EQ(read(field::pml_index), 508U);
}

TEST_F(Log, NotesAgainWhatSoftwareHasClearedTheDirtyFlagOf) {
    with_log(511);
    say.l2().store(test::page_a, 1).vmcall();
    say.edit().ept_map(0, layout::data_page(0), layout::data_page(0));
    say.l1().invept_single(eptp).vmresume().l2().store(test::page_a, 2).vmcall();
    now();
    EXPECT_EQ(entry(510), layout::data_page(0));
    EXPECT_EQ(entry(509), layout::data_page(0));
    EXPECT_EQ(read(field::pml_index), 508U);
}

TEST_F(Log, ThatIsFullExitsBeforeAnyFlagIsSet) {
    with_log(0);
    say.l2().store(test::page_a, 1);
    // The tables have taken the last entry.
    const Observation full = now();
    ASSERT_EQ(full.status, Observation::Status::exit);
    EXPECT_EQ(full.exit.reason, 62U);
    EXPECT_EQ(full.exit.qualification, 0U);
    EXPECT_EQ(entry(0), layout::page_root(1));
    EXPECT_EQ(read(field::pml_index), 0xFFFFU);
    EXPECT_NE(world.read(0, layout::data_page(0)), 1U);
    say.vmwrite(field::pml_index, 5).vmresume().l2().store(test::page_a, 1).vmcall();
    now();
    EXPECT_EQ(entry(5), layout::data_page(0));
    EXPECT_EQ(world.read(0, layout::data_page(0)), 1U);
    EXPECT_EQ(read(field::pml_index), 4U);
}

TEST_F(Log, ThatIsFullExitsForAnAccessedFlagToo) {
    with_log(512);
    say.l2().load(test::page_a);
    EXPECT_EQ(now().exit.reason, 62U);
    EXPECT_EQ(read(field::pml_index), 512U);
}

TEST_F(Log, IsLeftAloneWithoutFlagsInEpt) {
    one_guest({.vpid = 1, .ept = 0, .tables = 1});
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                secondary | vmx::secondary::enable_pml)
        .vmwrite(field::pml_address, log_page)
        .vmwrite(field::pml_index, 0xFFFF);
    launch();
    say.l2().store(test::page_a, 1);
    EXPECT_TRUE(succeeded(now()));
    say.vmcall();
    now();
    EXPECT_EQ(read(field::pml_index), 0xFFFFU);
}

TEST_F(Log, NeedsEptAndAnAlignedPage) {
    one_guest({.vpid = 1, .ept = 0, .tables = 1});
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                secondary | vmx::secondary::enable_pml)
        .vmwrite(field::pml_address, log_page + 8)
        .vmlaunch();
    EXPECT_TRUE(failed_with(now(), 7));
    say.vmwrite(field::pml_address, log_page)
        .vmwrite(field::secondary_processor_based_vm_execution_controls,
                 vmx::secondary::enable_vpid | vmx::secondary::enable_pml)
        .vmlaunch();
    EXPECT_TRUE(failed_with(now(), 7));
}

// With L1's counter at `tsc` when RDTSC is executed.
struct Scaling : test::BareScenario {
    std::uint64_t rdtsc(std::uint64_t tsc, std::uint64_t multiplier, std::uint64_t offset,
                        std::uint32_t primary = vmx::primary::use_tsc_offsetting) {
        say.l2().vmcall().l1().vmwrite(field::tsc_multiplier, multiplier).vmwrite(field::tsc_offset, offset);
        say.vmwrite(field::primary_processor_based_vm_execution_controls, 0x8400'61F2U | primary);
        say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                    vmx::secondary::enable_vpid | vmx::secondary::use_tsc_scaling);
        say.vmresume().l2().nop();
        now();
        world.machine(0).set_tsc(tsc - 1);  // the instruction takes one tick
        say.rdtsc();
        return now().value;
    }
};

TEST_F(Scaling, MultipliesThenAddsTheOffset) {
    constexpr std::uint64_t one = std::uint64_t{1} << 48;
    one_guest();
    launch();
    EXPECT_EQ(rdtsc(1000, one, 0), 1000U);
    EXPECT_EQ(rdtsc(1000, 2 * one, 5), 2005U);
    EXPECT_EQ(rdtsc(1001, one / 2, 0), 500U) << "rounded down";
    EXPECT_EQ(rdtsc(1000, one + one / 4, ~std::uint64_t{0}), 1249U);
    EXPECT_EQ(rdtsc(0x1234'5678'9ABC'DEF0, 3 * one + 7, 0), 0x369D'0369'D037'1C3EU);
    EXPECT_EQ(rdtsc(std::uint64_t{1} << 63, 2 * one, 9), 9U) << "what does not fit is lost";
    EXPECT_EQ(rdtsc(~std::uint64_t{0}, ~std::uint64_t{0}, 0), 0xFFFF'FFFF'FFFE'0000U);
    EXPECT_EQ(rdtsc(1000, 2 * one, 5, 0), 1000U) << "without the offset's control";
}

TEST_F(Scaling, HasNoMultiplierOfZero) {
    one_guest();
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                vmx::secondary::enable_vpid | vmx::secondary::use_tsc_scaling)
        .vmwrite(field::tsc_multiplier, 0)
        .vmlaunch();
    EXPECT_TRUE(failed_with(now(), 7));
}

}  // namespace
}  // namespace flatback::machine::log_test
