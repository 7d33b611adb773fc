// The debugger's trace, as it comes: pieces of text in, lines out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "watch/trace_line.hpp"

namespace flatback::watch {

class TraceReader {
public:
    /// Longer lines than any of the emulator's are passed over, so that what is kept is bounded.
    static constexpr std::size_t longest_line = 1024;

    /// Calls `sink(line)` with the `TraceLine` of each line that is now whole, also where it is of another
    /// kind. What the line says is of use during the call.
    template <typename Sink>
    void append(std::string_view bytes, Sink&& sink) {
        while (!bytes.empty()) {
            const void* const found = std::memchr(bytes.data(), '\n', bytes.size());
            if (found == nullptr) {
                keep(bytes);
                return;
            }
            const auto length = static_cast<std::size_t>(static_cast<const char*>(found) - bytes.data());
            std::string_view text = bytes.substr(0, length);
            if (!begun_.empty() || too_long_) {
                keep(text);
                text = begun_;
            }
            if (!too_long_ && text.size() <= longest_line) {
                read_line(text, line_);
                text_ = text;
            } else {
                line_.kind = TraceLine::Kind::other;
                text_ = {};
            }
            ++lines_;
            sink(static_cast<const TraceLine&>(line_));
            begun_.clear();
            too_long_ = false;
            bytes.remove_prefix(length + 1);
        }
    }

    [[nodiscard]] std::uint64_t lines() const { return lines_; }
    /// The line of the call of the sink that is under way.
    [[nodiscard]] std::string_view text() const { return text_; }

private:
    void keep(std::string_view bytes) {
        too_long_ = too_long_ || begun_.size() + bytes.size() > longest_line;
        if (!too_long_) begun_ += bytes;
    }

    std::string begun_;  // of a line whose end has not come yet
    std::string_view text_;
    bool too_long_ = false;
    std::uint64_t lines_ = 0;
    TraceLine line_{};
};

}  // namespace flatback::watch
