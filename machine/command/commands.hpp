#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <iosfwd>

#include "machine/command/command_line.hpp"

namespace flatback::machine {

/// What every command is given. A command that was chosen leaves what is to be run in `run`.
struct CommandSetting {
    std::ostream& out;
    std::ostream& error;
    std::function<CommandStatus()> run{};
};

// Each adds one subcommand.
void add_run_command(CLI::App& app, CommandSetting& setting);
void add_lat_ctx_command(CLI::App& app, CommandSetting& setting);
void add_explore_command(CLI::App& app, CommandSetting& setting);  // machine/explore/
void add_price_command(CLI::App& app, CommandSetting& setting);
void add_mutants_command(CLI::App& app, CommandSetting& setting);  // machine/trial/

}  // namespace flatback::machine
