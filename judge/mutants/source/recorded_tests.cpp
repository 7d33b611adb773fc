#include "judge/mutants/source/recorded_tests.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "judge/mutants/source/ground.hpp"

namespace flatback::machine {

namespace {

namespace fs = std::filesystem;

constexpr unsigned long quick = 20'000;  // microseconds
// A mutant that takes this many times as long as the source, and this much more, hangs.
constexpr unsigned long patience = 10;
constexpr unsigned long least_seconds = 10;
// Without a mutant: a test that hangs then is a bug of ours.
constexpr unsigned long record_seconds = 1800;

// One seed: what one run catches the next one does too. A mutant may want all memory that there is.
std::string invocation(const std::string& environment, unsigned long seconds, const fs::path& program,
                       const fs::path& log, const std::string& flags) {
    return "ulimit -v 8388608; " + environment + " RC_PARAMS=seed=20261122 timeout -k 1 " +
           std::to_string(seconds) + " " + quoted(program) + " --gtest_brief=1 " + flags + " > " +
           quoted(log) + " 2>&1";
}

std::string failed_test(const std::string& log) {
    constexpr std::string_view mark = "[  FAILED  ] ";
    const std::size_t at = log.find(mark);
    if (at == std::string::npos) return {};
    const std::size_t begin = at + mark.size();
    return log.substr(begin, log.find_first_of(" ,\n", begin) - begin);
}

}  // namespace

RecordedTests::RecordedTests(const fs::path& directory, const std::vector<std::string>& programs,
                             const fs::path& scratch, unsigned jobs)
    : directory_(directory), programs_(programs), scratch_(fs::absolute(scratch)) {
    const auto file_of = [&](std::size_t program) {
        return scratch_ / ("reached-" + programs_[program] + ".txt");
    };
    std::vector<int> statuses(programs_.size());
    std::vector<std::thread> threads;
    for (unsigned worker = 0; worker < jobs; ++worker) {
        threads.emplace_back([&, worker] {
            for (std::size_t program = worker; program < programs_.size(); program += jobs) {
                statuses[program] =
                    run_shell(invocation("FLATBACK_MUTANT_RECORD=" + quoted(file_of(program)), record_seconds,
                                         directory_ / programs_[program],
                                         scratch_ / ("record-" + programs_[program] + ".log"), ""));
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (std::size_t program = 0; program < programs_.size(); ++program) {
        if (statuses[program] != 0)
            throw std::runtime_error("the sources themselves fail " + programs_[program]);
        record(program, file_of(program));
    }
}

void RecordedTests::record(std::size_t program, const fs::path& file) {
    std::ifstream in(file);
    const std::size_t first = tests_.size();
    std::vector<unsigned> by_all;  // before the first test
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        RecordedTest test;
        test.program = program;
        words >> test.name >> test.microseconds;
        std::vector<unsigned> numbers;
        for (unsigned number = 0; words >> number;) numbers.push_back(number);
        if (test.name == "-") {
            by_all = numbers;
            continue;
        }
        tests_.push_back(std::move(test));
        for (const unsigned number : numbers) {
            if (by_mutant_.size() <= number) by_mutant_.resize(number + 1);
            by_mutant_[number].push_back(tests_.size() - 1);
        }
    }
    for (const unsigned number : by_all) {
        if (by_mutant_.size() <= number) by_mutant_.resize(number + 1);
        std::vector<std::size_t>& tests = by_mutant_[number];
        std::erase_if(tests, [&](std::size_t test) { return test >= first; });
        for (std::size_t test = first; test < tests_.size(); ++test) tests.push_back(test);
    }
}

const std::vector<std::size_t>& RecordedTests::of_mutant(unsigned number) const {
    static const std::vector<std::size_t> none;
    return number < by_mutant_.size() ? by_mutant_[number] : none;
}

MutantVerdict RecordedTests::try_mutant(unsigned number, bool thorough, unsigned worker) const {
    const std::vector<std::size_t>& reaching = of_mutant(number);
    if (reaching.empty()) return {};
    // Programs' quick tests, their other tests, and whole programs; of each the shortest first.
    std::map<std::size_t, std::vector<std::size_t>> quick_ones;
    std::map<std::size_t, std::vector<std::size_t>> others;
    for (const std::size_t test : reaching)
        (tests_[test].microseconds <= quick ? quick_ones : others)[tests_[test].program].push_back(test);
    const auto tried = [&](const auto& parts) -> std::string {
        std::vector<std::pair<unsigned long, std::size_t>> order;
        for (const auto& [program, tests] : parts) {
            const auto add = [&](unsigned long sum, std::size_t test) {
                return sum + tests_[test].microseconds;
            };
            order.emplace_back(std::accumulate(tests.begin(), tests.end(), 0UL, add), program);
        }
        std::ranges::sort(order);
        for (const auto& [microseconds, program] : order) {
            std::string by = failing(program, parts.at(program), number, worker);
            if (!by.empty()) return by;
        }
        return {};
    };
    if (const std::string by = tried(quick_ones); !by.empty()) return {true, by};
    if (const std::string by = tried(others); !by.empty()) return {true, by};
    if (!thorough) return {true, {}};
    std::map<std::size_t, std::vector<std::size_t>> whole;
    for (std::size_t test = 0; test < tests_.size(); ++test) {
        const std::size_t program = tests_[test].program;
        if (quick_ones.contains(program) || others.contains(program)) whole[program].push_back(test);
    }
    std::erase_if(whole, [&](const auto& part) {  // all of it has been run
        const auto count = [&](const auto& parts) {
            return parts.contains(part.first) ? parts.at(part.first).size() : 0;
        };
        return part.second.size() == std::max(count(quick_ones), count(others));
    });
    return {true, tried(whole)};
}

std::string RecordedTests::failing(std::size_t program, const std::vector<std::size_t>& tests,
                                   unsigned number, unsigned worker) const {
    const fs::path log = scratch_ / ("mutant-" + std::to_string(worker) + ".log");
    const fs::path flags = scratch_ / ("mutant-" + std::to_string(worker) + ".flags");
    std::string filter = "--gtest_filter=";
    unsigned long microseconds = 0;
    for (const std::size_t test : tests) {
        filter += tests_[test].name + ":";
        microseconds += tests_[test].microseconds;
    }
    filter.pop_back();
    write_text(flags, filter + "\n");
    const unsigned long seconds = least_seconds + patience * microseconds / 1'000'000;
    const int status = run_shell(invocation("FLATBACK_MUTANT=" + std::to_string(number), seconds,
                                            directory_ / programs_[program], log,
                                            "--gtest_fail_fast --gtest_flagfile=" + quoted(flags)));
    if (status == 0) return {};
    const std::string test = failed_test(file_text(log));
    std::string by = programs_[program] + " ";
    if (!test.empty()) return by + test;
    return by + (status == 124 || status == 137 ? "takes too long" : "dies");
}

}  // namespace flatback::machine
