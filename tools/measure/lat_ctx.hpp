// The benchmark lat_ctx, as every level of the stack printed it: ticks a switch, and what L0 counted
// meanwhile.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/measure/measurements.hpp"

namespace flatback::tools {

// A level at which the benchmark runs, and the run that prints it under lat_ctx.KEY.
struct LatCtxLevel {
    std::string_view key;
    std::string_view run;  // in Measurements::linux_by_mode
    std::string_view title;
    bool counted;  // whether there is an L0 that counts, and a line to it that costs less than what it counts
    // Else L0 counts the flushes of all tags together, and says that number where Flatback says those of L2's
    // tags.
    bool tags_told_apart = true;
    // And whether that number has every flush: KVM's leaves out those that it makes for an INVVPID of L1's,
    // so that it has them all only where L1 executes none.
    bool all_flushes_counted = true;
};

inline constexpr std::string_view bare_linux_name = "bare Linux";
inline constexpr std::string_view without_ept_name = "mapped, L1 ept=0";

inline constexpr std::string_view with_qemu_name = "mapped, QEMU";

inline constexpr std::array<LatCtxLevel, 7> lat_ctx_levels{{
    {"bare", bare_linux_name, "bare Linux", false},
    {"l1", "mapped", "L1", true},
    {"flatback.mapped", "mapped", "L2, mapped", true},
    {"flatback.single", "single", "L2, single", true},
    {"flatback.off", "off", "L2, off", true},
    {"flatback.mapped_ept0", without_ept_name, "L2, mapped, L1 ept=0", true},
    {"flatback.mapped_qemu", with_qemu_name, "L2, mapped, by QEMU", false},
}};

// The peer's, which `flatback bench --peer kvm` measures too (tools/bench/bench_runs.hpp).
inline constexpr std::string_view kvm_name = "KVM";
inline constexpr std::array<LatCtxLevel, 3> kvm_levels{{
    {"kvm.vpid", kvm_name, "L2, KVM", true, false, false},
    {"kvm.novpid", "KVM, L1 vpid=0", "L2, KVM, L1 vpid=0", true, false},
    {"kvm.vpid_ept0", "KVM, L1 ept=0", "L2, KVM, L1 ept=0", true, false, false},
}};
using LatCtxLevels = std::span<const LatCtxLevel>;

// lmbench's columns: processes / bytes that each sums.
inline constexpr std::array<std::string_view, 7> lat_ctx_columns{"2p/0K",  "2p/16K",  "2p/64K", "8p/16K",
                                                                 "8p/64K", "16p/16K", "16p/64K"};

// Of each column: raw, and raw less the work without a switch.
inline constexpr std::array<std::string_view, 2> lat_ctx_ticks{"ticks", "switch_ticks"};
// And per switch, where there is an L0.
inline constexpr std::array<std::string_view, 4> lat_ctx_counters{"l2_entries", "l0_exits", "l2_tag_flushes",
                                                                  "l1_tag_flushes"};
// Where tags are not told apart, instead of the last two.
inline constexpr std::string_view any_tag_flushes = "tlb_flushes";
// And in its place where not all flushes are counted.
inline constexpr std::string_view least_tag_flushes = "tlb_flushes_at_least";

[[nodiscard]] const LatCtxLevel& lat_ctx_level(std::string_view key);

// lat_ctx.LEVEL.COLUMN.VALUE
[[nodiscard]] std::optional<double> lat_ctx_value(const Measurements& measurements, const LatCtxLevel& level,
                                                  std::string_view column, std::string_view value);

// The sum of a counter over the columns, divided by that of the L2 entries; nothing where there were none.
[[nodiscard]] std::optional<double> lat_ctx_per_l2_entry(const Measurements& measurements,
                                                         const LatCtxLevel& level, std::string_view counter);

// Ticks from where L0 enters L1 to L1's user space, and from its VMM's start to L2's, in the run with that
// name.
[[nodiscard]] std::optional<double> l1_boot_ticks(const Measurements& measurements, std::string_view run);
[[nodiscard]] std::optional<double> l2_boot_ticks(const Measurements& measurements, std::string_view run);

// What a run has not printed, by its key.
[[nodiscard]] std::vector<std::string> missing_lat_ctx(const Measurements& measurements,
                                                       LatCtxLevels levels = lat_ctx_levels);

// lat_ctx.LEVEL.COLUMN.VALUE and boot.flatback.{l1,l2}, into a report. null is what an L0 cannot tell.
void add_lat_ctx(nlohmann::ordered_json& report, const Measurements& measurements,
                 LatCtxLevels levels = lat_ctx_levels);

// Ticks a switch, and the counters, level by level.
[[nodiscard]] std::string lat_ctx_table(const Measurements& measurements,
                                        LatCtxLevels levels = lat_ctx_levels);

}  // namespace flatback::tools
