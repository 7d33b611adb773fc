// formats/ and interface/ are what programs of several floors agree on: they include nothing of Flatback's
// but each their own.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace independence_test {
namespace {

namespace fs = std::filesystem;

TEST(Independence, FormatsAndInterfaceIncludeOnlyThemselves) {
    for (const std::string part : {"formats", "interface"}) {
        for (const auto& entry : fs::directory_iterator(fs::path{FLATBACK_SOURCE_DIRECTORY} / part)) {
            std::ifstream text(entry.path());
            for (std::string line; std::getline(text, line);) {
                if (line.starts_with("#include \"")) {
                    EXPECT_TRUE(line.starts_with("#include \"" + part + "/")) << entry.path() << ": " << line;
                }
            }
        }
    }
}

}  // namespace
}  // namespace independence_test
