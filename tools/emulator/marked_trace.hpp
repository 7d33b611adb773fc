// What a guest executes between two marks of its own, as the emulator's debugger prints it (trace,
// trace-mem).
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "tools/ground/error.hpp"

namespace flatback::tools {

// What is heard of one run's debugger, and what it is answered (Emulation's dialogue). XCHG BX, BX in a guest
// switches the trace on, the next one off, and so on.
class MarkedTrace final {
public:
    // The text is some 150 bytes an instruction.
    static constexpr std::uint64_t most_bytes = std::uint64_t{4} << 30;

    // Error: output_file.
    [[nodiscard]] static Result<MarkedTrace> create(const std::filesystem::path& file);

    // `symbols`: a file for the debugger, relative to where it runs; empty: there are none.
    void know_symbols(std::string symbols) { symbols_ = std::move(symbols); }

    [[nodiscard]] std::string hear(std::string_view bytes);

    // Once all has been heard. Error: output_file where not all could be written.
    [[nodiscard]] Result<> finish();
    // Lines that were written; 0: no mark was met.
    [[nodiscard]] std::uint64_t lines() const { return lines_; }
    // Whether there was more than most_bytes.
    [[nodiscard]] bool is_cut() const { return cut_; }

private:
    MarkedTrace(std::filesystem::path path, std::ofstream file)
        : path_{std::move(path)}, file_{std::move(file)} {}
    void take_line(std::string_view line, std::string& answer);

    std::filesystem::path path_;
    std::ofstream file_;
    std::string symbols_;
    std::string begun_;  // of a line whose end has not come yet
    std::uint64_t lines_ = 0;
    std::uint64_t bytes_ = 0;
    bool at_mark_ = false;
    bool tracing_ = false;
    bool cut_ = false;
};

}  // namespace flatback::tools
