// tools/, metal/ and nested/ are built in rooms. A file includes only files of its own room and of rooms
// beneath it, and no file includes itself by way of others. A file beside the rooms is a room of its own.
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

namespace rooms_test {
namespace {

namespace fs = std::filesystem;

const fs::path source = FLATBACK_SOURCE_DIRECTORY;

// By how high they stand; rooms on one floor know nothing of each other.
struct Room {
    std::string_view name;
    int floor;
};

struct House {
    std::string_view folder;
    std::vector<Room> rooms;
    std::set<std::string> shared;  // parts of the repository that a room may include besides
    std::size_t least_files;       // so that an empty folder is not taken for order
};

const std::array<House, 3> houses{{
    {"tools",
     {{"ground", 0},
      {"image", 1},
      {"emulator", 2},
      {"stack", 3},
      {"measure", 4},
      {"table", 5},
      {"bench", 6},
      {"trace", 6},
      {"watch", 6},
      {"check", 7},
      {"report", 7},
      {"command", 8}},
     {"trace", "interface", "formats", "machine", "watch"},
     100},
    {"metal",
     {{"ground", 0},
      {"firmware", 1},
      {"memory", 1},
      {"load", 1},
      {"processors", 2},
      {"console", 2},
      {"boot", 3},
      {"l0", 4}},
     {"trace", "interface", "formats", "x86", "vmx", "tag", "nested", "host", "screen"},
     60},
    {"nested",
     {{"counters.hpp", 0},
      {"events.hpp", 0},
      {"event_gate.hpp", 0},
      {"fault.hpp", 0},
      {"notice.hpp", 0},
      {"port.hpp", 0},
      {"pending_events.hpp", 1},
      {"vmcs", 1},
      {"capabilities.hpp", 2},
      {"demands.hpp", 3},
      {"l1", 4},
      {"ept", 4},
      {"entry", 4},
      {"exit", 4},
      {"state", 4},
      {"vcpu", 5},
      {"vcpu.hpp", 6}},
     {"x86", "vmx", "tag"},
     45},
}};

// By their paths below the root; those of the library are written from where the file is.
std::vector<std::string> includes_of(const House& house, const fs::path& file) {
    constexpr std::string_view directive = "#include \"";
    std::vector<std::string> found;
    std::ifstream text(file);
    for (std::string line; std::getline(text, line);) {
        if (!line.starts_with(directive)) continue;
        const std::string rest = line.substr(directive.size());
        const fs::path included = rest.substr(0, rest.find('"'));
        const bool is_relative = house.folder == "nested";
        found.push_back(is_relative
                            ? (file.parent_path() / included).lexically_normal().lexically_relative(source)
                            : included);
    }
    return found;
}

// Everything in a room, by its path below the root.
std::map<std::string, std::vector<std::string>> files_of_the_rooms(const House& house) {
    std::map<std::string, std::vector<std::string>> files;
    const auto add = [&](const fs::path& file) {
        const std::string ending = file.extension();
        if (ending == ".cpp" || ending == ".hpp")
            files[file.lexically_relative(source)] = includes_of(house, file);
    };
    for (const Room& room : house.rooms) {
        const fs::path path = source / house.folder / room.name;
        if (fs::is_regular_file(path)) {
            add(path);
            continue;
        }
        for (const auto& entry : fs::directory_iterator(path)) add(entry.path());
    }
    return files;
}

// The second part of HOUSE/ROOM/FILE, or of HOUSE/FILE.
std::string room_of(const std::string& path) {
    const std::size_t begin = path.find('/') + 1;
    return path.substr(begin, path.find('/', begin) - begin);
}

std::string part_of(const std::string& path) {
    return path.substr(0, path.find('/'));
}

const Room* room_named(const House& house, std::string_view name) {
    const auto found = std::ranges::find(house.rooms, name, &Room::name);
    return found == house.rooms.end() ? nullptr : &*found;
}

bool may_include(const Room& room, const Room& other) {
    return room.name == other.name || other.floor < room.floor;
}

class Rooms : public testing::TestWithParam<House> {};

TEST_P(Rooms, NoIncludePointsUpward) {
    const House& house = GetParam();
    const auto files = files_of_the_rooms(house);
    ASSERT_GT(files.size(), house.least_files);
    for (const auto& [file, includes] : files) {
        const Room& room = *room_named(house, room_of(file));
        for (const std::string& included : includes) {
            if (house.shared.contains(part_of(included))) continue;
            ASSERT_EQ(part_of(included), house.folder) << file << " includes " << included;
            const Room* const other = room_named(house, room_of(included));
            ASSERT_NE(other, nullptr) << file << " includes " << included << ", which is in no room";
            EXPECT_TRUE(may_include(room, *other)) << file << " includes " << included;
        }
    }
}

TEST_P(Rooms, EverySourceIsInARoom) {
    const House& house = GetParam();
    for (const auto& entry : fs::recursive_directory_iterator(source / house.folder)) {
        const std::string ending = entry.path().extension();
        if (ending != ".cpp" && ending != ".hpp" && ending != ".S") continue;
        const std::string folder = entry.path().parent_path().filename();
        if (folder == "preload") continue;  // not of the command: a library of its own that a child loads
        const bool is_a_room = room_named(house, entry.path().filename().string()) != nullptr;
        EXPECT_TRUE(is_a_room || room_named(house, folder) != nullptr) << entry.path() << " is in no room";
    }
}

// A header and the source of the same name are one: what one includes, the other depends on.
TEST_P(Rooms, NothingDependsOnItself) {
    std::map<std::string, std::set<std::string>> beneath;
    const auto name_of = [](const std::string& file) { return file.substr(0, file.rfind('.')); };
    for (const auto& [file, includes] : files_of_the_rooms(GetParam())) {
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

INSTANTIATE_TEST_SUITE_P(Of, Rooms, testing::ValuesIn(houses),
                         [](const testing::TestParamInfo<House>& house) {
                             return std::string(house.param.folder);
                         });

}  // namespace
}  // namespace rooms_test
