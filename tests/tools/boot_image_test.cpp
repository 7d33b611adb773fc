#include "tools/image/boot_image.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::boot_image_test {
namespace {

BootPlan plan_of(KernelKind kind) {
    BootPlan plan;
    plan.guest = "/kernel";
    plan.guest_kind = kind;
    plan.guest_command_line = "a b";
    plan.modules = {{"/first", "one"}, {"/second", "two"}};
    return plan;
}

TEST(GrubConfiguration, L0TakesTheGuestAndItsModulesInOrder) {
    BootPlan plan = plan_of(KernelKind::linux_bzimage);
    plan.l0 = "/l0";
    plan.l0_command_line = "nested-vpid=off log=info";
    const std::string script = grub_configuration(plan);
    const std::size_t l0 = script.find("if multiboot2 /boot/l0 'nested-vpid=off' 'log=info' ;");
    const std::size_t guest = script.find("if module2 /boot/l1 'a' 'b' ;");
    const std::size_t first = script.find("if module2 /boot/m0 'one' ;");
    const std::size_t second = script.find("if module2 /boot/m1 'two' ;");
    ASSERT_NE(l0, std::string::npos) << script;
    ASSERT_NE(second, std::string::npos) << script;
    EXPECT_LT(l0, guest);
    EXPECT_LT(guest, first);
    EXPECT_LT(first, second);
}

TEST(GrubConfiguration, AcpiTablesStandInPlaceOfTheFirmwaresBeforeAnythingIsLoaded) {
    BootPlan plan = plan_of(KernelKind::multiboot1);
    plan.l0 = "/l0";
    EXPECT_EQ(grub_configuration(plan).find("acpi"), std::string::npos);
    plan.acpi_tables = {"FACP...", "MCFG..."};
    const std::string script = grub_configuration(plan);
    const std::size_t tables = script.find("if acpi --exclude=FACP,DSDT /boot/a0 /boot/a1;");
    ASSERT_NE(tables, std::string::npos) << script;
    EXPECT_LT(tables, script.find("if multiboot2 /boot/l0"));
}

TEST(GrubConfiguration, WithoutL0TheGuestIsLoadedByItsOwnProtocol) {
    EXPECT_NE(grub_configuration(plan_of(KernelKind::multiboot1)).find("if multiboot /boot/l1 'a' 'b' ;"),
              std::string::npos);
    const std::string linux_script = grub_configuration(plan_of(KernelKind::linux_bzimage));
    EXPECT_NE(linux_script.find("if linux /boot/l1 'a' 'b' ;"), std::string::npos);
    EXPECT_NE(linux_script.find("if initrd /boot/m0 ;"), std::string::npos) << linux_script;
}

TEST(GrubConfiguration, NoTextEscapesFromItsQuotes) {
    EXPECT_EQ(grub_quote("plain"), "'plain'");
    EXPECT_EQ(grub_quote("$x;`y`\"z\""), "'$x;`y`\"z\"'");
    EXPECT_EQ(grub_quote("it's"), "'it'\\''s'");
    EXPECT_EQ(grub_quote("two\nlines"), "'two lines'");
}

TEST(GrubConfiguration, AFailureIsReportedOnTheSerialPortAndEndsTheRun) {
    const std::string script = grub_configuration(plan_of(KernelKind::multiboot1));
    const std::string mark = loader_mark(plan_of(KernelKind::multiboot1));
    EXPECT_EQ(mark.size(), 16U);
    EXPECT_NE(script.find("FLATBACK " + mark + " error grub: cannot load $failed"), std::string::npos);
    EXPECT_NE(script.find("outb 0x8900 83\n"), std::string::npos);
}

}  // namespace
}  // namespace flatback::tools::boot_image_test
