// `flatback machine mutants`: runs the trial on each defective L0 and says which test caught it.
#include <fstream>
#include <iomanip>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "judge/command/commands.hpp"
#include "judge/mutants/mutants.hpp"
#include "judge/mutants/source/run.hpp"

namespace flatback::machine {

namespace {

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

}  // namespace

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

}  // namespace flatback::machine
