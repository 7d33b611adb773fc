#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace flatback::guests {

/// What L2 prints, passed on to standard output in whole lines: L1's own records never land inside one. Tells
/// when L2 reached user space.
class ConsoleFilter final {
public:
    /// The guest says "FLATBACK stage STAGE" when it is in user space; the ticks since `start` become the
    /// value `boot_key`, unless that is empty.
    ConsoleFilter(std::uint64_t start, std::string boot_key, const std::string& stage = "l2-user")
        : start_(start), boot_key_(std::move(boot_key)), user_space_line_("FLATBACK stage " + stage) {}

    void append(char next);
    /// Passes on what the last line has without its end.
    void finish();

    [[nodiscard]] bool user_space_reached() const { return user_space_reached_; }

private:
    void pass_line();

    std::uint64_t start_;
    std::string boot_key_;
    std::string user_space_line_;
    std::string line_;
    bool user_space_reached_ = false;
};

}  // namespace flatback::guests
