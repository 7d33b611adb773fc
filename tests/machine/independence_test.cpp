// The machine judges the engine, so it shares no rule with it: of the vocabulary it knows layouts alone
// (numbers and names of bits, fields, reasons), and of the engine nothing. Whatever decides stands in
// machine/rules/ once more.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace independence_test {
namespace {

namespace fs = std::filesystem;

const fs::path source = FLATBACK_SOURCE_DIRECTORY;

// Numbers and names. A header may come here only if it decides nothing.
const std::set<std::string> layouts = {
    "vmx/controls.hpp",          "vmx/exit_reason.hpp",       "vmx/field.hpp",
    "vmx/field_table.hpp",       "vmx/instruction_error.hpp", "vmx/interruption_bits.hpp",
    "x86/control_registers.hpp", "x86/msr_numbers.hpp",       "x86/paging_bits.hpp",
    "x86/segment_bits.hpp",      "x86/vectors.hpp",
};

std::string read(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

std::vector<fs::path> files_of_the_machine() {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(source / "machine")) {
        const std::string ending = entry.path().extension();
        if (ending == ".cpp" || ending == ".hpp") files.push_back(entry.path());
    }
    return files;
}

// The includes of a file that are files of the repository, as paths below its root.
std::set<std::string> includes_of(const fs::path& file) {
    static const std::regex line("#include \"([^\"]+)\"");
    std::set<std::string> found;
    const std::string text = read(file);
    for (std::sregex_iterator match(text.begin(), text.end(), line), end; match != end; ++match) {
        const std::string name = (*match)[1];
        const fs::path beside = (file.parent_path() / name).lexically_normal();
        found.insert((fs::exists(beside) ? beside : source / name).lexically_relative(source));
    }
    return found;
}

std::string top_of(const std::string& path) {
    return path.substr(0, path.find('/'));
}

std::string room_of(const fs::path& path) {
    return *std::next(path.begin());
}

TEST(Independence, TheMachineIncludesLayoutsAlone) {
    const std::vector<fs::path> files = files_of_the_machine();
    ASSERT_GT(files.size(), 50U);
    for (const fs::path& file : files) {
        for (const std::string& included : includes_of(file)) {
            EXPECT_TRUE(top_of(included) == "machine" || layouts.contains(included))
                << file << " includes " << included;
        }
    }
}

TEST(Independence, ALayoutIncludesNoRule) {
    for (const std::string& layout : layouts) {
        for (const std::string& included : includes_of(source / layout))
            EXPECT_TRUE(layouts.contains(included)) << layout << " includes " << included;
    }
}

// Masks that say what is reserved are rules, though they stand among the names of bits; so is what must be 1.
TEST(Independence, TheMachineTakesNoMaskOfWhatIsReserved) {
    const std::regex mask(
        "\\b(x86|vmx)::[a-z0-9_:]*(defined_bits|reserved_bits|reserved_zero|always_reserved|default1|"
        "arithmetic)\\b");
    const std::regex member(
        "has_reserved_bits|AccessRights::reserved_bits|\\b(cr0|efer|debugctl)::defined_bits");
    for (const fs::path& file : files_of_the_machine()) {
        std::smatch found;
        const std::string text = read(file);
        if (std::regex_search(text, found, mask)) ADD_FAILURE() << file << " uses " << found[0];
        if (std::regex_search(text, found, member)) ADD_FAILURE() << file << " uses " << found[0];
    }
}

// ... and nothing of the engine's has the machine's, or knows who judges it.
TEST(Independence, TheEngineKnowsNoMachineAndNoJudge) {
    for (const char* folder : {"x86", "vmx", "tag", "nested", "host"}) {
        for (const auto& entry : fs::recursive_directory_iterator(source / folder)) {
            if (entry.path().extension() != ".hpp" && entry.path().extension() != ".cpp") continue;
            for (const std::string& included : includes_of(entry.path())) {
                EXPECT_NE(top_of(included), "machine") << entry.path() << " includes " << included;
                EXPECT_NE(top_of(included), "judge") << entry.path() << " includes " << included;
            }
        }
    }
}

TEST(Independence, TheRoomsOfTheJudgeStandAboveEachOther) {
    const std::map<std::string, std::set<std::string>> beneath = {
        {"trial", {}},
        {"ledger", {"trial"}},
        {"mutants", {"trial", "ledger"}},
        {"explore", {}},
        {"command", {"trial", "ledger", "mutants", "explore"}},
        {"benchmark", {"explore"}},
    };
    for (const auto& entry : fs::recursive_directory_iterator(source / "judge")) {
        if (entry.path().extension() != ".hpp" && entry.path().extension() != ".cpp") continue;
        const std::string room = room_of(entry.path().lexically_relative(source));
        for (const std::string& included : includes_of(entry.path())) {
            if (top_of(included) != "judge") continue;
            const std::string other = room_of(included);
            EXPECT_TRUE(other == room || beneath.at(room).contains(other))
                << entry.path() << " includes " << included;
        }
    }
}

}  // namespace
}  // namespace independence_test
