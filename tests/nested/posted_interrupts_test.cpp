// The virtual-APIC set, and posted interrupts, which the engine processes itself: what is L2's without an
// exit of L1's, what is L1's exit as ever, and what another processor posts meanwhile.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/interruption.hpp"

namespace flatback::nested_test::posted_interrupts_test {
namespace {

using nested::Event;
constexpr std::uint8_t notification = 0xf2;
constexpr std::uint64_t descriptor = 0x14'0040;
constexpr std::uint64_t outstanding = descriptor + 32;
constexpr std::uint64_t virtual_apic = 0x14'1000;
constexpr std::uint32_t valid = vmx::InterruptionInformation::valid_bit;

class PostedInterrupts : public ::testing::TestWithParam<bool> {
protected:
    PostedInterrupts() {
        l1.has_one_queue = true;
        l1.prepare();
        l1.raise(field::pin_based_vm_execution_controls,
                 vmx::pin::external_interrupt_exiting | vmx::pin::process_posted_interrupts);
        l1.raise(field::primary_processor_based_vm_execution_controls,
                 vmx::primary::use_tpr_shadow | vmx::primary::activate_secondary_controls);
        l1.raise(field::secondary_processor_based_vm_execution_controls,
                 vmx::secondary::apic_register_virtualization | vmx::secondary::virtual_interrupt_delivery);
        l1.raise(field::vm_exit_controls, vmx::exit_control::acknowledge_interrupt_on_exit);
        l1.write(field::virtual_apic_address, virtual_apic);
        l1.write(field::posted_interrupt_notification_vector, notification);
        l1.write(field::posted_interrupt_descriptor_address, descriptor);
        l1.write(field::guest_interrupt_status, 0x2130);
        for (std::uint64_t at = 0; at < 64; at += 8) l1.port.memory.write<std::uint64_t>(descriptor + at, 0);
    }
    void post(std::uint8_t vector) {
        const std::uint64_t at = descriptor + vector / 8;
        l1.port.memory.write(
            at, static_cast<std::uint8_t>(l1.port.memory.read<std::uint8_t>(at) | 1U << vector % 8));
        l1.port.memory.write(outstanding, l1.port.memory.read<std::uint64_t>(outstanding) | 1);
    }
    [[nodiscard]] bool is_posted(std::uint8_t vector) {
        return (l1.port.memory.read<std::uint8_t>(descriptor + vector / 8) >> vector % 8 & 1) != 0;
    }
    [[nodiscard]] std::vector<std::uint8_t> requested() {
        std::vector<std::uint8_t> vectors;
        for (unsigned vector = 0; vector < 256; ++vector) {
            const auto word = l1.port.memory.read<std::uint32_t>(virtual_apic + 0x200 + vector / 32 * 16);
            if ((word >> vector % 32 & 1) != 0) vectors.push_back(static_cast<std::uint8_t>(vector));
        }
        return vectors;
    }
    Outcome l2_meets(std::uint8_t vector) {
        return l1.l2_exits({.reason = ExitReason::external_interrupt, .interruption = valid | vector});
    }
    VirtualCpu l1{{.shadow_vmcs = GetParam(), .posted_interrupts = true}};
};
INSTANTIATE_TEST_SUITE_P(ShadowVmcs, PostedInterrupts, ::testing::Bool());

TEST_P(PostedInterrupts, AreNotTheProcessors) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::pin_based_vm_execution_controls) &
                  (vmx::pin::process_posted_interrupts | vmx::pin::external_interrupt_exiting),
              vmx::pin::external_interrupt_exiting);
    EXPECT_EQ(l1.vmcs02().get(field::guest_interrupt_status), 0x2130U);
}

