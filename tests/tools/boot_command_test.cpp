// What `run --l1` refuses before anything is booted.
#include "tools/command/boot_command.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "tools/ground/files.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools::boot_command_test {
namespace {

struct BootCommand : testing::Test {
    TemporaryDirectory directory = *TemporaryDirectory::create();
    BootOptions options;

    BootCommand() {
        // A Multiboot 1 kernel with addresses in its header; and an output that ends the command before it
        // boots.
        constexpr std::uint32_t magic = 0x1BADB002;
        constexpr std::uint32_t flags = 0x10003;
        const std::uint32_t words[]{magic,    flags,    0U - magic - flags, 0x100000,
                                    0x100000, 0x100020, 0x100020,           0x100000};
        Bytes kernel(sizeof words);
        std::memcpy(kernel.data(), words, sizeof words);
        options.guest = directory.path() / "kernel";
        EXPECT_TRUE(write_file(options.guest, kernel));
        options.json_file = directory.path() / "no folder" / "json";
        options.direct = true;
    }

    [[nodiscard]] Error error() const {
        const auto result = boot_command(options);
        EXPECT_FALSE(result);
        return result ? Error{} : result.error();
    }
};

TEST_F(BootCommand, AWordAfterAModuleMayBeLongerThanAFilesName) {
    options.modules = {options.guest.string() + " " + std::string(300, 'x')};
    EXPECT_EQ(error().status, ExitStatus::output_file);
    options.modules = {std::string(5000, 'x')};
    EXPECT_EQ(error().status, ExitStatus::input_file);
}

TEST_F(BootCommand, AWordThatL0DoesNotKnowIsNamedWithThoseThatItKnows) {
    options.l0_command_line = "log=debug  nested-vpid=sometimes";
    EXPECT_EQ(error().status, ExitStatus::usage);
    EXPECT_NE(error().message.find("no word nested-vpid=sometimes; there are: nested-vpid=mapped|single|off"),
              std::string::npos)
        << error().message;
    options.l0_command_line = " log=debug\ttrace=on ";
    EXPECT_EQ(error().status, ExitStatus::output_file);
}

TEST_F(BootCommand, AFileThatIsNoKernelIsRefused) {
    EXPECT_TRUE(write_file(options.guest, "this is no kernel"));
    EXPECT_EQ(error().status, ExitStatus::input_file);
}

}  // namespace
}  // namespace flatback::tools::boot_command_test
