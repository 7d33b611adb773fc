#include "vmx/interruption.hpp"

#include <gtest/gtest.h>

namespace flatback::vmx::interruption_test {
namespace {

TEST(InterruptionInformation, OfAPageFaultCarriesAnErrorCode) {
    constexpr auto information = InterruptionInformation::exception(x86::Vector::page_fault);
    EXPECT_EQ(information.value, 0x8000'0b0eu);
    EXPECT_TRUE(information.is_hardware_exception(x86::Vector::page_fault));
    EXPECT_FALSE(information.is_hardware_exception(x86::Vector::general_protection));
    EXPECT_TRUE(information.has_error_code());
    EXPECT_FALSE(information.is_software());
}

TEST(InterruptionInformation, OfInvalidOpcodeCarriesNone) {
    EXPECT_EQ(InterruptionInformation::exception(x86::Vector::invalid_opcode).value, 0x8000'0306u);
}

TEST(InterruptionInformation, OfABreakpointIsSoftware) {
    constexpr auto information = InterruptionInformation::exception(x86::Vector::breakpoint);
    EXPECT_EQ(information.value, 0x8000'0603u);
    EXPECT_TRUE(information.is_software());
    EXPECT_FALSE(information.is_hardware_exception(x86::Vector::breakpoint));
}

TEST(InterruptionInformation, OfExternalInterruptAndNmi) {
    EXPECT_EQ(InterruptionInformation::external(0xec).value, 0x8000'00ecu);
    EXPECT_EQ(InterruptionInformation::nmi().value, 0x8000'0202u);
    EXPECT_TRUE(InterruptionInformation::make(InterruptionType::software_interrupt, 0x80).is_software());
    EXPECT_TRUE(
        InterruptionInformation::make(InterruptionType::privileged_software_exception, 1).is_software());
}

TEST(InterruptionInformation, IsDecoded) {
    constexpr InterruptionInformation information{0x8000'1b0d};
    EXPECT_TRUE(information.is_valid());
    EXPECT_EQ(information.vector(), 13);
    EXPECT_EQ(information.type(), InterruptionType::hardware_exception);
    EXPECT_TRUE(information.has_error_code());
    EXPECT_TRUE(information.has_nmi_unblocking());
    EXPECT_FALSE(InterruptionInformation{0x0000'0b0e}.is_valid());
    EXPECT_FALSE(InterruptionInformation{0x0000'0b0e}.is_hardware_exception(x86::Vector::page_fault));
}

TEST(ExceptionVector, PushesAnErrorCodeForTheEightOfTheManual) {
    for (unsigned vector = 0; vector < 256; ++vector) {
        const bool pushes = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
        EXPECT_EQ(x86::has_error_code(static_cast<std::uint8_t>(vector)), pushes) << vector;
    }
}

TEST(ExceptionVector, ContributoryOnesAreThoseOfTheDoubleFaultTable) {
    for (unsigned vector = 0; vector < 256; ++vector) {
        const bool contributory = vector == 0 || (vector >= 10 && vector <= 13) || vector == 21;
        EXPECT_EQ(x86::is_contributory(static_cast<std::uint8_t>(vector)), contributory) << vector;
    }
}

}  // namespace
}  // namespace flatback::vmx::interruption_test
