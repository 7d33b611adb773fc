#pragma once

#include <algorithm>
#include <string_view>

#include "tools/measure/measurements.hpp"

namespace flatback::tools {

// The values of a run that printed these lines, but not those that hold `omitted`.
inline RunValues values_without(std::string_view lines, std::string_view omitted) {
    Transcript transcript;
    while (!lines.empty()) {
        const std::string_view line = lines.substr(0, std::min(lines.find('\n'), lines.size() - 1) + 1);
        if (line.find(omitted) == std::string_view::npos) transcript.append(line);
        lines.remove_prefix(line.size());
    }
    return RunValues{transcript};
}

}  // namespace flatback::tools
