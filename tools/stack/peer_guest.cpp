#include "tools/stack/peer_guest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "tools/ground/paths.hpp"
#include "tools/ground/temporary_directory.hpp"
#include "tools/image/hybrid_image.hpp"
#include "tools/image/qemu_package.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {

namespace {

std::filesystem::path peer_folder() {
    return source_directory() / "guests" / "peer";
}

// Makes the initramfs `to` of the peer's own files, and those of the list of its L1.
Result<PeerGuest> prepare_peer(const LinuxGuest& linux, std::string_view l1_list,
                               std::map<std::string, std::filesystem::path> variables,
                               const std::filesystem::path& to) {
    variables.insert({{"BUSYBOX", busybox_program()},
                      {"MODULES", linux.kernel.parent_path()},
                      {"L2_VMM", l2_vmm_program()},
                      {"INIT", peer_folder() / "init"}});
    auto entries = TRY(qemu_initramfs_entries());
    for (const std::string_view name : {std::string_view{"initramfs.list"}, l1_list}) {
        const Bytes list = TRY(read_file(peer_folder() / name));
        auto more = TRY(read_initramfs_list(text_of(list), variables));
        for (InitramfsEntry& each : more) entries.push_back(std::move(each));
    }
    const Bytes initramfs = TRY(make_initramfs(entries));
    TRY(replace_file(to, initramfs));
    const Bytes words = TRY(read_file(source_directory() / "guests" / "linux" / "cmdline.txt"));
    return PeerGuest{
        .kernel = linux.kernel, .initramfs = to, .command_line = TRY(linux_command_line(text_of(words)))};
}

// With the bare L1 and Linux as L1s, from the list and by its other variables.
Result<PeerGuest> prepare_peer_with_l1s(const LinuxGuest& l1, std::string_view list,
                                        std::map<std::string, std::filesystem::path> variables,
                                        const std::filesystem::path& to) {
    const std::filesystem::path command_line = cache_directory() / "l1-command-line";
    TRY(write_file(command_line, l1.command_line + "\n"));
    variables.insert({{"BARE_L1", bare_l1_image()}, {"L1_COMMAND_LINE", command_line}});
    return prepare_peer(l1, list, std::move(variables), to);
}

}  // namespace

Result<PeerGuest> prepare_peer_guest(const LinuxGuest& l1) {
    return prepare_peer_with_l1s(l1, "initramfs-l1.list", {{"L1_INITRAMFS", l1.initramfs_with_l2}},
                                 cache_directory() / "peer-initramfs.cpio");
}

Result<PeerGuest> prepare_peer_processors_guest(const LinuxGuest& l1) {
    return prepare_peer_with_l1s(l1, "initramfs-processors.list",
                                 {{"KERNEL", l1.kernel}, {"L1_INITRAMFS", l1.initramfs}},
                                 cache_directory() / "peer-processors-initramfs.cpio");
}

Result<QueuedRun> above_peer(const LinuxGuest& linux, QueuedRun run) {
    std::string file = run.name;
    std::ranges::replace_if(
        file, [](unsigned char character) { return std::isalnum(character) == 0; }, '-');
    const TemporaryDirectory directory = TRY(TemporaryDirectory::create());
    const std::filesystem::path image = directory.path() / "image.iso";  // read into the initramfs, and gone
    const unsigned memory = run.request.memory;
    const HybridImage contents{
        .entries = {{.id = "l1", .title = run.name, .plan = std::move(run.request.plan)}}, .seconds = 0};
    TRY(make_hybrid_image(contents, directory.path(), image));
    const PeerGuest peer = TRY(prepare_peer(linux, "initramfs-image.list", {{"IMAGE", image}},
                                            cache_directory() / fmt::format("above-kvm-{}.cpio", file)));
    return peer_run(std::move(run.name), peer, "peer.l1=image", run.request.limit, memory);
}

QueuedRun peer_run(std::string name, const PeerGuest& guest, std::string_view words,
                   std::chrono::seconds limit, unsigned l1_memory, unsigned processors) {
    EmulationRequest request;
    // Flatback's loader only: it leaves the machine to Linux and is gone (docs/metal.md).
    request.plan.l0 = l0_image();
    request.plan.l0_command_line = "hypervisor=off log=quiet";
    request.plan.guest = guest.kernel;
    request.plan.guest_kind = KernelKind::linux_elf64;
    request.plan.guest_command_line =
        fmt::format("{} {} peer.l1.memory={}", guest.command_line, words, l1_memory);
    if (processors > 1) request.plan.guest_command_line += fmt::format(" peer.l1.processors={}", processors);
    request.plan.modules.push_back({guest.initramfs, "initramfs"});
    request.memory = peer_memory;
    request.processors = processors;
    request.instructions_per_second = linux_instructions_per_second;
    request.limit = limit;
    // This Linux never halts for good. Each look at that stops Bochs by a signal, and one in the middle of a
    // line of its log, of which KVM causes many by an MSR that Bochs has not, can have it wait for itself for
    // ever.
    request.watches_halts = false;
    return {std::move(name), std::move(request)};
}

}  // namespace flatback::tools
