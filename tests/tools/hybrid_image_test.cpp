#include "tools/image/hybrid_image.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::hybrid_image_test {
namespace {

HybridImage two_entries() {
    MenuEntry own{"own", "Your L1: it's here", {}, false};
    own.plan.l0 = "/l0";
    own.plan.l0_command_line = "log=info";
    own.plan.guest_command_line = "a $b";
    own.plan.modules = {{"/first", "one two"}, {"/second", ""}};
    MenuEntry test{"self-test", "Self-test", {}, true};
    test.plan.l0 = "/l0";
    return {.entries = {own, test}, .first = 1, .seconds = 7};
}

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

TEST(HybridMenu, LoadsEachEntryWithItsModulesInOrder) {
    const std::string menu = hybrid_menu(two_entries());
    EXPECT_TRUE(has(menu,
                    "menuentry 'Your L1: it'\\''s here' --id own {\n"
                    "    multiboot2 /boot/l0 'log=info' $words\n"
                    "    module2 /boot/own/l1 'a' '$b' \n"
                    "    module2 /boot/own/m0 'one' 'two' \n"
                    "    module2 /boot/own/m1\n"
                    "    if [ \"$grub_platform\" = pc ]; then set gfxpayload=text; fi\n}\n"))
        << menu;
    // One that draws gets pixels, and text where there are none.
    EXPECT_TRUE(has(menu,
                    "    module2 /boot/self-test/l1\n"
                    "    if [ \"$grub_platform\" = pc ]; then set gfxpayload=1024x768x32,"))
        << menu;
    EXPECT_TRUE(has(menu, ",text; fi\n}\n")) << menu;
}

TEST(HybridMenu, WaitsOnceForAChoice) {
    const std::string menu = hybrid_menu(two_entries());
    EXPECT_TRUE(has(menu, "then set timeout=7; else set timeout=-1; fi\n"));
    EXPECT_TRUE(has(menu, "set default=self-test\n"));
}

// A machine without a serial port keeps its screen.
TEST(HybridMenu, UsesTheSerialPortOnlyWhereThereIsOne) {
    const std::string menu = hybrid_menu(two_entries());
    const std::size_t serial = menu.find("if serial --unit=0");
    ASSERT_NE(serial, std::string::npos);
    EXPECT_GT(menu.find("terminal_output console serial"), serial);
    EXPECT_LT(menu.find("terminal_output console serial"), menu.find("fi\n", serial));
}

}  // namespace
}  // namespace flatback::tools::hybrid_image_test
