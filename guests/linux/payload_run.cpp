#include "guests/linux/payload_run.hpp"

#include <sys/eventfd.h>
#include <unistd.h>
#include <x86intrin.h>

#include <array>
#include <optional>

#include "guests/linux/guest_image.hpp"
#include "guests/linux/guest_layout.hpp"
#include "guests/linux/payload_abi.h"
#include "guests/linux/statistics.hpp"

namespace flatback::guests {
namespace {

/// Sums what L0 counted between begin() and end(), where it counts at all.
class CounterBracket final {
public:
    explicit CounterBracket(bool enabled) : enabled_(enabled) {}

    void begin() {
        if (enabled_) {
            before_ = read_l0_counters(hardware_cpuid);
        }
    }
    void end() {
        if (enabled_) {
            sum_ += difference(before_, read_l0_counters(hardware_cpuid));
        }
    }
    [[nodiscard]] const L0Counters& sum() const { return sum_; }

private:
    bool enabled_;
    L0Counters before_;
    L0Counters sum_;
};

[[nodiscard]] VcpuStart start_of(const Payload& which, std::uint64_t root, std::uint64_t mailbox) {
    return {code_address, root, mailbox, samples_address, which.batches, which.operations_per_batch};
}

[[nodiscard]] std::string mismatch(std::string_view what, std::uint64_t expected, std::uint64_t actual) {
    return std::string(what) + ": expected " + std::to_string(expected) + ", found " + std::to_string(actual);
}

[[nodiscard]] Expected<Vcpu> started_vcpu(const Vm& vm, unsigned index, const VcpuStart& start) {
    auto vcpu = vm.create_vcpu(index);
    if (vcpu) {
        if (auto started = vcpu->start(start); !started) {
            return std::unexpected(started.error());
        }
    }
    return vcpu;
}

/// Lets L2 run to its next report and requires it to be this one.
[[nodiscard]] Expected<void> expect_report(Vcpu& vcpu, std::uint16_t port, std::uint32_t value) {
    const auto stop = vcpu.run();
    if (!stop) {
        return std::unexpected(stop.error());
    }
    if (stop->kind != Stop::Kind::port_out || stop->port != port || stop->value != value) {
        return std::unexpected("L2 stopped elsewhere than at report " + std::to_string(value) + " to port " +
                               std::to_string(port));
    }
    return {};
}

[[nodiscard]] std::vector<std::uint64_t> read_samples(std::span<const std::byte> memory, std::size_t first,
                                                      std::size_t count) {
    std::vector<std::uint64_t> samples;
    for (std::size_t i = first; i < first + count; ++i) {
        samples.push_back(read_guest(memory, samples_address + i * sizeof(std::uint64_t)));
    }
    return samples;
}

[[nodiscard]] std::string_view self_timed_key(PayloadId id) {
    switch (id) {
        case PayloadId::vmcall:
            return "l2_vmcall_ticks";
        case PayloadId::rdmsr:
            return "l2_rdmsr_ticks";
        case PayloadId::event:
            return "l2_ioeventfd_ticks";
        default:
            return "l2_cpuid_reflected_ticks";
    }
}

[[nodiscard]] std::string_view vmm_timed_key(PayloadId id) {
    switch (id) {
        case PayloadId::port_io:
            return "l2_io_ticks";
        case PayloadId::halt:
            return "l2_hlt_ticks";
        case PayloadId::mmio:
            return "l2_mmio_ticks";
        default:
            return "alternating_vpid12_ticks";
    }
}

/// A payload that times itself and ends: `phases` times READY, measured code, DONE.
[[nodiscard]] Expected<PayloadResult> run_self_timed(const Vm& vm, const Payload& which, bool with_counters) {
    const auto memory = vm.memory();
    auto vcpu = started_vcpu(vm, 0, start_of(which, first_root, first_mailbox));
    if (!vcpu) {
        return std::unexpected(vcpu.error());
    }
    if (which.id == PayloadId::rdmsr) {
        if (auto set = vcpu->set_msr(FLATBACK_RDMSR_NUMBER, msr_value); !set) {
            return std::unexpected(set.error());
        }
    }
    CounterBracket bracket(with_counters);
    const std::uint32_t phases = which.id == PayloadId::touch ? 2 : 1;
    for (std::uint32_t phase = 0; phase < phases; ++phase) {
        if (auto ready = expect_report(*vcpu, FLATBACK_PORT_READY, phase); !ready) {
            return std::unexpected(ready.error());
        }
        bracket.begin();
        if (auto done = expect_report(*vcpu, FLATBACK_PORT_DONE, phase); !done) {
            return std::unexpected(done.error());
        }
        bracket.end();
    }

    PayloadResult result;
    result.counters = bracket.sum();
    const std::size_t passes = which.batches;
    if (which.id == PayloadId::touch) {
        const auto first = read_samples(memory, 0, which.operations_per_batch);
        auto again = read_samples(memory, which.operations_per_batch, passes);
        // Not a median: the kernel's work on first touches comes in lumps (its lists of pages take 15 at a
        // time; without EPT, KVM fills eight neighbouring entries at one fault).
        result.figures = {{"l2_first_touch_ticks", mean(first)},
                          {"l2_retouch_ticks", median_per_operation(again, which.operations_per_batch)}};
    } else if (which.id == PayloadId::mov_cr3) {
        auto samples = read_samples(memory, 0, passes);
        // Each turn of the loop has two MOV CR3.
        result.figures = {
            {"l2_mov_cr3_ticks", median_per_operation(samples, 2 * which.operations_per_batch)}};
    } else {
        auto samples = read_samples(memory, 0, passes);
        result.figures = {
            {self_timed_key(which.id), median_per_operation(samples, which.operations_per_batch)}};
    }

    const std::uint64_t expected = expected_result(which, 0);
    if (const std::uint64_t actual = read_guest(memory, first_mailbox); actual != expected) {
        result.wrong = mismatch("sum", expected, actual);
    }
    for (std::uint64_t page = 0; which.id == PayloadId::touch && page < touch_pages; ++page) {
        const std::uint64_t actual = read_guest(memory, touch_region + page * page_size);
        if (actual != expected_touched(which, page) && result.wrong.empty()) {
            result.wrong = mismatch("page " + std::to_string(page), expected_touched(which, page), actual);
        }
    }
    return result;
}

/// The payload whose OUTs signal an eventfd: each of them must have arrived there, and one of warm-up.
[[nodiscard]] Expected<PayloadResult> run_with_event(const Vm& vm, const Payload& which, bool with_counters) {
    const Descriptor event{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    if (event.number() < 0) {
        return system_failure("eventfd");
    }
    if (auto signalled = vm.signal_on_out(FLATBACK_PORT_EVENT, event); !signalled) {
        return std::unexpected(signalled.error());
    }
    auto result = run_self_timed(vm, which, with_counters);
    std::uint64_t count = 0;
    if (result && ::read(event.number(), &count, sizeof count) != sizeof count) {
        return system_failure("reading the eventfd");
    }
    if (result && count != which.operations() + 1 && result->wrong.empty()) {
        result->wrong = mismatch("signals", which.operations() + 1, count);
    }
    return result;
}

/// One operation of a payload that never ends: runs to its OUT or HLT and checks what it left. `value`
/// is what L2 must have in its mailbox by then.
[[nodiscard]] Expected<std::optional<std::string>> step(Vcpu& vcpu, std::span<const std::byte> memory,
                                                        PayloadId id, std::uint64_t mailbox,
                                                        std::uint64_t value) {
    const auto stop = vcpu.run();
    if (!stop) {
        return std::unexpected(stop.error());
    }
    if (id == PayloadId::halt) {
        if (stop->kind != Stop::Kind::halt) {
            return std::unexpected("L2 stopped elsewhere than at its HLT");
        }
    } else if (id == PayloadId::mmio) {
        if (stop->kind != Stop::Kind::device_read) {
            return std::unexpected("L2 stopped elsewhere than at its read of the device");
        }
        vcpu.answer(device_value);
        // It stops before it has what it reads: in the mailbox is the sum before.
        value -= device_value;
    } else if (stop->kind != Stop::Kind::port_out || stop->port != FLATBACK_PORT_OPERATION) {
        return std::unexpected("L2 stopped elsewhere than at its OUT");
    } else if (stop->value != static_cast<std::uint32_t>(value)) {
        return mismatch("value at the port", static_cast<std::uint32_t>(value), stop->value);
    }
    if (const std::uint64_t actual = read_guest(memory, mailbox); actual != value) {
        return mismatch("mailbox", value, actual);
    }
    return std::nullopt;
}

/// A payload timed from here: batches of KVM_RUN, on one vCPU or on two in turn.
[[nodiscard]] Expected<PayloadResult> run_vmm_timed(const Vm& vm, const Payload& which, bool with_counters) {
    struct Turn {
        Vcpu vcpu;
        std::uint64_t mailbox;
        std::uint64_t increment;
        std::uint64_t value = 0;
    };
    const auto memory = vm.memory();
    std::vector<Turn> turns;
    auto first = started_vcpu(vm, 0, start_of(which, first_root, first_mailbox));
    if (!first) {
        return std::unexpected(first.error());
    }
    const bool alternating = which.id == PayloadId::turns;
    turns.push_back({std::move(*first), first_mailbox,
                     alternating                   ? first_value
                     : which.id == PayloadId::mmio ? device_value
                                                   : 1});
    if (alternating) {
        // The second vCPU has its own root, so its window has another value than the first one's.
        auto second = started_vcpu(vm, 1, start_of(which, second_root, second_mailbox));
        if (!second) {
            return std::unexpected(second.error());
        }
        turns.push_back({std::move(*second), second_mailbox, second_value});
    }

    PayloadResult result;
    std::size_t next = 0;
    const auto run_batch = [&]() -> Expected<void> {
        for (std::uint64_t operation = 0; operation < which.operations_per_batch; ++operation) {
            Turn& turn = turns[next];
            next = (next + 1) % turns.size();
            turn.value += turn.increment;
            auto wrong = step(turn.vcpu, memory, which.id, turn.mailbox, turn.value);
            if (!wrong) {
                return std::unexpected(wrong.error());
            }
            if (*wrong && result.wrong.empty()) {
                result.wrong = **wrong;
            }
        }
        return {};
    };

    if (auto warm_up = run_batch(); !warm_up) {
        return std::unexpected(warm_up.error());
    }
    std::vector<std::uint64_t> samples(which.batches);
    CounterBracket bracket(with_counters);
    bracket.begin();
    for (std::uint64_t& sample : samples) {
        const std::uint64_t start = __rdtsc();
        if (auto batch = run_batch(); !batch) {
            return std::unexpected(batch.error());
        }
        sample = __rdtsc() - start;
    }
    bracket.end();
    result.counters = bracket.sum();
    result.figures = {{vmm_timed_key(which.id), median_per_operation(samples, which.operations_per_batch)}};
    return result;
}

}  // namespace

Expected<PayloadResult> run_payload(const Payload& which, bool with_counters) {
    auto vm = Vm::create(VmPurpose::payload, guest_memory_size);
    if (!vm) {
        return std::unexpected(vm.error());
    }
    if (!build_guest_image(vm->memory(), which)) {
        return std::unexpected("the payload's code does not fit");
    }
    switch (which.id) {
        case PayloadId::cpuid:
        case PayloadId::touch:
        case PayloadId::mov_cr3:
        case PayloadId::vmcall:
        case PayloadId::rdmsr:
            return run_self_timed(*vm, which, with_counters);
        case PayloadId::event:
            return run_with_event(*vm, which, with_counters);
        case PayloadId::port_io:
        case PayloadId::halt:
        case PayloadId::mmio:
        case PayloadId::turns:
            return run_vmm_timed(*vm, which, with_counters);
    }
    return std::unexpected("unknown payload");
}

std::uint64_t measure_l1_cpuid() {
    constexpr std::uint64_t operations = 16;
    std::array<std::uint64_t, 64> samples{};
    for (std::uint64_t& sample : samples) {
        const std::uint64_t start = __rdtsc();
        for (std::uint64_t i = 0; i < operations; ++i) {
            const CpuidResult result = hardware_cpuid(0, 0);
            asm volatile("" : : "r"(result.eax));
        }
        sample = __rdtsc() - start;
    }
    return median_per_operation(samples, operations);
}

}  // namespace flatback::guests