// SDM 3C 30.6.
TEST_P(PostedInterrupts, ReachL2WithoutAnExitOfL1s) {
    const std::vector<std::uint8_t> vectors{0x21, 0x3f, 0x40, 0x7f, 0xa5, 0xe1};
    for (const std::uint8_t vector : vectors) post(vector);
    l1.port.memory.write(virtual_apic + 0x200 + 0x10, std::uint32_t{1U << 0x17});
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const auto reflected = l1.counters().exits_reflected;
    ASSERT_EQ(l2_meets(notification), l2_runs);
    EXPECT_EQ(l1.counters().exits_reflected, reflected);
    EXPECT_EQ(l1.port.interrupts_ended, std::vector<std::uint8_t>{notification});
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(outstanding), 0U);
    for (const std::uint8_t vector : vectors) EXPECT_FALSE(is_posted(vector));
    EXPECT_EQ(requested(), (std::vector<std::uint8_t>{0x21, 0x37, 0x3f, 0x40, 0x7f, 0xa5, 0xe1}));
    EXPECT_EQ(l1.vmcs02().get(field::guest_interrupt_status), 0x21e1U) << "RVI alone";
    EXPECT_EQ(l1.injected() & valid, 0U);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    EXPECT_EQ(l1.read(field::guest_interrupt_status), 0x21e1U);
}

TEST_P(PostedInterrupts, DoNotLowerWhatIsRequested) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l2_meets(notification), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_interrupt_status), 0x2130U) << "nothing was posted";
    EXPECT_EQ(l1.port.interrupts_ended.size(), 1U);
    post(0x22);
    ASSERT_EQ(l2_meets(notification), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_interrupt_status), 0x2130U);
    EXPECT_EQ(requested(), std::vector<std::uint8_t>{0x22});
}

// ON is cleared before the requests are taken: what is posted behind that is either taken, or brings another
// notification.
TEST_P(PostedInterrupts, ThatComeMeanwhileAreNotLost) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    post(0x50);
    l1.port.memory.write(outstanding, std::uint64_t{0xf1'0003});  // what else is there stays
    l1.port.at_end_of_interrupt = [this] {
        EXPECT_EQ(l1.port.memory.read<std::uint64_t>(outstanding), 0xf1'0002U);
        post(0x61);
    };
    ASSERT_EQ(l2_meets(notification), l2_runs);
    EXPECT_EQ(requested(), (std::vector<std::uint8_t>{0x50, 0x61}));
    EXPECT_EQ(l1.port.memory.read<std::uint64_t>(outstanding), 0xf1'0003U);
}

TEST_P(PostedInterrupts, AnotherVectorIsL1sExit) {
    post(0x50);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l2_meets(notification + 1), l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), valid | (notification + 1U));
    EXPECT_TRUE(l1.port.interrupts_ended.empty());
    EXPECT_TRUE(is_posted(0x50));
    // And the notification is, where L1 does not ask for more.
    l1.lower(field::pin_based_vm_execution_controls, vmx::pin::process_posted_interrupts);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    ASSERT_EQ(l2_meets(notification), l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), valid | notification);
    EXPECT_TRUE(l1.port.interrupts_ended.empty());
    EXPECT_TRUE(is_posted(0x50));
}

// Where interrupts are the host's, which gives L1 its own.
TEST_P(PostedInterrupts, WorkWhereTheHostTakesInterruptsFirst) {
    post(0x50);
    ASSERT_TRUE(l1.set_demands({.external_interrupts = true}));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::external_interrupt}), hosts_exit);
    l1.events.add(Event::interrupt(notification));
    ASSERT_EQ(l1.resume(), l2_runs);
    EXPECT_TRUE(l1.events.empty());
    EXPECT_EQ(requested(), std::vector<std::uint8_t>{0x50});
    post(0x51);
    l1.port.acknowledged_vector = notification;
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::external_interrupt}), hosts_exit);
    l1.events.add(Event::interrupt_to_acknowledge());
    ASSERT_EQ(l1.resume(), l2_runs);
    EXPECT_EQ(l1.port.interrupts_acknowledged, 1U);
    EXPECT_EQ(requested(), (std::vector<std::uint8_t>{0x50, 0x51}));
    EXPECT_EQ(l1.port.interrupts_ended, (std::vector<std::uint8_t>{notification, notification}));
    ASSERT_EQ(l1.l2_exits({.reason = ExitReason::external_interrupt}), hosts_exit);
    l1.events.add(Event::interrupt(0x33));
    ASSERT_EQ(l1.resume(), l1_sees(ExitReason::external_interrupt));
    EXPECT_EQ(l1.read(field::vm_exit_interruption_information), valid | 0x33);
}

