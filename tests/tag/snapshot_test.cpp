#include "tag/snapshot.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "tests/tag/virtual_cpu.hpp"

namespace flatback::tag_test::snapshot_test {
namespace {

using tag::Snapshot;

constexpr std::uint16_t vpids = 4;

/// `to` gets the state of `from`.
void copy(tag::VpidPool& from_pool, const VirtualCpu<3>& from, tag::VpidPool& to_pool, VirtualCpu<3>& to) {
    std::array<tag::TagNumber, 8> released{};
    const std::size_t count = Snapshot::take_released(from_pool, released);
    ASSERT_LE(count, released.size());
    Snapshot::put(to_pool, Snapshot::tags_used(from_pool), std::span(released).first(count));
    Snapshot::put(to.vpid01, Snapshot::take(from.vpid01), to_pool);
    Snapshot::put(to.map, Snapshot::take(from.map), to_pool);
    for (std::uint16_t vpid12 = 1; vpid12 <= vpids; ++vpid12) {
        Snapshot::set_hint(to.map, tag::Vpid12{vpid12}, Snapshot::hint(from.map, tag::Vpid12{vpid12}));
    }
}

/// What a step was answered with.
struct Answer {
    std::uint16_t tag = 0;
    bool flushes = false;
    std::uint16_t flushed = 0;
    tag::Extent extent = tag::Extent::nothing;
    std::uint64_t page = 0;
    bool ept_contexts = false;

    bool operator==(const Answer&) const = default;
};

Answer answer(const std::optional<tag::FlushTarget>& target, tag::TagNumber entered = tag::TagNumber::none) {
    if (!target) return {.tag = tag::raw(entered)};
    // The address says something for an address only.
    const std::uint64_t page =
        target->extent == tag::Extent::address ? target->linear_address.page_number() : 0;
    return {tag::raw(entered), true, tag::raw(target->tag), target->extent, page, target->ept_contexts};
}

Answer take_step(VirtualCpu<3>& vcpu, unsigned step, std::uint16_t number, tag::Cpu cpu) {
    const tag::Vpid12 vpid12{number};
    const x86::LinearAddress address{number * x86::page_size};
    const auto entered = [](const Entered& it) { return answer(it.flush, it.tag); };
    switch (step) {
        case 0:
            return entered(vcpu.l1(cpu));
        case 1:
            return entered(vcpu.l2_without_vpid(cpu));
        case 2:
            return answer(pay(vcpu.map.invvpid_address(vpid12, address, cpu)));
        case 3:
            return answer(pay(vcpu.map.invvpid_single(vpid12, cpu)));
        case 4:
            return answer(keep(vcpu.map.invvpid_address(vpid12, address, cpu)));
        case 5:
            return answer(pay(vcpu.map.invvpid_single_retaining_globals(vpid12, cpu)));
        case 6:
            return answer(pay(vcpu.map.invvpid_all(cpu)));
        case 7:
            vcpu.map.ept_contexts_stale();
            return {};
        case 8:
            vcpu.vpid01.invalidate_address(address);
            return {};
        case 9:
            if (number == 1) vcpu.map.reset();
            return {};
        default:
            return entered(vcpu.l2(number, cpu));
    }
}

/// A copy that is made anew before each step answers as the original does.
TEST(Snapshot, ACopyGoesOnAsTheOriginal) {
    for (const std::uint16_t tags : std::array<std::uint16_t, 4>{2, 3, 4, 8}) {
        tag::VpidPool original_pool{tags};
        tag::VpidPool copied_pool{tags};
        VirtualCpu<3> original{original_pool};
        VirtualCpu<3> copied{copied_pool};
        std::uint32_t random = 2026;
        const auto below = [&random](std::uint32_t bound) {
            random = random * 1664525 + 1013904223;
            return (random >> 16) % bound;
        };
        for (unsigned number = 0; number < 4000; ++number) {
            ASSERT_NO_FATAL_FAILURE(copy(original_pool, original, copied_pool, copied));
            const unsigned step = below(20);
            const auto vpid12 = static_cast<std::uint16_t>(1 + below(vpids));
            const tag::Cpu cpu{below(2)};
            ASSERT_EQ(take_step(original, step, vpid12, cpu), take_step(copied, step, vpid12, cpu))
                << "step " << number << " with " << tags << " tags";
            ASSERT_EQ(Snapshot::take(original.vpid01), Snapshot::take(copied.vpid01));
            ASSERT_EQ(Snapshot::take(original.map), Snapshot::take(copied.map));
            ASSERT_EQ(original_pool.owned(), copied_pool.owned());
        }
    }
}

TEST(Snapshot, HasTheTagOfL1OrNone) {
    tag::VpidPool one_tag{1};
    const VirtualCpu<3> with{one_tag};
    const VirtualCpu<3> without{one_tag};
    ASSERT_EQ(without.vpid01.number(), tag::TagNumber::none);
    tag::VpidPool pool{8};
    VirtualCpu<3> copied{pool};
    copy(one_tag, without, pool, copied);
    EXPECT_EQ(copied.vpid01.number(), tag::TagNumber::none);
    copy(one_tag, with, pool, copied);
    EXPECT_EQ(copied.vpid01.number(), with.vpid01.number());
}

}  // namespace
}  // namespace flatback::tag_test::snapshot_test
