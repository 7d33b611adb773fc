// Targets as every JSON file has them.
#pragma once

#include <vector>

#include "tools/ground/json.hpp"
#include "tools/table/targets.hpp"

namespace flatback::tools {

[[nodiscard]] inline nlohmann::ordered_json targets_json(const std::vector<Target>& targets) {
    Json list = Json::array();
    for (const Target& target : targets) {
        list.push_back({{"what", target.operation},
                        {"measured", target.measured ? Json(*target.measured) : Json(nullptr)},
                        {"at_most", target.to_reach},
                        {"peer", target.peer},
                        {"reached", target.reached()}});
    }
    return list;
}

}  // namespace flatback::tools
