#include "judge/command/command_line.hpp"

#include <CLI/CLI.hpp>
#include <exception>
#include <ostream>
#include <string>
#include <vector>

#include "judge/command/commands.hpp"
#include "machine/error.hpp"

namespace flatback::machine {

int command_line(std::span<const std::string> arguments, std::ostream& out, std::ostream& error) {
    CLI::App app{"The machine: a software VT-x processor whose TLB forgets nothing.", "flatback machine"};
    app.require_subcommand(1);
    CommandSetting setting{out, error};
    add_run_command(app, setting);
    add_lat_ctx_command(app, setting);
    add_price_command(app, setting);
    add_mutants_command(app, setting);
    add_explore_command(app, setting);
    try {
        // CLI11 takes the arguments last first.
        app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    } catch (const CLI::CallForHelp&) {
        const std::vector<CLI::App*> chosen = app.get_subcommands();
        out << (chosen.empty() ? app.help() : chosen.front()->help("flatback machine"));
        return static_cast<int>(CommandStatus::success);
    } catch (const CLI::ParseError& parse_error) {
        error << "flatback machine: " << parse_error.what() << "\n";
        return static_cast<int>(CommandStatus::usage);
    }
    try {
        return static_cast<int>(setting.run());
    } catch (const LimitReached& limit) {
        error << "flatback machine: " << limit.what() << "\n";
        return static_cast<int>(CommandStatus::limit);
    } catch (const std::exception& unexpected) {  // memory that there is not, for one
        error << "flatback machine: " << unexpected.what() << "\n";
        return static_cast<int>(CommandStatus::failure);
    }
}

}  // namespace flatback::machine
