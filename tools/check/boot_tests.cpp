#include "tools/check/boot_tests.hpp"

#include <algorithm>

#include "tools/check/boot_test.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/stack/progress.hpp"

namespace flatback::tools {

Result<> run_boot_tests(TestReport& report, bool with_linux) {
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    const std::filesystem::path damaged_guest = directory.path() / "damaged";
    TRY(write_file(damaged_guest, "this is no kernel"));

    std::vector<BootTest> tests;
    add_endings(tests);
    add_refusals(tests, damaged_guest);
    add_bare(tests);
    add_bare_without(tests);
    add_bare_registers(tests);
    add_bare_depth(tests);
    add_two_vms(tests);
    add_bare_hangs(tests);
    add_bare_processors(tests);
    add_bare_several(tests);
    add_bare_at_once(tests);
    add_second_processors_end(tests);
    add_l0_stops(tests);
    add_l0_port(tests);
    if (report.filter().starts_with(models_name)) add_models(tests);
    if (report.filter().starts_with(depth_name)) add_depths(tests);
    if (report.filter().starts_with(everywhere_name)) add_everywhere(tests);
    add_bare32(tests);
    add_world(tests);
    add_broken(tests);
    add_bare_trace(tests);
    add_explanations(tests);
    if (with_linux && report.selects_any(linux_names)) TRY(add_linux(tests));
    if (with_linux && report.selects(linux_l2_name)) TRY(add_linux_l2(tests));
    if (with_linux && report.filter().starts_with(linux_several_name)) TRY(add_linux_several(tests));
    if (with_linux && report.selects(peer_name)) TRY(add_peer(tests));
    if (report.selects_any(image_names) || report.selects(image_uefi_disk_name) ||
        report.selects(image_uefi_screen_name))
        TRY(add_image(report, tests, directory.path()));
    if (with_linux && report.filter().starts_with(image_uefi_linux_name))
        TRY(add_image_linux(tests, directory.path()));
    std::erase_if(tests, [&report](const BootTest& test) { return !report.selects(test.run.name); });
    // The longest first: two run at once, and the last one should not run alone for long.
    std::ranges::stable_sort(tests, std::ranges::greater{},
                             [](const BootTest& test) { return test.run.request.limit; });

    std::vector<QueuedRun> runs;
    for (const BootTest& test : tests) runs.push_back(test.run);
    Progress progress;
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));
    for (std::size_t index = 0; index < tests.size(); ++index)
        judge_run(report, tests[index], finished[index]);
    judge_registers(report, finished);
    compare_orders(report, tests, finished);
    compare_information(report, finished);
    return {};
}

}  // namespace flatback::tools
