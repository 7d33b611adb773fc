// `flatback machine explore`: every state that programs over a small alphabet can reach.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "judge/command/commands.hpp"
#include "judge/explore/account.hpp"
#include "judge/explore/search.hpp"

namespace flatback::machine {

namespace {

void list_defects(std::ostream& out) {
    using explore::SeededDefect;
    for (int number = 1; number < static_cast<int>(SeededDefect::count); ++number) {
        out << name_of(static_cast<SeededDefect>(number)) << "\n";
    }
}

/// The file is there when all of it is.
bool write_whole(const std::string& path, const std::string& content) {
    const std::string unfinished = path + ".unfinished";
    std::ofstream file(unfinished);
    file << content;
    file.close();
    if (file && std::rename(unfinished.c_str(), path.c_str()) == 0) return true;
    std::remove(unfinished.c_str());
    return false;
}

CommandStatus can_not_write(const ExploreOptions& options, CommandSetting& setting) {
    setting.error << "flatback machine: " << options.json_file << ": cannot be written\n";
    return CommandStatus::usage;
}

/// A run may take long: better to know before.
bool may_write(const std::string& path) {
    const std::string unfinished = path + ".unfinished";
    const bool good = std::ofstream(unfinished).good();
    std::remove(unfinished.c_str());
    return good;
}

/// Why there is no such alphabet of so many virtual CPUs; empty: there may be.
std::string what_does_not_fit(const explore::Options& search) {
    const explore::Alphabet& alphabet = search.alphabet;
    if (alphabet.vms > 1 && alphabet.l1_cpus > 1) return "--vms 2 asks for --l1-cpus 1";
    if (alphabet.l1_cpus == 1) {
        if (alphabet.vmcss > 1) return "--vmcss 2 asks for --l1-cpus 2";
        if (needs_two_cpus(search.defect)) return "this defect asks for --l1-cpus 2";
    }
    if (alphabet.vms == 1 && needs_two_vms(search.defect)) return "this defect asks for --vms 2";
    if (alphabet.virtual_cpus() == 1 && alphabet.tags > explore::most_tags_of_one_cpu)
        return fmt::format("with --l1-cpus 1 there are {} tags at most", explore::most_tags_of_one_cpu);
    if (alphabet.tags < alphabet.virtual_cpus())
        return fmt::format("with {} 2 there are 2 tags at least, one for each {}",
                           alphabet.vms > 1 ? "--vms" : "--l1-cpus", alphabet.vms > 1 ? "VM" : "CPU");
    return {};
}

}  // namespace

CommandStatus run(const ExploreOptions& options, CommandSetting& setting) {
    std::ostream& out = setting.text(options.json_file);
    if (options.list) {
        list_defects(out);
        return CommandStatus::success;
    }
    explore::Options search = options.search;
    const auto defect = explore::find_defect(options.defect);
    if (!defect) {
        setting.error << "flatback machine: explore: no defect is called \"" << options.defect
                      << "\": --list-defects names them\n";
        return CommandStatus::usage;
    }
    search.defect = *defect;
    const std::string refused = what_does_not_fit(search);
    if (!refused.empty()) {
        setting.error << "flatback machine: explore: " << refused << "\n";
        return CommandStatus::usage;
    }
    search.memory_bytes = options.memory_megabytes << 20;
    if (!options.json_file.empty() && options.json_file != "-" && !may_write(options.json_file))
        return can_not_write(options, setting);
    const explore::Alphabet& alphabet = search.alphabet;
    if (alphabet.l1_cpus > 1) {
        out << fmt::format("Schedules of two CPUs of L1{}; each L2 has {} VMCS{}. ",
                           alphabet.cpus > 1 ? " that may exchange their processors" : "", alphabet.vmcss,
                           alphabet.vmcss > 1 ? "s" : "");
    }
    if (alphabet.vms > 1) {
        out << (alphabet.cpus > 1 ? "Two VMs that move between two processors, and take turns where both are "
                                    "on one. "
                                  : "Two VMs that take turns on a processor. ");
    }
    if (search.worst) out << "What the tag manager's marks disown is taken for the worst. ";
    out << fmt::format("Programs of {} vpid12, {} tags, {} pages, {} PCIDs, {} EPTPs, {} processors\n",
                       alphabet.vpids, alphabet.tags, alphabet.pages, alphabet.pcids, alphabet.eptps,
                       alphabet.l1_cpus > 1 ? 2 : alphabet.cpus)
        << "depth         states            new\n";
    search.progress = [&out](unsigned depth, std::size_t states, std::size_t fresh) {
        out << fmt::format("{:5} {:14} {:14}\n", depth, states, fresh) << std::flush;
    };
    const auto start = std::chrono::steady_clock::now();
    const explore::Result result = explore::explore(search);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const std::string verdict = result.broken ? "broken" : "holds";
    const std::vector<std::string> account =
        result.broken ? tell(search, result.program) : std::vector<std::string>{};
    out << fmt::format("{} states, depth {}{}, {:.2f} seconds ({:.0f} states a second), {} MB\n",
                       result.states, result.depth,
                       result.closed   ? " (closed: no program of any length leads to another state)"
                       : result.broken ? ""
                                       : " (not closed: longer programs lead to others)",
                       seconds, static_cast<double>(result.states) / seconds, result.memory_bytes >> 20)
        << "verdict: " << verdict << "\n";
    for (const std::string& line : account) out << line << "\n";

    if (!options.json_file.empty()) {
        const nlohmann::json json = {
            {"states", result.states},  {"depth", result.depth},       {"seconds", seconds},
            {"verdict", verdict},       {"closed", result.closed},     {"account", account},
            {"defect", options.defect}, {"l1_cpus", alphabet.l1_cpus}, {"worst", search.worst},
            {"vms", alphabet.vms},
        };
        if (options.json_file == "-") {
            setting.out << json.dump(2) << "\n";
        } else if (!write_whole(options.json_file, json.dump(2) + "\n")) {
            return can_not_write(options, setting);
        }
    }
    return result.broken ? CommandStatus::failure : CommandStatus::success;
}

}  // namespace flatback::machine
