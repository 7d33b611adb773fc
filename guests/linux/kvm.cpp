#include "guests/linux/kvm.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>

#include "guests/linux/guest_layout.hpp"
#include "guests/linux/payload.hpp"
#include "guests/linux/payload_abi.h"

namespace flatback::guests {
namespace {

[[nodiscard]] std::string hexadecimal(std::uint64_t value) {
    char digits[16];
    const auto end = std::to_chars(digits, digits + sizeof digits, value, 16).ptr;
    return "0x" + std::string(digits, end);
}

// The kernel's kvm_cpuid2 ends in a flexible array behind an empty struct, which C++ gives a size: both
// the offset of the entries and the request numbers would come out wrong. These are the C layout's.
constexpr std::size_t cpuid_capacity = 256;
struct CpuidHeader {
    std::uint32_t entry_count;
    std::uint32_t padding;
};
struct CpuidTable {
    CpuidHeader header;
    std::array<kvm_cpuid_entry2, cpuid_capacity> entries;
};
static_assert(offsetof(CpuidTable, entries) == sizeof(CpuidHeader));
constexpr unsigned long get_supported_cpuid = _IOWR(KVMIO, 0x05, CpuidHeader);
constexpr unsigned long set_cpuid2 = _IOW(KVMIO, 0x90, CpuidHeader);

// As kvm_cpuid2, kvm_msrs ends in a flexible array, which holds one entry here.
struct OneMsr {
    CpuidHeader header;
    kvm_msr_entry entry;
};
static_assert(offsetof(OneMsr, entry) == sizeof(CpuidHeader));
constexpr unsigned long set_msrs = _IOW(KVMIO, 0x89, CpuidHeader);

[[nodiscard]] Expected<std::unique_ptr<CpuidTable>> supported_cpuid(int kvm) {
    auto table = std::make_unique<CpuidTable>();
    table->header.entry_count = cpuid_capacity - 1;
    if (::ioctl(kvm, get_supported_cpuid, table.get()) < 0) {
        return system_failure("KVM_GET_SUPPORTED_CPUID");
    }
    return table;
}

void add_payload_leaf(CpuidTable& table) {
    // KVM searches its table from the front: our leaf goes first, so that the search is not what is measured.
    kvm_cpuid_entry2& own = table.entries.front();
    table.entries[table.header.entry_count++] = std::exchange(own, {});
    own.function = FLATBACK_CPUID_LEAF;
    own.eax = cpuid_leaf_value.eax;
    own.ebx = cpuid_leaf_value.ebx;
    own.ecx = cpuid_leaf_value.ecx;
    own.edx = cpuid_leaf_value.edx;
}

/// What KVM leaves to the VMM: to say that there is a hypervisor, so that Linux uses KVM's clock, and that
/// the local APIC which KVM emulates has a deadline timer.
void add_linux_features(CpuidTable& table) {
    constexpr std::uint32_t features = 1;
    constexpr std::uint32_t tsc_deadline_timer = std::uint32_t{1} << 24;
    constexpr std::uint32_t hypervisor = std::uint32_t{1} << 31;
    for (std::uint32_t i = 0; i < table.header.entry_count; ++i) {
        if (table.entries[i].function == features) {
            table.entries[i].ecx |= tsc_deadline_timer | hypervisor;
        }
    }
}

/// A processor's place among several, which KVM takes from its VMM: leaf 1 and the two of topology.
void add_identifier(CpuidTable& table, std::uint32_t identifier, std::uint32_t count) {
    constexpr std::uint32_t features = 1;
    constexpr std::uint32_t topology = 0xB;
    constexpr std::uint32_t topology_2 = 0x1F;
    constexpr std::uint32_t several = std::uint32_t{1} << 28;
    for (kvm_cpuid_entry2& entry : std::span(table.entries).first(table.header.entry_count)) {
        if (entry.function == features) {
            entry.ebx = (entry.ebx & 0xFFFF) | count << 16 | identifier << 24;
            entry.edx = count > 1 ? entry.edx | several : entry.edx & ~several;
        } else if (entry.function == topology || entry.function == topology_2) {
            entry.edx = identifier;
        }
    }
}

void set_flat_segments(kvm_sregs& registers, std::uint16_t code_selector, std::uint16_t data_selector) {
    kvm_segment code{};
    code.limit = 0xFFFF'FFFF;
    code.selector = code_selector;
    code.type = 11;  // execute, read, accessed
    code.present = 1;
    code.s = 1;
    code.l = 1;
    code.g = 1;
    kvm_segment data = code;
    data.selector = data_selector;
    data.type = 3;  // read, write, accessed
    data.l = 0;
    data.db = 1;
    registers.cs = code;
    registers.ds = registers.es = registers.fs = registers.gs = registers.ss = data;
}

constexpr std::uint64_t cr0_long_mode = 0x8000'0031;  // PG, NE, ET, PE
constexpr std::uint64_t cr4_long_mode = 0x20;         // PAE
constexpr std::uint64_t efer_long_mode = 0x500;       // LMA, LME

}  // namespace

Mapping::~Mapping() {
    if (!bytes_.empty()) {
        ::munmap(bytes_.data(), bytes_.size());
    }
}

Expected<Mapping> Mapping::anonymous(std::size_t size) {
    void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) {
        return system_failure("mmap of guest memory");
    }
    Mapping mapping{std::span(static_cast<std::byte*>(address), size)};
    // A kernel without huge pages refuses this, and has none to avoid.
    ::madvise(address, size, MADV_NOHUGEPAGE);
    for (std::size_t offset = 0; offset < size; offset += page_size) {
        static_cast<volatile std::byte*>(address)[offset] = std::byte{0};
    }
    return mapping;
}

