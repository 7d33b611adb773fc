#include "tools/peer_guest.hpp"

#include <fmt/format.h>

#include "tools/direct_kernel.hpp"
#include "tools/paths.hpp"
#include "tools/qemu_package.hpp"
#include "tools/stack_runs.hpp"

namespace flatback::tools {
namespace {

EmulationRequest direct_request(const std::filesystem::path& kernel, const std::filesystem::path& initramfs,
                                std::string command_line, unsigned memory, std::chrono::seconds limit) {
    EmulationRequest request;
    request.plan.guest = kernel;
    request.plan.guest_kind = KernelKind::linux_bzimage;
    request.plan.guest_command_line = std::move(command_line);
    request.plan.modules.push_back({initramfs, {}});
    request.memory = memory;
    request.instructions_per_second = linux_instructions_per_second;
    request.limit = limit;
    return request;
}

}  // namespace

Result<PeerGuest> prepare_peer_guest(const LinuxGuest& l1) {
    const std::filesystem::path cache = cache_directory();
    const std::filesystem::path folder = source_directory() / "guests" / "peer";
    PeerGuest peer;
    peer.kernel = cache / "peer-kernel";
    peer.initramfs = cache / "peer-initramfs.cpio.zst";

    const Bytes bzimage = TRY(read_file(l1.bzimage));
    const Bytes kernel = TRY(read_file(l1.kernel));
    const Bytes entry = TRY(read_file(peer_entry_code()));
    const Bytes image = TRY(uncompressed_bzimage(bzimage, kernel, entry));
    TRY(replace_file(peer.kernel, image));

    const std::filesystem::path command_line = cache / "l1-command-line";
    TRY(write_file(command_line, l1.command_line + "\n"));
    auto entries = TRY(qemu_initramfs_entries());
    const Bytes list = TRY(read_file(folder / "initramfs.list"));
    auto own = TRY(read_initramfs_list(text_of(list), {{"BUSYBOX", busybox_program()},
                                                       {"MODULES", l1.kernel.parent_path()},
                                                       {"L2_VMM", l2_vmm_program()},
                                                       {"BARE_L1", bare_l1_image()},
                                                       {"L1_KERNEL", l1.kernel},
                                                       {"L1_INITRAMFS", l1.initramfs_with_l2},
                                                       {"L1_COMMAND_LINE", command_line},
                                                       {"INIT", folder / "init"}}));
    for (InitramfsEntry& each : own) entries.push_back(std::move(each));
    const Bytes initramfs = TRY(make_initramfs(entries));
    const Bytes compressed = TRY(compress(initramfs));
    TRY(replace_file(peer.initramfs, compressed));

    const Bytes words = TRY(read_file(source_directory() / "guests" / "linux" / "cmdline.txt"));
    peer.command_line = TRY(linux_command_line(text_of(words)));
    return peer;
}

QueuedRun peer_run(std::string name, const PeerGuest& guest, std::string_view words,
                   std::chrono::seconds limit) {
    return {std::move(name),
            direct_request(guest.kernel, guest.initramfs,
                           fmt::format("{} peer.l1.memory={} {}", guest.command_line, linux_memory, words),
                           peer_memory, limit)};
}

QueuedRun direct_linux_run(std::string name, const PeerGuest& peer, const LinuxGuest& guest,
                           std::string_view words, std::chrono::seconds limit) {
    return {std::move(name),
            direct_request(peer.kernel, guest.l2_initramfs, fmt::format("{} {}", guest.command_line, words),
                           linux_memory, limit)};
}

}  // namespace flatback::tools
