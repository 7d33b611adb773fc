#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "guests/linux/descriptor.hpp"
#include "guests/linux/failure.hpp"
#include "guests/linux/linux_image.hpp"

// Thin owners over /dev/kvm: just what the payloads and a Linux as L2 need. Only with KVM's own interrupt
// controllers does HLT stay in the kernel; without them it ends in this process (KVM_EXIT_HLT).
namespace flatback::guests {

/// Owns a mapping.
class Mapping final {
public:
    Mapping() = default;
    /// Anonymous, zeroed, every page present in this process and none of them huge: a first touch by L2
    /// then costs an EPT violation, and no page fault of L1's.
    [[nodiscard]] static Expected<Mapping> anonymous(std::size_t size);
    /// Anonymous, of huge pages where L1's kernel has any: few EPT violations for much memory.
    [[nodiscard]] static Expected<Mapping> huge(std::size_t size);
    /// A file's contents, shared with the file.
    [[nodiscard]] static Expected<Mapping> of_file(int descriptor, std::size_t size, bool writable);
    Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
    Mapping& operator=(Mapping&& other) noexcept {
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Mapping();

    [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

private:
    explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}
    std::span<std::byte> bytes_;
};

/// A whole file, to be read; a failure where it is empty.
[[nodiscard]] Expected<Mapping> map_file(const std::string& path);

/// Where a vCPU starts: 64-bit mode, CPL 0, interrupts off.
struct VcpuStart {
    std::uint64_t instruction_pointer;
    std::uint64_t cr3;
    std::uint64_t mailbox;
    std::uint64_t samples;
    std::uint64_t batches;
    std::uint64_t operations_per_batch;
};

/// Why KVM_RUN came back.
struct Stop {
    enum class Kind { port_out, halt, device_read };
    Kind kind;
    std::uint16_t port;   ///< for port_out
    std::uint32_t value;  ///< for port_out
};

/// An access of the guest that its VMM answers, or that it ended.
struct DeviceExit {
    enum class Kind {
        port,     ///< IN or OUT
        memory,   ///< at a physical address without memory
        reset,    ///< a triple fault
        stopped,  ///< by stop()
    };
    Kind kind = Kind::reset;
    bool write = false;
    std::uint64_t address = 0;
    std::size_t width = 0;  ///< bytes of one access
    /// What is written, or where what is read belongs: one or several accesses of `width`. Valid until the
    /// next run.
    std::span<std::byte> data;
};

class Vcpu final {
public:
    Vcpu(Vcpu&&) noexcept = default;
    Vcpu& operator=(Vcpu&&) noexcept = default;

    [[nodiscard]] Expected<void> start(const VcpuStart& at);
    /// Runs until an OUT, a HLT or a read of the device; every other exit is a failure, told with the guest's
    /// RIP.
    [[nodiscard]] Expected<Stop> run();
    /// What the read of the device that the last run() stopped at gets.
    void answer(std::uint32_t value);

    [[nodiscard]] Expected<void> set_msr(std::uint32_t number, std::uint64_t value);

    [[nodiscard]] Expected<void> start_linux(const LinuxEntry& at);
    /// Runs until the VMM is needed; what it answers is in effect from the next call on.
    [[nodiscard]] Expected<DeviceExit> run_to_device();
    /// For another thread, which then sends the one that runs a signal: this run and every later one is
    /// stopped.
    void stop();

private:
    friend class Vm;
    Vcpu(Descriptor descriptor, Mapping run_page)
        : descriptor_(std::move(descriptor)), run_page_(std::move(run_page)) {}

    struct Segments {
        std::uint16_t code_selector;
        std::uint16_t data_selector;
        std::uint64_t gdt;
        std::uint16_t gdt_limit;
    };
    /// 64-bit mode, CPL 0, flat segments.
    [[nodiscard]] Expected<void> enter_long_mode(std::uint64_t cr3, const Segments& segments);
    [[nodiscard]] Failure describe_exit(const kvm_run& state) const;

    Descriptor descriptor_;
    Mapping run_page_;
};

/// What a VM is made for.
enum class VmPurpose {
    payload,  ///< guest_memory_size bytes of memory, no devices
    linux,    ///< huge pages; KVM's interrupt controllers and timer
};

/// A VM with one block of memory at guest-physical 0.
class Vm final {
public:
    [[nodiscard]] static Expected<Vm> create(VmPurpose purpose, std::size_t memory_size);

    /// From now on a doubleword OUT to this port signals the eventfd, and is not seen by the VMM.
    [[nodiscard]] Expected<void> signal_on_out(std::uint16_t port, const Descriptor& event) const;

    /// Asserts or releases an interrupt request line of the interrupt controllers.
    [[nodiscard]] Expected<void> set_interrupt_line(unsigned line, bool asserted) const;

    /// `count`: how many the VM will have, of which this is number `index`.
    [[nodiscard]] Expected<Vcpu> create_vcpu(unsigned index, unsigned count = 1) const;
    [[nodiscard]] std::span<std::byte> memory() const { return memory_.bytes(); }

private:
    Vm(Descriptor kvm, Descriptor vm, Mapping memory, VmPurpose purpose)
        : kvm_(std::move(kvm)), memory_(std::move(memory)), vm_(std::move(vm)), purpose_(purpose) {}

    Descriptor kvm_;
    Mapping memory_;
    Descriptor vm_;
    VmPurpose purpose_;
};

}  // namespace flatback::guests
