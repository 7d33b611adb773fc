#include "tools/command/watch_command.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "tools/ground/about.hpp"
#include "tools/ground/output.hpp"
#include "watch/trace_reader.hpp"

namespace flatback::tools {
namespace {

// A kept text is one window.
Result<WatchedRuns> watch_file(const WatchOptions& options) {
    const auto cannot = [&options] {
        return fail(ExitStatus::input_file, fmt::format("cannot read {}", options.file->string()));
    };
    const int file = ::open(options.file->c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return cannot();
    watch::TraceReader reader;
    watch::Follower follower{{.geometry = options.request.geometry, .vmcs01 = options.vmcs01}};
    std::vector<char> buffer(std::size_t{1} << 20);
    const auto start = std::chrono::steady_clock::now();
    ssize_t count = 0;
    while ((count = ::read(file, buffer.data(), buffer.size())) > 0) {
        reader.append({buffer.data(), static_cast<std::size_t>(count)},
                      [&](const watch::TraceLine& line) { follower.take(line); });
    }
    ::close(file);
    if (count < 0) return cannot();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (follower.counts().instructions == 0)
        return fail(ExitStatus::input_file,
                    fmt::format("{} has no instruction of the emulator's trace", options.file->string()));
    fmt::print(text_stream(options.json_file), "{} lines, {:.2f} million a second\n", reader.lines(),
               static_cast<double>(reader.lines()) / seconds / 1e6);
    watch::PhaseEstimate phase;
    phase.add(follower.end_window());
    return WatchedRuns{{watched("file", follower.counts(), phase, follower.tlbs())}, {}};
}

}  // namespace

Result<ExitStatus> watch_command(const WatchOptions& given) {
    WatchOptions options = given;
    if (options.json_file) TRY(check_output(*options.json_file));
    options.request.geometry = machine::find_geometry(options.tlb);
    if (options.request.geometry == nullptr)
        return fail(ExitStatus::usage, fmt::format("--tlb: no processor {} is known", options.tlb));
    const WatchedRuns runs = options.file ? TRY(watch_file(options)) : TRY(watch_runs(options.request));
    for (const std::string& lack : runs.lacks) fmt::print(stderr, "flatback: {}\n", lack);
    fmt::print(text_stream(options.json_file), "{}", watch_table(runs.modes));
    if (options.json_file) {
        const std::string_view guest = options.file ? "file" : name(options.request.guest);
        TRY(write_output(*options.json_file, with_about(watch_json(runs.modes, guest, options.tlb))));
    }
    const bool good = runs.lacks.empty() && std::ranges::all_of(runs.modes, is_good);
    return good ? ExitStatus::success : ExitStatus::incomplete;
}

}  // namespace flatback::tools
