#include "guests/linux/payload.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "guests/linux/guest_layout.hpp"
#include "guests/linux/payload_abi.h"

namespace flatback::guests::payload_test {
namespace {

bool contains(std::span<const std::byte> code, std::vector<unsigned> bytes) {
    const auto same = [](std::byte left, unsigned right) { return std::to_integer<unsigned>(left) == right; };
    return std::search(code.begin(), code.end(), bytes.begin(), bytes.end(), same) != code.end();
}

// OUT imm8, EAX: the encoding of a doubleword to a fixed port.
bool writes_port(const Payload& which, unsigned port) {
    return contains(which.code, {0xE7, port});
}

TEST(Payloads, EachHasCodeAWorkloadAndANameOfItsOwn) {
    std::set<std::string_view> names;
    for (const Payload& each : all_payloads()) {
        EXPECT_EQ(&payload(each.id), &each);
        EXPECT_GT(each.code.size(), 4U) << each.name;
        EXPECT_LE(each.code.size(), code_limit) << each.name;
        EXPECT_GT(each.operations(), 0U) << each.name;
        names.insert(each.name);
    }
    EXPECT_EQ(names.size(), all_payloads().size());
}

TEST(Payloads, ThoseThatTimeThemselvesReportReadyAndDoneAndHaveRoomForTheirSamples) {
    for (const PayloadId id : {PayloadId::cpuid, PayloadId::touch, PayloadId::mov_cr3, PayloadId::vmcall,
                               PayloadId::rdmsr, PayloadId::event}) {
        const Payload& which = payload(id);
        EXPECT_TRUE(writes_port(which, FLATBACK_PORT_READY)) << which.name;
        EXPECT_TRUE(writes_port(which, FLATBACK_PORT_DONE)) << which.name;
        EXPECT_FALSE(writes_port(which, FLATBACK_PORT_OPERATION)) << which.name;
        EXPECT_LE(which.batches + which.operations_per_batch, samples_limit) << which.name;
    }
}

TEST(Payloads, ThoseThatTheVmmTimesDoTheirOneOperation) {
    EXPECT_TRUE(writes_port(payload(PayloadId::port_io), FLATBACK_PORT_OPERATION));
    EXPECT_TRUE(writes_port(payload(PayloadId::turns), FLATBACK_PORT_OPERATION));
    EXPECT_TRUE(contains(payload(PayloadId::halt).code, {0xF4}));
    EXPECT_FALSE(writes_port(payload(PayloadId::halt), FLATBACK_PORT_OPERATION));
    EXPECT_TRUE(contains(payload(PayloadId::vmcall).code, {0x0F, 0x01, 0xC1}));
    EXPECT_TRUE(contains(payload(PayloadId::rdmsr).code, {0x0F, 0x32}));
    EXPECT_TRUE(writes_port(payload(PayloadId::event), FLATBACK_PORT_EVENT));
    EXPECT_FALSE(writes_port(payload(PayloadId::mmio), FLATBACK_PORT_OPERATION));
}

TEST(Payloads, TheTouchingOneCoversTheWholeRegion) {
    EXPECT_EQ(payload(PayloadId::touch).operations_per_batch, touch_pages);
}

TEST(Payloads, BothVcpusGetTurnsInEveryBatch) {
    EXPECT_EQ(payload(PayloadId::turns).operations_per_batch % 2, 0U);
}

TEST(ExpectedResult, OfCpuidIsTheSumOfTheFourRegistersForEachOperation) {
    Payload which = payload(PayloadId::cpuid);
    which.batches = 3;
    which.operations_per_batch = 5;
    std::uint64_t sum = 0;
    for (int i = 0; i < 15; ++i) {
        sum += cpuid_leaf_value.eax;
        sum += cpuid_leaf_value.ebx;
        sum += cpuid_leaf_value.ecx;
        sum += cpuid_leaf_value.edx;
    }
    EXPECT_EQ(expected_result(which, 0), sum);
}

TEST(ExpectedResult, OfTheCountersIsTheNumberOfSteps) {
    EXPECT_EQ(expected_result(payload(PayloadId::port_io), 7), 7U);
    EXPECT_EQ(expected_result(payload(PayloadId::halt), 9), 9U);
}

TEST(ExpectedResult, OfASumIsWhatEachOperationGives) {
    Payload which = payload(PayloadId::vmcall);
    which.batches = 2;
    which.operations_per_batch = 3;
    EXPECT_EQ(expected_result(which, 0), std::uint64_t{0} - 6000);  // KVM_ENOSYS is 1000
    which.id = PayloadId::rdmsr;
    EXPECT_EQ(expected_result(which, 0), 6 * msr_value);
    which.id = PayloadId::event;
    EXPECT_EQ(expected_result(which, 0), 6U);
    EXPECT_EQ(expected_result(payload(PayloadId::mmio), 4), 4ULL * device_value);
}

TEST(ExpectedResult, OfTouchingAgreesWithTouchingAnArray) {
    Payload which = payload(PayloadId::touch);
    which.batches = 5;
    std::vector<std::uint64_t> pages;
    for (std::uint64_t page = 0; page < which.operations_per_batch; ++page) {
        pages.push_back(touch_pattern(page));
    }
    std::uint64_t sum = 0;
    const auto touch_all = [&](std::uint64_t addend) {
        for (std::uint64_t& page : pages) {
            sum += page;
            page += addend;
        }
    };
    touch_all(FLATBACK_TOUCH_ADDEND);
    for (std::uint64_t pass = 0; pass < which.batches; ++pass) {
        touch_all(1);
    }
    EXPECT_EQ(expected_result(which, 0), sum);
    for (std::uint64_t page = 0; page < pages.size(); ++page) {
        EXPECT_EQ(expected_touched(which, page), pages[page]);
    }
}

TEST(ExpectedResult, OfMovCr3TellsAStaleTranslation) {
    Payload which = payload(PayloadId::mov_cr3);
    std::uint64_t right = 0;
    for (std::uint64_t i = 0; i < which.operations(); ++i) {
        right += second_value;
        right += first_value;
    }
    EXPECT_EQ(expected_result(which, 0), right);
    // One read under the wrong root changes the sum.
    EXPECT_NE(expected_result(which, 0), right - second_value + first_value);
}

}  // namespace
}  // namespace flatback::guests::payload_test
