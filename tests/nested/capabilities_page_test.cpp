// docs/capabilities.md says of each capability bit whether L1 has it. What it calls offered must be what the
// engine promises on a processor that has all, every bit that the sources name must stand there, and each
// test that it names must exist.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "nested/capabilities.hpp"

namespace flatback::nested_test::capabilities_page_test {
namespace {

namespace fs = std::filesystem;

const fs::path source = FLATBACK_SOURCE_DIRECTORY;

std::string read(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

std::string read_all(const fs::path& folder) {
    std::string text;
    for (const auto& entry : fs::recursive_directory_iterator(source / folder)) {
        const std::string ending = entry.path().extension();
        if (ending == ".cpp" || ending == ".hpp") text += read(entry.path());
    }
    return text;
}

struct Row {
    std::uint64_t bits = 0;
    std::string name, how, why, proof;

    [[nodiscard]] bool is_offered() const { return how != "no"; }
};

// The text between the bars of a line of a table.
std::vector<std::string> cells_of(const std::string& line) {
    std::vector<std::string> cells;
    std::istringstream rest(line.substr(1));
    for (std::string cell; std::getline(rest, cell, '|');) {
        const std::size_t begin = cell.find_first_not_of(' ');
        const std::size_t end = cell.find_last_not_of(' ');
        cells.push_back(begin == std::string::npos ? "" : cell.substr(begin, end - begin + 1));
    }
    return cells;
}

// "6", or "0 to 4".
std::uint64_t bits_of(const std::string& cell) {
    const std::size_t to = cell.find(" to ");
    const unsigned long first = std::stoul(cell);
    const unsigned long last = to == std::string::npos ? first : std::stoul(cell.substr(to + 4));
    std::uint64_t bits = 0;
    for (unsigned long bit = first; bit <= last; ++bit) bits |= std::uint64_t{1} << bit;
    return bits;
}

// By the titles of their sections. Rows of the last one have no bit. (Behind it are the parameters of a
// guest.)
std::map<std::string, std::vector<Row>> sections_of_the_page() {
    std::map<std::string, std::vector<Row>> sections;
    std::istringstream text(read(source / "docs/capabilities.md"));
    std::string title;
    for (std::string line; std::getline(text, line);) {
        if (line.starts_with("## ")) title = line.substr(3);
        if (title == "What Linux makes of it") break;
        if (!line.starts_with("| ") || line.starts_with("| bit") || line.starts_with("| capability |"))
            continue;
        const std::vector<std::string> cells = cells_of(line);
        if (cells.size() == 5)
            sections[title].push_back({bits_of(cells[0]), cells[1], cells[2], cells[3], cells[4]});
        else if (cells.size() == 4)
            sections[title].push_back({0, cells[0], cells[1], cells[2], cells[3]});
    }
    return sections;
}

// All that a processor could have, and a host that offers all.
vmx::Capabilities promised() {
    constexpr vmx::ControlCapability any{.allowed0 = 0, .allowed1 = ~std::uint32_t{0}};
    constexpr std::uint64_t all = ~std::uint64_t{0};
    const vmx::Capabilities processor{.basic = {all},
                                      .pin_based = any,
                                      .primary_processor_based = any,
                                      .secondary_processor_based = any,
                                      .vm_exit = any,
                                      .vm_entry = any,
                                      .misc = {all},
                                      .cr0 = {0, all},
                                      .cr4 = {0, all},
                                      .vmcs_enum = all,
                                      .ept_vpid = {all},
                                      .vm_functions = all};
    return nested::make_capabilities(processor, 52, /*offer_vpid=*/true, nested::FieldSet::all(), 0,
                                     /*posted_interrupts=*/true)
        .promised;
}

struct Section {
    std::string title;
    std::uint64_t promised;
    std::string names_file;   // in which the sources name its bits,
    std::string names_scope;  // and behind what
};

std::vector<Section> sections() {
    const vmx::Capabilities all = promised();
    constexpr std::uint64_t of_the_engine =  // revision identifier, size of a region, memory type
        0x7fff'ffff | std::uint64_t{0x1fff} << 32 | std::uint64_t{0xf} << 50;
    const std::string controls = "vmx/controls.hpp";
    const std::string capability = "vmx/capability.hpp";
    return {
        {"Pin-based controls", all.pin_based.allowed1, controls, "namespace pin {"},
        {"Primary processor-based controls", all.primary_processor_based.allowed1, controls,
         "namespace primary {"},
        {"Secondary processor-based controls", all.secondary_processor_based.allowed1, controls,
         "namespace secondary {"},
        {"Tertiary processor-based controls", 0, "", ""},
        {"Primary VM-exit controls", all.vm_exit.allowed1, controls, "namespace exit_control {"},
        {"Secondary VM-exit controls", 0, "", ""},
        {"VM-entry controls", all.vm_entry.allowed1, controls, "namespace entry_control {"},
        {"Miscellaneous data", all.misc.value, capability, "struct MiscCapability {"},
        {"Basic information", all.basic.value & ~of_the_engine, capability, "struct BasicCapability {"},
        {"EPT and VPID", all.ept_vpid.value, capability, "struct EptVpidCapability {"},
        {"VM functions", all.vm_functions, controls, "namespace vm_function {"},
        {"Bits of CR4", all.cr4.fixed1, "x86/control_registers.hpp", "namespace cr4 {"},
    };
}

// The bits that the sources give a name, or call the first one of a number.
std::uint64_t named_bits(const Section& section) {
    static const std::regex bit(R"(= 1(?:u|ULL) << (\d+);|_shift += (\d+);)");
    const std::string text = read(source / section.names_file);
    const std::size_t begin = text.find(section.names_scope);
    EXPECT_NE(begin, std::string::npos) << section.names_scope;
    const std::string scope = text.substr(begin, text.find("\n}", begin) - begin);
    std::uint64_t bits = 0;
    for (std::sregex_iterator it(scope.begin(), scope.end(), bit), end; it != end; ++it)
        bits |= std::uint64_t{1} << std::stoul((*it)[1].matched ? (*it)[1] : (*it)[2]);
    EXPECT_NE(bits, 0U) << section.title;
    return bits;
}

TEST(CapabilitiesPage, CallsOfferedWhatTheEnginePromisesAndNothingElse) {
    const auto page = sections_of_the_page();
    for (const Section& section : sections()) {
        ASSERT_TRUE(page.contains(section.title)) << section.title;
        std::uint64_t offered = 0;
        std::uint64_t seen = 0;
        for (const Row& row : page.at(section.title)) {
            EXPECT_EQ(seen & row.bits, 0U) << section.title << ": " << row.name << " stands there twice";
            seen |= row.bits;
            if (row.is_offered()) offered |= row.bits;
        }
        EXPECT_EQ(offered & ~section.promised, 0U) << section.title << ": not promised" << std::hex;
        EXPECT_EQ(section.promised & ~offered, 0U) << section.title << ": promised, and not said";
    }
}

TEST(CapabilitiesPage, HasARowForEachBitThatTheSourcesName) {
    constexpr std::uint64_t of_the_engine = std::uint64_t{1} << 32 | std::uint64_t{1} << 50;
    const auto page = sections_of_the_page();
    for (const Section& section : sections()) {
        if (section.names_file.empty()) continue;
        std::uint64_t rows = section.title == "Basic information" ? of_the_engine : 0;
        for (const Row& row : page.at(section.title)) rows |= row.bits;
        EXPECT_EQ(named_bits(section) & ~rows, 0U) << section.title;
    }
}

// An offer by a test, a refusal by its reason.
TEST(CapabilitiesPage, SaysWhatProvesEachOfferAndWhyOthersAreNone) {
    constexpr std::size_t least_reason = 10;
    std::size_t rows = 0;
    for (const auto& [title, section] : sections_of_the_page()) {
        for (const Row& row : section) {
            ++rows;
            EXPECT_FALSE(row.name.empty()) << title;
            if (row.is_offered()) {
                EXPECT_NE(row.proof.find('`'), std::string::npos) << title << ": " << row.name;
            } else {
                EXPECT_GE(row.why.size(), least_reason) << title << ": " << row.name;
                EXPECT_TRUE(row.proof.empty()) << title << ": " << row.name;
            }
        }
    }
    EXPECT_GT(rows, 120U);
}

TEST(CapabilitiesPage, NamesTestsThatThereAre) {
    static const std::regex name(R"(`([^`]+)`)");
    static const std::regex host_test(R"((\w+)\.(\w+))");
    const std::string tests = std::regex_replace(read_all("tests"), std::regex(",\\s+"), ", ");
    const std::string checks = read_all("guests/bare/checks");
    const std::string boots = read_all("tools/check");
    std::size_t named = 0;
    for (const auto& [title, section] : sections_of_the_page()) {
        for (const Row& row : section) {
            for (std::sregex_iterator it(row.proof.begin(), row.proof.end(), name), end; it != end; ++it) {
                const std::string test = (*it)[1];
                std::smatch parts;
                ++named;
                if (test.starts_with("boot.")) {
                    EXPECT_NE(boots.find('"' + test + '"'), std::string::npos) << row.name << ": " << test;
                } else if (std::regex_match(test, parts, host_test)) {
                    const std::string both = "(" + parts[1].str() + ", " + parts[2].str() + ")";
                    EXPECT_NE(tests.find(both), std::string::npos) << row.name << ": " << test;
                } else {
                    EXPECT_NE(checks.find('"' + test + '"'), std::string::npos) << row.name << ": " << test;
                }
            }
        }
    }
    EXPECT_GT(named, 80U);
}

}  // namespace
}  // namespace flatback::nested_test::capabilities_page_test
