// I/O ports that the host keeps: what L2 gets, whoever wrote to L1's bitmaps and through which VMCS they are
// used (SDM 3C 25.6.4), and who gets to see its I/O instructions.
#include "nested/entry/io_bitmaps.hpp"

#include <gtest/gtest.h>

#include <array>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/controls.hpp"
#include "vmx/exit_qualification.hpp"

namespace flatback::nested_test::io_bitmaps_test {
namespace {

using vmx::IoAccess;

constexpr std::uint16_t kept = 0xb005;
constexpr std::uint64_t bitmap_a = layout::io_bitmaps;
constexpr std::uint64_t bitmap_b = layout::io_bitmaps + 0x1000;

TEST(IoBitmapBits, AreWhereTheSdmPutsThem) {
    std::array<std::array<std::byte, 4096>, 2> bitmaps{};
    const auto have = [&](std::uint8_t size, std::uint16_t port) {
        return nested::io_bitmaps_have([&](std::uint32_t half) { return bitmaps.at(half).data(); },
                                       IoAccess{.size = size, .port = port});
    };
    bitmaps[0][0x7fff / 8] = std::byte{0x80};
    bitmaps[1][0x10 / 8] = std::byte{2};
    EXPECT_TRUE(have(1, 0x7fff));
    EXPECT_FALSE(have(1, 0x8000));
    EXPECT_TRUE(have(2, 0x7ffe));
    EXPECT_FALSE(have(2, 0x7ffd));
    EXPECT_TRUE(have(1, 0x8011));
    EXPECT_TRUE(have(4, 0x800e)) << "unaligned";
    EXPECT_FALSE(have(4, 0x8012));
    EXPECT_TRUE(have(2, 0xffff)) << "wraps: exits whatever they have";
    EXPECT_FALSE(have(1, 0xffff));
}

TEST(IoBitmapsOfTheHosts, HaveNoMorePlacesThanAreRemembered) {
    VirtualCpu::Options options;
    for (unsigned n = 0; n < 8; ++n) options.kept_ports.insert(static_cast<std::uint16_t>(n << 13));
    EXPECT_NO_THROW(VirtualCpu{options});
    options.kept_ports.insert(0xffff);
    EXPECT_THROW(VirtualCpu{options}, FatalError);
}

struct Shape {
    bool msr_bitmap;      // L1 uses one besides
    bool notices_writes;  // the host's keep_unwritten()
    bool shadow_vmcs;
};

class KeptPort : public ::testing::TestWithParam<Shape> {
protected:
    KeptPort() {
        l1.port.notices_writes = GetParam().notices_writes;
        l1.prepare();
        use_bitmaps();
    }
    void use_bitmaps() {
        l1.write(field::address_of_io_bitmap_a, bitmap_a);
        l1.write(field::address_of_io_bitmap_b, bitmap_b);
        l1.write(field::address_of_msr_bitmaps, layout::msr_bitmap);
        l1.raise(field::primary_processor_based_vm_execution_controls,
                 vmx::primary::use_io_bitmaps | (GetParam().msr_bitmap ? vmx::primary::use_msr_bitmaps : 0));
    }
    void l1_intercepts(std::uint16_t port, bool wanted) {
        const std::uint64_t at = (port < 0x8000 ? bitmap_a : bitmap_b) + (port & 0x7fff) / 8;
        const auto bit = static_cast<std::uint8_t>(1U << port % 8);
        const auto byte = l1.port.memory.read<std::uint8_t>(at);
        l1.port.memory.write(at, static_cast<std::uint8_t>(wanted ? byte | bit : byte & ~bit));
    }
    // Whether the processor lets L2 have the port.
    [[nodiscard]] bool exits(std::uint16_t port) {
        const FakeVmcs& v = l1.vmcs02();
        const std::uint32_t primary = v.get(field::primary_processor_based_vm_execution_controls);
        if ((primary & vmx::primary::use_io_bitmaps) == 0)
            return (primary & vmx::primary::unconditional_io_exiting) != 0;
        return nested::io_bitmaps_have(
            [&](std::uint32_t half) -> const std::byte* {
                const std::uint64_t at =
                    v.get(half == 0 ? field::address_of_io_bitmap_a : field::address_of_io_bitmap_b);
                if (l1.port.has_page(at))
                    return reinterpret_cast<const std::byte*>(l1.port.page(x86::Hpa{at}));
                return l1.port.memory.page(at - FakePort::host_offset);
            },
            IoAccess{.port = port});
    }
    [[nodiscard]] Outcome l2_accesses(std::uint16_t port, std::uint8_t size = 2) {
        return l1.l2_exits({.reason = ExitReason::io_instruction,
                            .qualification = IoAccess{.size = size, .port = port}.encode(),
                            .instruction_length = 2});
    }
    void expect_exits(bool of_l1s_port) {
        EXPECT_TRUE(exits(kept));
        EXPECT_EQ(exits(0xb000), of_l1s_port);
        EXPECT_FALSE(exits(0xb001));
        EXPECT_FALSE(exits(0x80));
    }
    VirtualCpu l1{{.shadow_vmcs = GetParam().shadow_vmcs, .kept_ports = {kept}}};
};
INSTANTIATE_TEST_SUITE_P(Shapes, KeptPort,
                         ::testing::Values(Shape{false, false, false}, Shape{false, true, true},
                                           Shape{true, false, true}, Shape{true, true, false}));

TEST_P(KeptPort, IsInWhatL2GetsWhateverL1WritesLater) {
    l1_intercepts(0xb000, true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    expect_exits(true);
    for (unsigned round = 0; round < 4; ++round) {
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        l1_intercepts(0xb000, (round & 1) != 0);
        l1_intercepts(kept, false);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        expect_exits((round & 1) != 0);
    }
}

TEST_P(KeptPort, IsInWhatL2GetsBesideAnEvent) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    expect_exits(false);
    for (const bool wanted : {true, false}) {
        ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        l1_intercepts(0xb000, wanted);
        l1.write(field::vm_entry_interruption_information, 0x8000'0030);
        ASSERT_EQ(l1.vmresume(), l2_runs);
        expect_exits(wanted);
    }
}

TEST_P(KeptPort, IsInWhatEachVmcsGetsOfPagesThatTheyShare) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1.make_vmcs(1);
    use_bitmaps();
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    for (unsigned round = 0; round < 4; ++round) {
        l1_intercepts(0xb000, (round & 1) == 0);
        for (const unsigned n : {0U, 1U}) {
            ASSERT_EQ(l1.vmptrld(layout::vmcs_region(n)), vm_succeed);
            ASSERT_EQ(l1.vmresume(), l2_runs);
            expect_exits((round & 1) == 0);
            ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
        }
    }
}

TEST_P(KeptPort, IsInWhatL2GetsWhenEpt01HasChanged) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    l1.ept01_changed();
    expect_exits(false);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    l1_intercepts(0xb000, true);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    expect_exits(true);
}

TEST_P(KeptPort, IsInWhatL2GetsWhenL0WroteToTheBitmapForL1) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    expect_exits(false);
    ASSERT_EQ(l1.l2_executes_cpuid(), l1_sees(ExitReason::cpuid));
    // VMPTRST, of a pointer whose bit 16 alone is set.
    ASSERT_EQ(layout::vmcs_region(0), 1U << 16);
    l1.port.registers.at(3) = bitmap_b + 0x3000 / 8;
    ASSERT_EQ(l1.execute(ExitReason::vmptrst, memory_operand(3)), vm_succeed);
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_TRUE(exits(0xb010));
    EXPECT_TRUE(exits(kept));
    EXPECT_FALSE(exits(0xb000));
}

