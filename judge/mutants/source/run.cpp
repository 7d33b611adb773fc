#include "judge/mutants/source/run.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <fstream>
#include <iomanip>
#include <istream>
#include <map>
#include <mutex>
#include <ostream>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "judge/mutants/source/ground.hpp"
#include "judge/mutants/source/recorded_tests.hpp"
#include "judge/mutants/source/schema_build.hpp"

namespace flatback::machine {

namespace {

namespace fs = std::filesystem;

std::vector<NumberedMutation> chosen(const SourceMutantsOptions& options,
                                     const std::map<std::string, std::vector<SourceMutation>>& by_file) {
    std::vector<SourceMutation> all;
    for (const auto& [name, some] : by_file) {
        const auto is_part = [&](const std::string& part) { return name.find(part) != std::string::npos; };
        if (options.files.empty() || std::ranges::any_of(options.files, is_part))
            all.insert(all.end(), some.begin(), some.end());
    }
    std::vector<NumberedMutation> numbered;
    for (SourceMutation& each :
         sample(std::move(all), std::min(options.count, most_source_mutants), options.seed)) {
        numbered.push_back({static_cast<unsigned>(numbered.size() + 1), std::move(each)});
    }
    return numbered;
}

class Minutes {
public:
    [[nodiscard]] double passed() {
        const auto now = std::chrono::steady_clock::now();
        const std::chrono::duration<double, std::ratio<60>> took = now - std::exchange(start_, now);
        return took.count();
    }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void print(std::ostream& out, const NumberedMutation& each, const std::string& verdict) {
    out << each.number << " " << each.mutation.file << ":" << each.mutation.line << ": " << each.mutation.kind
        << "\n  - " << each.mutation.before << "\n  + " << each.mutation.after << "\n  " << verdict << "\n"
        << std::flush;
}

void print(std::ostream& out, const std::string& name, const SourceMutantsResult& it) {
    out << std::left << std::setw(8) << name << std::right << std::setw(8)
        << it.caught + it.alive + it.equivalent << std::setw(8) << it.caught << std::setw(8) << it.alive
        << std::setw(22) << it.equivalent << std::setw(18) << it.refused << "\n";
}

}  // namespace

std::vector<ReviewedMutation> read_reviewed(std::istream& in) {
    std::vector<ReviewedMutation> reviewed;
    std::vector<std::string> block;
    const auto end_block = [&] {
        if (block.empty()) return;
        if (block.size() != 4)
            throw std::runtime_error("a block of four lines begins with: " + block.front());
        ReviewedMutation it{.file = block[0], .before = block[1], .after = block[2], .why = block[3]};
        if (const std::size_t mark = it.file.find('#'); mark != std::string::npos) {
            const char* const end = it.file.data() + it.file.size();
            if (std::from_chars(it.file.data() + mark + 1, end, it.which).ptr != end || it.which == 0)
                throw std::runtime_error("no number: " + it.file);
            it.file.resize(mark);
        }
        reviewed.push_back(std::move(it));
        block.clear();
    };
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("# ")) continue;
        if (line.empty()) {
            end_block();
        } else {
            block.push_back(line);
        }
    }
    end_block();
    return reviewed;
}

const SourceMutation* find_reviewed(const ReviewedMutation& reviewed,
                                    const std::vector<SourceMutation>& of_file) {
    std::size_t left = reviewed.which;
    for (const SourceMutation& each : of_file) {
        if (each.before == reviewed.before && each.after == reviewed.after && --left == 0) return &each;
    }
    return nullptr;
}

SourceMutantsResult try_source_mutants(const SourceMutantsOptions& options, std::ostream& out) {
    const unsigned jobs =
        options.jobs != 0 ? options.jobs : std::max(1U, std::thread::hardware_concurrency());
    std::map<std::string, std::vector<SourceMutation>> by_file;
    std::size_t all = 0;
    for (const std::string& name : mutated_files(options.sources)) {
        by_file[name] = mutations_of(name, file_text(options.sources / name));
        all += by_file[name].size();
    }
    std::ifstream list(options.sources / "judge/mutants/source/equivalent.txt");
    const std::vector<ReviewedMutation> reviewed = read_reviewed(list);
    const auto why_equivalent = [&](const SourceMutation& mutation) -> const std::string* {
        for (const ReviewedMutation& each : reviewed) {
            if (each.file != mutation.file || each.before != mutation.before || each.after != mutation.after)
                continue;
            const SourceMutation* const found = find_reviewed(each, by_file.at(each.file));
            if (found != nullptr && *found == mutation) return &each.why;
        }
        return nullptr;
    };

    std::vector<NumberedMutation> mutants = chosen(options, by_file);
    out << all << " mutations of the sources; seed " << options.seed << ", " << mutants.size() << " of them\n"
        << std::flush;
    Minutes minutes;
    SchemaBuild schema(options.sources, options.scratch, options.programs, jobs);
    const std::set<unsigned> refused = schema.build(mutants);
    out << refused.size() << " do not compile; built in " << std::fixed << std::setprecision(1)
        << minutes.passed() << " minutes\n"
        << std::flush;
    const RecordedTests tests(schema.directory(), options.programs, options.scratch, jobs);
    out << tests.tests().size() << " tests, run in " << minutes.passed() << " minutes\n" << std::flush;

    std::map<std::string, SourceMutantsResult> by_folder;
    std::mutex printing;
    std::atomic<std::size_t> next = 0;
    const auto work = [&](unsigned worker) {
        for (std::size_t index = next++; index < mutants.size(); index = next++) {
            const NumberedMutation& each = mutants[index];
            if (!options.only.empty() && std::ranges::find(options.only, each.number) == options.only.end())
                continue;
            const std::string* const why = why_equivalent(each.mutation);
            MutantVerdict verdict;
            if (!refused.contains(each.number))
                verdict = tests.try_mutant(each.number, why == nullptr, worker);
            const std::lock_guard lock(printing);
            SourceMutantsResult& tally =
                by_folder[each.mutation.file.substr(0, each.mutation.file.find('/') + 1)];
            if (refused.contains(each.number)) {
                ++tally.refused;
            } else if (!verdict.caught_by.empty()) {
                ++tally.caught;
                print(out, each,
                      verdict.caught_by + (why == nullptr ? "" : ", though the list says: equivalent"));
            } else if (why != nullptr) {
                ++tally.equivalent;
                print(out, each, "equivalent: " + *why);
            } else {
                ++tally.alive;
                print(out, each, verdict.reached ? "LIVES" : "LIVES: no test reaches it");
            }
        }
    };
    std::vector<std::thread> threads;
    for (unsigned worker = 0; worker < jobs; ++worker) threads.emplace_back(work, worker);
    for (std::thread& thread : threads) thread.join();

    out << "\n           tried  killed   alive  equivalent by review  does not compile\n";
    SourceMutantsResult sum;
    for (const auto& [name, tally] : by_folder) {
        print(out, name, tally);
        sum.caught += tally.caught;
        sum.alive += tally.alive;
        sum.equivalent += tally.equivalent;
        sum.refused += tally.refused;
    }
    print(out, "all", sum);
    out << "tried in " << minutes.passed() << " minutes\n";
    return sum;
}

}  // namespace flatback::machine
