// The peer: Debian's Linux with KVM as L0, in the same emulated machine, above it the L1 that Flatback boots.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

#include "tools/image/linux_guest.hpp"
#include "tools/stack/run_queue.hpp"
#include "tools/stack/stack_runs.hpp"

namespace flatback::tools {

// Memory of the machine, in MB: L1 gets what Flatback's L1 has, and L0 keeps its files in memory.
inline constexpr unsigned peer_memory = 2048;
// What it can give a guest of it, in MB.
inline constexpr unsigned most_memory_above_peer = 1280;

struct PeerGuest {
    std::filesystem::path kernel;
    std::filesystem::path initramfs;  // QEMU, and L1's initramfs
    std::string command_line;
};

// Makes the files anew, in the cache. Error: those of prepare_linux_guest and qemu_initramfs_entries;
// missing_program where what the build makes is not there.
[[nodiscard]] Result<PeerGuest> prepare_peer_guest(const LinuxGuest& l1);

// The same with a Linux that has no L2, for peer_run with several processors.
[[nodiscard]] Result<PeerGuest> prepare_peer_processors_guest(const LinuxGuest& l1);

// The same with Flatback as L1, of whose L0 and guest the run's plan tells: it is booted from an image as
// `flatback image` makes it. Error: those of make_hybrid_image, too.
[[nodiscard]] Result<QueuedRun> above_peer(const LinuxGuest& linux, QueuedRun run);

// One run; `words` are guests/peer/init's: peer.l1=bare,linux, l1.flatback.vpid=0, … Of `processors` the
// machine has so many, and L1 as many virtual CPUs.
[[nodiscard]] QueuedRun peer_run(std::string name, const PeerGuest& guest, std::string_view words,
                                 std::chrono::seconds limit, unsigned l1_memory = linux_memory,
                                 unsigned processors = 1);

}  // namespace flatback::tools
