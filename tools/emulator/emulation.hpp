// One run of a machine in Bochs: started, watched, ended.
#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>

#include "tools/emulator/bochs_configuration.hpp"
#include "tools/emulator/debugger.hpp"
#include "tools/emulator/dialogue.hpp"
#include "tools/emulator/ending.hpp"
#include "tools/emulator/halt_watch.hpp"
#include "tools/emulator/location.hpp"
#include "tools/emulator/screen_frames.hpp"
#include "tools/emulator/transcript.hpp"
#include "tools/ground/child_process.hpp"
#include "tools/ground/pseudo_terminal.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/image/boot_image.hpp"

namespace flatback::tools {

struct EmulationRequest {
    BootPlan plan;
    // What is booted in place of an image made of the plan, which says what is on it.
    std::optional<std::filesystem::path> image;
    Firmware firmware = Firmware::bios;
    Medium medium = Medium::cd;
    unsigned memory = 1024;  // MB, least_memory to most_memory
    std::string processor{usual_processor};
    unsigned processors = 1;
    std::optional<std::filesystem::path> disk;  // a raw image, which the guest may write
    std::uint64_t instructions_per_second = tools::instructions_per_second;
    std::chrono::seconds limit{300};  // of wall time in Bochs
    bool guest_records = true;        // Speakers::guest_records
    // The run is over once the guest has told the end of its records (Ending::reported): how the machine
    // would end then is not the guest's to say.
    bool until_end_record = false;
    bool watches_halts = true;      // the debugger's words come into the console, in the middle of a line
    Transcript::Listener listener;  // sees each line of COM1 as it comes
    std::function<void(std::string_view bytes)> bytes_listener;  // sees all that COM1 sends, as it comes
    // COM1 has somebody at its other end: type(). Keys that are typed before the emulator has opened its end
    // are lost: these are typed once COM1 has sent `after`.
    struct Typing {
        std::string after;
        std::string keys;
    };
    std::optional<Typing> typing;
    // The emulator's debugger has a terminal, which is this one's: it waits for the first command there, with
    // L1's symbols loaded, and what it prints comes here. Nothing is watched then but the time.
    std::function<void(std::string_view bytes)> debugger_listener;
    // Where there is one, and no debugger_listener: XCHG BX, BX in a guest stops in Bochs' debugger, which is
    // the listener's to go on from; the console stays empty, and nobody watches halts.
    Dialogue::Listener dialogue;
    // For the dialogue: the symbols of L1's file, where it has any, are in symbols_file where Bochs runs.
    bool symbols_for_dialogue = false;
    // Frames of the screen are kept, to be written by write_screen.
    bool keeps_screen = false;
};

inline constexpr std::string_view symbols_file = "l1.symbols";

class Emulation final {
public:
    // Makes the boot image, or copies the one that is given, and starts Bochs. Error: those of
    // make_boot_image; input_file for `image`; missing_program for Bochs.
    [[nodiscard]] static Result<Emulation> start(EmulationRequest request);

    Emulation(Emulation&&) = default;
    Emulation& operator=(Emulation&&) = delete;
    Emulation(const Emulation&) = delete;
    Emulation& operator=(const Emulation&) = delete;
    ~Emulation() = default;

    // Reads what is new; the outcome once the run is over, and the same one from then on. Ends Bochs where
    // the time is up, the guest has reset the machine or halted for good, or the command is interrupted.
    [[nodiscard]] const std::optional<Outcome>& poll();

    // Polls until the end.
    [[nodiscard]] const Outcome& wait();

    [[nodiscard]] const Transcript& transcript() const { return *transcript_; }

    // Keys for the debugger where it has a terminal, else for COM1.
    void type(std::string_view bytes);

    // Ends Bochs: Ending::left.
    void leave();

    // What Bochs has written to its own output, which is where port 0xE9 leads: guests write there what is
    // too much for COM1. Empty where it cannot be read.
    [[nodiscard]] std::string console() const;

    // VM entries that the processor refused, by Bochs' log: the first of them.
    [[nodiscard]] const std::vector<RefusedEntry>& refused_entries() const { return log_.refused_entries(); }

    // With keeps_screen, once the run is over. Error: those of ScreenFrames::write_png.
    [[nodiscard]] Result<> write_screen(const std::filesystem::path& to) const;

    // What Bochs has used: unlike the time of day, no measure of how busy or how slow the machine is.
    [[nodiscard]] std::chrono::nanoseconds processor_time() const { return bochs_.processor_time(); }

private:
    Emulation(TemporaryDirectory directory, std::optional<PseudoTerminal> terminal, Debugger debugger,
              std::unique_ptr<Dialogue> dialogue, ChildProcess bochs, EmulationRequest request);

    void read_new_output();
    [[nodiscard]] bool has_halted_for_good();
    // Ends Bochs so that its log tells where the processor was.
    void stop_and_examine();
    void finish(Outcome outcome);

    TemporaryDirectory directory_;            // removed after the process that uses it has ended
    std::optional<PseudoTerminal> terminal_;  // of COM1, or of the debugger
    Debugger debugger_;
    std::unique_ptr<Dialogue> dialogue_;  // or none; it hears all until Bochs has ended
    ChildProcess bochs_;
    std::unique_ptr<Transcript> transcript_;
    std::function<void(std::string_view)> bytes_listener_;
    std::function<void(std::string_view)> debugger_listener_;
    std::optional<EmulationRequest::Typing> typing_;  // until it is typed
    Programs programs_;
    bool watches_halts_;
    bool until_end_record_;
    std::optional<ScreenFrames> screen_;
    HaltWatch halt_watch_;
    std::optional<std::size_t> examined_from_;  // where in the console the answer of an examination begins
    bool quit_ = false;                         // the debugger's next stop is its last
    LogReader log_;
    std::ifstream serial_file_;
    std::ifstream log_file_;
    std::chrono::seconds limit_;
    std::chrono::steady_clock::time_point start_;
    std::optional<Outcome> outcome_;
};

}  // namespace flatback::tools
