// The merged MSR bitmap, alone: every bit of L1's and of L0's at any moment of its use, whoever wrote and
// through which VMCS it is used.
#include "nested/entry/msr_bitmap.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstring>
#include <stdexcept>

namespace flatback::nested_test::msr_bitmap_test {
namespace {

using nested::MergedMsrBitmap;
using nested::MsrBitmaps;
using x86::Gpa;
using x86::Hpa;
using x86::L1;

// Pages 1 to 4 are L1's (5 it does not have), 10 to 12 the merged ones, 20 L0's own.
struct Host {
    std::uint64_t* page(Hpa address) { return pages.at(address.page_number()).data(); }
    std::byte* l1_page(Gpa<L1> address) {
        const std::uint64_t number = address.page_number();
        return number == 5 ? nullptr : reinterpret_cast<std::byte*>(pages.at(number).data());
    }
    Hpa l0_msr_bitmap() { return Hpa{20 << 12}; }
    bool unwritten_since_last_asked(Gpa<L1> address) {
        ++asked;
        return !std::exchange(written.at(address.page_number()), false);
    }
    void fatal(const char* why) { throw std::runtime_error(why); }

    std::array<std::array<std::uint64_t, 512>, 21> pages{};
    std::array<bool, 21> written{};
    unsigned asked = 0;
};

constexpr std::uint32_t task_priority = 0x808;
constexpr std::uint32_t every_virtualization = vmx::secondary::virtualize_x2apic_mode |
                                               vmx::secondary::apic_register_virtualization |
                                               vmx::secondary::virtual_interrupt_delivery;

class MergedBitmap : public ::testing::Test {
protected:
    MergedBitmap() {
        host.pages[20][0x1b / 64] |= 1ULL << 0x1b;              // L0: reads of IA32_APIC_BASE
        host.pages[20][task_priority / 64] |= 1ULL << 8;        // and of the x2APIC's TPR, ...
        host.pages[20][256 + task_priority / 64] |= 1ULL << 8;  // ... and writes
    }
    [[nodiscard]] bool exits(const MergedMsrBitmap& merged, std::uint32_t msr, bool write) {
        return nested::msr_bitmap_has(reinterpret_cast<const std::byte*>(host.page(merged.page)), msr, write);
    }
    static void use(MsrBitmaps<Host>& bitmaps, MergedMsrBitmap& merged, std::uint64_t address,
                    std::uint32_t secondary) {
        if (!bitmaps.is_current(merged, address)) bitmaps.merge(merged, address, secondary);
    }
    Host host;
};

TEST(MsrBitmapBit, IsWhereTheSdmPutsIt) {
    std::array<std::byte, 4096> bitmap{};
    const auto has = [&](std::uint32_t msr, bool write) {
        return nested::msr_bitmap_has(bitmap.data(), msr, write);
    };
    bitmap[0x10 / 8] = std::byte{1};
    EXPECT_TRUE(has(0x10, false));
    EXPECT_FALSE(has(0x10, true));
    EXPECT_FALSE(has(0xc000'0010, false));
    bitmap[1024 + 0x1fff / 8] = std::byte{0x80};
    EXPECT_TRUE(has(0xc000'1fff, false));
    EXPECT_FALSE(has(0x1fff, false));
    bitmap[2048] = std::byte{2};
    EXPECT_TRUE(has(1, true));
    bitmap[3072] = std::byte{4};
    EXPECT_TRUE(has(0xc000'0002, true));
    for (const std::uint32_t msr : {0x2000U, 0xbfff'ffffU, 0xc000'2000U, 0xffff'ffffU}) {
        EXPECT_TRUE(has(msr, false)) << "in neither range: always";
        EXPECT_TRUE(has(msr, true));
    }
}

TEST(MsrBitmapOfTheHosts, HasNoMorePlacesThanAreRemembered) {
    Host host;
    for (std::size_t word = 0; word < 64; ++word) host.pages[20][2 * word] = 1;
    EXPECT_NO_THROW(MsrBitmaps<Host>{host});
    host.pages[20][511] = 1;
    EXPECT_THROW(MsrBitmaps<Host>{host}, std::runtime_error);
}

TEST_F(MergedBitmap, OfAPageThatL1DoesNotHaveHasEveryBit) {
    MsrBitmaps<Host> bitmaps{host};
    MergedMsrBitmap merged{.page = Hpa{10 << 12}};
    use(bitmaps, merged, 5 << 12, every_virtualization);
    EXPECT_TRUE(exits(merged, 0x123, false));
    EXPECT_TRUE(exits(merged, task_priority, false));
}

TEST_F(MergedBitmap, WithAVirtualTprLeavesItToTheProcessorUnlessL1WantsIt) {
    MsrBitmaps<Host> bitmaps{host};
    MergedMsrBitmap merged{.page = Hpa{10 << 12}};
    host.pages[1][256 + task_priority / 64] |= 1ULL << 8;
    use(bitmaps, merged, 1 << 12, vmx::secondary::virtualize_x2apic_mode);
    EXPECT_FALSE(exits(merged, task_priority, false));
    EXPECT_TRUE(exits(merged, task_priority, true)) << "L1 asked for it";
    merged.merge_anew();
    use(bitmaps, merged, 1 << 12, 0);
    EXPECT_TRUE(exits(merged, task_priority, false));
}

// SDM 3C 30.5: of the x2APIC's registers L2 has without an exit what the processor virtualizes, and nothing
// else of what L0 keeps, whatever L1 lets it have.
TEST_F(MergedBitmap, LeavesToTheProcessorWhatItVirtualizesOfTheX2Apic) {
    for (std::size_t word = 0; word < 4; ++word) {
        host.pages[20][0x800 / 64 + word] = host.pages[20][256 + 0x800 / 64 + word] = ~0ULL;
    }
    const auto is_virtualized = [](std::uint32_t secondary, std::uint32_t msr, bool write) {
        const auto has = [secondary](std::uint32_t control) { return (secondary & control) != 0; };
        if (!has(vmx::secondary::virtualize_x2apic_mode)) return false;
        if (msr == task_priority) return true;
        if (!write) return has(vmx::secondary::apic_register_virtualization);
        return (msr == 0x80b || msr == 0x83f) && has(vmx::secondary::virtual_interrupt_delivery);
    };
    constexpr std::uint32_t l1_wants = 0x80b;
    for (const bool wanted : {false, true}) {
        if (wanted) host.pages[1][l1_wants / 64] = host.pages[1][256 + l1_wants / 64] = 1ULL << l1_wants % 64;
        for (unsigned some = 0; some < 8; ++some) {
            const std::uint32_t secondary =
                ((some & 1) != 0 ? vmx::secondary::virtualize_x2apic_mode : 0) |
                ((some & 2) != 0 ? vmx::secondary::apic_register_virtualization : 0) |
                ((some & 4) != 0 ? vmx::secondary::virtual_interrupt_delivery : 0);
            MsrBitmaps<Host> bitmaps{host};
            MergedMsrBitmap merged{.page = Hpa{10 << 12}};
            use(bitmaps, merged, 1 << 12, secondary);
            for (std::uint32_t msr = 0x7ff; msr <= 0x900; ++msr) {
                const bool in_range = msr >= 0x800 && msr <= 0x8ff;
                for (const bool write : {false, true}) {
                    const bool free =
                        !in_range || (is_virtualized(secondary, msr, write) && !(wanted && msr == l1_wants));
                    ASSERT_EQ(exits(merged, msr, write), !free) << std::hex << msr << ' ' << secondary;
                }
            }
        }
    }
}

TEST_F(MergedBitmap, IsNotCopiedAgainWhereNobodyWrote) {
    MsrBitmaps<Host> bitmaps{host};
    MergedMsrBitmap merged{.page = Hpa{10 << 12}};
    use(bitmaps, merged, 1 << 12, 0);
    host.pages[10][100] = 77;  // to be found again
    use(bitmaps, merged, 1 << 12, 0);
    EXPECT_EQ(host.pages[10][100], 77U);
    host.written[1] = true;
    use(bitmaps, merged, 1 << 12, 0);
    EXPECT_EQ(host.pages[10][100], 0U);
}

// Three VMCSs over the same few pages, with writes of L1's (which the host notices) and of L0's between.
RC_GTEST_FIXTURE_PROP(MergedBitmap, HasEveryBitOfL1sAndL0s, ()) {
    MsrBitmaps<Host> bitmaps{host};
    std::array<MergedMsrBitmap, 3> merged{
        {{.page = Hpa{10 << 12}}, {.page = Hpa{11 << 12}}, {.page = Hpa{12 << 12}}}};
    const auto steps = *rc::gen::inRange(1, 60);
    for (int step = 0; step < steps; ++step) {
        const auto page = *rc::gen::inRange<std::uint64_t>(1, 5);
        const auto word = *rc::gen::inRange<std::size_t>(0, 512);
        switch (*rc::gen::inRange(0, 5)) {
            case 0:
                host.pages[page][word] = *rc::gen::arbitrary<std::uint64_t>();
                host.written[page] = true;
                break;
            case 1:
                host.pages[page][word] = *rc::gen::arbitrary<std::uint64_t>();
                bitmaps.note_written(reinterpret_cast<const std::byte*>(host.pages[page].data()));
                break;
            case 2:
                host.pages[page][word] = *rc::gen::arbitrary<std::uint64_t>();
                bitmaps.note_written_somewhere();
                break;
            case 3:
                bitmaps.forget();
                break;
            default: {
                MergedMsrBitmap& used = merged[*rc::gen::inRange<std::size_t>(0, 3)];
                use(bitmaps, used, page << 12, 0);
                for (std::size_t i = 0; i < 512; ++i) {
                    RC_ASSERT(host.page(used.page)[i] == (host.pages[page][i] | host.pages[20][i]));
                }
            }
        }
    }
}

}  // namespace
}  // namespace flatback::nested_test::msr_bitmap_test
