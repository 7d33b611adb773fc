#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <iosfwd>
#include <string>

#include "judge/command/command_line.hpp"

namespace flatback::machine {

/// What every command is given. A command that was chosen leaves what is to be run in `run`.
struct CommandSetting {
    std::ostream& out;
    std::ostream& error;
    std::function<CommandStatus()> run{};

    /// Where text goes: where the JSON goes to standard output, under the name "-", nothing else may.
    [[nodiscard]] std::ostream& text(const std::string& json_file) const {
        return json_file == "-" ? error : out;
    }
};

// Each adds one subcommand.
void add_run_command(CLI::App& app, CommandSetting& setting);
void add_lat_ctx_command(CLI::App& app, CommandSetting& setting);
void add_explore_command(CLI::App& app, CommandSetting& setting);  // judge/explore/
void add_price_command(CLI::App& app, CommandSetting& setting);
void add_mutants_command(CLI::App& app, CommandSetting& setting);  // judge/mutants/

}  // namespace flatback::machine
