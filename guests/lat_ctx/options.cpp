#include "guests/lat_ctx/options.hpp"

#include <algorithm>

#include "guests/linux/word_reader.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t most_switches = 100'000'000;
constexpr std::uint64_t most_processors = 1024;

[[nodiscard]] Expected<std::vector<Column>> parse_columns(std::string_view list) {
    std::vector<Column> columns;
    for (bool more = true; more;) {
        const std::size_t comma = list.find(',');
        more = comma != std::string_view::npos;
        const std::string_view name = list.substr(0, comma);
        list.remove_prefix(more ? comma + 1 : list.size());
        const auto column = parse_column(name);
        if (!column) {
            return std::unexpected("not a column: '" + std::string(name) + "' (like 8p/16K, of 2 to " +
                                   std::to_string(most_processes) + " processes and 0 to " +
                                   std::to_string(most_kilobytes) + " KB)");
        }
        if (std::ranges::find(columns, *column) != columns.end()) {
            return std::unexpected("the column " + column_name(*column) + " is there twice");
        }
        columns.push_back(*column);
    }
    return columns;
}

[[nodiscard]] Expected<void> take_option(WordReader& words, Options& options) {
    const std::string_view option = words.next();
    if (option == "--help") {
        options.help = true;
        return {};
    }
    if (option == "--switches" || option == "--cpu") {
        const bool switches = option == "--switches";
        const auto number = words.number(switches ? 1 : 0, switches ? most_switches : most_processors - 1);
        if (!number) {
            return std::unexpected(number.error());
        }
        if (switches) {
            options.switches = *number;
        } else {
            options.processor = static_cast<unsigned>(*number);
        }
        return {};
    }
    if (option == "--across") {
        const auto number = words.number(1, most_processors);
        if (!number) {
            return std::unexpected(number.error());
        }
        options.across = static_cast<unsigned>(*number);
        return {};
    }
    const bool known = option == "--columns" || option == "--records" || option == "--counters";
    if (!known) {
        return std::unexpected("unknown argument '" + std::string(option) + "'; see lat-ctx --help");
    }
    const auto word = words.value(option == "--columns"   ? "a list of columns"
                                  : option == "--records" ? "a key"
                                                          : "a source");
    if (!word) {
        return std::unexpected(word.error());
    }
    if (option == "--records") {
        options.records = *word;
    } else if (option == "--counters") {
        options.counters = *word;
    } else {
        const auto columns = parse_columns(*word);
        if (!columns) {
            return std::unexpected(columns.error());
        }
        options.columns = *columns;
    }
    return {};
}

}  // namespace

Expected<Options> parse_options(std::span<const std::string_view> arguments) {
    Options options;
    options.columns.assign(usual_columns.begin(), usual_columns.end());
    WordReader words(arguments);
    while (!words.done()) {
        if (auto taken = take_option(words, options); !taken) {
            return std::unexpected(taken.error());
        }
    }
    if (options.records.find_first_of(" \t\n\r") != std::string::npos) {
        return std::unexpected("--records takes a key without spaces");
    }
    return options;
}

std::string options_usage() {
    std::string columns;
    for (const Column& column : usual_columns) {
        columns += (columns.empty() ? "" : ",") + column_name(column);
    }
    return "usage: lat-ctx [OPTION]...\n"
           "Measures what a context switch costs, by the method of lmbench's lat_ctx: processes in a ring of "
           "pipes\n"
           "hand a token around, and each sums its own memory on its turn. All run on one processor.\n"
           "\n"
           "  --columns LIST     which rings, as 8p/16K for 8 processes of 16 KB each, separated by commas\n"
           "                     (default " +
           columns +
           ")\n"
           "  --switches N       measured switches of each ring (default 2000)\n"
           "  --cpu N            the processor to run on (default: the one it is started on)\n"
           "  --across N         each ring once more, its processes by turns on the processors 0 to N - 1: "
           "raw "
           "only\n"
           "  --records KEY      print lines 'FLATBACK value KEY.COLUMN.NAME N' instead of a table\n"
           "  --counters SOURCE  also what the hypervisor below counts, per switch: cpuid (Flatback as L0) "
           "or\n"
           "                     line:PATH (whoever answers the line 'counters' at PATH)\n"
           "  --help             this text\n"
           "\n"
           "raw: ticks of the time stamp counter a turn, with the pipe's work and the summing; switch: raw, "
           "less what\n"
           "one process needs a turn for the same work alone. Both are medians of batches.\n"
           "Exit status: 0 measured, 1 something went wrong, 2 wrong arguments.\n";
}

}  // namespace flatback::guests