Expected<Mapping> Mapping::huge(std::size_t size) {
    constexpr std::size_t huge_page = std::size_t{2} << 20;
    // A mapping begins at any page; huge pages begin at their own size's multiples.
    void* address =
        ::mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) {
        return system_failure("mmap of guest memory");
    }
    std::byte* const begin = static_cast<std::byte*>(address);
    const std::size_t before =
        (huge_page - reinterpret_cast<std::uintptr_t>(address) % huge_page) % huge_page;
    if (before != 0) {
        ::munmap(begin, before);
    }
    ::munmap(begin + before + size, huge_page - before);
    Mapping mapping{std::span(begin + before, size)};
    ::madvise(begin + before, size, MADV_HUGEPAGE);  // a kernel without them refuses: slower, not wrong
    return mapping;
}

Expected<Mapping> Mapping::of_file(int descriptor, std::size_t size, bool writable) {
    void* address =
        ::mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, descriptor, 0);
    if (address == MAP_FAILED) {
        return system_failure(writable ? "mmap of kvm_run" : "mmap of a file");
    }
    return Mapping{std::span(static_cast<std::byte*>(address), size)};
}

Expected<Mapping> map_file(const std::string& path) {
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

Expected<Vm> Vm::create(VmPurpose purpose, std::size_t memory_size) {
    Descriptor kvm{::open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    if (kvm.number() < 0) {
        return system_failure("/dev/kvm");
    }
    if (::ioctl(kvm.number(), KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        return std::unexpected("KVM_GET_API_VERSION: not version 12");
    }
    Descriptor vm{::ioctl(kvm.number(), KVM_CREATE_VM, 0)};
    if (vm.number() < 0) {
        return system_failure("KVM_CREATE_VM");
    }
    // Real mode without unrestricted guest needs a page table and a TSS of KVM's own, outside our memory.
    ::ioctl(vm.number(), KVM_SET_TSS_ADDR, 0xFFFB'D000UL);
    std::uint64_t identity_map = 0xFFFB'C000;
    ::ioctl(vm.number(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map);

    auto memory = purpose == VmPurpose::linux ? Mapping::huge(memory_size) : Mapping::anonymous(memory_size);
    if (!memory) {
        return std::unexpected(memory.error());
    }
    kvm_userspace_memory_region region{};
    region.memory_size = memory_size;
    region.userspace_addr = reinterpret_cast<std::uint64_t>(memory->bytes().data());
    if (::ioctl(vm.number(), KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        return system_failure("KVM_SET_USER_MEMORY_REGION");
    }
    if (purpose == VmPurpose::linux) {
        if (::ioctl(vm.number(), KVM_CREATE_IRQCHIP, 0) < 0) {
            return system_failure("KVM_CREATE_IRQCHIP");
        }
        // With the port 0x61 that Linux reads when it measures the timer.
        kvm_pit_config timer{};
        timer.flags = KVM_PIT_SPEAKER_DUMMY;
        if (::ioctl(vm.number(), KVM_CREATE_PIT2, &timer) < 0) {
            return system_failure("KVM_CREATE_PIT2");
        }
    }
    return Vm(std::move(kvm), std::move(vm), std::move(*memory), purpose);
}

Expected<void> Vm::set_interrupt_line(unsigned line, bool asserted) const {
    kvm_irq_level level{};
    level.irq = line;
    level.level = asserted ? 1 : 0;
    if (::ioctl(vm_.number(), KVM_IRQ_LINE, &level) < 0) {
        return system_failure("KVM_IRQ_LINE");
    }
    return {};
}

Expected<void> Vm::signal_on_out(std::uint16_t port, const Descriptor& event) const {
    kvm_ioeventfd request{};
    request.addr = port;
    request.len = sizeof(std::uint32_t);
    request.fd = event.number();
    request.flags = KVM_IOEVENTFD_FLAG_PIO;
    if (::ioctl(vm_.number(), KVM_IOEVENTFD, &request) < 0) {
        return system_failure("KVM_IOEVENTFD");
    }
    return {};
}

Expected<Vcpu> Vm::create_vcpu(unsigned index, unsigned count) const {
    const int size = ::ioctl(kvm_.number(), KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < static_cast<int>(sizeof(kvm_run))) {
        return system_failure("KVM_GET_VCPU_MMAP_SIZE");
    }
    Descriptor vcpu{::ioctl(vm_.number(), KVM_CREATE_VCPU, index)};
    if (vcpu.number() < 0) {
        return system_failure("KVM_CREATE_VCPU");
    }
    auto table = supported_cpuid(kvm_.number());
    if (!table) {
        return std::unexpected(table.error());
    }
    if (purpose_ == VmPurpose::linux) {
        add_linux_features(**table);
        if (count > 1) {
            add_identifier(**table, index, count);
        }
    } else {
        add_payload_leaf(**table);
    }
    if (::ioctl(vcpu.number(), set_cpuid2, table->get()) < 0) {
        return system_failure("KVM_SET_CPUID2");
    }
    auto run_page = Mapping::of_file(vcpu.number(), static_cast<std::size_t>(size), true);
    if (!run_page) {
        return std::unexpected(run_page.error());
    }
    return Vcpu(std::move(vcpu), std::move(*run_page));
}

Expected<void> Vcpu::enter_long_mode(std::uint64_t cr3, const Segments& segments) {
    kvm_sregs system_registers{};
    if (::ioctl(descriptor_.number(), KVM_GET_SREGS, &system_registers) < 0) {
        return system_failure("KVM_GET_SREGS");
    }
    set_flat_segments(system_registers, segments.code_selector, segments.data_selector);
    system_registers.gdt.base = segments.gdt;
    system_registers.gdt.limit = segments.gdt_limit;
    system_registers.cr0 = cr0_long_mode;
    system_registers.cr3 = cr3;
    system_registers.cr4 = cr4_long_mode;
    system_registers.efer = efer_long_mode;
    if (::ioctl(descriptor_.number(), KVM_SET_SREGS, &system_registers) < 0) {
        return system_failure("KVM_SET_SREGS");
    }
    return {};
}

Expected<void> Vcpu::start_linux(const LinuxEntry& at) {
    if (auto entered =
            enter_long_mode(at.cr3, {linux_code_selector, linux_data_selector, at.gdt, at.gdt_limit});
        !entered) {
        return entered;
    }
    kvm_regs registers{};
    registers.rip = at.instruction_pointer;
    registers.rflags = 0x2;
    registers.rsi = at.boot_parameters;
    if (::ioctl(descriptor_.number(), KVM_SET_REGS, &registers) < 0) {
        return system_failure("KVM_SET_REGS");
    }
    return {};
}

Expected<void> Vcpu::start(const VcpuStart& at) {
    // No descriptor table: a payload never loads a segment register.
    constexpr Segments payload_segments{
        .code_selector = 0x8, .data_selector = 0x10, .gdt = 0, .gdt_limit = 0xFFFF};
    if (auto entered = enter_long_mode(at.cr3, payload_segments); !entered) {
        return entered;
    }
    kvm_regs registers{};
    registers.rip = at.instruction_pointer;
    registers.rflags = 0x2;
    registers.rdi = at.mailbox;
    registers.rsi = at.samples;
    registers.r8 = at.batches;
    registers.r9 = at.operations_per_batch;
    registers.r12 = first_root;
    registers.r13 = second_root;
    registers.r14 = window;
    registers.r15 = touch_region;
    if (::ioctl(descriptor_.number(), KVM_SET_REGS, &registers) < 0) {
        return system_failure("KVM_SET_REGS");
    }
    return {};
}

Expected<Stop> Vcpu::run() {
    const auto& state = *reinterpret_cast<const kvm_run*>(run_page_.bytes().data());
    if (::ioctl(descriptor_.number(), KVM_RUN, 0) < 0) {
        return errno == EINTR ? std::unexpected<Failure>("KVM_RUN: L2 made no progress in the time it has")
                              : system_failure("KVM_RUN");
    }
    if (state.exit_reason == KVM_EXIT_HLT) {
        return Stop{Stop::Kind::halt, 0, 0};
    }
    if (state.exit_reason == KVM_EXIT_IO && state.io.direction == KVM_EXIT_IO_OUT && state.io.size == 4 &&
        state.io.count == 1) {
        std::uint32_t value = 0;
        std::memcpy(&value, run_page_.bytes().subspan(state.io.data_offset).data(), sizeof value);
        return Stop{Stop::Kind::port_out, state.io.port, value};
    }
    if (state.exit_reason == KVM_EXIT_MMIO && state.mmio.is_write == 0 &&
        state.mmio.phys_addr == device_address && state.mmio.len == sizeof device_value) {
        return Stop{Stop::Kind::device_read, 0, 0};
    }
    return std::unexpected(describe_exit(state));
}

void Vcpu::answer(std::uint32_t value) {
    auto& state = *reinterpret_cast<kvm_run*>(run_page_.bytes().data());
    std::memcpy(state.mmio.data, &value, sizeof value);
}

Expected<void> Vcpu::set_msr(std::uint32_t number, std::uint64_t value) {
    OneMsr request{.header = {.entry_count = 1, .padding = 0},
                   .entry = {.index = number, .reserved = 0, .data = value}};
    // The result is the number of those that were set.
    if (::ioctl(descriptor_.number(), set_msrs, &request) != 1) {
        return std::unexpected("KVM_SET_MSRS refused MSR " + hexadecimal(number));
    }
    return {};
}

Expected<DeviceExit> Vcpu::run_to_device() {
    const auto bytes = run_page_.bytes();
    auto& state = *reinterpret_cast<kvm_run*>(bytes.data());
    while (::ioctl(descriptor_.number(), KVM_RUN, 0) < 0) {
        if (errno != EINTR && errno != EAGAIN) {
            return system_failure("KVM_RUN");
        }
        if (std::atomic_ref(state.immediate_exit).load() != 0) {
            DeviceExit stopped;
            stopped.kind = DeviceExit::Kind::stopped;
            return stopped;
        }
    }
    DeviceExit exit;
    switch (state.exit_reason) {
        case KVM_EXIT_IO:
            exit.kind = DeviceExit::Kind::port;
            exit.write = state.io.direction == KVM_EXIT_IO_OUT;
            exit.address = state.io.port;
            exit.width = state.io.size;
            exit.data = bytes.subspan(state.io.data_offset, std::size_t{state.io.size} * state.io.count);
            return exit;
        case KVM_EXIT_MMIO:
            exit.kind = DeviceExit::Kind::memory;
            exit.write = state.mmio.is_write != 0;
            exit.address = state.mmio.phys_addr;
            exit.width = std::min<std::size_t>(state.mmio.len, sizeof state.mmio.data);
            exit.data = std::as_writable_bytes(std::span(state.mmio.data).first(exit.width));
            return exit;
        case KVM_EXIT_SHUTDOWN:
            exit.kind = DeviceExit::Kind::reset;
            return exit;
        default:
            return std::unexpected(describe_exit(state));
    }
}

void Vcpu::stop() {
    auto& state = *reinterpret_cast<kvm_run*>(run_page_.bytes().data());
    std::atomic_ref(state.immediate_exit).store(1);
}

Failure Vcpu::describe_exit(const kvm_run& state) const {
    std::string text = "KVM exit " + std::to_string(state.exit_reason);
    switch (state.exit_reason) {
        case KVM_EXIT_FAIL_ENTRY:
            text += " (VM entry failed, hardware reason " +
                    hexadecimal(state.fail_entry.hardware_entry_failure_reason) + ")";
            break;
        case KVM_EXIT_INTERNAL_ERROR:
            text += " (internal error " + std::to_string(state.internal.suberror);
            for (std::uint32_t i = 0; i < state.internal.ndata && i < std::size(state.internal.data); ++i) {
                text += " " + hexadecimal(state.internal.data[i]);
            }
            text += ")";
            break;
        case KVM_EXIT_SHUTDOWN:
            text += " (triple fault)";
            break;
        case KVM_EXIT_MMIO:
            text += " (access to " + hexadecimal(state.mmio.phys_addr) + ", where there is no memory)";
            break;
        default:
            break;
    }
    kvm_regs registers{};
    kvm_sregs system_registers{};
    if (::ioctl(descriptor_.number(), KVM_GET_REGS, &registers) == 0 &&
        ::ioctl(descriptor_.number(), KVM_GET_SREGS, &system_registers) == 0) {
        text += " at RIP " + hexadecimal(registers.rip) + " CR0 " + hexadecimal(system_registers.cr0) +
                " CR3 " + hexadecimal(system_registers.cr3) + " CR2 " + hexadecimal(system_registers.cr2) +
                " EFER " + hexadecimal(system_registers.efer);
    }
    return text;
}

}  // namespace flatback::guests
