#include "tools/command/report_command.hpp"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "tools/ground/child_process.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/report/report_page.hpp"
#include "tools/report/self_test_line.hpp"

namespace flatback::tools {
namespace {

// More would make a page that a browser is slow to open.
constexpr std::size_t most_events = 20'000;
constexpr std::chrono::seconds price_limit{120};

std::filesystem::path schema(std::string_view kind) {
    return source_directory() / "tools" / "report" / "schemas" / fmt::format("{}.schema.json", kind);
}

// Reads one of the files, where it was named. `writer`: the command that writes such a file.
Result<> take(const std::optional<std::filesystem::path>& path, const char* kind, const char* writer,
              std::optional<CheckedJson>& part, CheckedJson& sources) {
    if (!path) return {};
    auto json = read_checked_json(*path, schema(kind));
    if (!json) {
        return fail(json.error().status, fmt::format("{} (--{} takes what {} --json FILE writes)",
                                                     json.error().message, kind, writer));
    }
    part = std::move(*json);
    // Only its name: where it lies is no one's business who reads the page.
    sources[kind] = path->filename().string();
    return {};
}

// The lines of self-tests as the page reads them.
Result<> take_self_tests(const std::optional<std::filesystem::path>& path, ReportData& data) {
    if (!path) return {};
    const Bytes bytes = TRY(read_file_of_at_most(*path, 1));
    const std::vector<SelfTestLine> lines = TRY(read_self_test_lines(text_of(bytes), path->string()));
    CheckedJson tests = CheckedJson::array();
    for (const SelfTestLine& line : lines) {
        CheckedJson values = CheckedJson::object();
        for (std::size_t i = 0; i < line.values.size(); ++i) {
            const std::string name{interface::self_test_values.at(i)};
            values[name] = line.values.at(i) ? CheckedJson(*line.values.at(i)) : CheckedJson(nullptr);
        }
        tests.push_back({{"version", line.version},
                         {"signature", fmt::format("{:X}H", line.signature)},
                         {"processor", line.processor},
                         {"under", line.under},
                         {"passed", line.passed},
                         {"failed", line.failed},
                         {"values", std::move(values)}});
    }
    data.self_test = std::move(tests);
    data.sources["self_test"] = path->filename().string();
    return {};
}

// One run of conform's, or several that stand side by side.
Result<> take_conform(const std::vector<std::string>& paths, ReportData& data) {
    CheckedJson runs = CheckedJson::array();
    std::string names;
    for (const std::string& path : paths) {
        std::optional<CheckedJson> run;
        CheckedJson source = CheckedJson::object();
        TRY(take(path, "conform", "flatback conform", run, source));
        runs.push_back(std::move(*run));
        names += fmt::format("{}{}", names.empty() ? "" : ", ", source["conform"].get<std::string>());
    }
    if (runs.empty()) return {};
    data.conform = std::move(runs);
    data.sources["conform"] = names;
    return {};
}

// The first line of what a program said, without the name that it puts before it.
std::string first_line(std::string_view output) {
    constexpr std::string_view prefix = "flatback machine: ";
    std::string_view line = output.substr(0, output.find('\n'));
    if (line.starts_with(prefix)) line.remove_prefix(prefix.size());
    return std::string{line};
}

// Lets the machine price what the bench counted. That there is nothing to price is no error: the page says
// so.
Result<> price_bench(const ReportOptions& options, ReportData& data) {
    if (!options.bench) {
        data.price_missing = "It is made from the file of flatback bench, which was not given.";
        return {};
    }
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    const std::filesystem::path json = directory.path() / "price.json";
    CommandLine command;
    command.arguments = {
        machine_program().string(), "price",  "--counts",   options.bench->string(), "--processor",
        options.processor,          "--json", json.string()};
    const Finished finished = TRY(run_to_end(std::move(command), price_limit));
    if (finished.status != 0) {
        data.price_missing = fmt::format("The machine could not price it: {}.", first_line(finished.output));
        return {};
    }
    data.price = TRY(read_checked_json(json, schema("price")));
    return {};
}

}  // namespace

Result<ExitStatus> report_command(const ReportOptions& options) {
    TRY(check_writable(options.output));
    ReportData data;
    TRY(take(options.bench, "bench", "flatback bench", data.bench, data.sources));
    TRY(take(options.trace, "trace", "flatback trace", data.trace, data.sources));
    TRY(take(options.machine, "machine", "flatback machine lat_ctx", data.machine, data.sources));
    TRY(take(options.price, "price", "flatback machine price", data.price, data.sources));
    TRY(take(options.watch, "watch", "flatback watch", data.watch, data.sources));
    TRY(take_conform(options.conform, data));
    TRY(take_self_tests(options.self_test, data));
    if (!data.price) TRY(price_bench(options, data));
    if (data.trace) shorten_trace(*data.trace, most_events);
    const Bytes page_template = TRY(read_file(report_page_template()));
    const std::string page = TRY(fill_page(text_of(page_template), data));
    TRY(replace_file(options.output, std::as_bytes(std::span{page})));
    fmt::print("{} is written: open it in a browser\n", options.output.string());
    return ExitStatus::success;
}

}  // namespace flatback::tools
