#include "tools/emulator/emulation.hpp"

#include <fmt/format.h>

#include <system_error>
#include <thread>

#include "tools/emulator/bochs_configuration.hpp"
#include "tools/emulator/elf_symbols.hpp"
#include "tools/emulator/growing_file.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/hexadecimal.hpp"
#include "tools/ground/interruption.hpp"
#include "tools/ground/paths.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::milliseconds poll_interval{50};
constexpr std::string_view serial_name = "com1.txt";
constexpr std::string_view console_name = "console.txt";
constexpr std::string_view log_name = "bochs.log";
constexpr std::string_view debugger_name = "debugger";
constexpr std::string_view disk_name = "disk.img";
// For Bochs' configuration, where frames are kept: by the host's time, which stands still for Bochs, it draws
// few.
constexpr std::string_view frames_by_emulated_time = "vga: extension=vbe, update_freq=60, realtime=0\n";
constexpr std::string_view preloaded_name = "bochs-preload.so";

// The first ones: symbols, where L1 has them, and the prompt.
std::string debugger_commands(const BootPlan& plan, const std::filesystem::path& directory) {
    const auto kernel = read_file(plan.guest);
    const std::string symbols = kernel ? symbol_list(*kernel) : std::string{};
    if (symbols.empty() || !write_file(directory / symbols_file, symbols)) return "\n";
    return fmt::format("ldsym global \"{}\"\n", symbols_file);
}

Result<> make_link(const std::filesystem::path& to, const std::filesystem::path& link) {
    std::error_code error;
    std::filesystem::create_symlink(to, link, error);
    if (error)
        return fail(ExitStatus::output_file,
                    fmt::format("cannot make the link {}: {}", link.string(), error.message()));
    return {};
}

}  // namespace

Result<Emulation> Emulation::start(EmulationRequest request) {
    TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    const std::filesystem::path& path = directory.path();
    // Names without a folder, as Bochs runs in it: a path may hold what its configuration or LD_PRELOAD
    // cannot.
    EmulatedPc pc;
    pc.processor = request.processor;
    pc.memory = request.memory;
    pc.processors = request.processors;
    pc.instructions_per_second = request.instructions_per_second;
    pc.firmware = request.firmware;
    pc.medium = request.medium;
    pc.image = "boot.iso";
    pc.serial = serial_name;
    pc.log = log_name;
    pc.cmos = "cmos.bin";
    pc.magic_breaks = request.dialogue != nullptr;
    if (request.disk) {
        pc.disk = disk_name;
        TRY(make_link(std::filesystem::absolute(*request.disk), path / disk_name));
    }
    std::optional<PseudoTerminal> terminal;
    if (request.debugger_listener) {
        terminal.emplace(TRY(PseudoTerminal::create(PseudoTerminal::Mode::usual)));
    } else if (request.typing) {
        terminal.emplace(TRY(PseudoTerminal::create(PseudoTerminal::Mode::raw)));
        pc.serial = terminal->path();
        pc.serial_is_terminal = true;
    }
    if (request.image) {
        // A copy: as a disk it can be written to.
        const Bytes image = TRY(read_file(*request.image));
        TRY(write_file(path / pc.image, image));
    } else {
        TRY(make_boot_image(request.plan, path, path / pc.image));
    }
    const auto cmos = cmos_image(pc.memory, pc.medium);
    TRY(write_file(path / pc.cmos, std::as_bytes(std::span{cmos})));
    std::string configuration = bochs_configuration(pc);
    if (request.keeps_screen) configuration += frames_by_emulated_time;
    TRY(write_file(path / "bochsrc", configuration));
    TRY(make_link(bochs_preload_library(), path / preloaded_name));
    Debugger debugger = Debugger::of_another();
    std::unique_ptr<Dialogue> dialogue;
    if (request.debugger_listener) {
        TRY(write_file(path / debugger_name, debugger_commands(request.plan, path)));
    } else {
        debugger = TRY(Debugger::create(path / debugger_name));
    }
    if (request.dialogue) {
        request.watches_halts = false;
        if (request.symbols_for_dialogue) static_cast<void>(debugger_commands(request.plan, path));
        dialogue = TRY(Dialogue::create(path / console_name, debugger.pipe(), request.dialogue));
    }

    CommandLine command;
    command.arguments = {"bochs", "-q", "-f", "bochsrc", "-rc", std::string{debugger_name}};
    command.directory = path;
    if (request.debugger_listener) {
        command.terminal = terminal->path();
    } else {
        command.output = path / console_name;
    }
    // A display that needs no terminal and listens nowhere; and a clock that stands still, so that runs
    // repeat.
    command.environment = {"SDL_VIDEODRIVER=dummy", "SDL_AUDIODRIVER=dummy",
                           fmt::format("LD_PRELOAD=./{}", preloaded_name)};
    if (request.keeps_screen) command.environment.emplace_back(ScreenFrames::environment);
    ChildProcess bochs = TRY(ChildProcess::start(command));
    return Emulation{std::move(directory), std::move(terminal), std::move(debugger),
                     std::move(dialogue),  std::move(bochs),    std::move(request)};
}

Emulation::Emulation(TemporaryDirectory directory, std::optional<PseudoTerminal> terminal, Debugger debugger,
                     std::unique_ptr<Dialogue> dialogue, ChildProcess bochs, EmulationRequest request)
    : directory_{std::move(directory)},
      terminal_{std::move(terminal)},
      debugger_{std::move(debugger)},
      dialogue_{std::move(dialogue)},
      bochs_{std::move(bochs)},
      transcript_{std::make_unique<Transcript>(std::move(request.listener),
                                               Speakers{.l0 = request.plan.l0.has_value(),
                                                        .levels = request.plan.levels,
                                                        .guest_records = request.guest_records,
                                                        .mark = loader_mark(request.plan)})},
      bytes_listener_{std::move(request.bytes_listener)},
      debugger_listener_{std::move(request.debugger_listener)},
      typing_{std::move(request.typing)},
      programs_{.l1 = request.plan.guest, .l0 = request.plan.l0, .vmcs01 = {}, .current_vmcs = {}},
      watches_halts_{request.watches_halts && !debugger_listener_},
      until_end_record_{request.until_end_record},
      limit_{request.limit},
      start_{std::chrono::steady_clock::now()} {
    if (request.keeps_screen) screen_.emplace(directory_.path());
}

