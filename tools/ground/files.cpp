#include "tools/ground/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace flatback::tools {
namespace {

class FileDescriptor final {
public:
    explicit FileDescriptor(int number) : number_{number} {}
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    ~FileDescriptor() { close(); }

    [[nodiscard]] int number() const { return number_; }

    // 0, or -1 with errno: some file systems tell only now that the disk is full.
    int close() {
        if (number_ < 0) return 0;
        return ::close(std::exchange(number_, -1));
    }

private:
    int number_;
};

std::unexpected<Error> cannot(ExitStatus status, const char* verb, const std::filesystem::path& path,
                              int error) {
    return fail(status, fmt::format("cannot {} {}: {}", verb, path.string(), std::strerror(error)));
}

}  // namespace

Result<Bytes> read_file(const std::filesystem::path& path) {
    FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat status = {};
    if (file.number() < 0 || ::fstat(file.number(), &status) != 0) {
        return cannot(ExitStatus::input_file, "read", path, errno);
    }
    if (!S_ISREG(status.st_mode)) {
        return fail(ExitStatus::input_file, fmt::format("cannot read {}: not a regular file", path.string()));
    }
    if (status.st_size == 0) {
        return fail(ExitStatus::input_file, fmt::format("{} is empty", path.string()));
    }
    Bytes bytes(static_cast<std::size_t>(status.st_size));
    std::size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t count = ::read(file.number(), bytes.data() + done, bytes.size() - done);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return cannot(ExitStatus::input_file, "read", path, errno);
        if (count == 0) break;  // the file became shorter
        done += static_cast<std::size_t>(count);
    }
    bytes.resize(done);
    return bytes;
}

Result<Bytes> read_file_of_at_most(const std::filesystem::path& path, std::uintmax_t megabytes) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(path, ignored) &&
        std::filesystem::file_size(path, ignored) > megabytes << 20) {
        return fail(ExitStatus::input_file, fmt::format("{} is larger than {} MB", path.string(), megabytes));
    }
    return read_file(path);
}

Result<> write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
    FileDescriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
    if (file.number() < 0) return cannot(ExitStatus::output_file, "write", path, errno);
    int error = 0;
    while (!bytes.empty() && error == 0) {
        const ssize_t count = ::write(file.number(), bytes.data(), bytes.size());
        if (count >= 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(count));
        } else if (errno != EINTR) {
            error = errno;
        }
    }
    if (file.close() != 0 && error == 0) error = errno;
    if (error == 0) return {};
    if (std::filesystem::is_regular_file(path)) ::unlink(path.c_str());
    return cannot(ExitStatus::output_file, "write", path, error);
}

Result<> write_file(const std::filesystem::path& path, std::string_view text) {
    return write_file(path, std::as_bytes(std::span{text.data(), text.size()}));
}

Result<> replace_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
    std::error_code ignored;
    // A device or a pipe must not be replaced by a file.
    if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored)) {
        return write_file(path, bytes);
    }
    std::filesystem::path beside = path;
    beside += fmt::format(".new{}", ::getpid());
    TRY(write_file(beside, bytes));
    std::error_code error;
    std::filesystem::rename(beside, path, error);
    if (error) {
        ::unlink(beside.c_str());
        return cannot(ExitStatus::output_file, "write", path, error.value());
    }
    return {};
}

Result<> make_directory(const std::filesystem::path& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return cannot(ExitStatus::output_file, "make the directory", path, error.value());
    return {};
}

Result<> check_writable(const std::filesystem::path& path) {
    const bool existed = std::filesystem::exists(path);
    FileDescriptor file{::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)};
    if (file.number() < 0) return cannot(ExitStatus::output_file, "write", path, errno);
    if (!existed) ::unlink(path.c_str());
    return {};
}

}  // namespace flatback::tools
