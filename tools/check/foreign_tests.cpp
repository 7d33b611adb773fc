#include "tools/check/foreign_tests.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "tools/emulator/bochs_configuration.hpp"
#include "tools/ground/excerpt.hpp"
#include "tools/ground/files.hpp"
#include "tools/ground/paths.hpp"
#include "tools/image/archive.hpp"
#include "tools/image/debian_package.hpp"
#include "tools/image/linux_guest.hpp"
#include "tools/measure/measurements.hpp"
#include "tools/stack/peer_guest.hpp"
#include "tools/stack/progress.hpp"
#include "tools/stack/stack_runs.hpp"
#include "tools/stack/xen_guest.hpp"

namespace flatback::tools {
namespace {

constexpr std::string_view xen_name = "foreign.xen";
constexpr std::string_view memtest_name = "foreign.memtest86+";
constexpr std::string_view kvm_name = "foreign.kvm-beneath";
constexpr std::string_view xen_beneath_name = "foreign.xen-beneath";
constexpr std::chrono::seconds xen_limit{1800};
constexpr std::chrono::seconds linux_limit{900};
// Twice what it takes on two idle cores and more: what decides is where it ends.
constexpr std::chrono::seconds kvm_limit{3600};
constexpr std::chrono::seconds memtest_limit{120};

// Beside Debian's current kernel, which the boot tests have: an older and a newer one.
constexpr std::array<std::string_view, 2> other_kernels{"linux-image-5.10-amd64", "linux-image-6.12-amd64"};

struct ForeignTest {
    QueuedRun run;
    // Empty where all is well.
    std::string (*judge)(const FinishedRun& run) = nullptr;
    // The foreign hypervisor is beneath: what fails is its own, printed and not counted.
    bool beneath = false;
};

void say(std::string_view text) {
    fmt::print("{}\n", text);
}

void add_to(std::string& wrong, std::string_view what) {
    wrong += fmt::format("{}{}", wrong.empty() ? "" : "; ", what);
}

// What such a program sends to a terminal is not for the user's own.
std::string printable(std::string text) {
    for (char& character : text) {
        if (character != '\n' && (character < ' ' || character > '~')) character = '.';
    }
    return text;
}

// Every text must have been printed.
std::string missing_texts(const FinishedRun& run, std::initializer_list<std::string_view> texts) {
    std::string wrong;
    for (const std::string_view text : texts) {
        if (run.transcript.text().find(text) == std::string::npos)
            add_to(wrong, fmt::format("nothing was printed of \"{}\"", text));
    }
    return wrong;
}

std::string judge_xen(const FinishedRun& run) {
    std::string wrong =
        missing_texts(run, {"Xen version 4.17", "VMX enabled", "Hardware Assisted Paging (HAP) detected",
                            "domu: 200 processes ran"});
    for (const std::string& lack : shortcomings(run, {"dom0", "xen-tools", "domu-started"}))
        add_to(wrong, lack);
    const auto& texts = run.transcript.texts();
    const auto type = texts.find("xen.guest_type");
    if (type == texts.end() || type->second != "PVH") add_to(wrong, "the guest did not say that it is PVH");
    return wrong;
}

// It tests for ever: what it has said when the time is up counts.
std::string judge_memtest(const FinishedRun& run) {
    constexpr std::string_view errors = "Errors: ";
    std::string wrong = missing_texts(
        run, {"Memtest86+ v", "Address test, walking ones", "Address test, own address", "Errors: 0"});
    if (run.outcome.ending != Ending::time_up) add_to(wrong, describe(run.outcome, run.transcript));
    const std::string& text = run.transcript.text();
    for (std::size_t at = text.find(errors); at != std::string::npos; at = text.find(errors, at + 1)) {
        if (text.compare(at + errors.size(), 2, "0 ") != 0) {
            add_to(wrong, "it found errors");
            break;
        }
    }
    return wrong;
}

std::string judge_linux(const FinishedRun& run) {
    std::string wrong;
    for (const std::string& lack : shortcomings(run, {"l0", "l1-entry", "l1-user", "l2"}))
        add_to(wrong, lack);
    if (run.transcript.checks().empty()) add_to(wrong, "no check was reported");
    return wrong;
}

Result<> add_xen(std::vector<ForeignTest>& tests) {
    const XenGuest guest = TRY(prepare_xen_guest(say));
    tests.push_back({xen_run(std::string{xen_name}, guest, xen_limit), judge_xen});
    return {};
}

// The bare L1's checks with another hypervisor beneath: they come to their end, and most are as they should
// be.
std::string judge_checks_above(const FinishedRun& run, const std::vector<std::string>& stages) {
    constexpr std::size_t least_passed = 200;
    std::string wrong;
    for (const std::string& lack : shortcomings(run, stages)) {
        if (!lack.starts_with(run.name + ": check ")) add_to(wrong, lack);
    }
    const auto passed = std::ranges::count(run.transcript.checks(), true, &CheckRecord::passed);
    if (static_cast<std::size_t>(passed) < least_passed)
        add_to(wrong, fmt::format("only {} checks passed", passed));
    return wrong;
}

std::string judge_kvm(const FinishedRun& run) {
    return judge_checks_above(run, {"peer-l0", "bare-l1"});
}

std::string judge_xen_beneath(const FinishedRun& run) {
    return judge_checks_above(run, {"dom0", "xen-tools", "bare-l1"});
}

Result<> add_xen_beneath(std::vector<ForeignTest>& tests) {
    const XenGuest guest = TRY(prepare_xen_guest(say));
    const std::array<std::string, 2> words{"check", "rules"};
    tests.push_back(
        {bare_above_xen(std::string{xen_beneath_name}, guest, words, xen_limit), judge_xen_beneath, true});
    return {};
}

Result<> add_kvm(std::vector<ForeignTest>& tests) {
    const LinuxGuest guest = TRY(prepare_linux_guest(say));
    const PeerGuest peer = TRY(prepare_peer_guest(guest));
    tests.push_back({peer_run(std::string{kvm_name}, peer, "peer.l1=bare-checks peer.bare.check", kvm_limit),
                     judge_kvm, true});
    return {};
}

Result<> add_memtest(std::vector<ForeignTest>& tests) {
    const std::filesystem::path directory = cache_directory() / "memtest";
    const std::filesystem::path kernel = directory / "memtest";
    if (!std::filesystem::exists(kernel)) {
        const std::filesystem::path archive = TRY(download_debian_package("memtest86+", directory));
        const auto files = TRY(files_of_debian_package(
            archive, [](std::string_view path) { return path.ends_with("/boot/memtest86+x64.bin"); }));
        if (files.size() != 1)
            return fail(ExitStatus::input_file, "the package memtest86+ has no 64-bit image");
        TRY(replace_file(kernel, files.begin()->second));
    }
    EmulationRequest request;
    request.plan.l0 = l0_image();
    request.plan.l0_command_line = "log=quiet";
    request.plan.guest = kernel;
    request.plan.guest_kind = KernelKind::linux_bzimage;
    request.plan.guest_command_line = "console=ttyS0,115200";
    request.memory = bare_memory;
    request.limit = memtest_limit;
    tests.push_back({{std::string{memtest_name}, std::move(request)}, judge_memtest});
    return {};
}

Result<> add_kernel(std::vector<ForeignTest>& tests, const std::string& metapackage) {
    TRY(make_directory(cache_directory()));
    if (const auto package = debian_kernel_package(cache_directory() / "lists", metapackage); !package) {
        fmt::print("foreign.{}: left out: {}\n", metapackage, package.error().message);
        return {};
    }
    const LinuxGuest guest = TRY(prepare_linux_guest_of(metapackage, say));
    tests.push_back({linux_run(fmt::format("foreign.{}", metapackage), "nested-vpid=mapped log=quiet", guest,
                               linux_limit),
                     judge_linux});
    return {};
}

}  // namespace

Result<> run_foreign_tests(TestReport& report) {
    std::vector<ForeignTest> tests;
    if (report.selects(xen_name)) TRY(add_xen(tests));
    if (report.selects(memtest_name)) TRY(add_memtest(tests));
    if (report.selects(kvm_name)) TRY(add_kvm(tests));
    if (report.selects(xen_beneath_name)) TRY(add_xen_beneath(tests));
    for (const std::string_view kernel : other_kernels) {
        if (report.selects(fmt::format("foreign.{}", kernel))) TRY(add_kernel(tests, std::string{kernel}));
    }
    std::vector<QueuedRun> runs;
    for (const ForeignTest& test : tests) runs.push_back(test.run);
    Progress progress;
    const auto finished = TRY(run_all(std::move(runs), progress.observer()));
    for (std::size_t index = 0; index < tests.size(); ++index) {
        const FinishedRun& run = finished[index];
        std::string wrong = tests[index].judge(run);
        for (const CheckRecord& check : run.transcript.checks()) {
            if (!tests[index].beneath) {
                report.add(fmt::format("{}.{}", run.name, check.name), check.passed, check.why);
            } else if (!check.passed) {
                fmt::print("{}: not as it should be: {}: {}\n", run.name, check.name, check.why);
            }
        }
        if (!wrong.empty()) wrong += fmt::format("\n{}", printable(last_lines(run.transcript.text(), 40)));
        report.add(run.name, wrong.empty(), wrong);
        fmt::print("{}: {} ticks\n", run.name, run.outcome.ticks);
    }
    return {};
}

}  // namespace flatback::tools
