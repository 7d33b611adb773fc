// A conversation with Bochs' debugger: what Bochs prints is heard as it comes, and answered by commands.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "tools/ground/error.hpp"

namespace flatback::tools {

class Dialogue final {
public:
    // Gets all that Bochs prints, in pieces, from a thread of its own; what it returns are commands for the
    // debugger, each with a newline. Too much may be printed to be kept, so that nothing is.
    using Listener = std::function<std::string(std::string_view bytes)>;

    // Makes the named pipe `output`, which Bochs gets as its output; `commands` is the debugger's, a copy of
    // whose number is kept. Error: output_file.
    [[nodiscard]] static Result<std::unique_ptr<Dialogue>> create(const std::filesystem::path& output,
                                                                  int commands, Listener listener);

    Dialogue(const Dialogue&) = delete;
    Dialogue& operator=(const Dialogue&) = delete;
    ~Dialogue() { finish(); }

    // Bochs has ended: returns when everything has been heard.
    void finish();

private:
    Dialogue(int output, int commands, Listener listener);
    void listen();

    int output_;
    int commands_;
    Listener listener_;
    std::atomic<bool> ended_ = false;
    std::thread thread_;
};

}  // namespace flatback::tools
