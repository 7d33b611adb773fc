// JSON from files of others: read once, bounded, and checked against a schema.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "tools/ground/error.hpp"

namespace flatback::tools {

using CheckedJson = nlohmann::json;

// `schema`: a file of the JSON Schema language (draft 7). Error: input_file, one line with the file, the
// place in it, and what is wrong there.
[[nodiscard]] Result<CheckedJson> read_checked_json(const std::filesystem::path& path,
                                                    const std::filesystem::path& schema);

// The same for text that was read already; `name` is what the error calls it.
[[nodiscard]] Result<CheckedJson> parse_checked_json(std::string_view text, std::string_view name,
                                                     const std::filesystem::path& schema);

}  // namespace flatback::tools
