#include "tools/check/screen_code.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "tools/ground/child_process.hpp"
#include "tools/ground/excerpt.hpp"

namespace flatback::tools {

Result<std::string> read_code(const std::filesystem::path& picture) {
    constexpr std::string_view reader = "zbarimg";
    constexpr std::chrono::seconds limit{60};
    if (!program_exists(std::string{reader}))
        return fail(ExitStatus::missing_program, fmt::format("{} is not there: install zbar-tools", reader));
    CommandLine command;
    command.arguments = {std::string{reader}, "--quiet", "--nodbus", "--raw", picture.string()};
    Finished finished = TRY(run_to_end(std::move(command), limit));
    // A line for each code.
    const auto codes = std::ranges::count(finished.output, '\n');
    if (finished.status != 0 || codes != 1)
        return fail(ExitStatus::incomplete,
                    fmt::format("{} shows {} codes: {}", picture.filename().string(),
                                finished.status == 0 ? codes : 0, last_lines(finished.output)));
    finished.output.pop_back();
    return std::move(finished.output);
}

}  // namespace flatback::tools
