#include "machine/program/runner.hpp"

#include <cstdio>
#include <utility>

#include "machine/program/layout.hpp"
#include "machine/program/prepare.hpp"
#include "machine/rules/event.hpp"
#include "machine/translation/structure_editor.hpp"
#include "vmx/exit_reason.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr_numbers.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;

/// L1-physical memory as the structure editor wants it.
struct L1Memory {
    World& world;
    unsigned vm;

    [[nodiscard]] std::uint64_t read(std::uint64_t address) const { return world.read(vm, address); }
    void write(std::uint64_t address, std::uint64_t value) { world.write(vm, address, value); }
};

using PageEditor = StructureEditor<PagingFormat, L1Memory>;
using EptEditor = StructureEditor<EptFormat, L1Memory>;

constexpr std::uint64_t kernel_page = 0x63;   // present, writable, accessed, dirty
constexpr std::uint64_t ept_identity = 0x37;  // read, write, execute; write-back

PageSize size_of(std::uint64_t operand) {
    return static_cast<PageSize>(operand > 2 ? 0 : operand);
}

Opcode opcode_of(StepKind kind) {
    switch (kind) {
        case StepKind::invept_at:
            return Opcode::invept;
        case StepKind::invvpid_at:
            return Opcode::invvpid;
        // The kinds up to `invvpid` are the opcodes, in their order.
        default:
            return static_cast<Opcode>(kind);
    }
}
static_assert(static_cast<unsigned>(StepKind::invvpid) == static_cast<unsigned>(Opcode::invvpid));
static_assert(static_cast<unsigned>(StepKind::vmxon) == static_cast<unsigned>(Opcode::vmxon));

constexpr std::uint8_t rax = 0;
constexpr std::uint8_t rcx = 1;
constexpr std::uint8_t rdx = 2;
constexpr std::uint8_t rbx = 3;

bool is_memory_step(StepKind kind) {
    return kind == StepKind::load || kind == StepKind::store || kind == StepKind::fetch;
}

bool is_l1_vmx_step(StepKind kind) {
    return kind >= StepKind::vmxon && kind <= StepKind::invvpid_at;
}

}  // namespace

Runner::Runner(World& world, const Options& options) : world_(world), options_(options) {
    for (unsigned vm = 0; vm < program_vm_limit; ++vm) {
        if (world_.vcpu_count(vm) != 0) set_up(vm);
    }
}

/// What a boot loader leaves an L1 with: its own structures, and the revision identifier in its VMX regions.
void Runner::set_up(unsigned vm) {
    VmState& state = vms_[vm];
    state.exists = true;
    for (unsigned index = 0; index < state.next_page_table.size(); ++index) {
        state.next_page_table[index] = layout::page_root(index) + x86::page_size_4k;
        state.next_ept_table[index] = layout::ept_root(index) + x86::page_size_4k;
    }
    L1Memory memory{world_, vm};
    PageEditor editor(memory, layout::page_root(0), state.next_page_table[0]);
    for (std::uint64_t address = 0; address < layout::identity_bytes; address += x86::page_size_2m) {
        editor.map(address, address, PageSize::size_2m, kernel_page);
    }
    for (unsigned index = 0; index < layout::ept_hierarchies; ++index) {
        EptEditor ept(memory, layout::ept_root(index), state.next_ept_table[index]);
        ept.map(layout::page_tables, layout::page_tables, PageSize::size_2m, ept_identity);
    }
    const std::uint32_t revision = world_.model().vmx.revision();
    for (unsigned vcpu = 0; vcpu < world_.vcpu_count(vm); ++vcpu) {
        world_.write(vm, layout::vmxon_region(vcpu), revision);
        Registers& registers = world_.registers(vm, vcpu);
        registers.cr3 = layout::page_root(0);
        registers.cr4 |= x86::cr4::vmx_enable;
    }
    for (unsigned index = 0; index < layout::vmcss; ++index)
        world_.write(vm, layout::vmcs_region(index), revision);
}

std::vector<Observation> Runner::run(const Program& program) {
    std::vector<Observation> observations;
    observations.reserve(program.steps.size());
    for (const Step& each : program.steps) observations.push_back(step(each));
    return observations;
}

