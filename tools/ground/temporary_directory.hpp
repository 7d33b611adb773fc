// A directory of one run's files, removed with everything in it at the end of the object's life.
#pragma once

#include <filesystem>
#include <utility>

#include "tools/ground/error.hpp"

namespace flatback::tools {

class TemporaryDirectory final {
public:
    // Makes a new one under TMPDIR, or /tmp.
    [[nodiscard]] static Result<TemporaryDirectory> create();

    TemporaryDirectory(TemporaryDirectory&& other) noexcept : path_{std::exchange(other.path_, {})} {}
    TemporaryDirectory& operator=(TemporaryDirectory&& other) noexcept {
        std::swap(path_, other.path_);
        return *this;
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory();

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    explicit TemporaryDirectory(std::filesystem::path path) : path_{std::move(path)} {}

    std::filesystem::path path_;
};

}  // namespace flatback::tools
