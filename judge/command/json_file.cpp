#include "judge/command/json_file.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <system_error>

namespace flatback::machine {

CommandStatus write_json_file(const std::string& path, const nlohmann::ordered_json& json,
                              CommandSetting& setting) {
    if (path == "-") {
        setting.out << json.dump(2) << "\n";
        return CommandStatus::success;
    }
    // A device or a pipe must not be replaced by a file.
    std::error_code ignored;
    const bool as_it_is =
        std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored);
    const std::string written = as_it_is ? path : path + ".new";
    std::ofstream file(written);
    file << json.dump(2) << "\n";
    file.close();
    if (file && (as_it_is || std::rename(written.c_str(), path.c_str()) == 0)) return CommandStatus::success;
    if (!as_it_is) std::remove(written.c_str());
    setting.error << "flatback machine: " << path << ": cannot be written\n";
    return CommandStatus::usage;
}

}  // namespace flatback::machine