// Descriptor or virtual-APIC page where L1 has no memory, or L0's.
TEST_P(PostedInterrupts, OfNoMemoryAreNone) {
    for (const std::uint64_t nowhere : {L1Memory::size, L1Memory::l0_start}) {
        l1.port.interrupts_ended.clear();
        l1.write(field::posted_interrupt_descriptor_address, nowhere);
        ASSERT_EQ(l1.vmwrite(field::virtual_apic_address.encoding, virtual_apic), vm_succeed);
        ASSERT_EQ(nowhere == L1Memory::size ? l1.vmlaunch() : l1.vmresume(), l2_runs);
        ASSERT_EQ(l2_meets(notification), l2_runs);
        EXPECT_EQ(l1.port.interrupts_ended.size(), 1U);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        l1.write(field::posted_interrupt_descriptor_address, descriptor);
        l1.write(field::virtual_apic_address, nowhere);
        post(0x80);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        ASSERT_EQ(l2_meets(notification), l2_runs);
        EXPECT_FALSE(is_posted(0x80));
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    EXPECT_TRUE(requested().empty());
}

// An MSR bitmap of L1's that lies in one of the two pages is merged anew, as after any write of L0's.
TEST_P(PostedInterrupts, AreWritesToL1sMemory) {
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::use_msr_bitmaps);
    l1.write(field::address_of_msr_bitmaps, virtual_apic);
    for (std::uint64_t at = 0; at < 0x1000; at += 8)
        l1.port.memory.write<std::uint64_t>(virtual_apic + at, 0);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    post(0x20);
    ASSERT_EQ(l2_meets(notification), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(
        l1.port.page(x86::Hpa{l1.vmcs02().get(field::address_of_msr_bitmaps)}));
    EXPECT_EQ(bytes[0x210], 1U);
}

TEST_P(PostedInterrupts, WantWhatTheyBuildOn) {
    const auto refused = vm_fail(InstructionError::entry_with_invalid_control_fields);
    const auto refuses = [&](const auto& which, std::uint64_t value) {
        const std::uint64_t before = l1.read(which);
        l1.write(which, value);
        EXPECT_EQ(l1.vmlaunch(), refused) << vmx::name_of(which.encoding) << ' ' << std::hex << value;
        l1.write(which, before);
    };
    refuses(field::posted_interrupt_notification_vector, 0x100);
    refuses(field::posted_interrupt_descriptor_address, descriptor + 0x20);
    refuses(field::posted_interrupt_descriptor_address, 1ULL << physical_width);
    refuses(field::vm_exit_controls,
            l1.read(field::vm_exit_controls) & ~vmx::exit_control::acknowledge_interrupt_on_exit);
    refuses(field::secondary_processor_based_vm_execution_controls, 0);
    EXPECT_EQ(l1.vmlaunch(), l2_runs);
}

// The processor of these tests has neither field: they are in none of its VMCSs, whatever L1 does.
TEST_P(PostedInterrupts, HaveFieldsThatTheProcessorLacks) {
    constexpr std::array fields{field::posted_interrupt_notification_vector.encoding,
                                field::posted_interrupt_descriptor_address.encoding};
    for (unsigned round = 0; round < 20; ++round) {
        for (const std::uint32_t encoding : fields) {
            l1.write_raw(encoding, 0x40);
            EXPECT_EQ(l1.read_raw(encoding), 0x40U);
        }
        ASSERT_EQ(round == 0 ? l1.vmlaunch() : l1.vmresume(), l2_runs);
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    }
    l1.write_raw(fields[1] | 1, 7);
    EXPECT_EQ(l1.read_raw(fields[1]), 0x7'0000'0040U);
    EXPECT_EQ(l1.vmread(fields[0] | 1),
              vm_fail(InstructionError::vmread_vmwrite_with_unsupported_vmcs_component));
    // In a shadow VMCS of L1's too.
    const std::uint64_t shadow = layout::vmcs_region(9);
    l1.port.memory.write(shadow, nested::vmcs12_revision | nested::shadow_vmcs_indicator);
    ASSERT_EQ(l1.vmclear(shadow), vm_succeed);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    l1.write_raw(fields[0], 0x55);
    l1.write_raw(fields[1], 0x5'0000'0040);
    l1.write_raw(fields[1] | 1, 6);
    EXPECT_EQ(l1.read_raw(fields[0]), 0x55U);
    EXPECT_EQ(l1.read_raw(fields[1]), 0x6'0000'0040U);
    ASSERT_EQ(l1.vmclear(shadow), vm_succeed);
    ASSERT_EQ(l1.vmptrld(shadow), vm_succeed);
    EXPECT_EQ(l1.read_raw(fields[0]), 0x55U);
    EXPECT_EQ(l1.read_raw(fields[1]), 0x6'0000'0040U);
    // And in a saved state.
    const std::vector<std::byte> state = l1.save_state();
    VirtualCpu other{{.shadow_vmcs = GetParam(), .posted_interrupts = true}};
    ASSERT_EQ(other.restore_state(state), std::nullopt);
    EXPECT_EQ(other.read_raw(fields[0]), 0x55U);
    EXPECT_EQ(other.read_raw(fields[1]), 0x6'0000'0040U);
}

// What L1 lets its guest reach of them is L1's to give.
TEST_P(PostedInterrupts, HaveFieldsThatExitToL1InL2) {
    constexpr std::uint64_t bitmap = 0x14'3000;
    const std::uint64_t shadow = layout::vmcs_region(9);
    l1.port.memory.write(shadow, nested::vmcs12_revision | nested::shadow_vmcs_indicator);
    for (std::uint64_t at = 0; at < 0x1000; at += 8) l1.port.memory.write<std::uint64_t>(bitmap + at, 0);
    l1.write(field::vmread_bitmap_address, bitmap);
    l1.write(field::vmwrite_bitmap_address, bitmap);
    l1.write(field::vmcs_link_pointer, shadow);
    l1.raise(field::secondary_processor_based_vm_execution_controls, vmx::secondary::vmcs_shadowing);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.l2_vmread(field::guest_rip.encoding), l2_runs);
    EXPECT_EQ(l1.l2_vmread(field::posted_interrupt_notification_vector.encoding),
              l1_sees(ExitReason::vmread));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.l2_vmwrite(field::posted_interrupt_descriptor_address.encoding, 0),
              l1_sees(ExitReason::vmwrite));
}

