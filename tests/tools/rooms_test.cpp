// tools/ is built in rooms. A file includes only files of its own room and of rooms beneath it, and no file
// includes itself by way of others.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;

const fs::path source = FLATBACK_SOURCE_DIRECTORY;

// By how high they stand; rooms on one floor know nothing of each other.
struct Room {
    std::string_view name;
    int floor;
};
constexpr std::array<Room, 11> rooms{{
    {"ground", 0},
    {"image", 1},
    {"emulator", 2},
    {"stack", 3},
    {"measure", 4},
    {"table", 5},
    {"bench", 6},
    {"trace", 6},
    {"check", 7},
    {"report", 7},
    {"command", 8},
}};

// Parts of the repository that a room may include besides: formats that programs on both sides of a line
// know.
const std::set<std::string> shared = {"trace", "interface", "formats"};

std::vector<std::string> includes_of(const fs::path& file) {
    constexpr std::string_view directive = "#include \"";
    std::vector<std::string> found;
    std::ifstream text(file);
    for (std::string line; std::getline(text, line);) {
        if (!line.starts_with(directive)) continue;
        const std::string rest = line.substr(directive.size());
        found.push_back(rest.substr(0, rest.find('"')));
    }
    return found;
}

// Everything in a room, by its path below the root.
std::map<std::string, std::vector<std::string>> files_of_the_rooms() {
    std::map<std::string, std::vector<std::string>> files;
    for (const Room& room : rooms) {
        for (const auto& entry : fs::directory_iterator(source / "tools" / room.name)) {
            const std::string ending = entry.path().extension();
            if (ending == ".cpp" || ending == ".hpp")
                files[entry.path().lexically_relative(source)] = includes_of(entry.path());
        }
    }
    return files;
}

// The second part of tools/ROOM/FILE.
std::string room_of(const std::string& path) {
    const std::size_t begin = path.find('/') + 1;
    return path.substr(begin, path.find('/', begin) - begin);
}

std::string part_of(const std::string& path) {
    return path.substr(0, path.find('/'));
}

const Room* room_named(std::string_view name) {
    const auto* const found = std::ranges::find(rooms, name, &Room::name);
    return found == rooms.end() ? nullptr : found;
}

bool may_include(const Room& room, const Room& other) {
    return room.name == other.name || other.floor < room.floor;
}

TEST(RoomsOfTools, NoIncludePointsUpward) {
    const auto files = files_of_the_rooms();
    ASSERT_GT(files.size(), 100U);
    for (const auto& [file, includes] : files) {
        const Room& room = *room_named(room_of(file));
        for (const std::string& included : includes) {
            if (shared.contains(part_of(included))) continue;
            ASSERT_EQ(part_of(included), "tools") << file << " includes " << included;
            const Room* const other = room_named(room_of(included));
            ASSERT_NE(other, nullptr) << file << " includes " << included << ", which is in no room";
            EXPECT_TRUE(may_include(room, *other)) << file << " includes " << included;
        }
    }
}

TEST(RoomsOfTools, EverySourceIsInARoom) {
    for (const auto& entry : fs::directory_iterator(source / "tools")) {
        const std::string ending = entry.path().extension();
        EXPECT_FALSE(ending == ".cpp" || ending == ".hpp") << entry.path() << " is in no room";
    }
}

// A header and the source of the same name are one: what one includes, the other depends on.
TEST(RoomsOfTools, NothingDependsOnItself) {
    std::map<std::string, std::set<std::string>> beneath;
    const auto name_of = [](const std::string& file) { return file.substr(0, file.rfind('.')); };
    for (const auto& [file, includes] : files_of_the_rooms()) {
        for (const std::string& included : includes) {
            if (name_of(included) != name_of(file)) beneath[name_of(file)].insert(name_of(included));
        }
    }
    // What depends on nothing that is left is taken away, until nothing is left but circles.
    for (bool taken = true; taken;) {
        taken = false;
        for (auto each = beneath.begin(); each != beneath.end();) {
            const bool free = std::ranges::none_of(
                each->second, [&beneath](const std::string& other) { return beneath.contains(other); });
            each = free ? beneath.erase(each) : std::next(each);
            taken = taken || free;
        }
    }
    for (const auto& [file, others] : beneath) ADD_FAILURE() << file << " is in a circle, or above one";
}

}  // namespace
