// The debugger that Debian's Bochs has built in, by a named pipe from which it reads its commands.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

#include "tools/ground/error.hpp"

namespace flatback::tools {

class Debugger final {
public:
    // Makes the pipe, which holds the first command: to go on. Bochs gets its path with -rc.
    // Error: output_file.
    [[nodiscard]] static Result<Debugger> create(const std::filesystem::path& pipe);

    // A debugger that somebody else commands: nothing is said to it.
    [[nodiscard]] static Debugger of_another() { return Debugger{-1}; }

    Debugger(Debugger&& other) noexcept : pipe_{std::exchange(other.pipe_, -1)} {}
    Debugger& operator=(Debugger&& other) noexcept {
        std::swap(pipe_, other.pipe_);
        return *this;
    }
    Debugger(const Debugger&) = delete;
    Debugger& operator=(const Debugger&) = delete;
    ~Debugger();

    // What it does at its next stop: at a panic, or when Bochs gets SIGINT. Each tells the tick and goes to
    // Bochs' standard output, what `quit` dumps to its log.
    void examine_and_continue();
    void examine_and_quit();

    // Of the pipe, to write further commands there.
    [[nodiscard]] int pipe() const { return pipe_; }

private:
    explicit Debugger(int pipe) : pipe_{pipe} {}
    void write(std::string_view commands) const;

    int pipe_ = -1;
};

// What an examination told; nothing of what stood in the output before `examine_and_continue` may be in
// `output`.
struct Examination {
    std::uint64_t tick = 0;
    std::uint64_t instructions = 0;  // executed since power-on
    bool halted = false;             // by HLT
    bool interrupts = false;         // RFLAGS.IF
};
[[nodiscard]] std::optional<Examination> read_examination(std::string_view output);

// The physical address of the current VMCS, of the last examination in the output; nothing where there is
// none.
[[nodiscard]] std::optional<std::uint64_t> current_vmcs(std::string_view output);

}  // namespace flatback::tools
