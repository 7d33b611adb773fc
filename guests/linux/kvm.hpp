#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <utility>

// Thin owners over /dev/kvm: just what the payloads need. No in-kernel interrupt controller, so HLT
// ends in this process (KVM_EXIT_HLT).
namespace flatback::guests {

/// What failed, ready to be printed.
using Failure = std::string;
template <typename T>
using Expected = std::expected<T, Failure>;

/// Owns a file descriptor.
class Descriptor final {
public:
    Descriptor() = default;
    explicit Descriptor(int number) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor();

    [[nodiscard]] int number() const { return number_; }

private:
    int number_ = -1;
};

/// Owns a mapping.
class Mapping final {
public:
    Mapping() = default;
    /// Anonymous, zeroed, every page present in this process and none of them huge: a first touch by L2
    /// then costs an EPT violation, and no page fault of L1's.
    [[nodiscard]] static Expected<Mapping> anonymous(std::size_t size);
    [[nodiscard]] static Expected<Mapping> of_file(int descriptor, std::size_t size);
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
    enum class Kind { port_out, halt };
    Kind kind;
    std::uint16_t port;   ///< for port_out
    std::uint32_t value;  ///< for port_out
};

class Vcpu final {
public:
    Vcpu(Vcpu&&) noexcept = default;
    Vcpu& operator=(Vcpu&&) noexcept = default;

    [[nodiscard]] Expected<void> start(const VcpuStart& at);
    /// Runs until an OUT or a HLT; every other exit is a failure, told with the guest's RIP.
    [[nodiscard]] Expected<Stop> run();

private:
    friend class Vm;
    Vcpu(Descriptor descriptor, Mapping run_page)
        : descriptor_(std::move(descriptor)), run_page_(std::move(run_page)) {}

    [[nodiscard]] Failure describe_exit(const kvm_run& state) const;

    Descriptor descriptor_;
    Mapping run_page_;
};

/// A VM with guest_memory_size bytes at guest-physical 0.
class Vm final {
public:
    [[nodiscard]] static Expected<Vm> create();

    [[nodiscard]] Expected<Vcpu> create_vcpu(unsigned index) const;
    [[nodiscard]] std::span<std::byte> memory() const { return memory_.bytes(); }

private:
    Vm(Descriptor kvm, Descriptor vm, Mapping memory)
        : kvm_(std::move(kvm)), memory_(std::move(memory)), vm_(std::move(vm)) {}

    Descriptor kvm_;
    Mapping memory_;
    Descriptor vm_;
};

}  // namespace flatback::guests
