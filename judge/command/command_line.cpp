#include "judge/command/command_line.hpp"

#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "judge/command/commands.hpp"
#include "machine/error.hpp"
#include "machine/price/stack_price.hpp"

namespace flatback::machine {

namespace {

using price::Policy;

/// The run of the command that was chosen.
using Chosen = std::function<CommandStatus(CommandSetting& setting)>;

template <typename Options>
void choose(CLI::App& command, std::shared_ptr<Options> options, Chosen& chosen) {
    command.callback([options, &chosen] {
        chosen = [options](CommandSetting& setting) { return run(*options, setting); };
    });
}

void add_run(CLI::App& app, Chosen& chosen) {
    auto options = std::make_shared<RunOptions>();
    CLI::App& command =
        *app.add_subcommand("run", "run a program of an L1 on the bare machine, step by step");
    command.add_option("file", options->file, "the program (docs/machine.md says how one is written)")
        ->required();
    command.add_flag("--bytes", options->bytes, "the file is in the byte form");
    command.add_flag("--print", options->print, "only print the program in the text form");
    command.add_flag("--entries", options->entries, "at the end, list what each TLB holds");
    command.add_flag("--oldest", options->oldest,
                     "let each access use the oldest entry it may, not what memory says");
    command.add_option("--vcpus", options->vcpus, "virtual CPUs of VM 0 (default 2)")
        ->check(CLI::Range(1U, 8U));
    command.add_option("--memory", options->memory_megabytes, "megabytes that may be written (default 256)")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 20));
    command
        .add_option("--tlb-entries", options->tlb_entries, "entries that one TLB may hold (default 1048576)")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 32));
    choose(command, options, chosen);
}

void add_lat_ctx(CLI::App& app, Chosen& chosen) {
    auto options = std::make_shared<LatCtxOptions>();
    CLI::App& command =
        *app.add_subcommand("lat_ctx", "what each way of giving out tags costs lat_ctx in an L2, by a model");
    std::vector<std::string> geometries;
    for (const TlbGeometry& geometry : known_geometries()) geometries.emplace_back(geometry.name);
    std::vector<std::string> policies;
    for (const Policy policy : price::all_policies) policies.emplace_back(name_of(policy));
    command.add_option("--tlb", options->geometry, "the processor (default skylake-x)")
        ->check(CLI::IsMember(geometries));
    command.add_option("--policy", options->policies, "some of mapped,single,shared,bare (default all)")
        ->delimiter(',')
        ->check(CLI::IsMember(policies));
    price::Assumptions& assume = options->assumptions;
    command.add_option("--exits-per-switch", assume.exits_per_switch, "exits that L1 handles (default 0.02)")
        ->check(CLI::Range(0.0, 100.0));
    command.add_option("--ept-page", options->ept_page, "pages of the L2s' EPT: 4k (default) or 2m")
        ->check(CLI::IsMember({"4k", "2m"}));
    const auto pages = [&command](const char* name, unsigned& value, const char* text, unsigned least,
                                  unsigned most) {
        command.add_option(name, value, text)->check(CLI::Range(least, most));
    };
    pages("--kernel-code", assume.kernel_code, "pages of L2's kernel code a switch (default 24)", 0, 512);
    pages("--kernel-data", assume.kernel_data, "pages of its shared data (default 16)", 0, 512);
    pages("--kernel-per-process", assume.kernel_per_process, "pages of each process (default 4)", 0, 64);
    pages("--l1-code", assume.l1_code, "pages of L1's code an exit (default 24)", 0, 512);
    pages("--l1-data", assume.l1_data, "pages of L1's data an exit (default 24)", 0, 512);
    pages("--l0-pages", assume.l0_pages, "large pages of L0 a visit (default 3)", 0, 64);
    pages("--l0-visits", assume.l0_visits_per_exit, "visits to L0 for one exit to L1 (default 5)", 2, 64);
    pages("--slots", assume.slots, "mapped: VPIDs with a tag of their own (default 32)", 1, 1024);
    pages("--switches-per-turn", assume.switches_per_turn, "with several L2s (default 8)", 1, 10000);
    command.add_option("--json", options->json_file,
                       "also write the figures to this file (-: standard output)");
    choose(command, options, chosen);
}

void add_price(CLI::App& app, Chosen& chosen) {
    auto options = std::make_shared<PriceOptions>();
    CLI::App& command = *app.add_subcommand(
        "price", "what exits and flushes that a run counted would cost a real processor, as a range");
    std::vector<std::string> processors;
    for (const price::ProcessorCosts& each : price::known_costs()) processors.emplace_back(each.name);
    command.add_option("--counts", options->counts, "what flatback bench --json wrote")->required();
    command.add_option("--processor", options->processor, "haswell, skylake-x (default) or ice-lake")
        ->check(CLI::IsMember(processors));
    command.add_option("--json", options->json_file,
                       "also write the figures to this file (-: standard output)");
    choose(command, options, chosen);
}

