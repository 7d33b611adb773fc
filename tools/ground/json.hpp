// The JSON that the command writes and reads: an object's members stay in the order in which they were put.
#pragma once

#include <nlohmann/json.hpp>

namespace flatback::tools {

using Json = nlohmann::ordered_json;

}  // namespace flatback::tools
