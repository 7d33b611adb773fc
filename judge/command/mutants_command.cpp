// `flatback machine mutants`: runs the trial on each defective L0 and says which test caught it.
#include <CLI/CLI.hpp>
#include <fstream>
#include <iomanip>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "judge/command/commands.hpp"
#include "judge/mutants/mutants.hpp"
#include "judge/mutants/source/run.hpp"

namespace flatback::machine {

namespace {

struct MutantsOptions {
    std::string json;
    std::size_t random_programs = 200;
    std::uint64_t memory_megabytes = 256;
    std::size_t tlb_entries = std::size_t{1} << 20;
    bool source = false;
    SourceMutantsOptions of_source{};
    std::string sources = ".";
    std::string scratch;
};

// Mutants of the sources themselves, in a scratch copy.
CommandStatus run_source(const MutantsOptions& options, CommandSetting& setting) {
    SourceMutantsOptions of_source = options.of_source;
    of_source.sources = options.sources;
    of_source.scratch = options.scratch.empty() ? of_source.sources / "build" / "source-mutants"
                                                : std::filesystem::path(options.scratch);
    if (!std::filesystem::exists(of_source.sources / "nested/vcpu.hpp")) {
        setting.error << "flatback machine: " << options.sources
                      << ": no sources of Flatback are there (--sources)\n";
        return CommandStatus::usage;
    }
    return try_source_mutants(of_source, setting.out).alive == 0 ? CommandStatus::success
                                                                 : CommandStatus::failure;
}

CommandStatus run(const MutantsOptions& options, CommandSetting& setting) {
    if (options.source) return run_source(options, setting);
    const TrialLimits limits{options.memory_megabytes << 20, options.tlb_entries};
    // A correct L0 passes all that a mutant is to fail.
    for (const LedgerCase& each : ledger()) {
        if (const auto wrong = judge(each, {}, limits)) {
            setting.error << "flatback machine: the engine itself does not hold in " << each.name << "\n"
                          << *wrong;
            return CommandStatus::failure;
        }
    }
    std::vector<MutantResult> results;
    std::size_t caught = 0;
    for (const Mutant& mutant : mutants()) {
        results.push_back(try_mutant(mutant, options.random_programs, limits));
        const MutantResult& result = results.back();
        if (!result.caught_by.empty()) ++caught;
        setting.text(options.json) << std::left << std::setw(52) << result.name << std::setw(7)
                                   << (result.ledger_row ? "row " + std::to_string(*result.ledger_row) : "")
                                   << " " << (result.caught_by.empty() ? "LIVES" : result.caught_by) << "\n";
    }
    std::set<unsigned> rows;
    std::size_t own = 0;
    for (const MutantResult& each : results) {
        if (each.ledger_row) {
            rows.insert(*each.ledger_row);
        } else {
            ++own;
        }
    }
    setting.text(options.json) << caught << " of " << results.size() << " caught; " << rows.size()
                               << " rows of the ledger have one or more, " << own
                               << " are beyond the ledger\n";
    if (options.json == "-") {
        write_json(setting.out, results);
    } else if (!options.json.empty()) {
        std::ofstream file(options.json);
        write_json(file, results);
        if (!file) {
            setting.error << "flatback machine: " << options.json << ": cannot be written\n";
            return CommandStatus::usage;
        }
    }
    return caught == results.size() ? CommandStatus::success : CommandStatus::failure;
}

}  // namespace

void add_mutants_command(CLI::App& app, CommandSetting& setting) {
    auto options = std::make_shared<MutantsOptions>();
    CLI::App& command = *app.add_subcommand(
        "mutants", "run the trial on each defective variant of L0 and say which test caught it");
    command.add_option("--json", options->json, "write the results to this file (-: standard output)");
    command
        .add_option("--random", options->random_programs,
                    "random programs for what the ledger lets pass (default 200)")
        ->check(CLI::Range(std::size_t{0}, std::size_t{1} << 32));
    command
        .add_option("--memory", options->memory_megabytes,
                    "megabytes that may be written in one run (default 256)")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 20));
    command
        .add_option("--tlb-entries", options->tlb_entries, "entries that one TLB may hold (default 1048576)")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 32));
    command.add_flag("--source", options->source,
                     "mutants of the sources of tag/ and nested/ instead, each built and tested (minutes)");
    command.add_option("--count", options->of_source.count, "--source: how many that compile (default 20)")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20));
    command.add_option("--seed", options->of_source.seed, "--source: which ones (default 1)");
    command.add_option("--files", options->of_source.files,
                       "--source: only files whose path has one of these in it");
    command.add_option("--sources", options->sources, "--source: the repository (default: where you are)");
    command.add_option("--scratch", options->scratch,
                       "--source: where the copy is built (default: build/source-mutants)");
    command.callback(
        [options, &setting] { setting.run = [options, &setting] { return run(*options, setting); }; });
}

}  // namespace flatback::machine