Observation Runner::step(const Step& step) {
    world_.set_step(step_number_++);
    if (step.actor == Actor::l0) return environment(step);
    if (step.vcpu >= world_.vcpu_count(step.vm)) return {.status = Observation::Status::not_running};
    if (step.kind >= StepKind::map && step.kind <= StepKind::poke) {
        edit(step);
        return {};
    }
    if (step.kind > StepKind::prepare) return {.status = Observation::Status::refused};
    if (world_.running(step.vm, step.vcpu) != step.actor) return {.status = Observation::Status::not_running};
    if (step.kind == StepKind::boot) return boot(step);
    return step.kind == StepKind::prepare ? prepare(step) : instruction(step);
}

Observation Runner::environment(const Step& step) {
    bool done = false;
    switch (step.kind) {
        case StepKind::create_vm:
            done = step.vm < program_vm_limit &&
                   world_.create_vm(step.vm, static_cast<unsigned>(step.operands[0] & 0xFF));
            if (done) set_up(step.vm);
            break;
        case StepKind::destroy_vm:
            done = world_.destroy_vm(step.vm);
            if (done) vms_[step.vm].exists = false;
            break;
        case StepKind::move_vcpu:
            done = step.vcpu < world_.vcpu_count(step.vm) &&
                   world_.move_vcpu(step.vm, step.vcpu, static_cast<unsigned>(step.operands[0] & 0xFF));
            break;
        case StepKind::take_page:
            done = world_.vcpu_count(step.vm) != 0 && world_.take_page(step.vm, step.operands[0]);
            break;
        case StepKind::nmi:
            done = step.vcpu < world_.vcpu_count(step.vm) &&
                   world_.nmi(step.vm, step.vcpu, step.operands[0] != 0);
            break;
        case StepKind::interrupt:
            done = step.vcpu < world_.vcpu_count(step.vm) &&
                   world_.interrupt(step.vm, step.vcpu, static_cast<std::uint8_t>(step.operands[0]),
                                    step.operands[1] != 0);
            break;
        case StepKind::init:
            done = step.vcpu < world_.vcpu_count(step.vm) &&
                   world_.init(step.vm, step.vcpu, step.operands[0] != 0);
            break;
        case StepKind::start_up:
            done = step.vcpu < world_.vcpu_count(step.vm) &&
                   world_.start_up(step.vm, step.vcpu, static_cast<std::uint8_t>(step.operands[0]));
            break;
        case StepKind::eoi:
            done = step.vcpu < world_.vcpu_count(step.vm) && world_.end_of_interrupt(step.vm, step.vcpu);
            break;
        case StepKind::tpr:
            done = step.vcpu < world_.vcpu_count(step.vm) &&
                   world_.set_task_priority(step.vm, step.vcpu, static_cast<std::uint8_t>(step.operands[0]));
            break;
        default:
            break;
    }
    return {.status = done ? Observation::Status::done : Observation::Status::refused};
}

void Runner::edit(const Step& step) {
    VmState& state = vms_[step.vm];
    L1Memory memory{world_, step.vm};
    const auto& operands = step.operands;
    const std::size_t hierarchy = operands[0] % layout::page_hierarchies;
    switch (step.kind) {
        case StepKind::map:
            PageEditor(memory, layout::page_root(hierarchy), state.next_page_table[hierarchy])
                .map(operands[1], operands[2], size_of(operands[4]), operands[3]);
            break;
        case StepKind::unmap:
            PageEditor(memory, layout::page_root(hierarchy), state.next_page_table[hierarchy])
                .set_entry(operands[1], static_cast<unsigned>(size_of(operands[2])) + 1, 0);
            break;
        case StepKind::ept_map:
            EptEditor(memory, layout::ept_root(hierarchy), state.next_ept_table[hierarchy])
                .map(operands[1], operands[2], size_of(operands[4]), operands[3]);
            break;
        case StepKind::ept_unmap:
            EptEditor(memory, layout::ept_root(hierarchy), state.next_ept_table[hierarchy])
                .set_entry(operands[1], static_cast<unsigned>(size_of(operands[2])) + 1, 0);
            break;
        default:
            world_.write(step.vm, operands[0], operands[1]);
            break;
    }
}

std::uint64_t Runner::put_operand(const Step& step, std::uint64_t first, std::uint64_t second) {
    const std::uint64_t address = layout::scratch(step.vcpu);
    world_.write(step.vm, address, first);
    world_.write(step.vm, address + 8, second);
    return address;
}

