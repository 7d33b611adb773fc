#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "judge/command/commands.hpp"

namespace flatback::machine {

/// Writes to standard output under the name "-"; else writes the file beside the path and renames it, so that
/// no one sees half of it. What goes wrong is one line on the error stream.
[[nodiscard]] CommandStatus write_json_file(const std::string& path, const nlohmann::ordered_json& json,
                                            CommandSetting& setting);

}  // namespace flatback::machine
