#include "guests/random/exit_record.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/deviations.hpp"
#include "guests/random/fields.hpp"
#include "guests/random/log.hpp"
#include "guests/random/world.hpp"
#include "vmx/field_table.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t valid = 1U << 31;
constexpr std::uint64_t has_error_code = 1U << 11;

constexpr std::uint64_t vector_debug = 1;
constexpr std::uint32_t refused_guest_state = reason::entry_failure | 33;

using vmx::ExitReason;

// SDM 3C 28.2.5: the exits that define the instruction's length. Those due to events are told by the caller.
constexpr bool defines_length(ExitReason basic) {
    const auto number = static_cast<unsigned>(basic);
    return (number >= 10 && number <= 32) || basic == ExitReason::mwait || basic == ExitReason::monitor ||
           basic == ExitReason::pause || (number >= 46 && number <= 47) || basic == ExitReason::invept ||
           (number >= 51 && number <= 55 && number != 52) || (number >= 57 && number <= 64 && number != 62);
}

// SDM 3C 28.2.5, table 28-8 and those behind it.
constexpr bool defines_information(ExitReason basic, std::uint64_t qualification) {
    switch (basic) {
        case ExitReason::io_instruction:
            return (qualification & 0x10) != 0;  // INS, OUTS
        case ExitReason::vmclear:
        case ExitReason::vmptrld:
        case ExitReason::vmptrst:
        case ExitReason::vmread:
        case ExitReason::vmwrite:
        case ExitReason::vmxon:
        case ExitReason::gdtr_or_idtr_access:
        case ExitReason::ldtr_or_tr_access:
        case ExitReason::invept:
        case ExitReason::invvpid:
        case ExitReason::rdrand:
        case ExitReason::rdseed:
            return true;
        default:
            return false;
    }
}

// A displacement that is none: the emulator gives what it decoded last.
bool has_register_operand(ExitReason basic) {
    constexpr std::uint64_t register_operand = 1U << 10;
    switch (basic) {
        case ExitReason::vmread:
        case ExitReason::vmwrite:
        case ExitReason::gdtr_or_idtr_access:
        case ExitReason::ldtr_or_tr_access:
            return (read(field::vm_exit_instruction_information) & register_operand) != 0;
        default:
            return false;
    }
}

// Fields that this L1 may read and compare, beyond guest state that its processor may lack.
bool is_compared(std::uint32_t encoding) {
    if (vmx::kind(encoding) != vmx::FieldKind::guest_state) return false;
    if (is_pdpte(encoding) && !has_ept()) return false;
    // Counts ticks, L0's too.
    if (encoding == field::vmx_preemption_timer_value.encoding) return false;
    // Not there without controls that are not offered; SMBASE is kept but never used.
    for (const std::uint32_t absent :
         {field::guest_interrupt_status.encoding, field::pml_index.encoding,
          field::guest_ia32_perf_global_ctrl.encoding, field::guest_ia32_bndcfgs.encoding})
        if (encoding == absent) return false;
    return true;
}

// RFLAGS with RF as an exit due to a fault has to save it (Deviation::resume_flag_of_fault).
std::uint64_t rflags_of_exit() {
    constexpr std::uint64_t resume = 0x10000;
    const std::uint64_t rflags = read(field::guest_rflags);
    const std::uint64_t event = read(field::vm_exit_interruption_information);
    const bool is_fault =
        read(field::exit_reason) == 0 && (event & 0x80000700) == 0x80000300 && (event & 0xFF) != vector_debug;
    return is_fault ? rflags | resume : rflags;
}

std::uint64_t compared_value(std::uint32_t encoding) {
    return encoding == field::guest_rflags.encoding ? rflags_of_exit() : read_raw(encoding);
}

std::uint64_t fields_checksum() {
    std::uint64_t sum = 1;
    for (const vmx::NamedField& each : vmx::all_fields) {
        if (is_compared(each.encoding)) asm("crc32q %1, %0" : "+r"(sum) : "r"(compared_value(each.encoding)));
    }
    return sum;
}

std::uint64_t registers_checksum(const GuestRegisters& registers) {
    std::uint64_t sum = 1;
    const auto* word = reinterpret_cast<const std::uint64_t*>(&registers);
    for (unsigned i = 0; i < sizeof registers / 8; ++i) asm("crc32q %1, %0" : "+r"(sum) : "r"(word[i]));
    return sum;
}

void put_event(Line& line, std::string_view name, std::uint64_t information, std::uint64_t error_code) {
    // SDM 3C 25.9.2: without the valid bit the rest is undefined.
    if ((information & valid) == 0) return;
    constexpr std::uint64_t protection = 1;
    if ((information & has_error_code) != 0 && (read(field::guest_cr0) & protection) == 0) {
        set_aside(Deviation::error_code_in_real_mode);
        information &= ~has_error_code;
    }
    put(line, name, information);
    if ((information & has_error_code) != 0) put(line, "error", error_code);
}

}  // namespace

void put_exit(Line& line, std::uint32_t reason, const GuestRegisters& registers, Look look,
              bool is_qualification_free) {
    put(line, "reason", reason);
    const auto basic = static_cast<ExitReason>(reason & 0xFFFF);
    // SDM 3C 28.2.1: 0 where the reason gives it no meaning.
    const std::uint64_t qualification = read(field::exit_qualification);
    const bool is_left_out = is_qualification_free && reason == refused_guest_state;
    if (!has_register_operand(basic) && !is_left_out) put(line, "qualification", qualification);
    if ((reason & reason::entry_failure) == 0) {
        const std::uint64_t vectoring = read(field::idt_vectoring_information);
        const std::uint64_t event = read(field::vm_exit_interruption_information);
        put_event(line, "event", event, read(field::vm_exit_interruption_error_code));
        put_event(line, "vectoring", vectoring, read(field::idt_vectoring_error_code));
        const auto is_software = [](std::uint64_t information) {
            const std::uint64_t type = information >> 8 & 7;
            return (information & valid) != 0 && type >= 4 && type != 7;
        };
        if (defines_length(basic) || is_software(event) || is_software(vectoring))
            put(line, "length", read(field::vm_exit_instruction_length));
        if (defines_information(basic, qualification))
            put(line, "information", read(field::vm_exit_instruction_information));
        const bool violation = basic == ExitReason::ept_violation;
        if (violation || basic == ExitReason::ept_misconfiguration)
            put(line, "physical", read(field::guest_physical_address));
        // SDM 3C 28.2.1: bit 7 says that the linear address is there.
        if ((violation && (qualification & 0x80) != 0) ||
            (basic == ExitReason::io_instruction && (qualification & 0x10) != 0))
            put(line, "linear", read(field::guest_linear_address));
    }
    put(line, "rip", read(field::guest_rip));
    put(line, "rsp", read(field::guest_rsp));
    const std::uint64_t rflags = rflags_of_exit();
    if (rflags != read(field::guest_rflags)) set_aside(Deviation::resume_flag_of_fault);
    put(line, "rflags", rflags);
    put(line, "cr2", read_cr2());
    put(line, "registers", registers_checksum(registers));
    if (look == Look::brief) return;
    put(line, "fields", fields_checksum());
}

void print_all_fields() {
    Line line;
    line << "  fields";
    for (const vmx::NamedField& each : vmx::all_fields) {
        if (!is_compared(each.encoding)) continue;
        put(line, each.name, compared_value(each.encoding));
        if (line.text().size() < 300) continue;
        log_line(line);
        line = Line{};
        line << "  fields";
    }
    log_line(line);
}

}  // namespace flatback::guests
