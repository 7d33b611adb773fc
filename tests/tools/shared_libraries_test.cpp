#include "tools/image/shared_libraries.hpp"

#include <gtest/gtest.h>

#include <array>

#include "tools/ground/files.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools::shared_libraries_test {
namespace {

using Needs = std::map<std::string, DynamicNeeds>;

// A folder with empty files of these names, and a reader that knows what each of them needs.
class SharedLibraries : public testing::Test {
protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create();
        ASSERT_TRUE(created.has_value());
        directory_.emplace(std::move(*created));
    }

    void add(const std::string& name, DynamicNeeds needs) {
        ASSERT_TRUE(write_file(path(name), "an ELF file").has_value());
        needs_[path(name).string()] = std::move(needs);
    }

    [[nodiscard]] std::filesystem::path path(const std::string& name) const {
        return directory_->path() / name;
    }

    [[nodiscard]] Result<LoadedProgram> resolve(const std::string& program) {
        const std::array<std::filesystem::path, 2> search{"/nowhere/at/all", directory_->path()};
        return resolve_libraries(path(program), search,
                                 [this](std::span<const std::filesystem::path> files) -> Result<Needs> {
                                     Needs answer;
                                     for (const auto& file : files) {
                                         answer[file.string()] = needs_.at(file.string());
                                         asked_.push_back(file.filename().string());
                                     }
                                     return answer;
                                 });
    }

    std::optional<TemporaryDirectory> directory_;
    Needs needs_;
    std::vector<std::string> asked_;
};

TEST_F(SharedLibraries, WhatLibrariesNeedIsFoundToo) {
    add("program", {"/lib64/loader.so", {"libone.so.1", "libc.so.6"}});
    add("libone.so.1", {"", {"libtwo.so.2", "libc.so.6"}});
    add("libtwo.so.2", {"", {"libc.so.6"}});
    add("libc.so.6", {"", {}});
    add("libunused.so.9", {"", {}});
    const auto loaded = resolve("program");
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    EXPECT_EQ(loaded->interpreter, "/lib64/loader.so");
    const std::map<std::string, std::filesystem::path> expected{{"libone.so.1", path("libone.so.1")},
                                                                {"libtwo.so.2", path("libtwo.so.2")},
                                                                {"libc.so.6", path("libc.so.6")}};
    EXPECT_EQ(loaded->libraries, expected);
}

TEST_F(SharedLibraries, LibrariesThatNeedEachOtherAreReadOnce) {
    add("program", {"/lib64/loader.so", {"liba.so"}});
    add("liba.so", {"", {"libb.so"}});
    add("libb.so", {"", {"liba.so"}});
    ASSERT_TRUE(resolve("program").has_value());
    EXPECT_EQ(asked_, (std::vector<std::string>{"program", "liba.so", "libb.so"}));
}

TEST_F(SharedLibraries, AMissingLibraryIsNamedWithWhoNeedsIt) {
    add("program", {"/lib64/loader.so", {"liba.so"}});
    add("liba.so", {"", {"libgone.so.3"}});
    const auto loaded = resolve("program");
    ASSERT_FALSE(loaded.has_value());
    EXPECT_EQ(loaded.error().status, ExitStatus::missing_program);
    EXPECT_NE(loaded.error().message.find("liba.so needs the library libgone.so.3"), std::string::npos)
        << loaded.error().message;
}

TEST_F(SharedLibraries, ANameThatLeadsElsewhereIsNotFollowed) {
    add("target", {"", {}});
    for (const std::string library : {"../target", "/etc/passwd", "", "."}) {
        add("program", {"/lib64/loader.so", {library}});
        EXPECT_FALSE(resolve("program").has_value()) << library;
    }
}

TEST_F(SharedLibraries, AProgramWithoutALoaderOrWithItsOwnSearchPathIsRefused) {
    add("static", {"", {}});
    add("private", {"/lib64/loader.so", {}, true});
    for (const char* program : {"static", "private"}) {
        const auto loaded = resolve(program);
        ASSERT_FALSE(loaded.has_value()) << program;
        EXPECT_EQ(loaded.error().status, ExitStatus::input_file);
    }
}

constexpr const char* one_file =
    "\n"
    "Elf file type is DYN (Position-Independent Executable file)\n"
    "  INTERP         0x000318 0x0000000000000318 0x00001c 0x00001c R   0x1\n"
    "      [Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]\n"
    "\n"
    "Dynamic section at offset 0x2dc8 contains 27 entries:\n"
    " 0x0000000000000001 (NEEDED)             Shared library: [libm.so.6]\n"
    " 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n"
    " 0x000000000000000e (SONAME)             Library soname: [libself.so.1]\n"
    " 0x000000000000000c (INIT)               0x1000\n";

TEST(DynamicNeeds, OneFilesNeedsAreReadUnderItsName) {
    const Needs needs = parse_dynamic_needs(one_file, "/bin/program");
    ASSERT_EQ(needs.size(), 1U);
    const DynamicNeeds& program = needs.at("/bin/program");
    EXPECT_EQ(program.interpreter, "/lib64/ld-linux-x86-64.so.2");
    EXPECT_EQ(program.libraries, (std::vector<std::string>{"libm.so.6", "libc.so.6"}));
    EXPECT_FALSE(program.own_search_path);
}

TEST(DynamicNeeds, FilesAreKeptApart) {
    const Needs needs = parse_dynamic_needs(
        "\nFile: /lib/a.so\n 0x1 (NEEDED)  Shared library: [libb.so]\n"
        "\nFile: /lib/b.so\n\nThere is no dynamic section in this file.\n"
        "\nFile: /lib/c.so\n 0x1d (RUNPATH)  Library runpath: [$ORIGIN]\n",
        "/lib/a.so");
    ASSERT_EQ(needs.size(), 3U);
    EXPECT_EQ(needs.at("/lib/a.so").libraries, std::vector<std::string>{"libb.so"});
    EXPECT_TRUE(needs.at("/lib/b.so").libraries.empty());
    EXPECT_TRUE(needs.at("/lib/c.so").own_search_path);
}

TEST(DynamicNeeds, CutOffLinesGiveNothing) {
    EXPECT_TRUE(parse_dynamic_needs("", "x").empty());
    const Needs needs = parse_dynamic_needs(" 0x1 (NEEDED)  Shared library: [libb.s", "x");
    EXPECT_TRUE(needs.at("x").libraries.empty());
}

TEST(DynamicNeeds, ReadelfIsAskedAboutRealFiles) {
    // This test program itself, and one that is no ELF file.
    const std::array<std::filesystem::path, 1> self{std::filesystem::read_symlink("/proc/self/exe")};
    const auto needs = read_dynamic_needs(self);
    ASSERT_TRUE(needs.has_value()) << needs.error().message;
    EXPECT_EQ(needs->at(self[0].string()).interpreter, "/lib64/ld-linux-x86-64.so.2");
    EXPECT_FALSE(needs->at(self[0].string()).libraries.empty());
    const std::array<std::filesystem::path, 1> text{"/etc/passwd"};
    EXPECT_FALSE(read_dynamic_needs(text).has_value());
}

}  // namespace
}  // namespace flatback::tools::shared_libraries_test
