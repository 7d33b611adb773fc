// One run of a machine of QEMU's: by its own translator, whose processors have no VT-x, or by the user's KVM,
// whose processors are real.
#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/emulator/bochs_configuration.hpp"
#include "tools/emulator/ending.hpp"
#include "tools/emulator/transcript.hpp"
#include "tools/ground/child_process.hpp"
#include "tools/ground/temporary_directory.hpp"

namespace flatback::tools {

enum class Accelerator : std::uint8_t { tcg, kvm };

struct QemuRequest {
    Accelerator accelerator = Accelerator::tcg;
    std::filesystem::path image;
    Firmware firmware = Firmware::bios;
    Medium medium = Medium::cd;
    unsigned memory = 1024;  // MB
    unsigned processors = 1;
    std::optional<std::filesystem::path> disk;
    std::chrono::seconds limit{300};  // of wall time
    Speakers speakers;
    Transcript::Listener listener;
    std::function<void(std::string_view bytes)> bytes_listener;
};

// QEMU's arguments. Files in its working directory: variables.fd, which the firmware of UEFI writes.
[[nodiscard]] std::vector<std::string> qemu_arguments(const QemuRequest& request);

// How a run ended whose QEMU has ended by itself: by its exit status, and the log of what it was asked for.
[[nodiscard]] Outcome judge_qemu(int status, std::string_view log, const Transcript& transcript);

class QemuRun final {
public:
    // Error: missing_program for QEMU or the firmware; input_file for the image.
    [[nodiscard]] static Result<QemuRun> start(QemuRequest request);

    // As Emulation's.
    [[nodiscard]] const std::optional<Outcome>& poll();
    [[nodiscard]] const Outcome& wait();
    [[nodiscard]] const Transcript& transcript() const { return *transcript_; }

private:
    QemuRun(TemporaryDirectory directory, ChildProcess qemu, QemuRequest request);
    void finish(Outcome outcome);

    TemporaryDirectory directory_;  // removed after the process that uses it has ended
    ChildProcess qemu_;
    std::unique_ptr<Transcript> transcript_;
    std::function<void(std::string_view)> bytes_listener_;
    std::ifstream serial_file_;
    std::chrono::seconds limit_;
    std::chrono::steady_clock::time_point start_;
    std::optional<Outcome> outcome_;
};

// Whether this process may read and write it.
[[nodiscard]] bool may_read_and_write(const std::filesystem::path& file);

// Why this machine's KVM cannot run Flatback, in one line that helps; empty where it can. `root` stands
// before the paths: the files of a machine that a test made up.
[[nodiscard]] std::string kvm_refusal(
    const std::filesystem::path& root = "/",
    bool (*may_use)(const std::filesystem::path& file) = may_read_and_write);

}  // namespace flatback::tools
