// The devices of the second VM: a serial port, whose lines go to L0's log, and a port that ends it. All
// others answer with ones, and the clock with zeros: it stands still.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace flatback::metal {

// The word that a guest writes to port 8900H, byte by byte, when it has come to its end.
class EndPort final {
public:
    static constexpr std::uint16_t port = 0x8900;
    // True: the word is complete with this byte.
    [[nodiscard]] bool take(std::uint8_t byte) {
        matched_ = static_cast<char>(byte) == word[matched_] ? matched_ + 1
                   : static_cast<char>(byte) == word[0]      ? 1
                                                             : 0;
        if (matched_ < word.size()) return false;
        matched_ = 0;
        return true;
    }

private:
    static constexpr std::string_view word = "Shutdown";
    std::size_t matched_ = 0;
};

// Text by lines; what no longer fits is left out of its middle, and a line says so.
class LineQueue final {
public:
    void put(char character);
    // Calls `write` with each whole line, oldest first, and forgets it.
    template <typename Write>
    void take_lines(Write&& write) {
        std::size_t start = 0;
        for (std::size_t at = 0; at < used_; ++at) {
            if (text_[at] != '\n') continue;
            write(std::string_view{text_.data() + start, at - start});
            start = at + 1;
        }
        for (std::size_t at = start; at < used_; ++at) text_[at - start] = text_[at];
        used_ -= start;
        whole_ = false;
        if (lost_ != 0) {
            lost_ = 0;
            write("(characters were lost here)");
        }
    }
    [[nodiscard]] bool has_line() const { return whole_; }
    void end_line() {
        if (used_ != 0 && text_[used_ - 1] != '\n') put('\n');
    }

private:
    std::array<char, 65536> text_{};
    std::size_t used_ = 0;
    std::size_t lost_ = 0;
    bool whole_ = false;
};

class SecondDevices final {
public:
    // size: 1, 2 or 4 bytes.
    [[nodiscard]] std::uint32_t read(std::uint16_t port, unsigned size) const;
    // False: with this the guest has come to its end.
    [[nodiscard]] bool write(std::uint16_t port, unsigned size, std::uint32_t value);
    [[nodiscard]] LineQueue& lines() { return lines_; }

private:
    static constexpr std::uint16_t serial = 0x3f8;  // eight registers
    static constexpr std::uint16_t clock_data = 0x71;

    std::array<std::uint8_t, 8> serial_registers_{};
    LineQueue lines_;
    EndPort end_;
};

}  // namespace flatback::metal
