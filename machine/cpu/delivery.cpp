// Events on their way to the software (SDM 3A chapter 6): exceptions, what a second one makes of the first,
// delivery through a 64-bit IDT, and IRETQ, which ends a handler.
#include <array>
#include <cstddef>
#include <cstring>

#include "machine/cpu/machine.hpp"
#include "machine/rules/address.hpp"
#include "machine/rules/descriptors.hpp"
#include "machine/rules/event.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/vectors.hpp"

namespace flatback::machine {

using vmx::ExitReason;
namespace field = vmx::field;
namespace block = vmx::interruptibility;

namespace {

constexpr std::uint16_t level_bits = x86::selector::requested_privilege_level;

/// "NMI unblocking due to IRET" (SDM 3C 28.2.2); not where the exit is one during the delivery of an event.
std::uint32_t of_iret(const Cpu& cpu, std::uint32_t information) {
    return information | (cpu.iret_unblocks_nmis ? rules::EventInformation::nmi_unblocking : 0);
}

/// Who drives the machine is the handler of everything where there is no IDT: where IDTR's base is 0, as
/// programs leave it that make none, and outside of IA-32e mode, whose gates are the only ones here.
bool has_idt(const Registers& registers) {
    return registers.idtr.base != 0 && registers.in_long_mode();
}

Event event_of(const Delivery& delivery) {
    return {delivery.information.vector(), delivery.information.has_error_code(),
            delivery.information.has_error_code() ? delivery.error_code : 0,
            delivery.information.is(vmx::InterruptionType::external_interrupt)};
}

/// As the error code has it that names a selector.
std::uint32_t error_of(std::uint16_t selector, std::uint32_t external) {
    return (selector & ~std::uint32_t{level_bits}) | external;
}

bool is_null(std::uint16_t selector) {
    return (selector & ~level_bits) == 0;
}

Segment null_stack(std::uint16_t selector, unsigned level) {
    return {selector, 0, 0,
            x86::AccessRights::unusable_bit | level << x86::AccessRights::privilege_level_shift};
}

}  // namespace

// --- exceptions ---

Completion Machine::raise(unsigned number, x86::Vector vector, std::optional<std::uint32_t> error_code) {
    return raise_exception(number, static_cast<std::uint8_t>(vector), error_code, 0);
}

Completion Machine::raise_page_fault(unsigned number, std::uint64_t linear_address,
                                     std::uint32_t error_code) {
    return raise_exception(number, 14, error_code, linear_address);
}

Completion Machine::raise_exception(unsigned number, std::uint8_t vector,
                                    std::optional<std::uint32_t> error_code, std::uint64_t linear_address) {
    Cpu& cpu = cpus_[number];
    if (rules::is_fault(vector)) cpu.registers.rflags |= x86::rflags::resume;
    const auto information = rules::EventInformation::hardware_exception(vector, error_code.has_value());
    // Whether it exits is decided before what becomes of two.
    if (cpu.in_non_root() && exception_exits(current(cpu), vector, error_code.value_or(0))) {
        return vm_exit(number, {.reason = ExitReason::exception_or_nmi,
                                .qualification = linear_address,
                                .interruption_information = of_iret(cpu, information.value),
                                .interruption_error_code = error_code.value_or(0)});
    }
    if (vector == 14) cpu.registers.cr2 = linear_address;
    if (cpu.delivering) {
        switch (rules::two_exceptions(cpu.delivering->information, vector)) {
            case rules::TwoExceptions::double_fault:
                // An exit for it is none during the delivery of an event (SDM 3C 28.2.4).
                cpu.delivering.reset();
                return raise(number, x86::Vector::double_fault, 0);
            case rules::TwoExceptions::shutdown:
                return shut_down(number);
            case rules::TwoExceptions::one_after_the_other:
                break;
        }
    }
    return deliver(number, {information, error_code.value_or(0)});
}

/// SDM 3C 26.2: which page faults exit is the exception bitmap's bit 14, turned by mask and match.
bool Machine::exception_exits(const Vmcs& vmcs, std::uint8_t vector, std::uint32_t error_code) {
    const bool bit = (vmcs.get(field::exception_bitmap) >> vector & 1) != 0;
    if (vector != 14) return bit;
    const bool matches = (error_code & vmcs.get(field::page_fault_error_code_mask)) ==
                         vmcs.get(field::page_fault_error_code_match);
    return bit == matches;
}

/// A triple fault (SDM 3A 6.15, "Interrupt 8").
Completion Machine::shut_down(unsigned number) {
    Cpu& cpu = cpus_[number];
    cpu.delivering.reset();
    if (cpu.in_non_root()) return vm_exit(number, {.reason = ExitReason::triple_fault});
    cpu.registers.activity = vmx::ActivityState::shutdown;
    return {.kind = Completion::Kind::idle};
}

// --- delivery ---

Completion Machine::deliver(unsigned number, const Delivery& delivery) {
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    registers.activity = vmx::ActivityState::active;
    // It ends blocking by STI and MOV SS, and that of an NMI blocks NMIs, or virtual ones (SDM 3C 27.6.1,
    // 27.7.1), as soon as it begins.
    registers.interruptibility &= ~(block::blocking_by_sti | block::blocking_by_mov_ss);
    if (delivery.information.is(vmx::InterruptionType::nmi))
        registers.interruptibility |= block::blocking_by_nmi;
    Completion seen{.kind = Completion::Kind::event, .event = event_of(delivery)};
    if (!has_idt(registers)) {
        // As through an interrupt gate.
        if (seen.event->is_interrupt) registers.rflags &= ~x86::rflags::interrupt_enable;
        return seen;
    }
    cpu.iret_unblocks_nmis = false;
    cpu.delivering = delivery;
    const std::optional<Completion> failed = go_through_gate(number, delivery);
    cpu.delivering.reset();
    if (failed) return *failed;
    seen.through_idt = true;
    return seen;
}

Completion Machine::deliver_from_outside(unsigned number, const Delivery& delivery) {
    Completion seen = deliver(number, delivery);
    seen.began = event_of(delivery);
    return seen;
}

/// SDM 2A "INT n", of IA-32e mode; SDM 3A 6.14. Something: what came in the way.
std::optional<Completion> Machine::go_through_gate(unsigned number, const Delivery& delivery) {
    using rules::Gate;
    namespace error = rules::selector_error;
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    const bool is_instruction = delivery.information.is_instruction();
    const std::uint32_t external = is_instruction ? 0 : error::external;
    const auto fault = [&](x86::Vector vector, std::uint32_t code) { return raise(number, vector, code); };
    const unsigned level = registers.privilege_level();

    const unsigned vector = delivery.information.vector();
    const std::uint32_t gate_error = vector * 8 | error::of_the_idt | external;
    if (vector * Gate::bytes + Gate::bytes - 1 > registers.idtr.limit)
        return fault(x86::Vector::general_protection, gate_error);
    Gate gate;
    const std::uint64_t gate_address = registers.idtr.base + vector * Gate::bytes;
    if (auto failed = read_system(number, gate_address, gate.low)) return failed;
    if (auto failed = read_system(number, gate_address + 8, gate.high)) return failed;
    if (!gate.is_interrupt_gate() && !gate.is_trap_gate())
        return fault(x86::Vector::general_protection, gate_error);
    // INT1 is not asked.
    if (is_instruction && !delivery.information.is(vmx::InterruptionType::privileged_software_exception) &&
        level > gate.privilege_level())
        return fault(x86::Vector::general_protection, gate_error);
    if (!gate.is_present()) return fault(x86::Vector::segment_not_present, gate_error);

    if (is_null(gate.selector())) return fault(x86::Vector::general_protection, external);
    const std::uint32_t code_error = error_of(gate.selector(), external);
    const std::optional<std::uint64_t> place = descriptor_address(registers, gate.selector());
    if (!place) return fault(x86::Vector::general_protection, code_error);
    rules::Descriptor code;
    if (auto failed = read_system(number, *place, code.value)) return failed;
    if (!code.is_code() || code.privilege_level() > level || !code.is_64_bit() || code.is_32_bit())
        return fault(x86::Vector::general_protection, code_error);
    if (!code.is_present()) return fault(x86::Vector::segment_not_present, code_error);

    const unsigned new_level = code.is_conforming() ? level : code.privilege_level();
    std::uint64_t stack = registers.general[4];
    if (gate.stack_table() != 0 || new_level != level) {
        const Segment& task = registers.segment(SegmentName::tr);
        const unsigned offset = gate.stack_table() != 0 ? rules::tss_stack_of_table(gate.stack_table())
                                                        : rules::tss_stack_of_level(new_level);
        if (offset + 7 > task.limit)
            return fault(x86::Vector::invalid_tss, error_of(task.selector, external));
        if (auto failed = read_system(number, task.base + offset, stack)) return failed;
    }
    if (!rules::is_canonical(gate.offset())) return fault(x86::Vector::general_protection, external);
    if (auto failed = mark_accessed(number, *place, code)) return failed;

    // A software interrupt or exception returns behind its instruction, a fault to it.
    const std::uint64_t next = registers.rip + (is_instruction ? delivery.instruction_length : 0);
    const std::array<std::uint64_t, 6> frame = {registers.segment(SegmentName::ss).selector,
                                                registers.general[4],
                                                registers.rflags,
                                                registers.segment(SegmentName::cs).selector,
                                                next,
                                                delivery.error_code};
    const std::size_t words = delivery.information.has_error_code() ? 6 : 5;
    const std::uint64_t top = stack & ~std::uint64_t{0xF};
    std::array<std::uint64_t, 6> places{};
    for (std::size_t index = 0; index < words; ++index) {
        const std::uint64_t address = top - 8 * (index + 1);
        if (!rules::is_canonical(address)) return fault(x86::Vector::stack_fault, external);
        if (auto failed =
                translate(number, address, {AccessKind::write, new_level == level_bits}, places[index]))
            return failed;
    }
    for (std::size_t index = 0; index < words; ++index) memory_.write(places[index], frame[index]);

    registers.general[4] = top - 8 * words;
    registers.rip = gate.offset();
    registers.segment(SegmentName::cs) = {static_cast<std::uint16_t>((gate.selector() & 0xFFFCU) | new_level),
                                          code.base(), code.limit(), code.access_rights()};
    if (new_level != level) {
        registers.segment(SegmentName::ss) = null_stack(static_cast<std::uint16_t>(new_level), new_level);
    }
    registers.rflags &=
        ~(x86::rflags::trap | x86::rflags::nested_task | x86::rflags::resume | x86::rflags::virtual_8086);
    if (gate.is_interrupt_gate()) registers.rflags &= ~x86::rflags::interrupt_enable;
    state_changed(number);
    return std::nullopt;
}

/// Nothing: it lies beyond its table, or there is none.
std::optional<std::uint64_t> Machine::descriptor_address(const Registers& registers, std::uint16_t selector) {
    const std::uint64_t offset = selector & ~std::uint64_t{7};
    const bool local = (selector & x86::selector::table_indicator) != 0;
    const Segment& table = registers.segment(SegmentName::ldtr);
    if (local && x86::AccessRights(table.access_rights).is_unusable()) return std::nullopt;
    const std::uint64_t limit = local ? table.limit : registers.gdtr.limit;
    if (offset + rules::Descriptor::bytes - 1 > limit) return std::nullopt;
    return (local ? table.base : registers.gdtr.base) + offset;
}

/// The processor's own accesses to the IDT, the GDT and a TSS are those of a supervisor (SDM 3A 4.6.1).
std::optional<Completion> Machine::read_system(unsigned number, std::uint64_t address, std::uint64_t& value) {
    std::array<std::byte, 8> bytes{};
    auto failed = access_linear(number, address, {AccessKind::read, false}, bytes);
    std::memcpy(&value, bytes.data(), bytes.size());
    return failed;
}
/// Of a segment that is loaded, its descriptor at that address.
std::optional<Completion> Machine::mark_accessed(unsigned number, std::uint64_t address,
                                                 rules::Descriptor& descriptor) {
    if ((descriptor.value & rules::Descriptor::accessed) != 0) return std::nullopt;
    descriptor.value |= rules::Descriptor::accessed;
    std::array<std::byte, 8> bytes{};
    std::memcpy(bytes.data(), &descriptor.value, bytes.size());
    return access_linear(number, address, {AccessKind::write, false}, bytes);
}

// --- IRETQ ---

/// SDM 2A "IRET", of 64-bit mode. What it pops may be of another privilege level.
Completion Machine::iretq(unsigned number) {
    Cpu& cpu = cpus_[number];
    Registers& registers = cpu.registers;
    if (!registers.in_64_bit_mode()) return raise_invalid_opcode(number);
    begin_iret(cpu);
    const Completion completion = return_from_handler(number);
    cpu.iret_unblocks_nmis = false;
    return completion;
}

Completion Machine::return_from_handler(unsigned number) {
    Registers& registers = cpus_[number].registers;
    const auto fault = [&](x86::Vector vector, std::uint32_t code) { return raise(number, vector, code); };
    constexpr auto protection = x86::Vector::general_protection;
    const unsigned level = registers.privilege_level();
    if ((registers.rflags & x86::rflags::nested_task) != 0) return fault(protection, 0);
    std::array<std::uint64_t, 5> frame{};  // RIP, CS, RFLAGS, RSP, SS
    for (std::size_t index = 0; index < frame.size(); ++index) {
        const std::uint64_t address = registers.general[4] + 8 * index;
        if (!rules::is_canonical(address) || !rules::is_canonical(address + 7))
            return fault(x86::Vector::stack_fault, 0);
        std::array<std::byte, 8> bytes{};
        if (auto failed = access_linear(number, address, {AccessKind::read, level == level_bits}, bytes))
            return *failed;
        std::memcpy(&frame[index], bytes.data(), bytes.size());
    }
    const auto [rip, cs_image, rflags, rsp, ss_image] = frame;
    const auto cs = static_cast<std::uint16_t>(cs_image);
    const auto ss = static_cast<std::uint16_t>(ss_image);
    const unsigned new_level = cs & level_bits;

    if (is_null(cs)) return fault(protection, 0);
    const std::optional<std::uint64_t> place = descriptor_address(registers, cs);
    if (!place) return fault(protection, error_of(cs, 0));
    rules::Descriptor code;
    if (auto failed = read_system(number, *place, code.value)) return *failed;
    const bool right_level =
        code.is_conforming() ? code.privilege_level() <= new_level : code.privilege_level() == new_level;
    if (!code.is_code() || new_level < level || !right_level || (code.is_64_bit() && code.is_32_bit()))
        return fault(protection, error_of(cs, 0));
    if (!code.is_present()) return fault(x86::Vector::segment_not_present, error_of(cs, 0));
    if (code.is_64_bit() ? !rules::is_canonical(rip) : rip > code.limit()) return fault(protection, 0);

    Segment stack = null_stack(ss, new_level);
    if (is_null(ss)) {
        if (!code.is_64_bit() || new_level == level_bits) return fault(protection, 0);
        if ((ss & level_bits) != new_level) return fault(protection, error_of(ss, 0));
    } else {
        const std::optional<std::uint64_t> stack_place = descriptor_address(registers, ss);
        if (!stack_place) return fault(protection, error_of(ss, 0));
        rules::Descriptor data;
        if (auto failed = read_system(number, *stack_place, data.value)) return *failed;
        if ((ss & level_bits) != new_level || !data.is_writable_data() || data.privilege_level() != new_level)
            return fault(protection, error_of(ss, 0));
        if (!data.is_present()) return fault(x86::Vector::stack_fault, error_of(ss, 0));
        if (auto failed = mark_accessed(number, *stack_place, data)) return *failed;
        stack = {ss, data.base(), data.limit(), data.access_rights()};
    }
    if (auto failed = mark_accessed(number, *place, code)) return *failed;

    namespace flag = x86::rflags;
    std::uint64_t taken = flag::arithmetic | flag::trap | flag::direction | flag::nested_task | flag::resume |
                          flag::alignment_check | flag::identification;
    const auto io_level = static_cast<unsigned>((registers.rflags & flag::io_privilege_level) >> 12);
    if (level <= io_level) taken |= flag::interrupt_enable;
    if (level == 0)
        taken |= flag::io_privilege_level | flag::virtual_interrupt | flag::virtual_interrupt_pending;
    registers.rflags = (registers.rflags & ~taken) | (rflags & taken);
    registers.rip = rip;
    registers.general[4] = rsp;
    registers.segment(SegmentName::cs) = {cs, code.base(), code.limit(), code.access_rights()};
    registers.segment(SegmentName::ss) = stack;
    if (new_level > level) {
        // What the level returned to may not use it does not get.
        for (const SegmentName name : {SegmentName::es, SegmentName::ds, SegmentName::fs, SegmentName::gs}) {
            Segment& segment = registers.segment(name);
            const x86::AccessRights rights{segment.access_rights};
            const bool conforming = rights.is_code() && (rights.type() & x86::segment_type::conforming) != 0;
            if (rights.is_unusable() || conforming || rights.privilege_level() >= new_level) continue;
            segment.selector = 0;
            segment.access_rights = x86::AccessRights::unusable_bit;
        }
    }
    state_changed(number);
    return {};
}

}  // namespace flatback::machine
