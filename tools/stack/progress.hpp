// What a waiting user sees: each stage of each run as it is reached, on standard error.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>

#include "tools/stack/run_queue.hpp"

namespace flatback::tools {

// The stage that begins with a record of the contract, in words for people; empty where none does.
[[nodiscard]] std::string_view stage_title(std::string_view stage);

class Progress final {
public:
    Progress();

    // An observer that reports to this object, which must outlive it.
    [[nodiscard]] QueueObserver observer();

    // One line that stands by itself.
    void say(std::string_view text);

private:
    struct Running {
        std::string stage;
        std::chrono::steady_clock::time_point start;
    };

    void enter(std::string_view run, std::string_view stage);
    void show_status();
    void clear_status();

    bool terminal_;
    std::map<std::string, Running, std::less<>> running_;
};

}  // namespace flatback::tools
