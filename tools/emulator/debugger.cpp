#include "tools/emulator/debugger.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace flatback::tools {
namespace {

constexpr unsigned decimal = 10;
constexpr unsigned hexadecimal = 16;

// The number behind the last `name` in the output, which ends in what stands between the two.
std::optional<std::uint64_t> last_number(std::string_view output, std::string_view name, unsigned base) {
    const std::size_t at = output.rfind(name);
    if (at == std::string_view::npos) return std::nullopt;
    std::string_view text = output.substr(at + name.size());
    if (base == hexadecimal && text.starts_with("0x")) text.remove_prefix(2);
    std::uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value, static_cast<int>(base));
    // A number at the very end may be half of one.
    if (error != std::errc{} || end == text.data() + text.size()) return std::nullopt;
    return value;
}

}  // namespace

Result<Debugger> Debugger::create(const std::filesystem::path& pipe) {
    const auto cannot = [&pipe] {
        return fail(ExitStatus::output_file,
                    fmt::format("cannot make {}: {}", pipe.string(), std::strerror(errno)));
    };
    if (::mkfifo(pipe.c_str(), 0600) != 0) return cannot();
    // For reading too: so that it opens before Bochs does, and never ends for Bochs.
    const int number = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (number < 0) return cannot();
    Debugger debugger{number};
    debugger.write("c\n");
    return debugger;
}

Debugger::~Debugger() {
    if (pipe_ >= 0) ::close(pipe_);
}

void Debugger::examine_and_continue() {
    write("show \"cpu0.activity_state\"\nshow \"cpu0.EFLAGS\"\nshow \"cpu0.icount\"\nc\n");
}

void Debugger::examine_and_quit() {
    write("show \"cpu0.VMX.vmcsptr\"\nq\n");
}

void Debugger::write(std::string_view commands) const {
    if (pipe_ < 0) return;
    // Far less than a pipe holds: one write is whole or fails, and then the run ends by its time.
    [[maybe_unused]] const ssize_t written = ::write(pipe_, commands.data(), commands.size());
}

std::optional<Examination> read_examination(std::string_view output) {
    const auto tick = last_number(output, "Next at t=", decimal);
    const auto activity = last_number(output, "\nactivity_state = ", hexadecimal);
    const auto flags = last_number(output, "\nEFLAGS = ", hexadecimal);
    const auto instructions = last_number(output, "\nicount = ", decimal);
    if (!tick || !activity || !flags || !instructions) return std::nullopt;
    constexpr std::uint64_t halted = 1;  // as in the VMCS (SDM 3C 25.4.2)
    constexpr std::uint64_t interrupt_flag = 1U << 9;
    return Examination{*tick, *instructions, *activity == halted, (*flags & interrupt_flag) != 0};
}

std::optional<std::uint64_t> current_vmcs(std::string_view output) {
    const auto address = last_number(output, "\nvmcsptr = ", hexadecimal);
    return address == ~std::uint64_t{0} ? std::nullopt : address;
}

}  // namespace flatback::tools
