// VMCS shadowing for L1's own guests, bare and under the engine.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "judge/trial/trial.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "nested/vmcs/vmcs12.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::vmcs_shadowing_test {
namespace {

namespace field = vmx::field;

constexpr std::uint64_t ordinary = layout::vmcs_region(0);
constexpr std::uint64_t shadow = layout::vmcs_region(40);
constexpr std::uint64_t other_shadow = layout::vmcs_region(41);
constexpr std::uint64_t bitmap = layout::data_page(21);
constexpr std::uint64_t usual = vmx::secondary::enable_vpid | vmx::secondary::enable_invpcid;

void begin(Scenario& say) {
    for (const std::uint64_t region : {shadow, other_shadow})
        say.edit().poke(region, nested::vmcs12_revision | nested::shadow_vmcs_indicator);
    say.l1().vmxon().prepare(ordinary, {.vpid = 1, .tables = 1});
}

/// All fields go free: data pages are zero.
void show(Scenario& say, std::uint64_t link) {
    say.l1().vmptrld(ordinary).vmwrite(field::vmcs_link_pointer, link);
    say.vmwrite(field::vmread_bitmap_address, bitmap).vmwrite(field::vmwrite_bitmap_address, bitmap);
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                usual | vmx::secondary::vmcs_shadowing);
}

/// The same with L1's shadow VMCS and without, and where states are saved and restored.
void expect_same(const Scenario& say) {
    const Program program = say.program();
    for (const bool shadows : {true, false}) {
        if (compare(program, {.shadow_vmcs = shadows})) {
            ADD_FAILURE() << account(program, {.shadow_vmcs = shadows});
        }
        for (std::uint64_t seed = 1; seed < 9; ++seed) {
            const NestedWorld::Options options{
                .shadow_vmcs = shadows, .random_host = seed, .saves_states = seed % 2 == 0};
            if (compare(program, options)) {
                ADD_FAILURE() << account(program, options);
            }
        }
    }
}

/// What the steps of a kind saw under the engine.
std::vector<Observation> seen(const Scenario& say, StepKind kind, Actor actor) {
    const Program program = say.program();
    NestedWorld world(NestedWorld::Options{});
    const std::vector<Observation> all = Runner(world).run(program);
    std::vector<Observation> found;
    for (std::size_t i = 0; i < program.steps.size(); ++i) {
        if (program.steps[i].kind == kind && program.steps[i].actor == actor) found.push_back(all[i]);
    }
    return found;
}

TEST(VmcsShadowing, OfAShadowVmcsThatIsCurrent) {
    Scenario say;
    begin(say);
    say.vmptrld(shadow).vmptrst().vmwrite(field::guest_rip, 0x1234).vmread(field::guest_rip);
    say.vmwrite(field::exit_reason, 7).vmread(field::exit_reason).vmread(0x7FFE).vmwrite(0x1000, 1);
    say.vmlaunch().vmresume().vmcall().vmptrld(5).vmread(field::vm_instruction_error);
    say.vmptrld(ordinary).vmread(field::vm_instruction_error).vmread(field::guest_rip);
    say.vmclear(shadow).vmptrld(shadow).vmread(field::guest_rip).vmclear(shadow).vmread(field::guest_rip);
    expect_same(say);
    const auto reads = seen(say, StepKind::vmread, Actor::l1);
    EXPECT_EQ(reads.at(0).value, 0x1234U);
    EXPECT_EQ(reads.at(1).value, 7U);
    EXPECT_EQ(reads.at(2).instruction_error, 12U);
    EXPECT_EQ(reads.at(3).value, 9U);
    EXPECT_EQ(reads.at(4).value, 0U) << "each has its own error";
    EXPECT_EQ(reads.at(6).value, 0x1234U);
}

TEST(VmcsShadowing, OfAShadowVmcsThatL2IsShown) {
    Scenario say;
    begin(say);
    say.vmptrld(shadow).vmwrite(field::guest_rip, 0x1234);
    show(say, shadow);
    say.vmlaunch().l2().vmread(field::guest_rip).vmwrite(field::host_rsp, 0x777).vmread(field::host_rsp);
    say.vmread(field::pml_address).vmread(0x7FFE).vmwrite(0x1000, 1).vmread(0x8000);
    say.l1().vmread(field::vm_instruction_error).vmread(field::host_rsp).vmptrld(shadow);
    say.vmread(field::host_rsp).vmread(field::vm_instruction_error).vmptrld(ordinary).vmresume();
    say.l2().vmcall();
    expect_same(say);
    const auto l2s = seen(say, StepKind::vmread, Actor::l2);
    EXPECT_EQ(l2s.at(0).value, 0x1234U);
    EXPECT_EQ(l2s.at(1).value, 0x777U);
    const auto l1s = seen(say, StepKind::vmread, Actor::l1);
    EXPECT_EQ(l1s.at(0).value, 12U) << "the error of L2's is in the VMCS that it runs under";
    EXPECT_EQ(l1s.at(2).value, 0x777U);
    EXPECT_EQ(l1s.at(3).value, 0U);
}