void add_mutants(CLI::App& app, Chosen& chosen) {
    auto options = std::make_shared<MutantsOptions>();
    CLI::App& command = *app.add_subcommand(
        "mutants", "run the trial on each defective variant of L0 and say which test caught it");
    command.add_option("--json", options->json, "write the results to this file (-: standard output)");
    command
        .add_option("--random", options->random_programs,
                    "random programs for what the ledger lets pass (default 600)")
        ->check(CLI::Range(std::size_t{0}, std::size_t{1} << 32));
    command
        .add_option("--memory", options->memory_megabytes,
                    "megabytes that may be written in one run (default 256)")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 20));
    command
        .add_option("--tlb-entries", options->tlb_entries, "entries that one TLB may hold (default 1048576)")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 32));
    command.add_flag(
        "--source", options->source,
        "mutants of the sources of tag/, nested/ and host/ instead, by their own tests (many minutes)");
    command.add_option("--count", options->of_source.count, "--source: how many (default 300)")
        ->check(CLI::Range(std::size_t{1}, most_source_mutants));
    command.add_option("--seed", options->of_source.seed, "--source: which ones (default 1)");
    command.add_option("--files", options->of_source.files,
                       "--source: only files whose path has one of these in it");
    command.add_option("--programs", options->of_source.programs,
                       "--source: by these test programs (default: tag_mutant, checks_mutant, nested_mutant, "
                       "host_mutant, trial_mutant and model_mutant)");
    command.add_option("--only", options->of_source.only,
                       "--source: of those only the ones of these numbers");
    command.add_option("--jobs", options->of_source.jobs,
                       "--source: so many at once (default: as many as there are processors)");
    command.add_option("--sources", options->sources, "--source: the repository (default: where you are)");
    command.add_option("--scratch", options->scratch,
                       "--source: where the copy is built (default: build/source-mutants)");
    choose(command, options, chosen);
}

void add_explore(CLI::App& app, Chosen& chosen) {
    auto options = std::make_shared<ExploreOptions>();
    CLI::App& command = *app.add_subcommand(
        "explore", "visit every state that programs over a small alphabet can reach, and judge each");
    explore::Options& search = options->search;
    search.depth = 10;
    const auto number = [&command](const char* name, unsigned& value, const char* text, unsigned least,
                                   unsigned most) {
        command.add_option(name, value, text)->check(CLI::Range(least, most))->capture_default_str();
    };
    number("--depth", search.depth, "programs of up to so many steps", 1, 1000);
    number("--vpids", search.alphabet.vpids, "vpid12s that L1 uses", 1, 2);
    number("--tags", search.alphabet.tags,
           "tags that there are; 2 to 6 where there are two virtual CPUs, else 1 to 3", 1,
           explore::most_tags);
    number("--pages", search.alphabet.pages, "pages; the second is global", 1, 2);
    number("--pcids", search.alphabet.pcids, "PCIDs of each L2", 1, 2);
    number("--eptps", search.alphabet.eptps, "EPTPs of L1", 1, 2);
    number("--cpus", search.alphabet.cpus, "processors that a virtual CPU may be on", 1, 2);
    number("--l1-cpus", search.alphabet.l1_cpus, "virtual CPUs of the L1, which run at the same time", 1, 2);
    number("--vmcss", search.alphabet.vmcss,
           "VMCSs of each L2 where L1 has two CPUs: one that moves, or one on each", 1, 2);
    number("--vms", search.alphabet.vms,
           "VMs, each with an L1 of one CPU, that share the processors and the tags", 1, 2);
    const std::map<std::string, tag::Policy> policies = {
        {"mapped", tag::Policy::mapped}, {"single", tag::Policy::single}, {"off", tag::Policy::off}};
    command.add_option("--policy", search.alphabet.policy, "how tags are given out (default mapped)")
        ->transform(CLI::CheckedTransformer(policies, CLI::ignore_case))
        ->option_text("TEXT:{mapped,single,off}");
    command.add_flag(
        "--worst", search.worst,
        "take what the tag manager's marks disown for the worst that it can be: fewer states, and "
        "nothing that breaks is missed");
    command
        .add_option("--memory", options->memory_megabytes,
                    "megabytes that the states may take; past it an error")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20))
        ->capture_default_str();
    command.add_option("--defect", options->defect, "give L0 this defect, to see it found");
    command.add_flag("--list-defects", options->list, "list what --defect takes");
    command.add_option("--json", options->json_file,
                       "also write states, depth, seconds, verdict to this file (-: standard output)");
    choose(command, options, chosen);
}

}  // namespace

int command_line(std::span<const std::string> arguments, std::ostream& out, std::ostream& error) {
    CLI::App app{"The machine: a software VT-x processor whose TLB forgets nothing.", "flatback machine"};
    app.require_subcommand(1);
    Chosen chosen;
    add_run(app, chosen);
    add_lat_ctx(app, chosen);
    add_price(app, chosen);
    add_mutants(app, chosen);
    add_explore(app, chosen);
    try {
        // CLI11 takes the arguments last first.
        app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    } catch (const CLI::CallForHelp&) {
        const std::vector<CLI::App*> named = app.get_subcommands();
        out << (named.empty() ? app.help() : named.front()->help("flatback machine"));
        return static_cast<int>(CommandStatus::success);
    } catch (const CLI::ParseError& parse_error) {
        error << "flatback machine: " << parse_error.what() << "\n";
        return static_cast<int>(CommandStatus::usage);
    }
    CommandSetting setting{out, error};
    try {
        return static_cast<int>(chosen(setting));
    } catch (const LimitReached& limit) {
        error << "flatback machine: " << limit.what() << "\n";
        return static_cast<int>(CommandStatus::limit);
    } catch (const std::exception& unexpected) {  // memory that there is not, for one
        error << "flatback machine: " << unexpected.what() << "\n";
        return static_cast<int>(CommandStatus::failure);
    }
}

}  // namespace flatback::machine