const std::optional<Outcome>& Emulation::poll() {
    if (outcome_) return outcome_;
    // The status first: what is read after it is everything.
    const bool ended = bochs_.poll().has_value();
    read_new_output();
    if (screen_) screen_->forget_older();
    if (ended) {
        transcript_->finish();
        finish(judge(log_, *transcript_));
    } else if (interrupted()) {
        bochs_.stop();
        finish({.ending = Ending::interrupted, .detail = {}});
    } else if (until_end_record_ && transcript_->ended()) {
        bochs_.stop();
        transcript_->finish();
        finish({.ending = Ending::reported, .detail = {}});
    } else if (log_.guest_reset()) {
        bochs_.stop();
        transcript_->finish();
        finish(judge(log_, *transcript_));
    } else if (log_.stopped() && !quit_ && !debugger_listener_) {
        quit_ = true;
        debugger_.examine_and_quit();
    } else if (std::chrono::steady_clock::now() - start_ >= limit_) {
        stop_and_examine();
        finish({.ending = Ending::time_up, .detail = {}});
    } else if (has_halted_for_good()) {
        stop_and_examine();
        finish({.ending = Ending::halted, .detail = {}});
    }
    return outcome_;
}

const Outcome& Emulation::wait() {
    while (!poll()) std::this_thread::sleep_for(poll_interval);
    return *outcome_;
}

void Emulation::type(std::string_view bytes) {
    if (terminal_) terminal_->write(bytes);
}

void Emulation::leave() {
    if (outcome_) return;
    bochs_.stop();
    read_new_output();
    transcript_->finish();
    finish({.ending = Ending::left, .detail = {}});
}

Result<> Emulation::write_screen(const std::filesystem::path& to) const {
    if (!screen_) return fail(ExitStatus::incomplete, "the screen was not kept");
    return screen_->write_png(to);
}

std::string Emulation::console() const {
    if (dialogue_) return {};
    const auto bytes = read_file(directory_.path() / console_name);
    return bytes ? std::string{text_of(*bytes)} : std::string{};
}

void Emulation::read_new_output() {
    const auto serial = [this](std::string_view bytes) {
        if (bytes_listener_) bytes_listener_(bytes);
        transcript_->append(bytes);
    };
    const std::string from_terminal = terminal_ ? terminal_->read() : std::string{};
    if (debugger_listener_) {
        debugger_listener_(from_terminal);
    } else if (!from_terminal.empty()) {
        serial(from_terminal);
    }
    read_more(serial_file_, directory_.path() / serial_name, serial);
    if (typing_ && transcript_->text().find(typing_->after) != std::string::npos) {
        type(typing_->keys);
        typing_.reset();
    }
    read_more(log_file_, directory_.path() / log_name,
              [this](std::string_view bytes) { log_.append(bytes); });
}

bool Emulation::has_halted_for_good() {
    if (!watches_halts_ || log_.halts_for_good() == 0 || quit_) return false;
    const auto now = std::chrono::steady_clock::now();
    if (examined_from_) {
        const std::string output = console();
        const auto examination = read_examination(std::string_view{output}.substr(*examined_from_));
        if (!examination) return false;
        examined_from_.reset();
        halt_watch_.examined(now, *examination);
    }
    switch (halt_watch_.look(now, log_.halts_for_good(), transcript_->text().size())) {
        case HaltWatch::Verdict::halted:
            return true;
        case HaltWatch::Verdict::examine:
            examined_from_ = console().size();
            debugger_.examine_and_continue();
            bochs_.signal_interrupt();
            break;
        case HaltWatch::Verdict::running:
            break;
    }
    return false;
}

void Emulation::stop_and_examine() {
    if (!quit_) debugger_.examine_and_quit();
    quit_ = true;
    bochs_.interrupt();
    bochs_.stop();
    read_new_output();
    transcript_->finish();
}

void Emulation::finish(Outcome outcome) {
    if (dialogue_) dialogue_->finish();
    outcome.ticks = log_.ticks();
    outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const bool somewhere = outcome.ending == Ending::time_up || outcome.ending == Ending::halted ||
                           outcome.ending == Ending::triple_fault;
    if (somewhere && outcome.detail.empty() && log_.processor()) {
        const auto vmcs01 = transcript_->texts().find("l0.vmcs01");
        if (vmcs01 != transcript_->texts().end()) programs_.vmcs01 = hexadecimal_number(vmcs01->second);
        programs_.current_vmcs = current_vmcs(console());
        outcome.detail = describe_location(*log_.processor(), programs_);
    }
    constexpr std::string_view by_l0 = "at RIP ";
    if (outcome.ending == Ending::triple_fault && outcome.detail.starts_with(by_l0)) {
        const std::string_view rip = std::string_view{outcome.detail}.substr(by_l0.size());
        const auto symbol = symbol_in_file(programs_.l1, hexadecimal_number(rip).value_or(0));
        if (symbol) outcome.detail.insert(outcome.detail.find(','), fmt::format(" ({})", *symbol));
        outcome.detail.insert(0, "L1 was running, ");
    }
    outcome_ = std::move(outcome);
}

}  // namespace flatback::tools
