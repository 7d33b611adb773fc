#include "tools/stack/stack_runs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "tools/ground/paths.hpp"

namespace flatback::tools {
namespace {

// Words of a kernel's command line from which its init makes lat-ctx's arguments.
std::string lat_ctx_words(std::string_view prefix, std::string_view level, const LatCtxWords& words) {
    std::string text = fmt::format(" {}records=lat_ctx.{}", prefix, level);
    for (const std::string& word : words) text += fmt::format(" {}{}", prefix, word);
    return text;
}

// L2s with so many virtual CPUs each, which L1 moves from processor to processor while their threads work.
QueuedRun moved_l2s_run(std::string name, const LinuxGuest& guest, unsigned processors,
                        std::span<const unsigned> l2s, std::chrono::seconds limit, std::string_view more) {
    QueuedRun run = linux_run(std::move(name), "nested-vpid=mapped log=quiet", guest, limit);
    BootPlan& plan = run.request.plan;
    plan.modules.front().file = guest.initramfs_with_l2;
    // L2's table of processors has no I/O APIC (guests/linux/processor_table.hpp).
    plan.guest_command_line +=
        fmt::format(" payloads=off l2cpus={} l2move=3 l2.noapic l2.stress.threads={} {}", fmt::join(l2s, ","),
                    2 * processors, more);
    run.request.processors = processors;
    return run;
}

}  // namespace

QueuedRun linux_run(std::string name, std::string_view l0_command_line, const LinuxGuest& guest,
                    std::chrono::seconds limit) {
    EmulationRequest request;
    request.plan.l0 = l0_image();
    request.plan.l0_command_line = l0_command_line;
    request.plan.guest = guest.kernel;
    request.plan.guest_kind = KernelKind::linux_elf64;
    request.plan.guest_command_line = guest.command_line;
    request.plan.modules.push_back({guest.initramfs, "initramfs"});
    request.memory = linux_memory;
    request.instructions_per_second = linux_instructions_per_second;
    request.limit = limit;
    return {std::move(name), std::move(request)};
}

QueuedRun linux_processors_run(std::string name, const LinuxGuest& guest, unsigned processors,
                               std::chrono::seconds limit) {
    QueuedRun run = linux_run(std::move(name), "nested-vpid=mapped log=quiet", guest, limit);
    run.request.plan.guest_command_line += " payloads=off processors=each";
    run.request.processors = processors;
    return run;
}

QueuedRun linux_l2_boot_run(std::string name, std::string_view l0_command_line, const LinuxGuest& guest,
                            std::chrono::seconds limit, unsigned exits_a_mark) {
    QueuedRun run = linux_run(std::move(name), l0_command_line, guest, limit);
    BootPlan& plan = run.request.plan;
    plan.modules.front().file = guest.initramfs_with_l2;
    plan.guest_command_line += fmt::format(" payloads=off l2mark={}", exits_a_mark);
    return run;
}

QueuedRun linux_l2_processors_run(std::string name, const LinuxGuest& guest, unsigned processors,
                                  std::chrono::seconds limit, unsigned rounds) {
    return moved_l2s_run(std::move(name), guest, processors, std::array{processors}, limit,
                         fmt::format("l2.stress.rounds={}", rounds));
}

QueuedRun linux_l2s_run(std::string name, const LinuxGuest& guest, unsigned processors,
                        std::span<const unsigned> l2s, std::chrono::seconds limit) {
    // What a shootdown takes is no question where processors are shared.
    return moved_l2s_run(std::move(name), guest, processors, l2s, limit,
                         "l2.stress.rounds=60 l2.stress.measure=0");
}

QueuedRun linux_l2_processors_by_qemu_run(std::string name, const LinuxGuest& guest, unsigned processors,
                                          std::chrono::seconds limit) {
    QueuedRun run = linux_run(std::move(name), "nested-vpid=mapped log=quiet", guest, limit);
    BootPlan& plan = run.request.plan;
    plan.modules.front().file = guest.initramfs_with_qemu;
    plan.guest_command_line +=
        fmt::format(" payloads=off vmm=qemu l2cpus={} l2.stress.threads={} l2.stress.rounds=5", processors,
                    2 * processors);
    run.request.processors = processors;
    return run;
}

QueuedRun linux_reboot_run(std::string name, const LinuxGuest& guest, unsigned processors,
                           std::chrono::seconds limit) {
    QueuedRun run = linux_processors_run(std::move(name), guest, processors, limit);
    run.request.plan.guest_command_line += " again=reboot";
    return run;
}

QueuedRun linux_kexec_run(std::string name, const LinuxGuest& guest, unsigned processors,
                          std::chrono::seconds limit) {
    QueuedRun run = linux_processors_run(std::move(name), guest, processors, limit);
    BootPlan& plan = run.request.plan;
    plan.modules.front().file = guest.initramfs_with_l2;
    plan.guest_command_line += fmt::format(" again=kexec stress.threads={} stress.rounds=5", 2 * processors);
    return run;
}

QueuedRun linux_l2_run(std::string name, std::string_view l0_command_line, const LinuxGuest& guest,
                       std::chrono::seconds limit, std::string_view level, const LatCtxWords& words,
                       std::string_view more) {
    QueuedRun run = linux_run(std::move(name), l0_command_line, guest, limit);
    BootPlan& plan = run.request.plan;
    plan.modules.front().file = guest.initramfs_with_l2;
    plan.guest_command_line +=
        lat_ctx_words("l2.lat_ctx.", level, words) + " l2.lat_ctx.counters=line:/dev/ttyS1";
    if (!more.empty()) plan.guest_command_line += fmt::format(" {}", more);
    return run;
}

QueuedRun linux_l2_two_vcpus_run(std::string name, const LinuxGuest& guest, std::chrono::seconds limit,
                                 const LatCtxWords& words) {
    QueuedRun run = linux_run(std::move(name), "nested-vpid=mapped log=quiet", guest, limit);
    BootPlan& plan = run.request.plan;
    plan.modules.front().file = guest.initramfs_with_l2;
    // L0 counts for each processor: what two virtual CPUs did is in no one's counters.
    plan.guest_command_line +=
        " payloads=off l2cpus=2 l2.noapic l2.lat_ctx.across=2" + lat_ctx_words("l2.lat_ctx.", "l2", words);
    run.request.processors = 2;
    return run;
}

QueuedRun linux_alone_run(std::string name, const LinuxGuest& guest, std::chrono::seconds limit,
                          std::string_view level, const LatCtxWords& words) {
    QueuedRun run = linux_run(std::move(name), "hypervisor=off log=quiet", guest, limit);
    BootPlan& plan = run.request.plan;
    plan.modules.front().file = guest.l2_initramfs;
    plan.guest_command_line += lat_ctx_words("lat_ctx.", level, words) + " end=record";
    return run;
}

QueuedRun traced_linux_run(std::string_view mode, std::string_view payloads, const LinuxGuest& guest,
                           std::chrono::seconds limit) {
    QueuedRun run = linux_run(fmt::format("trace, {}", mode),
                              fmt::format("nested-vpid={} log=quiet trace=on", mode), guest, limit);
    run.request.plan.guest_command_line += fmt::format(" l0trace={}", payloads);
    return run;
}

QueuedRun bare_run(std::string name, const char* l0_command_line, std::string_view command_line,
                   std::chrono::seconds limit) {
    EmulationRequest request;
    if (l0_command_line != nullptr) {
        request.plan.l0 = l0_image();
        request.plan.l0_command_line = l0_command_line;
    }
    request.plan.guest = bare_l1_image();
    request.plan.guest_kind = KernelKind::multiboot1;
    request.plan.guest_command_line = command_line;
    request.memory = bare_memory;
    request.limit = limit;
    return {std::move(name), std::move(request)};
}

QueuedRun image_run(std::string name, std::filesystem::path image, unsigned memory,
                    std::chrono::seconds limit) {
    EmulationRequest request;
    request.image = std::move(image);
    request.plan.guest = bare_l1_image();
    request.memory = memory;
    request.limit = limit;
    request.until_end_record = true;
    // It is somebody's hypervisor that halts, or its guest: only the time ends it.
    request.watches_halts = false;
    return {std::move(name), std::move(request)};
}

std::vector<std::string> shortcomings(const FinishedRun& run, const std::vector<std::string>& stages) {
    std::vector<std::string> lacks;
    for (const std::string& stage : stages) {
        if (!run.transcript.reached(stage))
            lacks.push_back(fmt::format("{}: stage {} was not reached", run.name, stage));
    }
    for (const std::string& error : run.transcript.errors())
        lacks.push_back(fmt::format("{}: {}", run.name, error));
    const bool ended_well = run.outcome.ending == Ending::shutdown ||
                            run.outcome.ending == Ending::power_off || run.outcome.ending == Ending::reported;
    if (!ended_well) {
        lacks.push_back(fmt::format("{}: {}", run.name, describe(run.outcome, run.transcript)));
    } else if (!run.transcript.ended()) {
        lacks.push_back(fmt::format("{}: the guest's program did not come to its end", run.name));
    }
    for (const CheckRecord& check : run.transcript.checks()) {
        if (!check.passed)
            lacks.push_back(fmt::format("{}: check {} failed: {}", run.name, check.name, check.why));
    }
    return lacks;
}

}  // namespace flatback::tools
