// The results of `flatback test`, printed as they come and counted.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flatback::tools {

class TestReport final {
public:
    explicit TestReport(std::string filter) : filter_{std::move(filter)} {}

    // Whether the filter lets a test of this name count.
    [[nodiscard]] bool selects(std::string_view name) const {
        return name.find(filter_) != std::string_view::npos;
    }
    [[nodiscard]] bool selects_any(std::span<const std::string_view> names) const {
        return std::ranges::any_of(names, [this](std::string_view name) { return selects(name); });
    }
    [[nodiscard]] const std::string& filter() const { return filter_; }

    void pass(std::string_view name);
    // `why` may have many lines.
    void fail(std::string_view name, std::string_view why);
    void add(std::string_view name, bool passed, std::string_view why) {
        passed ? pass(name) : fail(name, why);
    }

    [[nodiscard]] std::size_t passed() const { return passed_; }
    [[nodiscard]] std::size_t failed() const { return failures_.size(); }
    // The failed tests once more, each with the first line of its reason: where the output is long, or only
    // its end is kept, they are found there. Then "N passed, N failed". Without a line's end.
    [[nodiscard]] std::string closing() const;

private:
    std::string filter_;
    std::size_t passed_ = 0;
    std::vector<std::string> failures_;  // a line each
};

}  // namespace flatback::tools
