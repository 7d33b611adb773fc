#include "guests/linux/kexec.hpp"

#include <fcntl.h>
#include <linux/kexec.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <vector>

#include "guests/linux/descriptor.hpp"
#include "guests/linux/kexec_plan.hpp"
#include "guests/linux/kvm.hpp"

namespace flatback::guests {
namespace {

constexpr const char* parameters_file = "/sys/kernel/boot_params/data";

}  // namespace

Failure kexec(const LinuxArguments& next) {
    const Descriptor file{::open(parameters_file, O_RDONLY | O_CLOEXEC)};
    std::array<std::byte, 4096> parameters{};
    if (::read(file.number(), parameters.data(), parameters.size()) != ssize_t{parameters.size()}) {
        return system_failure(parameters_file).error();
    }
    const auto kernel = map_file(next.kernel);
    if (!kernel) {
        return kernel.error();
    }
    const auto initramfs = map_file(next.initramfs);
    if (!initramfs) {
        return initramfs.error();
    }
    const auto plan = plan_kexec(parameters, {kernel->bytes(), initramfs->bytes(), next.command_line});
    if (!plan) {
        return plan.error();
    }
    std::vector<kexec_segment> segments;
    for (const KexecSegment& each : plan->segments) {
        segments.push_back({each.contents.data(), each.contents.size(),
                            reinterpret_cast<const void*>(each.address), each.size});
    }
    if (::syscall(SYS_kexec_load, plan->entry, segments.size(), segments.data(), KEXEC_ARCH_DEFAULT) != 0) {
        return system_failure("kexec_load").error();
    }
    ::tcdrain(STDOUT_FILENO);
    ::reboot(RB_KEXEC);
    return system_failure("reboot by kexec").error();
}

}  // namespace flatback::guests