TEST_P(PostedInterrupts, AVirtualizedEoiIsL1sExit) {
    l1.write(field::eoi_exit_bitmap_2, 0x8000'0000'0000'0001);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::eoi_exit_bitmap_2), 0x8000'0000'0000'0001U);
    for (const ExitReason reason : {ExitReason::virtualized_eoi, ExitReason::apic_write}) {
        l1.vmcs02().set(field::guest_interrupt_status, 0x4030);
        ASSERT_EQ(l1.l2_exits({.reason = reason, .qualification = 0x80}), l1_sees(reason));
        EXPECT_EQ(l1.read(field::exit_qualification), 0x80U);
        EXPECT_EQ(l1.read(field::guest_interrupt_status), 0x4030U) << "as the processor left it";
        ASSERT_EQ(l1.vmresume(), l2_runs);
    }
    // Without the control the processor neither looks at it nor changes it.
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.write(field::guest_interrupt_status, 0x1234);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l1.vmcs02().get(field::guest_interrupt_status), 0x1234U);
}

// A processor that tells of the event before it where an exit interrupts the delivery of a virtual interrupt:
// what is in service is delivered again.
TEST_P(PostedInterrupts, OfAProcessorThatMisreportsVirtualInterruptsAreDeliveredAgain) {
    constexpr std::uint32_t invalid_opcode_before = valid | 0x306;
    for (const bool misreports : {false, true}) {
        VirtualCpu other{{.shadow_vmcs = GetParam(), .misreports_virtual_interrupts = misreports}};
        other.prepare();
        other.raise(field::pin_based_vm_execution_controls, vmx::pin::external_interrupt_exiting);
        other.raise(field::primary_processor_based_vm_execution_controls,
                    vmx::primary::use_tpr_shadow | vmx::primary::activate_secondary_controls);
        other.raise(field::secondary_processor_based_vm_execution_controls,
                    vmx::secondary::virtual_interrupt_delivery);
        other.write(field::virtual_apic_address, virtual_apic);
        ASSERT_EQ(other.vmlaunch(), l2_runs);
        const auto violation = [&](std::uint16_t status, bool interrupts_on) {
            other.vmcs02().set(field::guest_interrupt_status, status);
            other.vmcs02().set(field::guest_rflags, interrupts_on ? 0x202 : 2);
            EXPECT_EQ(
                other.l2_exits({.reason = ExitReason::ept_violation, .vectoring = invalid_opcode_before}),
                l2_runs);
            return other.injected();
        };
        EXPECT_EQ(violation(0x6100, true), misreports ? valid | 0x61 : invalid_opcode_before);
        EXPECT_EQ(violation(0x6100, false), invalid_opcode_before) << "in the handler";
        EXPECT_EQ(violation(0x0061, true), invalid_opcode_before) << "none is in service";
        // And where the violation is L1's to see.
        ASSERT_EQ(other.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        other.raise(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_ept);
        other.write(field::ept_pointer, layout::ept_tables | 0x1e);
        other.write(field::guest_rflags, 0x202);
        other.write(field::guest_interrupt_status, 0x6100);
        ASSERT_EQ(other.vmresume(), l2_runs);
        ASSERT_EQ(other.l2_exits({.reason = ExitReason::ept_violation, .vectoring = invalid_opcode_before}),
                  l1_sees(ExitReason::ept_violation));
        EXPECT_EQ(other.read(field::idt_vectoring_information),
                  misreports ? valid | 0x61 : invalid_opcode_before);
        // Where no event was being delivered there is none.
        ASSERT_EQ(other.vmresume(), l2_runs);
        ASSERT_EQ(other.l2_exits({.reason = ExitReason::ept_violation}), l1_sees(ExitReason::ept_violation));
        EXPECT_EQ(other.read(field::idt_vectoring_information) & valid, 0U);
    }
}

// L1 takes "APIC-register virtualization" away, and leaves its bitmap as it is: the real local APIC's
// register, which L0 keeps, is not L2's for a moment.
TEST_P(PostedInterrupts, TheX2ApicsRegistersAreTheProcessorsAsLongAsItVirtualizesThem) {
    constexpr std::uint32_t end_of_interrupt = 0x80b;
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::use_msr_bitmaps);
    l1.write(field::address_of_msr_bitmaps, layout::msr_bitmap);
    const auto exits = [&](std::uint32_t msr, bool write) {
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(
            l1.port.page(x86::Hpa{l1.vmcs02().get(field::address_of_msr_bitmaps)}));
        return (bytes[(write ? 2048 : 0) + msr / 8] >> msr % 8 & 1) != 0;
    };
    const auto expect = [&](std::uint32_t controls, bool reads_exit, bool ends_exit) {
        l1.lower(field::secondary_processor_based_vm_execution_controls,
                 vmx::secondary::virtualize_x2apic_mode | vmx::secondary::apic_register_virtualization |
                     vmx::secondary::virtual_interrupt_delivery);
        l1.raise(field::secondary_processor_based_vm_execution_controls, controls);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        EXPECT_EQ(exits(end_of_interrupt, false), reads_exit) << std::hex << controls;
        EXPECT_EQ(exits(end_of_interrupt, true), ends_exit) << std::hex << controls;
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    };
    l1.lower(field::pin_based_vm_execution_controls, vmx::pin::process_posted_interrupts);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    namespace bit = vmx::secondary;
    expect(bit::virtualize_x2apic_mode | bit::apic_register_virtualization | bit::virtual_interrupt_delivery,
           false, false);
    expect(bit::virtualize_x2apic_mode | bit::virtual_interrupt_delivery, true, false);
    expect(bit::virtualize_x2apic_mode | bit::apic_register_virtualization, false, true);
    expect(bit::virtualize_x2apic_mode, true, true);
    expect(bit::apic_register_virtualization | bit::virtual_interrupt_delivery, true, true);
}

}  // namespace
}  // namespace flatback::nested_test::posted_interrupts_test
