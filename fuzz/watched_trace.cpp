#include "fuzz/watched_trace.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "machine/geometric/geometry.hpp"
#include "watch/follower.hpp"
#include "watch/trace_reader.hpp"

namespace flatback::fuzz {
namespace {

using watch::Counts;
using watch::Level;

struct Watched {
    Counts counts;
    std::uint64_t lines = 0;
};

Watched watch_in_pieces(std::string_view text, std::size_t length) {
    watch::TraceReader reader;
    watch::Follower follower{{.geometry = machine::find_geometry("skylake-x"), .warming_l2_entries = 0}};
    while (!text.empty()) {
        reader.append(text.substr(0, length), [&](const watch::TraceLine& line) {
            if (reader.text().size() > watch::TraceReader::longest_line) std::abort();
            follower.take(line);
        });
        text.remove_prefix(std::min(length, text.size()));
    }
    static_cast<void>(follower.end_window());
    return {follower.counts(), reader.lines()};
}

bool same(const Watched& one, const Watched& other) {
    for (const Level level : {Level::l0, Level::l1, Level::l2}) {
        const watch::LevelCounts& mine = one.counts.of(level);
        const watch::LevelCounts& its = other.counts.of(level);
        if (mine.instructions != its.instructions || mine.entries != its.entries ||
            mine.tlb.accesses != its.tlb.accesses || mine.tlb.misses != its.tlb.misses ||
            mine.tlb.walk_references != its.tlb.walk_references)
            return false;
    }
    return one.lines == other.lines && one.counts.instructions == other.counts.instructions &&
           one.counts.stale == other.counts.stale && one.counts.unexplained == other.counts.unexplained &&
           one.counts.invvpid == other.counts.invvpid && one.counts.invept == other.counts.invept;
}

bool is_possible(const Watched& watched) {
    for (const Level level : {Level::l0, Level::l1, Level::l2}) {
        const watch::LevelCounts& counts = watched.counts.of(level);
        if (counts.tlb.misses > counts.tlb.accesses) return false;
    }
    return watched.counts.instructions <= watched.lines &&
           watched.counts.stale + watched.counts.unexplained <= 2 * watched.lines;
}

}  // namespace

void watch_trace(std::span<const std::uint8_t> bytes) {
    if (bytes.empty()) return;
    const std::size_t length = std::size_t{bytes[0]} + 1;
    const std::string_view text{reinterpret_cast<const char*>(bytes.data()) + 1, bytes.size() - 1};
    const Watched whole = watch_in_pieces(text, text.size() + 1);
    if (!is_possible(whole) || !same(whole, watch_in_pieces(text, length))) std::abort();
}

}  // namespace flatback::fuzz
