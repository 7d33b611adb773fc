// Host bridges by their manuals: Intel 290549 "440FX PCIset", 3.2.22; 316966 "3 Series", 5.1.32 and 5.1.33.
// The emulator has a 440FX; nothing that offers VT-x here has a Q35.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "metal/firmware/smram_control.hpp"

namespace flatback::metal::smram_test {
namespace {

class Bridge {
public:
    Bridge(std::uint32_t identifier, std::uint32_t smram, std::uint32_t extended)
        : identifier_(identifier), smram_(smram), extended_(extended) {}

    std::uint32_t read_32(std::uint32_t offset) const { return offset == 0 ? identifier_ : 0; }
    std::uint8_t read_8(std::uint32_t offset) const { return bytes_.at(offset); }
    void write_8(std::uint32_t offset, std::uint8_t value) {
        const bool locked = (bytes_.at(smram_) & 0x10) != 0;
        if (locks && locked && (offset == smram_ || offset == extended_)) return;
        if (offset == smram_) {
            value = static_cast<std::uint8_t>((value & 0x78) | 2);  // C_BASE_SEG: A0000H, read-only
            if (locks && (value & 0x10) != 0) value &= 0xBF;        // D_LCK clears D_OPEN
            if (!locks) value &= 0xEF;
        }
        bytes_.at(offset) = value;
    }
    bool locks = true;

private:
    std::uint32_t identifier_;
    std::uint32_t smram_;
    std::uint32_t extended_;
    std::array<std::uint8_t, 256> bytes_{};
};

constexpr std::uint32_t none = 0x100;

Bridge make_440fx() {
    return {0x12378086, 0x72, none};
}
Bridge make_q35(std::uint32_t identifier = 0x29B08086) {
    return {identifier, 0x9D, 0x9E};
}

void expect_closed_for_good(Bridge bridge, std::uint32_t smram, std::uint8_t firmware) {
    bridge.write_8(smram, firmware);
    EXPECT_EQ(lock_smram_of(bridge).result, SmramLock::Result::locked);
    EXPECT_EQ(bridge.read_8(smram) & 0x08, firmware & 0x08)
        << "whether there is SMRAM at all is the firmware's";
    for (const unsigned value : {0x4AU, 0x0AU, 0xFFU, 0x00U}) {
        bridge.write_8(smram, static_cast<std::uint8_t>(value));
        EXPECT_EQ(bridge.read_8(smram) & 0x70, 0x10) << "D_OPEN, D_CLS clear, D_LCK set";
    }
}

TEST(Smram, IsClosedAndLockedWhateverTheFirmwareLeft) {
    for (const unsigned firmware : {0x02U, 0x0AU, 0x4AU, 0x6AU, 0x2AU}) {
        expect_closed_for_good(make_440fx(), 0x72, static_cast<std::uint8_t>(firmware));
        for (const std::uint32_t identifier : {0x29B08086U, 0x29C08086U, 0x29D08086U})
            expect_closed_for_good(make_q35(identifier), 0x9D, static_cast<std::uint8_t>(firmware));
    }
}

TEST(Smram, OfAQ35HasItsTsegLockedToo) {
    Bridge bridge = make_q35();
    bridge.write_8(0x9E, 0x03);  // T_EN, 2 MB
    EXPECT_EQ(lock_smram_of(bridge).result, SmramLock::Result::locked);
    bridge.write_8(0x9E, 0x00);
    EXPECT_EQ(bridge.read_8(0x9E), 0x03);
}

TEST(Smram, ThatTheFirmwareLockedIsLeftAsItIs) {
    Bridge bridge = make_q35();
    bridge.write_8(0x9D, 0x3A);  // locked, closed for data
    EXPECT_EQ(lock_smram_of(bridge).result, SmramLock::Result::locked);
    EXPECT_EQ(bridge.read_8(0x9D), 0x3A);
}

TEST(Smram, ThatCannotBeLockedOrIsNotKnownIsTold) {
    Bridge bridge = make_440fx();
    bridge.locks = false;
    EXPECT_EQ(lock_smram_of(bridge).result, SmramLock::Result::not_locked);
    Bridge other{0x29E08086, 0x9D, 0x9E};
    const SmramLock lock = lock_smram_of(other);
    EXPECT_EQ(lock.result, SmramLock::Result::unknown_bridge);
    EXPECT_EQ(lock.detail, 0x29E08086U);
    EXPECT_EQ(other.read_8(0x9D), 0);
}

}  // namespace
}  // namespace flatback::metal::smram_test
