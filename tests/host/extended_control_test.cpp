// XSETBV against SDM 1 13.3 and 2D "XSETBV".
#include "host/extended_control.hpp"

#include <gtest/gtest.h>

#include <array>
#include <optional>

#include "tests/host/words.hpp"

namespace flatback::host::extended_control_test {
namespace {

class Guest : public Words {
public:
    [[nodiscard]] std::uint64_t& general_register(unsigned number) { return general[number]; }
    [[nodiscard]] bool write_xcr0(std::uint64_t value) {
        if ((value & ~supported) != 0) return false;
        written = value;
        return true;
    }
    [[nodiscard]] Outcome xsetbv(std::uint64_t value) {
        general[0] = 0xdead'0000'0000'0000 | (value & 0xffff'ffff);
        general[2] = value >> 32;
        return emulate_xsetbv(*this);
    }

    std::array<std::uint64_t, 16> general{};
    std::uint64_t supported = 0x602e7;
    std::optional<std::uint64_t> written;
};

TEST(Xsetbv, WritesWhatTheProcessorHas) {
    Guest guest;
    for (const std::uint64_t value : {0x1ULL, 0x3ULL, 0x7ULL, 0xe7ULL, 0x207ULL, 0x602e7ULL}) {
        EXPECT_EQ(guest.xsetbv(value), Outcome::done);
        EXPECT_EQ(guest.written, value);
    }
    guest.written.reset();
    EXPECT_EQ(guest.xsetbv(0x1 | 1ULL << 62), Outcome::general_protection);
    EXPECT_FALSE(guest.written);
}

TEST(Xsetbv, StatesThatDependOnOthersComeWithThem) {
    Guest guest;
    guest.supported = ~std::uint64_t{0};
    for (const std::uint64_t value :
         {0x0ULL, 0x2ULL, 0x5ULL, 0x9ULL, 0x11ULL, 0xe3ULL, 0x27ULL, 0x67ULL, 0x20003ULL, 0x40003ULL}) {
        EXPECT_EQ(guest.xsetbv(value), Outcome::general_protection) << std::hex << value;
    }
    EXPECT_FALSE(guest.written);
    EXPECT_EQ(guest.xsetbv(0x1b), Outcome::done) << "bounds registers need nothing but x87";
}

TEST(Xsetbv, ThereIsOneRegister) {
    Guest guest;
    guest.general[1] = 1;
    EXPECT_EQ(guest.xsetbv(1), Outcome::general_protection);
    guest.general[1] = 1ULL << 32;
    EXPECT_EQ(guest.xsetbv(1), Outcome::done) << "ECX has 32 bits";
}

TEST(Xsetbv, IsOfPrivilegeLevel0) {
    Guest guest;
    guest.put(vmx::field::guest_ss_access_rights, 0xc0f3);
    EXPECT_EQ(guest.xsetbv(1), Outcome::general_protection);
}

}  // namespace
}  // namespace flatback::host::extended_control_test