TEST_P(KeptPort, IsTheHostsWhereL1DoesNotWantIt) {
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    const std::uint64_t rip = l1.vmcs02().get(field::guest_rip);
    EXPECT_EQ(l2_accesses(kept - 1), l2_runs);
    EXPECT_EQ(l1.port.io_handled, 1U);
    EXPECT_EQ(l1.vmcs02().get(field::guest_rip), rip + 2);
    EXPECT_EQ(l2_accesses(kept, 1), l2_runs);
    EXPECT_EQ(l1.port.io_handled, 2U);
    l1.port.io_is_done = false;
    EXPECT_EQ(l2_accesses(kept), l2_runs);
    EXPECT_EQ(l1.injected(), 0x8000'0b0dU);
}

TEST_P(KeptPort, IsL1sWhereItWantsIt) {
    l1_intercepts(kept, true);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_EQ(l2_accesses(kept - 1), l1_sees(ExitReason::io_instruction));
    EXPECT_EQ(l1.read(field::exit_qualification), (IoAccess{.size = 2, .port = kept - 1}.encode()));
    ASSERT_EQ(l1.vmresume(), l2_runs);
    EXPECT_EQ(l2_accesses(0x80), l1_sees(ExitReason::io_instruction)) << "none of the host's";
    EXPECT_EQ(l1.port.io_handled, 0U);
}

TEST_P(KeptPort, ExitsThoughL1UsesNoBitmaps) {
    l1.lower(field::primary_processor_based_vm_execution_controls, vmx::primary::use_io_bitmaps);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    expect_exits(false);
    EXPECT_EQ(l2_accesses(kept), l2_runs);
    EXPECT_EQ(l1.port.io_handled, 1U);
}

TEST_P(KeptPort, IsL1sWhereAllIoExits) {
    l1.lower(field::primary_processor_based_vm_execution_controls, vmx::primary::use_io_bitmaps);
    l1.raise(field::primary_processor_based_vm_execution_controls, vmx::primary::unconditional_io_exiting);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_TRUE(exits(0x80));
    EXPECT_EQ(l2_accesses(kept), l1_sees(ExitReason::io_instruction));
}

TEST_P(KeptPort, BitmapsThatL1DoesNotHaveInterceptEverything) {
    l1.write(field::address_of_io_bitmap_b, 0x1'4000'0000);
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    EXPECT_TRUE(exits(0xb001));
    EXPECT_EQ(l2_accesses(kept), l1_sees(ExitReason::io_instruction));
}

}  // namespace
}  // namespace flatback::nested_test::io_bitmaps_test
