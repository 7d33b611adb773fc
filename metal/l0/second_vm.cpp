#include "metal/l0/second_vm.hpp"

#include "host/l1_exits.hpp"
#include "host/vmcs01.hpp"
#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/this_processor.hpp"
#include "metal/l0/turn_requests.hpp"
#include "vmx/exit_qualification.hpp"

namespace flatback::metal {

namespace {

namespace field = vmx::field;
using nested::Entry;

// CPUID of what this VM has none of (SDM 2A): machine checks; performance monitoring and thermal states.
constexpr std::uint32_t machine_checks_edx = 1U << 7 | 1U << 14;
constexpr std::uint32_t thermal_edx = 1U << 22 | 1U << 29;
constexpr std::uint32_t tsc_adjust_ebx = 1U << 1;
constexpr std::uint32_t speculation_edx = 1U << 26 | 1U << 27 | 1U << 28 | 1U << 29 | 1U << 31;
constexpr std::uint32_t leaf_power = 6;
constexpr std::uint32_t leaf_performance = 10;

class SecondProcessor final {
public:
    explicit SecondProcessor(SecondVm& vm) : vm_(vm) {}

    [[nodiscard]] static host::CpuidRegisters cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
        auto answer = metal::cpuid(leaf, subleaf);
        if (leaf == x86::cpuid::leaf_features) {
            answer.ecx &= ~(x86::cpuid::features_ecx_x2apic | x86::cpuid::features_ecx_tsc_deadline |
                            x86::cpuid::features_ecx_pdcm);
            answer.edx &= ~(machine_checks_edx | thermal_edx);
        } else if (leaf == x86::cpuid::leaf_extended_features && subleaf == 0) {
            answer.ebx &= ~tsc_adjust_ebx;
            answer.edx &= ~speculation_edx;
        } else if (leaf == leaf_power || leaf == leaf_performance) {
            answer = {};
        }
        return {answer.eax, answer.ebx, answer.ecx, answer.edx};
    }
    [[nodiscard]] host::CpuidRegisters hypervisor_leaf(std::uint32_t leaf, std::uint32_t subleaf) const {
        return information_leaf(vm_, leaf, subleaf);
    }
    [[nodiscard]] static bool apic_enabled() { return false; }
    static void set_cache_control(std::uint64_t) {}  // the caches are the machine's
    [[nodiscard]] static bool write_xcr0(std::uint64_t value) { return try_xsetbv(0, value); }
    static void write_back_caches() { asm volatile("wbinvd" ::: "memory"); }

private:
    SecondVm& vm_;
};
static_assert(host::Processor<SecondProcessor>);

// What may have been done of an instruction.
enum class Done : std::uint8_t { no, yes, ended };

// IN and OUT of the guest that is current; of L0's, INS and OUTS are #GP(0).
Done do_io(SecondVm& vm) {
    const auto access = vmx::IoAccess::decode(get(field::exit_qualification));
    if (access.is_string) return Done::no;
    std::uint64_t& rax = vm.frame.registers.by_number[0];
    if (!access.is_in) {
        return vm.devices.write(access.port, access.size, static_cast<std::uint32_t>(rax)) ? Done::yes
                                                                                           : Done::ended;
    }
    rax = with_input(rax, access.size, vm.devices.read(access.port, access.size));
    return Done::yes;
}

// MOV to and from CR8, at CPL 0 in 64-bit mode: no interrupt comes to this VM that a priority could hold off.
Done do_cr8(SecondVm& vm, vmx::ControlRegisterAccess access) {
    constexpr unsigned rsp = 4;
    std::uint64_t value = access.general_register == rsp
                              ? get(field::guest_rsp)
                              : vm.frame.registers.by_number[access.general_register];
    if (access.kind == vmx::ControlRegisterAccess::Kind::mov_to) {
        if (value > 15) return Done::no;
        vm.task_priority = static_cast<std::uint8_t>(value);
        return Done::yes;
    }
    value = vm.task_priority;
    if (access.general_register == rsp) {
        put(field::guest_rsp, value);
    } else {
        vm.frame.registers.by_number[access.general_register] = value;
    }
    return Done::yes;
}

constexpr nested::Fault general_protection{
    .vector = static_cast<std::uint8_t>(x86::Vector::general_protection), .has_error_code = true};

// Of an L2's, or L1's, of what it has asked for.
Done do_instruction(SecondVm& vm, vmx::ExitReason reason) {
    if (reason == vmx::ExitReason::io_instruction) return do_io(vm);
    return do_cr8(vm, vmx::ControlRegisterAccess::decode(get(field::exit_qualification)));
}

HandledExit handle_l2_exit(SecondVm& vm, std::uint32_t exit_reason) {
    HandledExit handled{.entry = vm.vcpu.handle_l2_exit(exit_reason)};
    if (handled.entry != Entry::the_hosts) return handled;
    const auto reason = vmx::ExitReasonField{exit_reason}.basic();
    if (reason == vmx::ExitReason::vmx_preemption_timer_expired ||
        reason == vmx::ExitReason::external_interrupt || vm.vcpu.l1_wants_hosts_exit()) {
        handled.over = !vm.vcpu.l1_wants_hosts_exit();
        handled.entry = vm.vcpu.resume();
        return handled;
    }
    const Done done = do_instruction(vm, reason);
    if (done == Done::ended) end_second_vm(nullptr);
    handled.entry = done == Done::yes ? vm.vcpu.resume_behind_instruction()
                                      : vm.vcpu.resume_with_fault(general_protection);
    return handled;
}

HandledExit handle_l1_exit(SecondVm& vm, std::uint32_t exit_reason) {
    const vmx::ExitReasonField whole{exit_reason};
    if (whole.is_entry_failure()) end_second_vm("a state that the processor refused");
    const auto reason = whole.basic();
    if (vmx::is_vmx_instruction(reason)) return {.entry = vm.vcpu.handle_vmx_instruction(reason)};
    if (static_cast<std::size_t>(reason) < nested::exit_reason_count)
        ++vm.vcpu.counters().handled_by_l0[static_cast<std::size_t>(reason)];
    SecondProcessor processor{vm};
    host::L1 l1{vm.vcpu, vm.port, processor};
    switch (reason) {
        case vmx::ExitReason::vmx_preemption_timer_expired:
        case vmx::ExitReason::external_interrupt:
            return {.over = true};
        case vmx::ExitReason::control_register_access:
            if (vmx::ControlRegisterAccess::decode(get(field::exit_qualification)).control_register != 8)
                break;
            [[fallthrough]];
        case vmx::ExitReason::io_instruction: {
            const Done done = do_instruction(vm, reason);
            if (done == Done::ended) end_second_vm(nullptr);
            l1.conclude(done == Done::yes ? host::Outcome::done : host::Outcome::general_protection);
            return {};
        }
        default:
            break;
    }
    if (!host::handle_l1_exit(l1, reason)) end_second_vm(name_of(reason).data());
    return {};
}

}  // namespace