TEST(VmcsShadowing, OfALinkPointerThatChanges) {
    Scenario say;
    begin(say);
    show(say, shadow);
    say.vmlaunch();
    for (const std::uint64_t link : {other_shadow, shadow, ~std::uint64_t{0}, ordinary, layout::data_page(0),
                                     other_shadow + 8, std::uint64_t{1} << 50, other_shadow}) {
        say.l2().vmwrite(field::guest_rip, link >> 4).vmread(field::guest_rip).vmcall().l1();
        say.vmwrite(field::vmcs_link_pointer, link).vmresume().vmread(field::exit_qualification);
    }
    say.l2().vmread(field::guest_rip).vmcall().l1().edit().poke(other_shadow, nested::vmcs12_revision);
    say.l1().vmresume().edit().poke(other_shadow, nested::vmcs12_revision | nested::shadow_vmcs_indicator);
    say.l1().vmresume().l2().vmread(field::guest_rip).vmcall();
    say.l1().vmwrite(field::secondary_processor_based_vm_execution_controls, usual).vmresume();
    say.vmwrite(field::vmcs_link_pointer, ~std::uint64_t{0}).vmresume().l2().vmread(field::guest_rip);
    expect_same(say);
}

TEST(VmcsShadowing, OfBitmapsThatL1Changes) {
    Scenario say;
    begin(say);
    show(say, shadow);
    say.vmlaunch();
    constexpr std::uint32_t encoding = field::guest_rip.encoding;
    for (const std::uint64_t word :
         {~std::uint64_t{0}, std::uint64_t{0}, std::uint64_t{1} << encoding % 64}) {
        // While L2 runs, as L1's other processors may.
        say.edit().poke(bitmap + encoding / 64 * 8, word);
        say.l2().vmcall().l1().vmresume().l2().vmread(field::guest_rip).vmwrite(field::guest_rip, word);
        say.l1().vmresume().l2().vmwrite(field::guest_rip, word).l1().vmresume();
    }
    say.edit().poke(bitmap + encoding / 64 * 8, 0).l2().vmread(field::guest_rip);
    expect_same(say);
}

TEST(VmcsShadowing, OfManyShadowVmcss) {
    Scenario say;
    begin(say);
    constexpr unsigned count = 22;  // with as many ordinary ones more than the engine keeps active
    for (unsigned n = 0; n < count; ++n) {
        say.edit().poke(layout::vmcs_region(40 + n), nested::vmcs12_revision | nested::shadow_vmcs_indicator);
        say.l1().vmptrld(layout::vmcs_region(40 + n)).vmwrite(field::guest_rip, 0x100 + n);
        say.prepare(layout::vmcs_region(1 + n), {.vpid = 1, .tables = 1});
    }
    show(say, shadow);
    say.vmlaunch().l2().vmcall();
    for (unsigned i = 0; i < 2 * count; ++i) {
        const unsigned n = i * 7 % count;
        say.l1().vmwrite(field::vmcs_link_pointer, layout::vmcs_region(40 + n)).vmresume();
        say.l2().vmread(field::guest_rip).vmwrite(field::guest_rip, 0x200 + n).vmcall();
        if (i % 5 == 0) say.l1().vmptrld(layout::vmcs_region(1 + n)).vmlaunch().l2().vmcall();
        if (i % 5 == 0) say.l1().vmptrld(ordinary);
    }
    expect_same(say);
    const auto reads = seen(say, StepKind::vmread, Actor::l2);
    ASSERT_EQ(reads.size(), 2U * count);
    for (unsigned i = 0; i < 2 * count; ++i)
        EXPECT_EQ(reads[i].value, (i < count ? 0x100U : 0x200U) + i * 7 % count);
}

}  // namespace
}  // namespace flatback::machine::vmcs_shadowing_test