Observation Runner::instruction(const Step& step) {
    Observation observation;
    const auto& operands = step.operands;
    if (options_.record_permitted && is_memory_step(step.kind)) {
        Access access;
        if (step.kind == StepKind::store) access.kind = AccessKind::write;
        if (step.kind == StepKind::fetch) access.kind = AccessKind::fetch;
        const std::uint64_t user = step.kind == StepKind::store ? operands[2] : operands[1];
        access.user = user != 0;
        observation.permitted = world_.permitted(step.vm, step.vcpu, operands[0] & ~std::uint64_t{7}, access);
    }
    const Completion completion = run_instruction(step, observation);
    observe(step, completion, observation);
    return observation;
}

Completion Runner::operate(const Step& step, Opcode opcode, std::uint64_t address) {
    return world_.execute(step.vm, step.vcpu, {opcode, rax, rbx, address, false});
}

/// Puts the operands where the instruction takes them from, executes it, and takes its result.
Completion Runner::run_instruction(const Step& step, Observation& observation) {
    Registers& registers = world_.registers(step.vm, step.vcpu);
    const auto& operands = step.operands;
    const Opcode opcode = opcode_of(step.kind);
    switch (step.kind) {
        case StepKind::load:
        case StepKind::fetch:
            return world_.execute(step.vm, step.vcpu, {opcode, rax, rbx, operands[0], operands[1] != 0});
        case StepKind::store:
            registers.general[rax] = operands[1];
            return world_.execute(step.vm, step.vcpu, {opcode, rax, rbx, operands[0], operands[2] != 0});
        case StepKind::prefetch:
        case StepKind::invlpg:
        case StepKind::iret:
            return operate(step, opcode, operands[0]);
        case StepKind::int_n:
            return operate(step, opcode, operands[0] & 0xFF);
        case StepKind::lidt:
            // Ten bytes: the limit, then the base.
            return operate(step, opcode, put_operand(step, operands[1] << 48, operands[0]) + 6);
        case StepKind::mov_to_cr0:
        case StepKind::mov_to_cr3:
        case StepKind::mov_to_cr4:
            registers.general[rax] = operands[0];
            return operate(step, opcode, 0);
        case StepKind::rdmsr:
            registers.general[rcx] = operands[0];
            return operate(step, opcode, 0);
        case StepKind::wrmsr:
            registers.general[rcx] = operands[0];
            registers.general[rax] = operands[1] & 0xFFFF'FFFF;
            registers.general[rdx] = operands[1] >> 32;
            return operate(step, opcode, 0);
        case StepKind::out:
            registers.general[rdx] = operands[0];
            return operate(step, opcode, 0);
        case StepKind::vmread:
            registers.general[rbx] = operands[0];
            return operate(step, opcode, 0);
        case StepKind::vmwrite:
            registers.general[rbx] = operands[0];
            registers.general[rax] = operands[1];
            return operate(step, opcode, 0);
        case StepKind::vmfunc:
            registers.general[rax] = operands[0];
            registers.general[rcx] = operands[1];
            return operate(step, opcode, 0);
        case StepKind::vmxon:
        case StepKind::vmclear:
        case StepKind::vmptrld:
            return operate(step, opcode, put_operand(step, operands[0], 0));
        case StepKind::vmptrst: {
            const std::uint64_t address = put_operand(step, 0, 0);
            const Completion completion = operate(step, opcode, address);
            observation.value = world_.read(step.vm, address);
            return completion;
        }
        case StepKind::invept:
            registers.general[rbx] = operands[0];
            return operate(step, opcode, put_operand(step, operands[1], 0));
        case StepKind::invvpid:
        case StepKind::invpcid:
            registers.general[rbx] = operands[0];
            return operate(step, opcode, put_operand(step, operands[1], operands[2]));
        case StepKind::invept_at:
        case StepKind::invvpid_at:
            registers.general[rbx] = operands[0];
            return operate(step, opcode, operands[1]);
        default:
            return operate(step, opcode, 0);
    }
}

std::uint64_t Runner::read_field(const Step& step, std::uint64_t encoding) {
    Registers& registers = world_.registers(step.vm, step.vcpu);
    registers.general[rbx] = encoding;
    registers.general[rax] = 0;
    world_.execute(step.vm, step.vcpu, {Opcode::vmread, rax, rbx, 0, false});
    return world_.registers(step.vm, step.vcpu).general[rax];
}