HandledExit handle_second_exit(SecondVm& vm) {
    const std::uint32_t reason = get(field::exit_reason);
    const HandledExit handled = vm.vcpu.in_l2() ? handle_l2_exit(vm, reason) : handle_l1_exit(vm, reason);
    // An NMI or a machine check, which are the first VM's.
    constexpr std::uint8_t came = nmi_state::came | nmi_state::machine_check_came;
    return {.entry = handled.entry, .over = handled.over || (this_processor().nmi_state & came) != 0};
}

nested::Demands second_demands(const SecondVm& vm, std::uint64_t turn_ends) {
    nested::Demands demands;
    demands.external_interrupts = true;
    demands.all_ports = true;
    demands.instructions = vmx::primary::cr8_load_exiting | vmx::primary::cr8_store_exiting;
    demands.tsc_offset = vm.port.tsc_offset();
    demands.turn_ends = turn_ends;
    return demands;
}

void set_up_second_vmcs01(SecondVm& vm, const BootResult& boot, const L1Start& start) {
    vm.port.write_host_state();
    nested::CurrentVmcs vmcs{vm.port};
    const host::Vmcs01Places places{.ept01_pointer = vm.port.ept01_pointer(),
                                    .msr_bitmap = vm.port.l0_msr_bitmap(),
                                    .tag = vm.vcpu.vpid01(),
                                    .takes_nmis = true};
    const auto done = host::set_up_vmcs01(vmcs, boot.processor.capabilities, places, state_of_start(start));
    if (!done)
        refuse("this processor lacks ", done.error().name, " ", log::hex(done.error().controls),
               "; a second VM needs it");
    put(field::pin_based_vm_execution_controls, get(field::pin_based_vm_execution_controls) |
                                                    vmx::pin::external_interrupt_exiting |
                                                    vmx::pin::activate_vmx_preemption_timer);
    put(field::primary_processor_based_vm_execution_controls,
        get(field::primary_processor_based_vm_execution_controls) | vmx::primary::unconditional_io_exiting |
            vmx::primary::cr8_load_exiting | vmx::primary::cr8_store_exiting |
            vmx::primary::use_tsc_offsetting);
    put(field::vm_exit_controls,
        get(field::vm_exit_controls) | vmx::exit_control::save_vmx_preemption_timer_value);
    put(field::tsc_offset, vm.port.tsc_offset());
    vm.frame.registers.by_number[0] = start.rax;
    vm.frame.registers.by_number[3] = start.rbx;
    vm.frame.registers.by_number[6] = start.rsi;
}

}  // namespace flatback::metal
