#include "tools/command/boot_report.hpp"

#include "tools/ground/json.hpp"

namespace flatback::tools {

std::string boot_report(const Outcome& outcome, const Transcript& transcript, std::string_view unit) {
    Json report;
    report["ending"] = name(outcome.ending);
    report["message"] = describe(outcome, transcript);
    report["unit"] = unit;
    // 0: Bochs was ended before it said how far it had come.
    if (outcome.ticks != 0) report["ticks"] = outcome.ticks;
    report["seconds"] = outcome.seconds;
    report["stages"] = transcript.stages();
    report["values"] = Json::object();
    for (const auto& [key, number] : transcript.values())
        report["values"][key] = Json::parse(number, nullptr, false);
    report["texts"] = transcript.texts();
    report["checks"] = Json::array();
    for (const CheckRecord& check : transcript.checks()) {
        Json entry{{"name", check.name}, {"passed", check.passed}};
        if (!check.passed) entry["why"] = check.why;
        report["checks"].push_back(std::move(entry));
    }
    report["errors"] = transcript.errors();
    // A guest may print anything: what is not UTF-8 is replaced.
    return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace flatback::tools
