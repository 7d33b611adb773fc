// What L1 is promised: what the processor has and the engine implements.
#include "nested/capabilities.hpp"

#include <gtest/gtest.h>

#include "nested/vcpu.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/field_table.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test::capabilities_test {
namespace {

TEST(Promise, IsNeverMoreThanTheProcessorHas) {
    const vmx::Capabilities has = processor();
    const vmx::Capabilities promised = nested::make_capabilities(has, physical_width, true).promised;
    for (const auto which : {&vmx::Capabilities::pin_based, &vmx::Capabilities::primary_processor_based,
                             &vmx::Capabilities::secondary_processor_based, &vmx::Capabilities::vm_exit,
                             &vmx::Capabilities::vm_entry}) {
        EXPECT_EQ((promised.*which).allowed1 & ~(has.*which).allowed1, 0U);
        EXPECT_EQ((promised.*which).allowed0 & ~(promised.*which).allowed1, 0U) << "what must be 1 may be 1";
    }
    EXPECT_EQ(promised.ept_vpid.value & ~has.ept_vpid.value, 0U);
    EXPECT_EQ(promised.cr4.fixed1 & ~has.cr4.fixed1, 0U);
    EXPECT_EQ(promised.cr4.fixed0, has.cr4.fixed0);
    EXPECT_EQ(promised.cr0, has.cr0);
}

TEST(Promise, ShrinksWithTheProcessor) {
    vmx::Capabilities has = processor();
    has.secondary_processor_based.allowed1 &=
        ~(vmx::secondary::enable_xsaves_xrstors | vmx::secondary::rdseed_exiting);
    has.ept_vpid.value &= ~vmx::EptVpidCapability::accessed_dirty;
    const auto all = nested::make_capabilities(has, physical_width, true);
    EXPECT_FALSE(all.promised.secondary_processor_based.may_set(vmx::secondary::enable_xsaves_xrstors));
    EXPECT_FALSE(all.promised.secondary_processor_based.may_set(vmx::secondary::rdseed_exiting));
    EXPECT_FALSE(all.promised.ept_vpid.has(vmx::EptVpidCapability::accessed_dirty));
}

TEST(Promise, LeavesOutWhatTheEngineDoesNotImplement) {
    const vmx::Capabilities promised = nested::make_capabilities(processor(), physical_width, true).promised;
    for (const std::uint32_t bit : {vmx::secondary::enable_vm_functions, vmx::secondary::ept_violation_ve}) {
        EXPECT_FALSE(promised.secondary_processor_based.may_set(bit)) << std::hex << bit;
    }
    EXPECT_FALSE(promised.primary_processor_based.may_set(vmx::primary::monitor_trap_flag));
    EXPECT_FALSE(promised.vm_entry.may_set(vmx::entry_control::load_ia32_perf_global_ctrl));
    EXPECT_EQ(promised.cr4.fixed1 & (x86::cr4::smx_enable | x86::cr4::five_level_paging), 0U);
    EXPECT_FALSE(promised.ept_vpid.has(vmx::EptVpidCapability::advanced_exit_information));
    EXPECT_EQ(promised.basic.revision(), nested::vmcs12_revision);
    EXPECT_EQ(promised.basic.region_size(), 4096U);
}

TEST(Promise, HasVirtualInterruptDeliveryWhereTheProcessorHasAllOfIt) {
    constexpr std::uint32_t both =
        vmx::secondary::apic_register_virtualization | vmx::secondary::virtual_interrupt_delivery;
    EXPECT_TRUE(nested::make_capabilities(processor(), physical_width, true)
                    .promised.secondary_processor_based.may_set(both));
    vmx::Capabilities has = processor();
    has.secondary_processor_based.allowed1 &= ~both;
    EXPECT_EQ(
        nested::make_capabilities(has, physical_width, true).promised.secondary_processor_based.allowed1 &
            both,
        0U);
    // A hypervisor beneath may have the control and not the field.
    const auto fields = nested::FieldSet::all().without(nested::FieldSet::of(field::eoi_exit_bitmap_2));
    EXPECT_EQ(nested::make_capabilities(processor(), physical_width, true, fields)
                      .promised.secondary_processor_based.allowed1 &
                  both,
              vmx::secondary::apic_register_virtualization);
}

// They are the engine's own work, and the processor's own stay unused.
TEST(Promise, HasPostedInterruptsWhereTheHostCanEndOneAndTheProcessorDeliversVirtualOnes) {
    const auto offers = [](const vmx::Capabilities& has, bool host_ends_interrupts) {
        const auto all = nested::make_capabilities(has, physical_width, true, nested::FieldSet::all(), 0,
                                                   host_ends_interrupts);
        const bool offered = all.promised.pin_based.may_set(vmx::pin::process_posted_interrupts);
        const nested::FieldSet fields = nested::detail::supported_fields(all);
        nested::posted_interrupt_fields.for_each(
            [&](std::size_t index) { EXPECT_EQ(fields.contains(index), offered); });
        return offered;
    };
    vmx::Capabilities has = processor();
    EXPECT_TRUE(offers(has, true));
    EXPECT_FALSE(offers(has, false));
    has.pin_based.allowed1 |= vmx::pin::process_posted_interrupts;
    EXPECT_FALSE(offers(has, false));
    EXPECT_TRUE(offers(has, true));
    has.vm_exit.allowed1 &= ~vmx::exit_control::acknowledge_interrupt_on_exit;
    EXPECT_FALSE(offers(has, true));
    has = processor();
    has.secondary_processor_based.allowed1 &= ~vmx::secondary::virtual_interrupt_delivery;
    EXPECT_FALSE(offers(has, true));
}

TEST(Promise, HasTheActivityStatesOfTheProcessor) {
    constexpr std::uint64_t states = vmx::MiscCapability::activity_hlt |
                                     vmx::MiscCapability::activity_shutdown |
                                     vmx::MiscCapability::activity_wait_for_sipi;
    for (std::uint64_t has_not = 0; has_not <= states; has_not += vmx::MiscCapability::activity_hlt) {
        vmx::Capabilities has = processor();
        has.misc.value &= ~has_not;
        const vmx::Capabilities promised = nested::make_capabilities(has, physical_width, true).promised;
        EXPECT_EQ(promised.misc.value & states, states & ~has_not) << has_not;
    }
}

// Together or not at all: L0 itself writes exit information into shadow VMCSs.
TEST(Promise, HasVmcsShadowingWhereTheProcessorCanWriteAllOfAShadowVmcs) {
    const auto offers = [](const vmx::Capabilities& has) {
        const vmx::Capabilities promised = nested::make_capabilities(has, physical_width, true).promised;
        const bool shadowing = promised.secondary_processor_based.may_set(vmx::secondary::vmcs_shadowing);
        EXPECT_EQ(promised.misc.may_write_exit_information(), shadowing);
        return shadowing;
    };
    EXPECT_TRUE(offers(processor()));
    vmx::Capabilities has = processor();
    has.secondary_processor_based.allowed1 &= ~vmx::secondary::vmcs_shadowing;
    EXPECT_FALSE(offers(has));
    has = processor();
    has.misc.value &= ~vmx::MiscCapability::vmwrite_any_field;
    EXPECT_FALSE(offers(has));
}

TEST(Promise, HasAsManyCr3TargetsAsTheProcessor) {
    constexpr std::array targets{vmx::field::cr3_target_value_0, vmx::field::cr3_target_value_1,
                                 vmx::field::cr3_target_value_2, vmx::field::cr3_target_value_3};
    for (unsigned count = 0; count <= targets.size(); ++count) {
        vmx::Capabilities has = processor();
        has.misc.value &= ~(std::uint64_t{0x1ff} << vmx::MiscCapability::cr3_target_count_shift);
        has.misc.value |= std::uint64_t{count} << vmx::MiscCapability::cr3_target_count_shift;
        const vmx::Capabilities promised = nested::make_capabilities(has, physical_width, true).promised;
        EXPECT_EQ(promised.misc.cr3_target_count(), count);
        for (unsigned number = 0; number < targets.size(); ++number) {
            const auto index = static_cast<std::size_t>(vmx::dense_index(targets[number].encoding));
            EXPECT_EQ(nested::has_what_it_needs(nested::field_sheet[index].needs, promised), number < count)
                << number << " of " << count;
        }
    }
}

TEST(Promise, NamesTheHighestFieldIndex) {
    const vmx::Capabilities promised = nested::make_capabilities(processor(), physical_width, true).promised;
    for (std::size_t i = 0; i < vmx::field_count; ++i) {
        if (nested::field_handling[i] == nested::FieldHandling::unsupported) continue;
        EXPECT_LE(vmx::index(vmx::all_fields[i].encoding), promised.vmcs_enum >> 1 & 0x1ff);
    }
}

// A field exists for L1 where the control that uses it does, so that L0 never touches one that the processor
// lacks.
TEST(Promise, OfAFieldGoesWithItsControl) {
    struct Case {
        std::uint32_t encoding;
        std::uint32_t secondary;
        std::uint32_t primary;
        std::uint32_t pin;
    };
    for (const Case& c :
         {Case{field::xss_exiting_bitmap.encoding, vmx::secondary::enable_xsaves_xrstors, 0, 0},
          Case{field::ple_gap.encoding, vmx::secondary::pause_loop_exiting, 0, 0},
          Case{field::ple_window.encoding, vmx::secondary::pause_loop_exiting, 0, 0},
          Case{field::apic_access_address.encoding, vmx::secondary::virtualize_apic_accesses, 0, 0},
          Case{field::vmread_bitmap_address.encoding, vmx::secondary::vmcs_shadowing, 0, 0},
          Case{field::vmwrite_bitmap_address.encoding, vmx::secondary::vmcs_shadowing, 0, 0},
          Case{field::virtual_apic_address.encoding, 0, vmx::primary::use_tpr_shadow, 0},
          Case{field::guest_interrupt_status.encoding, vmx::secondary::virtual_interrupt_delivery, 0, 0},
          Case{field::eoi_exit_bitmap_0.encoding, vmx::secondary::virtual_interrupt_delivery, 0, 0},
          Case{field::eoi_exit_bitmap_3.encoding, vmx::secondary::virtual_interrupt_delivery, 0, 0},
          Case{field::tpr_threshold.encoding, 0, vmx::primary::use_tpr_shadow, 0},
          Case{field::vmx_preemption_timer_value.encoding, 0, 0, vmx::pin::activate_vmx_preemption_timer}}) {
        for (const bool shadow : {false, true}) {
            VirtualCpu::Options options{.shadow_vmcs = shadow};
            VirtualCpu with{options};
            with.prepare();
            EXPECT_EQ(with.vmread(c.encoding), vm_succeed) << vmx::name_of(c.encoding);
            options.hardware.secondary_processor_based.allowed1 &= ~c.secondary;
            options.hardware.primary_processor_based.allowed1 &= ~c.primary;
            options.hardware.pin_based.allowed1 &= ~c.pin;
            VirtualCpu without{options};
            without.prepare();
            const auto unsupported =
                vm_fail(InstructionError::vmread_vmwrite_with_unsupported_vmcs_component);
            EXPECT_EQ(without.vmread(c.encoding), unsupported) << vmx::name_of(c.encoding);
            EXPECT_EQ(without.vmwrite(c.encoding, 0), unsupported) << vmx::name_of(c.encoding);
            ASSERT_EQ(without.vmlaunch(), l2_runs);
            EXPECT_FALSE(without.vmcs02().writes.contains(c.encoding)) << vmx::name_of(c.encoding);
        }
    }
}

}  // namespace
}  // namespace flatback::nested_test::capabilities_test
