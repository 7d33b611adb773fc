#include "tools/check/register_records.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <sstream>

namespace flatback::tools {
namespace {

using Parts = std::map<std::string, std::string>;

// "value=0x1 faults=0x2" by name; what has no such parts is "all". What cannot be read has no value.
Parts parts_of(const std::string& record) {
    Parts parts;
    std::istringstream words{record};
    for (std::string word; words >> word;) {
        const std::size_t equals = word.find('=');
        if (word == "unreadable") {
            parts["value"] = word;
        } else if (equals == std::string::npos) {
            return {{"all", record}};
        } else {
            parts[word.substr(0, equals)] = word.substr(equals + 1);
        }
    }
    return parts;
}

bool covers(const RegisterDifference& listed, std::string_view name, std::string_view what) {
    if (listed.what != what) return false;
    if (!listed.name.ends_with('*')) return listed.name == name;
    return name.starts_with(listed.name.substr(0, listed.name.size() - 1));
}

}  // namespace

RegisterComparison compare_registers(const RegisterRecords& direct, const RegisterRecords& under_l0,
                                     const std::vector<RegisterDifference>& listed) {
    RegisterComparison result;
    std::set<std::string> names;
    for (const auto& [name, record] : direct) names.insert(name);
    for (const auto& [name, record] : under_l0) names.insert(name);
    std::vector<bool> used(listed.size());
    for (const std::string& name : names) {
        const auto one = direct.find(name);
        const auto other = under_l0.find(name);
        if (one == direct.end() || other == under_l0.end()) {
            result.unexpected.push_back(
                fmt::format("{}: only {}", name, one == direct.end() ? "on L0" : "without L0"));
            continue;
        }
        Parts before = parts_of(one->second);
        Parts after = parts_of(other->second);
        std::set<std::string> what;
        for (const auto& [part, text] : before) what.insert(part);
        for (const auto& [part, text] : after) what.insert(part);
        for (const std::string& part : what) {
            if (before[part] == after[part]) continue;
            const auto found = std::ranges::find_if(
                listed, [&](const RegisterDifference& each) { return covers(each, name, part); });
            const std::string said =
                fmt::format("{} {}: {} without L0, {} on L0", name, part, before[part], after[part]);
            if (found == listed.end()) {
                result.unexpected.push_back(said);
            } else {
                used[static_cast<std::size_t>(found - listed.begin())] = true;
                result.deliberate.push_back(fmt::format("{}: {}", said, found->why));
            }
        }
    }
    for (std::size_t i = 0; i < listed.size(); ++i) {
        if (!used[i])
            result.unexpected.push_back(
                fmt::format("{} {} is listed and does not differ", listed[i].name, listed[i].what));
    }
    return result;
}

const std::vector<RegisterDifference>& deliberate_register_differences() {
    static const std::vector<RegisterDifference> all{
        {"cpuid-0x1", "ecx", "a hypervisor is there; the debug store is not offered"},
        {"cpuid-0x1", "edx", "the debug store is not offered"},
        {"msr-0x1a0", "value", "the debug store is not offered: unavailable"},
        {"msr-0x3f1", "value", "PEBS is not offered"},
        {"msr-0x3f1", "faults", "PEBS is not offered"},
        {"msr-0x1d9", "faults", "the debug store is not offered: its bits are reserved"},
        {"msr-0x300.present", "all", "PEBS (3F1H) is not offered"},
        {"msr-0x56*", "value", "processor trace is not offered"},
        {"msr-0x56*", "faults", "processor trace is not offered"},
        {"msr-0x57*", "value", "processor trace is not offered"},
        {"msr-0x57*", "faults", "processor trace is not offered"},
        {"msr-0x600", "value", "the debug store is not offered"},
        {"msr-0x600", "faults", "the debug store is not offered"},
        {"msr-0x6a*", "value", "CET is not offered"},
        {"msr-0x6a*", "faults", "CET is not offered"},
        {"msr-0xda0", "faults", "CET is not offered: its states are reserved"},
        {"msr-0xda0", "kept", "CET is not offered: its states are reserved"},
        {"msr-0x6e1", "value", "supervisor protection keys are not offered"},
        {"msr-0x6e1", "faults", "supervisor protection keys are not offered"},
        {"msr-0x985", "value", "user interrupts are not offered"},
        {"msr-0x985", "faults", "user interrupts are not offered"},
        {"msr-0x9b", "faults", "#GP outside of SMM (SDM vol. 4, 9BH); the emulator has no such register"},
        {"msr-0x480", "value", "the engine's own VMCS revision"},
        {"msr-0x483", "value", "VM-exit controls that are not offered"},
        {"msr-0x484", "value", "VM-entry controls that are not offered"},
        {"msr-0x485", "value", "no HLT activity state, no VMWRITE to exit information"},
        {"msr-0x48a", "value", "the highest field that is offered"},
        {"msr-0x48b", "value", "secondary controls that are not offered"},
        {"msr-0x48f", "value", "VM-exit controls that are not offered"},
        {"msr-0x490", "value", "VM-entry controls that are not offered"},
        {"msr-0x491", "value", "VM functions are not offered"},
        {"msr-0x492", "value", "tertiary controls are not offered; the emulator reads any MSR"},
        {"msr-0x492", "faults", "read-only in SDM vol. 4; the emulator takes any MSR"},
        {"msr-0x1b", "faults", "the APIC's page can be moved within the first 512 GB"},
        {"msr-0x1b", "kept", "the APIC's page can be moved within the first 512 GB"},
        {"msr-0x80d", "value", "SDM 3A 11.12.10.2; the emulator reads 0"},
        {"msr-0x830", "value", "L0 sent the last one: a system-management interrupt, before L1 ran"},
        {"msr-0x830", "faults", "reserved bits (SDM 3A 11.12.1.3), which the emulator takes"},
        {"msr-0x830", "kept", "it can be read back (SDM 3A table 11-6), but not in the emulator"},
    };
    return all;
}

}  // namespace flatback::tools