void Runner::observe(const Step& step, const Completion& completion, Observation& observation) {
    Registers& registers = world_.registers(step.vm, step.vcpu);
    observation.failed_check = completion.failed_check;
    observation.nmi = completion.nmi;
    observation.interrupt = completion.interrupt;
    switch (completion.kind) {
        case Completion::Kind::idle:
            observation.status = Observation::Status::idle;
            return;
        case Completion::Kind::event:
            observation.status = Observation::Status::event;
            observation.event = *completion.event;
            // Where the program has no IDT the handler of whoever got the exception goes on after the
            // instruction.
            if (!completion.through_idt) registers.rip += instruction_length(opcode_of(step.kind));
            return;
        case Completion::Kind::vm_entry:
            observation.status = Observation::Status::entry;
            if (completion.event) observation.event = *completion.event;
            return;
        case Completion::Kind::vm_exit: {
            observation.status = Observation::Status::exit;
            ExitRecord& exit = observation.exit;
            exit.reason = read_field(step, field::exit_reason.encoding);
            exit.qualification = read_field(step, field::exit_qualification.encoding);
            exit.guest_rip = read_field(step, field::guest_rip.encoding);
            exit.guest_cr3 = read_field(step, field::guest_cr3.encoding);
            const vmx::ExitReasonField reason{static_cast<std::uint32_t>(exit.reason)};
            if (reason.is_entry_failure()) return;  // the other fields are not written then
            exit.interruption_information =
                read_field(step, field::vm_exit_interruption_information.encoding);
            // The rest only where the SDM defines it (SDM 3C 28.2).
            switch (reason.basic()) {
                case vmx::ExitReason::ept_violation:
                    exit.guest_linear_address = read_field(step, field::guest_linear_address.encoding);
                    [[fallthrough]];
                case vmx::ExitReason::ept_misconfiguration:
                    exit.guest_physical_address = read_field(step, field::guest_physical_address.encoding);
                    return;
                case vmx::ExitReason::exception_or_nmi:
                    if ((exit.interruption_information & rules::EventInformation::error_code) == 0) return;
                    exit.interruption_error_code =
                        read_field(step, field::vm_exit_interruption_error_code.encoding);
                    return;
                case vmx::ExitReason::external_interrupt:
                case vmx::ExitReason::init_signal:
                case vmx::ExitReason::startup_ipi:
                case vmx::ExitReason::vmx_preemption_timer_expired:
                case vmx::ExitReason::interrupt_window:
                case vmx::ExitReason::nmi_window:
                    return;
                case vmx::ExitReason::vmclear:
                case vmx::ExitReason::vmptrld:
                case vmx::ExitReason::vmptrst:
                case vmx::ExitReason::vmread:
                case vmx::ExitReason::vmwrite:
                case vmx::ExitReason::vmxon:
                case vmx::ExitReason::invept:
                case vmx::ExitReason::invvpid:
                case vmx::ExitReason::invpcid:
                case vmx::ExitReason::gdtr_or_idtr_access:
                    exit.instruction_information =
                        read_field(step, field::vm_exit_instruction_information.encoding);
                    [[fallthrough]];
                default:
                    exit.instruction_length = read_field(step, field::vm_exit_instruction_length.encoding);
                    return;
            }
        }
        case Completion::Kind::done:
            break;
    }
    switch (step.kind) {
        case StepKind::load:
        case StepKind::fetch:
        case StepKind::vmread:
        case StepKind::mov_from_cr0:
        case StepKind::mov_from_cr3:
        case StepKind::mov_from_cr4:
            observation.value = registers.general[rax];
            break;
        case StepKind::rdmsr:
        case StepKind::rdtsc:
            observation.value = registers.general[rdx] << 32 | registers.general[rax];
            break;
        default:
            break;
    }
    if (is_l1_vmx_step(step.kind) && step.kind != StepKind::vmfunc) {
        observation.flags = registers.rflags & (x86::rflags::carry | x86::rflags::zero);
        if ((observation.flags & x86::rflags::carry) != 0) observation.value = 0;
        if ((observation.flags & x86::rflags::zero) != 0) {
            observation.value = 0;
            observation.instruction_error = read_field(step, field::vm_instruction_error.encoding);
        }
    }
}

