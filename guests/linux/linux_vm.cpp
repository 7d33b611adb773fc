#include "guests/linux/linux_vm.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <span>
#include <string_view>

#include "guests/linux/console_filter.hpp"
#include "guests/linux/kvm.hpp"
#include "guests/linux/linux_image.hpp"
#include "guests/linux/uart.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t com1 = 0x3F8;
constexpr std::uint64_t com2 = 0x2F8;
constexpr unsigned com1_line = 4;
constexpr unsigned com2_line = 3;
constexpr std::uint64_t keyboard_command = 0x64;
constexpr std::byte keyboard_resets{0xFE};
/// What a port answers at which nothing is. Nobody drives the bus, except where a Linux would then wait: a
/// keyboard controller whose output never empties, but which takes commands, is none to its driver at once,
/// while its silence would be awaited for half a second; and a clock must not seem to be in the middle of an
/// update.
[[nodiscard]] std::byte answer_of_absent(std::uint64_t port) {
    constexpr std::uint64_t clock_data = 0x71;
    if (port == keyboard_command) {
        return std::byte{0x01};
    }
    return port == clock_data ? std::byte{0x00} : std::byte{0xFF};
}

[[nodiscard]] Expected<Mapping> map_file(const std::string& path) {
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat about {};
    if (file.number() < 0 || ::fstat(file.number(), &about) < 0) {
        return system_failure(path);
    }
    if (about.st_size <= 0) {
        return std::unexpected(path + " is empty");
    }
    return Mapping::of_file(file.number(), static_cast<std::size_t>(about.st_size), false);
}

/// A serial port of L2 with its interrupt line.
class Port final {
public:
    Port(const Vm& vm, unsigned line, std::function<void(char)> transmit)
        : vm_(&vm), line_(line), uart_(std::move(transmit)) {}

    [[nodiscard]] Expected<void> access(std::uint64_t offset, bool write, std::span<std::byte> data) {
        for (std::byte& byte : data) {
            if (write) {
                uart_.write(static_cast<std::uint16_t>(offset), static_cast<std::uint8_t>(byte));
            } else {
                byte = static_cast<std::byte>(uart_.read(static_cast<std::uint16_t>(offset)));
            }
        }
        if (uart_.interrupt() == asserted_) {
            return {};
        }
        asserted_ = !asserted_;
        return vm_->set_interrupt_line(line_, asserted_);
    }

    void receive(std::string_view bytes) { uart_.receive(bytes); }

private:
    const Vm* vm_;
    unsigned line_;
    Uart uart_;
    bool asserted_ = false;
};

/// The board of a Linux L2: two serial ports, and answers for what else it looks for.
class Board final {
public:
    Board(const Vm& vm, ConsoleFilter& console, CounterSource* counters)
        : counters_(counters),
          console_port_(vm, com1_line, [&console](char byte) { console.append(byte); }),
          counter_port_(vm, com2_line, [this](char byte) { take_request(byte); }) {}
    Board(const Board&) = delete;
    Board& operator=(const Board&) = delete;

    /// Answers one access; false where it resets the machine.
    [[nodiscard]] Expected<bool> access(const DeviceExit& exit) {
        if (exit.kind == DeviceExit::Kind::reset) {
            return false;
        }
        const auto is_of = [&exit](std::uint64_t base) {
            return exit.address >= base && exit.address < base + Uart::port_count;
        };
        if (exit.kind == DeviceExit::Kind::port && (is_of(com1) || is_of(com2)) && exit.width == 1) {
            Port& port = is_of(com1) ? console_port_ : counter_port_;
            const auto done = port.access(exit.address % Uart::port_count, exit.write, exit.data);
            return done ? Expected<bool>(true) : std::unexpected(done.error());
        }
        if (exit.write) {
            return exit.kind != DeviceExit::Kind::port || exit.address != keyboard_command ||
                   exit.data.front() != keyboard_resets;
        }
        std::ranges::fill(exit.data, exit.kind == DeviceExit::Kind::port ? answer_of_absent(exit.address)
                                                                         : std::byte{0xFF});
        return true;
    }

private:
    void take_request(char byte) {
        if (byte != '\n') {
            if (request_.size() < counter_line_limit) {
                request_.push_back(byte);
            }
            return;
        }
        const std::string reply = counters_ == nullptr ? "error this VMM was given no source of counters"
                                                       : answer_counter_request(request_, *counters_);
        counter_port_.receive(reply + "\n");
        request_.clear();
    }

    CounterSource* counters_;
    std::string request_;
    Port console_port_;
    Port counter_port_;
};

}  // namespace

Expected<void> run_linux(const LinuxArguments& arguments, CounterSource* counters, std::uint64_t start,
                         const std::string& boot_key) {
    const auto kernel = map_file(arguments.kernel);
    if (!kernel) {
        return std::unexpected(kernel.error());
    }
    auto initramfs =
        arguments.initramfs.empty() ? Expected<Mapping>(Mapping()) : map_file(arguments.initramfs);
    if (!initramfs) {
        return std::unexpected(initramfs.error());
    }
    const auto vm = Vm::create(VmPurpose::linux, arguments.memory_megabytes << 20);
    if (!vm) {
        return std::unexpected(vm.error());
    }
    const auto entry =
        load_linux(vm->memory(), {kernel->bytes(), initramfs->bytes(), arguments.command_line});
    if (!entry) {
        return std::unexpected(entry.error());
    }
    auto vcpu = vm->create_vcpu(0);
    if (!vcpu) {
        return std::unexpected(vcpu.error());
    }
    if (auto started = vcpu->start_linux(*entry); !started) {
        return started;
    }
    ConsoleFilter console(start, boot_key);
    Board board(*vm, console, counters);
    for (;;) {
        const auto exit = vcpu->run_to_device();
        const auto goes_on = exit ? board.access(*exit) : std::unexpected(exit.error());
        if (goes_on && *goes_on) {
            continue;
        }
        console.finish();
        if (!goes_on) {
            return std::unexpected(goes_on.error());
        }
        return console.user_space_reached()
                   ? Expected<void>()
                   : std::unexpected("L2's Linux ended before it reached user space; what it said is above");
    }
}

}  // namespace flatback::guests
