#include "tools/table/depth_table.hpp"

#include <fmt/format.h>

#include <functional>

#include "tools/ground/format_number.hpp"
#include "tools/ground/json.hpp"

namespace flatback::tools {
namespace {

std::string depth_row(std::string_view title, std::span<const DepthMeasurement> depths,
                      const std::function<std::string(const DepthMeasurement&)>& cell) {
    std::string line = fmt::format("  {:<46}", title);
    for (const DepthMeasurement& each : depths) line += fmt::format(" {:>13}", cell(each));
    return line + "\n";
}

std::string number_or_dash(const std::optional<double>& value) {
    return value ? format_number(*value) : "-";
}

std::string_view title_of(std::string_view value) {
    if (value == "l1_cpuid") return "L1 CPUID";
    if (value == "l1_vmcall") return "L1 VMCALL";
    if (value == "vmread") return "L1 VMREAD";
    if (value == "vmwrite") return "L1 VMWRITE";
    if (value == "vmptrld_two") return "L1 VMPTRLD of two in turn";
    if (value == "vmclear") return "L1 VMCLEAR";
    if (value == "first_vmlaunch") return "first VMLAUNCH";
    if (value == "l2_cpuid_reflected") return "L2 CPUID reflected to L1";
    if (value == "l2_cpuid_reflected_alternating") return "two VMCSs taking turns";
    if (value == "two_l2_vcpus") return "two L2 vCPUs";
    if (value == "per_reflected.l0_exits") return "exits to the uppermost L0, x 100";
    if (value == "per_reflected.vmreads") return "its VMREADs, x 100";
    if (value == "per_reflected.vmwrites") return "its VMWRITEs, x 100";
    if (value == "l1_cpuid_ticks") return "Linux with KVM: L1 CPUID";
    if (value == "l2_cpuid_reflected_ticks") return "Linux with KVM: L2 CPUID";
    if (value == "l2_io_ticks") return "Linux with KVM: L2 I/O by L1's VMM";
    return value;
}

bool is_in_part(const DepthMeasurement& depth, std::string_view beneath) {
    return !beneath.empty() || depth.depth >= first_depth_in_part;
}

Json number_or_null(const RunValues& values, const std::string& key) {
    const auto found = values.number(key);
    return found ? Json::parse(*found) : Json(nullptr);
}

}  // namespace

std::string render_depth_table(std::span<const DepthMeasurement> depths, std::string_view beneath) {
    std::string table =
        beneath.empty()
            ? "\nFlatback on Flatback, ticks, nested-vpid=mapped\n" +
                  depth_row("L0s beneath L1", depths,
                            [](const DepthMeasurement& each) { return fmt::format("{}", each.depth); })
            : fmt::format("\nFlatback on {}, ticks of the machine beneath both, nested-vpid=mapped\n",
                          beneath);
    for (const std::string_view value : depth_values) {
        table += depth_row(title_of(value), depths, [value](const DepthMeasurement& each) {
            return number_or_dash(each.bare.value(fmt::format("bare_l1.{}", value)));
        });
    }
    for (const std::string_view value : depth_linux_values) {
        table += depth_row(title_of(value), depths, [value](const DepthMeasurement& each) {
            return each.linux_as_l1
                       ? number_or_dash(each.linux_as_l1->value(fmt::format("modes.mapped.{}", value)))
                       : std::string{"-"};
        });
    }
    table += depth_row("checks of the bare L1, passed", depths, [beneath](const DepthMeasurement& each) {
        return fmt::format("{}{}", each.passed, is_in_part(each, beneath) ? " (part)" : "");
    });
    table += depth_row("failed", depths,
                       [](const DepthMeasurement& each) { return fmt::format("{}", each.failed.size()); });
    for (const DepthMeasurement& each : depths) {
        const std::string where =
            beneath.empty() ? fmt::format("depth {}", each.depth) : fmt::format("on {}", beneath);
        for (const std::string& check : each.failed) table += fmt::format("  {}: failed: {}\n", where, check);
        for (const std::string& check : each.beneath)
            table += fmt::format("  {}: a fault beneath Flatback: {}\n", where, check);
    }
    return table;
}

std::string depth_json(std::span<const DepthMeasurement> depths, std::string_view beneath) {
    Json report;
    report["beneath"] = beneath.empty() ? Json(nullptr) : Json(beneath);
    report["depths"] = Json::array();
    for (const DepthMeasurement& each : depths) {
        Json depth{{"depth", each.depth}};
        for (const std::string_view value : depth_values)
            depth["bare_l1"][std::string{value}] =
                number_or_null(each.bare, fmt::format("bare_l1.{}", value));
        depth["checks"] = {
            {"passed", each.passed}, {"failed", each.failed}, {"in_part", is_in_part(each, beneath)}};
        if (!beneath.empty()) depth["checks"]["faults_beneath"] = each.beneath;
        if (each.linux_as_l1) {
            for (const std::string_view value : depth_linux_values)
                depth["linux"][std::string{value}] =
                    number_or_null(*each.linux_as_l1, fmt::format("modes.mapped.{}", value));
        }
        report["depths"].push_back(depth);
    }
    return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace flatback::tools