Observation Runner::boot(const Step& step) {
    Observation observation;
    const Registers kernel = kernel_registers(layout::page_root(0));
    const auto run = [&](StepKind kind, std::uint64_t first, std::uint64_t second = 0) {
        Step part = step;
        part.kind = kind;
        part.operands = {first, second};
        observation = instruction(part);
        return observation.status == Observation::Status::done;
    };
    if (!run(StepKind::mov_to_cr4, kernel.cr4 | x86::cr4::vmx_enable) ||
        !run(StepKind::mov_to_cr3, kernel.cr3) ||
        !run(StepKind::wrmsr, x86::msr::ia32_efer, kernel.efer & ~x86::efer::long_mode_active) ||
        !run(StepKind::mov_to_cr0, kernel.cr0))
        return observation;
    // What a jump and loads of segment registers do.
    Registers& registers = world_.registers(step.vm, step.vcpu);
    registers.segments = kernel.segments;
    registers.rip = kernel.rip;
    return observation;
}

Observation Runner::prepare(const Step& step) {
    const auto& operands = step.operands;
    Observation observation;
    const auto run = [&](StepKind kind, std::uint64_t first, std::uint64_t second) {
        Step part = step;
        part.kind = kind;
        part.operands = {first, second};
        observation = instruction(part);
        return observation.status == Observation::Status::done && observation.flags == 0;
    };
    if (!run(StepKind::vmclear, operands[0], 0) || !run(StepKind::vmptrld, operands[0], 0))
        return observation;
    const GuestSettings settings{static_cast<std::uint16_t>(operands[1]), operands[2] % 9, operands[3] % 8};
    for (const auto& [encoding, value] : guest_fields(world_.model(), settings)) {
        if (!run(StepKind::vmwrite, encoding, value)) return observation;
    }
    return observation;
}

bool same_view(const Observation& a, const Observation& b) {
    return a.status == b.status && a.event == b.event && a.value == b.value && a.flags == b.flags &&
           a.instruction_error == b.instruction_error && a.exit == b.exit && a.nmi == b.nmi &&
           a.interrupt == b.interrupt;
}

std::string describe(const Observation& observation) {
    if (observation.interrupt) {
        Observation without = observation;
        without.interrupt.reset();
        return describe(without) + ", then interrupt " + std::to_string(*observation.interrupt);
    }
    if (observation.nmi) {
        Observation without = observation;
        without.nmi = false;
        return describe(without) + ", then an NMI";
    }
    char text[256];
    using Status = Observation::Status;
    switch (observation.status) {
        case Status::done: {
            if ((observation.flags & x86::rflags::carry) != 0) return "VMfailInvalid";
            if ((observation.flags & x86::rflags::zero) != 0) {
                std::snprintf(text, sizeof text, "VMfailValid, error %llu",
                              static_cast<unsigned long long>(observation.instruction_error));
                std::string line = text;
                if (observation.failed_check != nullptr) line += std::string(": ") + observation.failed_check;
                return line;
            }
            std::snprintf(text, sizeof text, "done, value 0x%llx",
                          static_cast<unsigned long long>(observation.value));
            return observation.value == 0 ? "done" : text;
        }
        case Status::event:
            std::snprintf(text, sizeof text, "exception %u, error code 0x%x", observation.event.vector,
                          observation.event.error_code);
            return text;
        case Status::exit: {
            const vmx::ExitReasonField reason{static_cast<std::uint32_t>(observation.exit.reason)};
            const std::string_view name = vmx::name_of(reason.basic());
            std::snprintf(text, sizeof text, "exit %.*s, qualification 0x%llx", static_cast<int>(name.size()),
                          name.data(), static_cast<unsigned long long>(observation.exit.qualification));
            std::string line = text;
            if (observation.exit.guest_physical_address != 0) {
                std::snprintf(text, sizeof text, ", guest-physical 0x%llx",
                              static_cast<unsigned long long>(observation.exit.guest_physical_address));
                line += text;
            }
            if (observation.failed_check != nullptr) line += std::string(": ") + observation.failed_check;
            return line;
        }
        case Status::entry:
            if (observation.event.vector == 0 && !observation.event.has_error_code) return "entry";
            std::snprintf(text, sizeof text, "entry, delivers vector %u", observation.event.vector);
            return text;
        case Status::idle:
            return "halted";
        case Status::not_running:
            return "skipped: not running";
        case Status::refused:
            return "refused";
    }
    return {};
}

}  // namespace flatback::machine
