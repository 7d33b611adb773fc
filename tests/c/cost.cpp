// The engine by its C++ Port and by flatback.h, over the same arrays for memory and VMCSs: how many
// instructions one exit of L2's takes that L1 asked for (handle_l2_exit) with the VMRESUME that follows it
// (handle_vmx_instruction). Counted by single steps, so that the figure is the same on every run; times are
// printed beside it.
//
//   c_cost [--at-most N]     exit status 1 where the C functions cost more than N instructions beside the
//   port's, 77 where nothing can be counted
#include <flatback/c/flatback.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <flatback/machine/cpu/processor_model.hpp>
#include <flatback/machine/cpu/registers.hpp>
#include <flatback/nested/vcpu.hpp>

#include "tests/c/vmcs_access.hpp"
#include "tests/package/outside/port.hpp"

std::uint64_t* vmcs_access_current = nullptr;

namespace {

using namespace flatback;
namespace field = vmx::field;

constexpr unsigned cycles = 16;
constexpr int not_traceable = 77;  // exit status
constexpr std::uint64_t vmcs01 = 0x1000;
constexpr std::uint64_t operand = 0x3000, vmxon_region = 0x4000, vmcs12 = 0x5000;

std::uint64_t vmcss[64][0x7000];

// As cheap as VMREAD and VMWRITE are: one access to memory each.
class Port : public outside::Port {
public:
    std::uint64_t vmread(std::uint32_t encoding) { return vmcs_access_current[encoding]; }
    void vmwrite(std::uint32_t encoding, std::uint64_t value) { vmcs_access_current[encoding] = value; }
    void load_vmcs(x86::Hpa page) { vmcs_access_current = vmcss[page.page_number()]; }
};
static_assert(nested::Port<Port>);

Port port;
const vmx::Capabilities hardware = vmx::Capabilities::from_msrs(
    [](std::uint32_t msr) { return machine::full_processor_model().vmx.read(msr).value_or(0); });

// The two ways to call the engine.
class ByPort {
public:
    ByPort()
        : promised_(nested::make_capabilities(hardware, 36, true)),
          vcpu_(port, promised_, pool_, x86::Hpa{vmcs01}, {}) {}
    void start() { vcpu_.prepare_first_entry(); }
    void vmx_instruction(vmx::ExitReason reason) { (void)vcpu_.handle_vmx_instruction(reason); }
    void l2_exit(std::uint32_t reason) { (void)vcpu_.handle_l2_exit(reason); }
    bool in_l2() { return vcpu_.in_l2(); }

private:
    nested::Capabilities promised_;
    tag::VpidPool pool_;
    nested::NestedVcpu<Port> vcpu_;
};

class ByTable {
public:
    ByTable() {
        flatback_operations table{};
        table.size = sizeof table;
        table.vmread = [](void*, std::uint32_t encoding) { return port.vmread(encoding); };
        table.vmwrite = [](void*, std::uint32_t encoding, std::uint64_t value) {
            port.vmwrite(encoding, value);
        };
        table.load_vmcs = [](void*, std::uint64_t page) { port.load_vmcs(x86::Hpa{page}); };
        table.clear_vmcs = [](void*, std::uint64_t page) { port.clear_vmcs(x86::Hpa{page}); };
        table.hardware_vmcs_revision = [](void*) { return port.hardware_vmcs_revision(); };
        table.write_host_state = [](void*) { port.write_host_state(); };
        table.invvpid = [](void*, std::uint32_t, std::uint16_t, std::uint64_t) {};
        table.invept = [](void*, std::uint32_t, std::uint64_t) {};
        table.l1_page = [](void*, std::uint64_t address) -> void* {
            return port.l1_page(x86::Gpa<x86::L1>{address});
        };
        table.host_mapping = [](void*, std::uint64_t address) {
            return flatback_mapping{address, 12, 6, true};
        };
        table.allocate_page = [](void*, std::uint64_t* page) {
            const auto fresh = port.allocate_page();
            if (fresh) *page = fresh->value();
            return fresh.has_value();
        };
        table.page = [](void*, std::uint64_t page) { return port.page(x86::Hpa{page}); };
        table.general_register = [](void*, unsigned number) { return &port.general_register(number); };
        table.read_l1_msr = [](void*, std::uint32_t, std::uint64_t* value) {
            *value = 5;
            return true;
        };
        table.write_l1_msr = [](void*, std::uint32_t, std::uint64_t) { return false; };
        table.l0_msr_bitmap = [](void*) { return std::uint64_t{0}; };
        table.ept01_pointer = [](void*) { return std::uint64_t{0x1e}; };
        table.set_cr2 = [](void*, std::uint64_t) {};
        table.handle_ept01_violation = [](void*, std::uint64_t) { return false; };
        table.return_nmi = [](void*) {};
        table.l1_shutdown = [](void*, const char*) { std::abort(); };
        table.fatal = [](void*, const char*) { std::abort(); };
        table.cpu = [](void*) { return 0U; };
        table.read_capability_msr = [](void*, std::uint32_t msr) {
            return hardware.read_msr(msr).value_or(0);
        };
        const flatback_configuration configuration{sizeof configuration, 36, FLATBACK_TAGS_MAPPED, true};
        if (flatback_pool_create(pool_storage_, sizeof pool_storage_, 65535, &pool_) != FLATBACK_OK ||
            flatback_vcpu_create(storage_, sizeof storage_, &table, nullptr, &configuration, pool_, vmcs01,
                                 &vcpu_) != FLATBACK_OK) {
            std::abort();
        }
    }
    void start() { flatback_prepare_first_entry(vcpu_); }
    void vmx_instruction(vmx::ExitReason reason) {
        (void)flatback_handle_vmx_instruction(vcpu_, static_cast<std::uint32_t>(reason));
    }
    void l2_exit(std::uint32_t reason) { (void)flatback_handle_l2_exit(vcpu_, reason); }
    bool in_l2() { return flatback_in_l2(vcpu_); }

private:
    alignas(FLATBACK_ALIGNMENT) std::byte pool_storage_[FLATBACK_POOL_SIZE];
    alignas(FLATBACK_ALIGNMENT) std::byte storage_[FLATBACK_VCPU_SIZE];
    flatback_pool* pool_ = nullptr;
    flatback_vcpu* vcpu_ = nullptr;
};

std::uint64_t* l1_words(std::uint64_t address) {
    return reinterpret_cast<std::uint64_t*>(port.l1_page(x86::Gpa<x86::L1>{address}));
}
void put(auto what, std::uint64_t value) {
    port.vmwrite(what.encoding, value);
}

void set_up_vmcs01() {
    const machine::Registers start = machine::kernel_registers(0x1000);
    l1_words(0x1000)[0] = 0x2023;
    l1_words(0x2000)[0] = 0xe3;  // the first gigabyte
    put(field::guest_cr0, start.cr0);
    put(field::guest_cr3, start.cr3);
    put(field::guest_cr4, start.cr4 | x86::cr4::vmx_enable);
    put(field::cr4_read_shadow, x86::cr4::vmx_enable);
    put(field::cr4_guest_host_mask, x86::cr4::vmx_enable);
    put(field::guest_ia32_efer, start.efer);
    put(field::guest_cs_access_rights, 0xa09b);
    put(field::guest_ds_access_rights, 0xc093);
    put(field::guest_ss_access_rights, 0xc093);
    put(field::guest_rflags, 2);
    put(field::vm_exit_instruction_length, 3);
    put(field::vmcs_link_pointer, ~std::uint64_t{0});
}

template <typename Engine>
void with_operand(Engine& engine, vmx::ExitReason reason, std::uint64_t value) {
    l1_words(operand)[0] = value;
    put(field::vm_exit_instruction_information, vmx::InstructionOperands{}.encode().value);
    put(field::exit_qualification, operand);
    engine.vmx_instruction(reason);
}

// As the processor does it: to the shadow VMCS where the bitmap has 0, else an exit.
template <typename Engine>
void l1_vmwrite(Engine& engine, std::uint32_t encoding, std::uint64_t value) {
    const std::uint64_t shadow = port.vmread(field::vmcs_link_pointer.encoding);
    const std::uint64_t* bitmap = port.page(x86::Hpa{port.vmread(field::vmwrite_bitmap_address.encoding)});
    if (shadow != ~std::uint64_t{0} && (bitmap[encoding / 64] >> encoding % 64 & 1) == 0) {
        vmcss[shadow / 4096][encoding] = value;
        return;
    }
    vmx::InstructionOperands operands;
    operands.register1 = 0;
    operands.register2 = 1;
    port.general_register(0) = value;
    port.general_register(1) = encoding;
    put(field::vm_exit_instruction_information, operands.encode().value);
    engine.vmx_instruction(vmx::ExitReason::vmwrite);
}

template <typename Engine>
void prepare(Engine& engine) {
    const vmx::Capabilities promised = nested::make_capabilities(hardware, 36, true).promised;
    l1_words(vmxon_region)[0] = promised.basic.revision();
    l1_words(vmcs12)[0] = promised.basic.revision();
    set_up_vmcs01();
    engine.start();
    with_operand(engine, vmx::ExitReason::vmxon, vmxon_region);
    with_operand(engine, vmx::ExitReason::vmclear, vmcs12);
    with_operand(engine, vmx::ExitReason::vmptrld, vmcs12);

    const auto write = [&](auto what, std::uint64_t value) { l1_vmwrite(engine, what.encoding, value); };
    namespace exit = vmx::exit_control;
    const machine::Registers start = machine::kernel_registers(0x1000);
    write(field::pin_based_vm_execution_controls, promised.pin_based.adjust(0));
    write(field::primary_processor_based_vm_execution_controls,
          promised.primary_processor_based.adjust(vmx::primary::activate_secondary_controls));
    write(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_vpid);
    write(field::vm_exit_controls, promised.vm_exit.adjust(exit::host_address_space_size));
    write(field::vm_entry_controls, promised.vm_entry.adjust(vmx::entry_control::ia32e_mode_guest));
    write(field::virtual_processor_identifier, 1);
    write(field::vmcs_link_pointer, ~std::uint64_t{0});
    write(field::guest_cr0, start.cr0);
    write(field::guest_cr3, start.cr3);
    write(field::guest_cr4, start.cr4 | x86::cr4::vmx_enable);
    write(field::guest_dr7, start.dr7);
    write(field::guest_rip, 0x1000);
    write(field::guest_rflags, start.rflags);
    for (std::uint32_t index = 0; index < start.segments.size(); ++index) {
        l1_vmwrite(engine, field::guest_es_selector.encoding + 2 * index, start.segments[index].selector);
        l1_vmwrite(engine, field::guest_es_limit.encoding + 2 * index, start.segments[index].limit);
        l1_vmwrite(engine, field::guest_es_access_rights.encoding + 2 * index,
                   start.segments[index].access_rights);
    }
    write(field::host_cr0, start.cr0);
    write(field::host_cr3, start.cr3);
    write(field::host_cr4, start.cr4 | x86::cr4::vmx_enable);
    write(field::host_cs_selector, 0x08);
    write(field::host_tr_selector, 0x18);
    write(field::host_rip, 0x2000);
    engine.vmx_instruction(vmx::ExitReason::vmlaunch);
}

template <typename Engine>
[[gnu::noinline]] void reflect(Engine& engine) {
    engine.l2_exit(static_cast<std::uint32_t>(vmx::ExitReason::cpuid));
    engine.vmx_instruction(vmx::ExitReason::vmresume);
}

// In a process of its own, traced: the instructions between its two breakpoints.
template <typename Engine>
void run() {
    vmcs_access_current = vmcss[vmcs01 / 4096];
    static Engine engine;
    prepare(engine);
    if (!engine.in_l2()) {
        std::fprintf(stderr, "L1's guest was not entered, VM-instruction error %llu\n",
                     static_cast<unsigned long long>(port.vmread(field::vm_instruction_error.encoding)));
        std::_Exit(1);
    }
    for (unsigned cycle = 0; cycle < cycles; ++cycle) reflect(engine);
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) std::_Exit(not_traceable);
    asm volatile("int3" ::: "memory");
    for (unsigned cycle = 0; cycle < cycles; ++cycle) reflect(engine);
    asm volatile("int3" ::: "memory");
    if (!engine.in_l2()) std::_Exit(1);

