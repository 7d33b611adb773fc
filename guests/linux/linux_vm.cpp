#include "guests/linux/linux_vm.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "guests/linux/console_filter.hpp"
#include "guests/linux/kvm.hpp"
#include "guests/linux/linux_image.hpp"
#include "guests/linux/mark.hpp"
#include "guests/linux/processor_table.hpp"
#include "guests/linux/record.hpp"
#include "guests/linux/uart.hpp"
#include "guests/linux/vcpu_mover.hpp"

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

/// The threads of an L2's virtual CPUs, one for each, and how their run ended.
class Machine final {
public:
    Machine(std::vector<Vcpu>& vcpus, Board& board, const LinuxArguments& arguments)
        : vcpus_(&vcpus),
          board_(&board),
          move_every_(arguments.move_milliseconds),
          exits_a_mark_(arguments.exits_a_mark),
          threads_(vcpus.size()),
          identifiers_(vcpus.size()) {}

    /// Returns when one of them has reset the machine, or failed, and all have stopped.
    [[nodiscard]] Expected<void> run() {
        // What stop_all() sends only has to end a KVM_RUN.
        struct sigaction action {};
        action.sa_handler = [](int) {};
        ::sigaction(SIGUSR1, &action, nullptr);
        std::vector<std::jthread> others;
        others.reserve(vcpus_->size());
        for (std::size_t number = 1; number < vcpus_->size(); ++number) {
            others.emplace_back([this, number] { run_one(number); });
        }
        if (move_every_.count() != 0) {
            others.emplace_back([this] { move_all(); });
        }
        run_one(0);
        others.clear();
        return result_;
    }
    [[nodiscard]] std::uint64_t moves() const { return moves_; }

private:
    void run_one(std::size_t number) {
        {
            const std::lock_guard lock(mutex_);
            threads_[number] = ::pthread_self();
            identifiers_[number] = ::gettid();
            ++started_;
            changed_.notify_all();
        }
        // One that KVM has halted until its SIPI waits in its first run.
        for (std::uint64_t exits = 0;; ++exits) {
            if (number == 0 && exits_a_mark_ != 0 && exits % exits_a_mark_ == 0) {
                mark_part();
            }
            const auto exit = (*vcpus_)[number].run_to_device();
            const std::lock_guard lock(mutex_);
            if (over_) {
                return;
            }
            const auto goes_on = exit ? board_->access(*exit) : std::unexpected(exit.error());
            if (goes_on && *goes_on) {
                continue;
            }
            if (!goes_on) {
                result_ = std::unexpected(goes_on.error());
            }
            over_ = true;
            changed_.notify_all();
            stop_all();
            return;
        }
    }

    /// A thread that has not started yet finds itself stopped at its first run.
    void stop_all() {
        for (Vcpu& each : *vcpus_) {
            each.stop();
        }
        for (std::size_t number = 0; number < threads_.size(); ++number) {
            if (identifiers_[number] != 0) {
                ::pthread_kill(threads_[number], SIGUSR1);
            }
        }
    }

    void move_all() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return over_ || started_ == vcpus_->size(); });
        VcpuMover mover(identifiers_);
        while (!over_ && !changed_.wait_for(lock, move_every_, [this] { return over_; })) {
            if (!mover.move()) {
                break;
            }
            moves_ = mover.moves();
        }
    }

    std::vector<Vcpu>* vcpus_;
    Board* board_;
    std::chrono::milliseconds move_every_;
    unsigned exits_a_mark_;
    std::mutex mutex_;  ///< of all that follows, and of the board
    std::condition_variable changed_;
    std::vector<pthread_t> threads_;
    std::vector<pid_t> identifiers_;
    std::size_t started_ = 0;
    bool over_ = false;
    Expected<void> result_;
    std::uint64_t moves_ = 0;
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
    if (arguments.processors > 1) {
        write_processor_table(vm->memory(), arguments.processors);
    }
    std::vector<Vcpu> vcpus;
    for (unsigned number = 0; number < arguments.processors; ++number) {
        auto vcpu = vm->create_vcpu(number, arguments.processors);
        if (!vcpu) {
            return std::unexpected(vcpu.error());
        }
        vcpus.push_back(std::move(*vcpu));
    }
    if (auto started = vcpus.front().start_linux(*entry); !started) {
        return started;
    }
    ConsoleFilter console(start, boot_key);
    Board board(*vm, console, counters);
    Machine machine(vcpus, board, arguments);
    const auto ran = machine.run();
    console.finish();
    if (!ran) {
        return ran;
    }
    if (arguments.move_milliseconds != 0) {
        print_value(arguments.move_key, machine.moves());
    }
    return console.user_space_reached()
               ? Expected<void>()
               : std::unexpected("L2's Linux ended before it reached user space; what it said is above");
}

}  // namespace flatback::guests
