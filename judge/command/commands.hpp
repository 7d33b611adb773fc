// The commands of `flatback machine`: what each may be told, and its run. How it is told on a command line
// only command_line.cpp knows: CLI11 takes longer to compile than everything that the commands do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "judge/command/command_line.hpp"
#include "judge/explore/search.hpp"
#include "judge/mutants/source/run.hpp"
#include "machine/price/lat_ctx.hpp"

namespace flatback::machine {

/// What every command is given.
struct CommandSetting {
    std::ostream& out;
    std::ostream& error;

    /// Where text goes: where the JSON goes to standard output, under the name "-", nothing else may.
    [[nodiscard]] std::ostream& text(const std::string& json_file) const {
        return json_file == "-" ? error : out;
    }
};

struct RunOptions {
    std::string file;
    bool bytes = false;
    bool print = false;
    bool entries = false;
    bool oldest = false;
    unsigned vcpus = 2;
    std::uint64_t memory_megabytes = 256;
    std::size_t tlb_entries = std::size_t{1} << 20;
};

struct LatCtxOptions {
    std::string geometry = "skylake-x";
    std::vector<std::string> policies;
    std::string json_file;
    std::string ept_page = "4k";
    price::Assumptions assumptions{};
};

struct PriceOptions {
    std::string counts;
    std::string processor = "skylake-x";
    std::string json_file;
};

struct MutantsOptions {
    std::string json;
    std::size_t random_programs = 600;
    std::uint64_t memory_megabytes = 256;
    std::size_t tlb_entries = std::size_t{1} << 20;
    bool source = false;
    SourceMutantsOptions of_source{};
    std::string sources = ".";
    std::string scratch;
};

struct ExploreOptions {
    explore::Options search{};
    std::string defect = "none";
    std::string json_file;
    std::size_t memory_megabytes = 1024;
    bool list = false;
};

CommandStatus run(const RunOptions& options, CommandSetting& setting);
CommandStatus run(const LatCtxOptions& options, CommandSetting& setting);
CommandStatus run(const PriceOptions& options, CommandSetting& setting);
CommandStatus run(const MutantsOptions& options, CommandSetting& setting);
CommandStatus run(const ExploreOptions& options, CommandSetting& setting);

}  // namespace flatback::machine