    auto best = std::chrono::nanoseconds::max();
    for (unsigned round = 0; round < 200; ++round) {
        const auto start = std::chrono::steady_clock::now();
        for (unsigned cycle = 0; cycle < 100; ++cycle) reflect(engine);
        best = std::min<std::chrono::nanoseconds>(best, std::chrono::steady_clock::now() - start);
    }
    std::printf("                        (%lld ns here, the best of 200 rounds)\n",
                static_cast<long long>(best.count() / 100));
    std::fflush(stdout);
    std::_Exit(0);
}

template <typename Engine>
std::uint64_t instructions() {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) run<Engine>();
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == not_traceable) {
        std::printf("  not counted: processes cannot be traced here\n");
        std::exit(not_traceable);
    }
    if (!WIFSTOPPED(status)) std::exit(1);  // it has said why
    std::uint64_t steps = 0;
    for (;; ++steps) {
        user_regs_struct registers{};
        ptrace(PTRACE_GETREGS, child, nullptr, &registers);
        const long word = ptrace(PTRACE_PEEKTEXT, child, registers.rip, nullptr);
        if ((word & 0xff) == 0xcc) break;
        ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
        waitpid(child, &status, 0);
        if (!WIFSTOPPED(status)) std::exit(1);
    }
    user_regs_struct registers{};
    ptrace(PTRACE_GETREGS, child, nullptr, &registers);
    ++registers.rip;
    ptrace(PTRACE_SETREGS, child, nullptr, &registers);
    ptrace(PTRACE_DETACH, child, nullptr, nullptr);
    waitpid(child, &status, 0);
    return steps / cycles;
}

}  // namespace

int main(int argc, char** argv) {
    std::printf(
        "instructions of the engine and its port for one exit of L2 reflected to L1, and the VMRESUME after "
        "it\n");
    const std::uint64_t by_port = instructions<ByPort>();
    std::printf("  C++ Port      %6llu\n", static_cast<unsigned long long>(by_port));
    const std::uint64_t by_table = instructions<ByTable>();
#ifdef FLATBACK_C_VMCS_ACCESS
    constexpr const char* how = "  inlined";
#else
    constexpr const char* how = "flatback.h";
#endif
    const double more = 100.0 * (static_cast<double>(by_table) / static_cast<double>(by_port) - 1);
    std::printf("  %-13s %6llu  (%+.1f %%)\n", how, static_cast<unsigned long long>(by_table), more);
    if (argc == 3 && std::strcmp(argv[1], "--at-most") == 0)
        return by_table <= by_port + std::strtoull(argv[2], nullptr, 10) ? 0 : 1;
    return 0;
}
