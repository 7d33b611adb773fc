#include "tools/emulation.hpp"

#include <array>
#include <thread>

#include "tools/files.hpp"
#include "tools/interruption.hpp"
#include "tools/machine.hpp"
#include "tools/paths.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::milliseconds poll_interval{50};
constexpr std::string_view serial_name = "com1.txt";
constexpr std::string_view console_name = "console.txt";
constexpr std::string_view log_name = "bochs.log";

// Appends to `sink` what a growing file has more than at the last call.
template <typename Sink>
void read_more(std::ifstream& stream, const std::filesystem::path& path, Sink& sink) {
    if (!stream.is_open()) stream.open(path, std::ios::binary);
    if (!stream.is_open()) return;
    stream.clear();
    std::array<char, 64 * 1024> buffer;
    for (;;) {
        stream.read(buffer.data(), buffer.size());
        const auto count = static_cast<std::size_t>(stream.gcount());
        if (count == 0) return;
        sink.append(std::string_view{buffer.data(), count});
    }
}

}  // namespace

Result<Emulation> Emulation::start(EmulationRequest request) {
    TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    const std::filesystem::path& path = directory.path();
    Machine machine;
    machine.processor = request.processor;
    machine.memory = request.memory;
    machine.processors = request.processors;
    machine.instructions_per_second = request.instructions_per_second;
    machine.cdrom = path / "boot.iso";
    machine.serial = path / serial_name;
    machine.log = path / log_name;
    machine.cmos = path / "cmos.bin";
    TRY(make_boot_image(request.plan, path, machine.cdrom));
    const auto cmos = cmos_image(machine.memory);
    TRY(write_file(machine.cmos, std::as_bytes(std::span{cmos})));
    TRY(write_file(path / "bochsrc", bochs_configuration(machine)));
    // For the debugger that Debian's Bochs has built in: continue, and leave when the machine stops.
    TRY(write_file(path / "debugger", "c\nq\n"));

    CommandLine command;
    command.arguments = {"bochs", "-q", "-f", "bochsrc", "-rc", "debugger"};
    command.directory = path;
    command.output = path / console_name;
    // A display that needs no terminal and listens nowhere; and a clock that stands still, so that runs
    // repeat.
    command.environment = {"SDL_VIDEODRIVER=dummy", "SDL_AUDIODRIVER=dummy",
                           "LD_PRELOAD=" + still_clock_library().string()};
    ChildProcess bochs = TRY(ChildProcess::start(command));
    return Emulation{std::move(directory), std::move(bochs), std::move(request)};
}

Emulation::Emulation(TemporaryDirectory directory, ChildProcess bochs, EmulationRequest request)
    : directory_{std::move(directory)},
      bochs_{std::move(bochs)},
      transcript_{std::make_unique<Transcript>(std::move(request.listener))},
      limit_{request.limit},
      start_{std::chrono::steady_clock::now()} {}

const std::optional<Outcome>& Emulation::poll() {
    if (outcome_) return outcome_;
    // The status first: what is read after it is everything.
    const bool ended = bochs_.poll().has_value();
    read_new_output();
    if (ended) {
        transcript_->finish();
        finish(judge(log_, *transcript_));
    } else if (interrupted()) {
        bochs_.stop();
        finish({.ending = Ending::interrupted, .detail = {}});
    } else if (log_.guest_reset()) {
        bochs_.stop();
        transcript_->finish();
        finish(judge(log_, *transcript_));
    } else if (std::chrono::steady_clock::now() - start_ >= limit_) {
        // Interrupted, Bochs' debugger takes its next command, which is to quit, and the log tells where the
        // processor was.
        bochs_.interrupt();
        bochs_.stop();
        read_new_output();
        transcript_->finish();
        finish({.ending = Ending::time_up, .detail = log_.processor_state()});
    }
    return outcome_;
}

const Outcome& Emulation::wait() {
    while (!poll()) std::this_thread::sleep_for(poll_interval);
    return *outcome_;
}

std::string Emulation::console() const {
    const auto bytes = read_file(directory_.path() / console_name);
    return bytes ? std::string{text_of(*bytes)} : std::string{};
}

void Emulation::read_new_output() {
    read_more(serial_file_, directory_.path() / serial_name, *transcript_);
    read_more(log_file_, directory_.path() / log_name, log_);
}

void Emulation::finish(Outcome outcome) {
    outcome.ticks = log_.ticks();
    outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    outcome_ = std::move(outcome);
}

}  // namespace flatback::tools
