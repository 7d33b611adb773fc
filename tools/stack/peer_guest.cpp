#include "tools/stack/peer_guest.hpp"

#include <fmt/format.h>

#include "tools/ground/paths.hpp"
#include "tools/image/qemu_package.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {

Result<PeerGuest> prepare_peer_guest(const LinuxGuest& l1) {
    const std::filesystem::path cache = cache_directory();
    const std::filesystem::path folder = source_directory() / "guests" / "peer";
    PeerGuest peer;
    peer.kernel = l1.kernel;
    peer.initramfs = cache / "peer-initramfs.cpio";

    const std::filesystem::path command_line = cache / "l1-command-line";
    TRY(write_file(command_line, l1.command_line + "\n"));
    auto entries = TRY(qemu_initramfs_entries());
    const Bytes list = TRY(read_file(folder / "initramfs.list"));
    auto own = TRY(read_initramfs_list(text_of(list), {{"BUSYBOX", busybox_program()},
                                                       {"MODULES", l1.kernel.parent_path()},
                                                       {"L2_VMM", l2_vmm_program()},
                                                       {"BARE_L1", bare_l1_image()},
                                                       {"L1_INITRAMFS", l1.initramfs_with_l2},
                                                       {"L1_COMMAND_LINE", command_line},
                                                       {"INIT", folder / "init"}}));
    for (InitramfsEntry& each : own) entries.push_back(std::move(each));
    const Bytes initramfs = TRY(make_initramfs(entries));
    TRY(replace_file(peer.initramfs, initramfs));

    const Bytes words = TRY(read_file(source_directory() / "guests" / "linux" / "cmdline.txt"));
    peer.command_line = TRY(linux_command_line(text_of(words)));
    return peer;
}

QueuedRun peer_run(std::string name, const PeerGuest& guest, std::string_view words,
                   std::chrono::seconds limit) {
    EmulationRequest request;
    // Flatback's loader only: it leaves the machine to Linux and is gone (docs/metal.md).
    request.plan.l0 = l0_image();
    request.plan.l0_command_line = "hypervisor=off log=quiet";
    request.plan.guest = guest.kernel;
    request.plan.guest_kind = KernelKind::linux_elf64;
    request.plan.guest_command_line =
        fmt::format("{} peer.l1.memory={} {}", guest.command_line, linux_memory, words);
    request.plan.modules.push_back({guest.initramfs, "initramfs"});
    request.memory = peer_memory;
    request.instructions_per_second = linux_instructions_per_second;
    request.limit = limit;
    return {std::move(name), std::move(request)};
}

}  // namespace flatback::tools
