// `flatback machine run FILE`: makes the steps of a program on the bare machine and says what each one saw.
#include <fstream>
#include <iomanip>
#include <ostream>
#include <string>
#include <vector>

#include "judge/command/commands.hpp"
#include "machine/program/bare_world.hpp"
#include "machine/program/bytes.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/text.hpp"

namespace flatback::machine {

namespace {

/// No program that is not refused for its steps is longer; a device gives bytes for ever.
constexpr std::size_t longest_file = std::size_t{128} << 20;

/// A file's name as a part of one line.
std::string printable(std::string name) {
    for (char& each : name) {
        if (static_cast<unsigned char>(each) < ' ') each = '?';
    }
    return name;
}

Result<std::string, std::string> read_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string content;
    std::vector<char> piece(std::size_t{1} << 16);
    while (file && content.size() <= longest_file) {
        // Not by iterators: what goes wrong below them (a directory) would be thrown.
        file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
        content.append(piece.data(), static_cast<std::size_t>(file.gcount()));
    }
    if (content.size() > longest_file)
        return Refused(printable(path) + ": more than " + std::to_string(longest_file) +
                       " bytes are no program");
    if (!file.eof() || file.bad()) return Refused(printable(path) + ": cannot be read");
    return content;
}

Result<Program, std::string> read_file(const RunOptions& options) {
    const Result<std::string, std::string> read = read_bytes(options.file);
    if (!read) return Refused(read.error());
    const std::string& content = *read;
    const std::string name = printable(options.file);
    if (options.bytes) {
        const auto* data = reinterpret_cast<const std::uint8_t*>(content.data());
        auto program = program_from_bytes({data, content.size()});
        if (!program) return Refused(name + ": " + program.error());
        return *program;
    }
    auto program = read_program(content);
    if (!program) return Refused(program.error().describe(name));
    return *program;
}

}  // namespace

CommandStatus run(const RunOptions& options, CommandSetting& setting) {
    const Result<Program, std::string> program = read_file(options);
    if (!program) {
        setting.error << "flatback machine: " << program.error() << "\n";
        return CommandStatus::usage;
    }
    if (options.print) {
        setting.out << write_program(*program);
        return CommandStatus::success;
    }
    Machine::Options machine;
    machine.memory.limit_bytes = options.memory_megabytes << 20;
    machine.retentive.entry_limit = options.tlb_entries;
    if (options.oldest) machine.retentive.resolution = RetentiveTlb::Resolution::oldest;
    BareWorld world({.vcpus = options.vcpus, .machine = machine});
    Runner runner(world, {.record_permitted = true});
    std::size_t number = 0;
    for (const Step& step : program->steps) {
        const Observation seen = runner.step(step);
        setting.out << std::setw(4) << number++ << "  " << write_step(step) << "\n      " << describe(seen)
                    << "\n";
        if (seen.permitted.size() < 2) continue;
        for (const PermittedOutcome& permitted : seen.permitted) {
            setting.out << "      may be: " << describe(permitted) << "\n";
        }
    }
    for (unsigned vm = 0; vm < program_vm_limit; ++vm) {
        for (unsigned cpu = 0; cpu < world.vcpu_count(vm); ++cpu) {
            if (cpu == 0) {
                for (const std::string& line : world.machine(vm).misuse())
                    setting.out << "misuse: " << line << "\n";
            }
            if (!options.entries) continue;
            setting.out << "VM " << vm << " CPU " << cpu << ":\n";
            for (const std::string& line : world.machine(vm).retentive_tlb(cpu).describe_entries()) {
                setting.out << "  " << line << "\n";
            }
        }
    }
    return CommandStatus::success;
}

}  // namespace flatback::machine
