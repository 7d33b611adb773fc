// The runs of the whole stack, as `flatback run` and `flatback test` make them.
#pragma once

#include <chrono>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/image/linux_guest.hpp"
#include "tools/stack/run_queue.hpp"

namespace flatback::tools {

// Memory of the machine for Linux as L1, in MB.
inline constexpr unsigned linux_memory = 1024;
inline constexpr unsigned bare_memory = 256;

// L0, Debian's Linux as L1 with KVM, and its L2 payloads.
[[nodiscard]] QueuedRun linux_run(std::string name, std::string_view l0_command_line, const LinuxGuest& guest,
                                  std::chrono::seconds limit);

// linux_run on a machine with so many processors, without payloads: L1 takes each of them offline and back.
[[nodiscard]] QueuedRun linux_processors_run(std::string name, const LinuxGuest& guest, unsigned processors,
                                             std::chrono::seconds limit);

// L1's Linux boots one as L2, with `l2-vmm`, and nothing else: marks for a debugger at its begin, and every
// `exits_a_mark` exits to a device.
[[nodiscard]] QueuedRun linux_l2_boot_run(std::string name, std::string_view l0_command_line,
                                          const LinuxGuest& guest, std::chrono::seconds limit,
                                          unsigned exits_a_mark);

// The same machine with a Linux as L2 that has as many virtual CPUs, which L1 moves among its processors
// while L2's threads map, write, protect, unmap and fork (guests/mm_stress).
[[nodiscard]] QueuedRun linux_l2_processors_run(std::string name, const LinuxGuest& guest,
                                                unsigned processors, std::chrono::seconds limit,
                                                unsigned rounds = 60);

// As many L2s at once as there are numbers, each with so many virtual CPUs. L1 moves all of them likewise,
// and every one has its threads work; number N of them, from 1 on, tells its values under l2.N, mm_stress.N
// and l2_linux.N.
[[nodiscard]] QueuedRun linux_l2s_run(std::string name, const LinuxGuest& guest, unsigned processors,
                                      std::span<const unsigned> l2s, std::chrono::seconds limit);

// The same L2 by Debian's QEMU, which L1's scheduler moves as it likes.
[[nodiscard]] QueuedRun linux_l2_processors_by_qemu_run(std::string name, const LinuxGuest& guest,
                                                        unsigned processors, std::chrono::seconds limit);

// linux_processors_run, behind which L1 resets its machine.
[[nodiscard]] QueuedRun linux_reboot_run(std::string name, const LinuxGuest& guest, unsigned processors,
                                         std::chrono::seconds limit);

// linux_processors_run, behind which L1 gives its machine by kexec to the same kernel with L2's initramfs.
[[nodiscard]] QueuedRun linux_kexec_run(std::string name, const LinuxGuest& guest, unsigned processors,
                                        std::chrono::seconds limit);

// How much of lat_ctx a run does: lat-ctx's words, as NAME=VALUE.
using LatCtxWords = std::vector<std::string>;

// The same, and then the same kernel as L2, which runs lat_ctx under the key lat_ctx.LEVEL. `more`: further
// words of L1's command line.
[[nodiscard]] QueuedRun linux_l2_run(std::string name, std::string_view l0_command_line,
                                     const LinuxGuest& guest, std::chrono::seconds limit,
                                     std::string_view level, const LatCtxWords& words = {},
                                     std::string_view more = {});

// On a machine with two processors an L2 with two virtual CPUs runs lat_ctx under the key lat_ctx.l2, on one
// of them and across both.
[[nodiscard]] QueuedRun linux_l2_two_vcpus_run(std::string name, const LinuxGuest& guest,
                                               std::chrono::seconds limit, const LatCtxWords& words);

// L2's kernel and initramfs without any hypervisor: lat_ctx's base line.
[[nodiscard]] QueuedRun linux_alone_run(std::string name, const LinuxGuest& guest, std::chrono::seconds limit,
                                        std::string_view level, const LatCtxWords& words = {});

// linux_run with L0's trace on, and of the payloads (by commas) only these: what L0 recorded of them comes on
// the run's console (tools/trace/trace_file.hpp).
[[nodiscard]] QueuedRun traced_linux_run(std::string_view mode, std::string_view payloads,
                                         const LinuxGuest& guest, std::chrono::seconds limit);

// L0 and the bare L1, which takes the words `check` and `bench`. Without an L0 command line: no L0.
[[nodiscard]] QueuedRun bare_run(std::string name, const char* l0_command_line, std::string_view command_line,
                                 std::chrono::seconds limit);

// Any image that boots, as a CD, in which the bare L1 runs and reports on COM1; the run is over once it has.
[[nodiscard]] QueuedRun image_run(std::string name, std::filesystem::path image, unsigned memory,
                                  std::chrono::seconds limit);

// What a run that should have gone through its stages and ended by itself lacks; empty where nothing.
[[nodiscard]] std::vector<std::string> shortcomings(const FinishedRun& run,
                                                    const std::vector<std::string>& stages);

}  // namespace flatback::tools
