// A VMX instruction with each form of its memory operand, made at run time, and the pages where operands go
// wrong.
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/code.hpp"
#include "guests/random/deviations.hpp"
#include "guests/random/fields.hpp"
#include "guests/random/l1_state.hpp"
#include "guests/random/log.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

enum class Instruction : std::uint8_t {
    vmptrld,
    vmclear,
    vmptrst,
    vmxon,
    vmread,
    vmwrite,
    invept,
    invvpid,
    vmread_register,
    vmwrite_register,
    vmxoff,
    vmlaunch,
    vmresume,
};
// VMCALL is none of them: in root operation the emulator takes it for a call of a dual-monitor treatment that
// it has not (guests/bare/checks/check_launch.cpp).
constexpr unsigned instructions = 13;

constexpr bool has_memory(Instruction instruction) {
    return instruction <= Instruction::invvpid;
}

// The linear address of an operand, and a place where the same bytes can be written beforehand; null where
// there is none.
struct Place {
    std::uint64_t linear;
    std::uint8_t* bytes;
};

std::uint8_t* behind(unsigned page, std::uint64_t offset) {
    return reinterpret_cast<std::uint8_t*>(world.operands) + page * page_size + offset;
}

Place draw_place(Random& random) {
    switch (random.below(12)) {
        case 0: {
            static constexpr std::uint64_t odd[] = {0x800000000000,     0x7FFFFFFFFFFF,
                                                    0xFFFF7FFFFFFFFFFF, 0xFFFFFFFFFFFFFFFC,
                                                    0x8000000000000000, 0x7FFFFFFFFFFC};
            return {random.of(odd), nullptr};
        }
        case 1: {
            // Across the end of a page: both mapped, or the second not.
            const unsigned page =
                random.of({writable, writable, last_before_hole, writable_next, no_execute_read_only});
            const std::uint64_t offset = page_size - 1 - random.below(8);
            return {window_address_of(page) + offset, behind(page, offset)};
        }
        case 2:
        case 3:
        case 4: {
            const std::uint64_t offset = random.below(64) * 8;
            return {physical(behind(writable, offset)), behind(writable, offset)};
        }
        default: {
            const auto page =
                random.one_in(2) ? world.favorite_page : static_cast<unsigned>(random.below(user_code));
            const std::uint64_t offset = random.below(500) * 8 + random.below(2);
            return {window_address_of(page) + offset, behind(page, offset)};
        }
    }
}

// Physical addresses for VMXON, VMCLEAR and VMPTRLD.
std::uint64_t draw_pointer(Random& random) {
    switch (random.below(10)) {
        case 0:
            return random.bits();
        case 1: {
            // Nothing is there, devices are, or the last page of all.
            return random.number({no_memory, 0xFFFFFFF000, 0x10000000000, 0x800000000000, places.hidden,
                                  places.hidden, places.end - page_size, 0xFF000});
        }
        case 2:
            return physical(world.vmxon);
        case 3:
            return physical(world.vmcs[random.below(vmcs_regions)]) + random.number({1ULL, 8ULL, 0x800ULL});
        case 4:
            return physical(&world.operands[15]);  // its revision is 0
        default:
            return physical(world.vmcs[random.below(vmcs_regions)]);
    }
}

void fill(Random& random, Instruction instruction, std::uint8_t* bytes) {
    std::uint64_t low = draw_pointer(random);
    std::uint64_t high = random.one_in(3) ? random.bits() : 0;
    if (instruction == Instruction::invept)
        low = random.one_in(4) ? random.bits() : ept_pointer(random.one_in(2));
    if (instruction == Instruction::invvpid) {
        low = random.one_in(4) ? random.bits() : random.below(4);
        high = random.one_in(3) ? random.bits() : random.bits() >> 20;
    }
    if (instruction == Instruction::vmwrite) low = random.bits();
    for (unsigned i = 0; i < 8; ++i) {
        bytes[i] = static_cast<std::uint8_t>(low >> (8 * i));
        bytes[8 + i] = static_cast<std::uint8_t>(high >> (8 * i));
    }
}

// The memory operand as ModRM, SIB and displacement.
struct Operand {
    std::uint8_t prefix;  // a segment, or 0
    std::uint8_t base;    // register number; 5 and 4 (RBP, R12, R13) have forms of their own
    std::uint8_t index;   // none: 4
    std::uint8_t scale;
    unsigned displacement_size;
    std::int64_t displacement;
};

std::uint64_t& register_of(CodeRegisters& registers, unsigned number) {
    // The machine's order is RAX RCX RDX RBX RSP RBP RSI RDI; there is no RSP here.
    static constexpr std::uint8_t places[] = {0, 2, 3, 1, 0, 6, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14};
    return (&registers.rax)[places[number]];
}

void emit_memory(Emitter& code, Random& random, CodeRegisters& registers, std::uint64_t linear,
                 std::uint8_t mandatory, std::initializer_list<std::uint8_t> opcode, unsigned reg,
                 Line& line) {
    static constexpr std::uint8_t bases[] = {3, 5, 6, 8, 12, 13, 11};
    static constexpr std::uint8_t indices[] = {4, 4, 4, 7, 9, 14};
    const std::uint8_t base = random.of(bases);
    const std::uint8_t index = random.of(indices);
    const auto scale = static_cast<unsigned>(random.below(4));
    const unsigned displacement_size = random.of({0U, 1U, 4U});
    std::int64_t displacement = 0;
    if (displacement_size == 1) displacement = static_cast<std::int64_t>(random.bits() << 56) >> 56;
    if (displacement_size == 4) displacement = static_cast<std::int32_t>(random.bits());
    const std::uint8_t segment = random.one_in(4)
                                     ? random.of({std::uint8_t{0x64}, std::uint8_t{0x65}, std::uint8_t{0x36}})
                                     : std::uint8_t{0};
    std::uint64_t address = linear - static_cast<std::uint64_t>(displacement);
    if (segment == 0x64) address -= read_msr(msr_fs_base);
    if (segment == 0x65) address -= read_msr(msr_gs_base);
    if (index != 4) {
        register_of(registers, index) = random.bits();
        address -= register_of(registers, index) << scale;
    }
    register_of(registers, base) = address;
    std::uint8_t bytes[16];
    unsigned size = 0;
    const auto put_byte = [&bytes, &size](unsigned byte) { bytes[size++] = static_cast<std::uint8_t>(byte); };
    if (segment != 0) put_byte(segment);
    if (mandatory != 0) put_byte(mandatory);
    // REX: R, X, B of the three registers.
    put_byte(0x40U | (reg >> 3U) << 2U | (unsigned{index} >> 3U) << 1U | unsigned{base} >> 3U);
    for (const std::uint8_t each : opcode) put_byte(each);
    // RBP and R13 as a base have no form without a displacement.
    const unsigned used_size = displacement_size == 0 && (base & 7) == 5 ? 1 : displacement_size;
    const unsigned mod = used_size == 0 ? 0 : used_size == 1 ? 1 : 2;
    const bool with_sib = index != 4 || (base & 7) == 4;
    put_byte(mod << 6 | (reg & 7) << 3 | (with_sib ? 4U : base & 7U));
    if (with_sib) put_byte(scale << 6 | (index & 7U) << 3 | (base & 7U));
    for (unsigned i = 0; i < used_size; ++i) put_byte(static_cast<std::uint8_t>(displacement >> (8 * i)));
    for (unsigned i = 0; i < size; ++i) code.bytes({bytes[i]});
    put(line, "base", base);
    if (index != 4) put(line, "index", index);
    if (segment != 0) put(line, "segment", segment);
}

constexpr std::string_view names[] = {"vmptrld", "vmclear",  "vmptrst", "vmxon",  "vmread",
                                      "vmwrite", "invept",   "invvpid", "vmread", "vmwrite",
                                      "vmxoff",  "vmlaunch", "vmresume"};

// What L1's debug registers have beside an instruction of its own: SDM 3B 18.2.
struct Debugging {
    bool single_step = false;
    std::uint64_t address = 0;  // of a breakpoint, or 0
    std::uint64_t dr7 = 0x400;
};

void emit(Emitter& code, Random& random, CodeRegisters& registers, Instruction instruction,
          std::uint64_t& linear, Debugging& debugging, Line& line) {
    constexpr unsigned rax = 0, rdx = 2, r10 = 10;
    const auto reg = static_cast<unsigned>(random.number({rax, rdx, r10}));
    switch (instruction) {
        case Instruction::vmptrld:
            return emit_memory(code, random, registers, linear, 0, {0x0F, 0xC7}, 6, line);
        case Instruction::vmclear:
            return emit_memory(code, random, registers, linear, 0x66, {0x0F, 0xC7}, 6, line);
        case Instruction::vmxon:
            return emit_memory(code, random, registers, linear, 0xF3, {0x0F, 0xC7}, 6, line);
        case Instruction::vmptrst:
            return emit_memory(code, random, registers, linear, 0, {0x0F, 0xC7}, 7, line);
        case Instruction::vmread:
        case Instruction::vmwrite: {
            const bool is_write = instruction == Instruction::vmwrite;
            const std::uint64_t encoding = draw_field(random, is_write);
            register_of(registers, reg) = encoding;
            put(line, "field", encoding);
            return emit_memory(code, random, registers, linear, 0,
                               {0x0F, is_write ? std::uint8_t{0x79} : std::uint8_t{0x78}}, reg, line);
        }
        case Instruction::invept:
        case Instruction::invvpid: {
            std::uint64_t type =
                random.one_in(4) ? random.number({0ULL, 4ULL, 5ULL, 0x100000001ULL}) : random.below(4);
            if (type >> 32 != 0) {
                set_aside(Deviation::invalidation_type_of_32_bits);
                type = 5;
            }
            register_of(registers, reg) = type;
            put(line, "type", type);
            const std::uint64_t capability =
                capabilities.ept_vpid >> (instruction == Instruction::invept ? 24 : 40);
            if (type > 3 || (capability >> type & 1) == 0) {
                set_aside(Deviation::invalidation_reads_first);
                linear = physical(behind(writable, 0));
                debugging.address = 0;
                debugging.dr7 = Debugging{}.dr7;
            }
            return emit_memory(
                code, random, registers, linear, 0x66,
                {0x0F, 0x38, instruction == Instruction::invept ? std::uint8_t{0x80} : std::uint8_t{0x81}},
                reg, line);
        }
        case Instruction::vmread_register:
            registers.rdx = draw_field(random, false);
            put(line, "field", registers.rdx);
            return code.bytes({0x0F, 0x78, 0xD0});  // vmread rax, rdx
        case Instruction::vmwrite_register:
            registers.rdx = draw_field(random, true);
            registers.rax = random.bits();
            put(line, "field", registers.rdx);
            put(line, "value", registers.rax);
            return code.bytes({0x0F, 0x79, 0xD0});
        case Instruction::vmxoff:
            return code.bytes({0x0F, 0x01, 0xC4});
        case Instruction::vmlaunch:
            return code.bytes({0x0F, 0x01, 0xC2});
        case Instruction::vmresume:
            return code.bytes({0x0F, 0x01, 0xC3});
    }
}

// What this L1 must know of what it did.
void learn(Instruction instruction, std::uint64_t pointer, bool succeeded) {
    if (!succeeded) return;
    if (instruction == Instruction::vmxoff) world.in_vmx_operation = false;
    if (instruction == Instruction::vmxon) world.in_vmx_operation = true;
    if (instruction != Instruction::vmclear) return;
    for (unsigned i = 0; i < vmcs_regions; ++i) {
        if (pointer == physical(world.vmcs[i])) world.launched[i] = false;
    }
}

// Where an L0 hides is another address than where nothing is: no checksum may have it.
void forget_pointer(std::uint8_t* bytes) {
    if (bytes == nullptr) return;
    std::uint64_t now = 0;
    for (unsigned i = 0; i < 8; ++i) now |= std::uint64_t{bytes[i]} << (8 * i);
    if (now != places.hidden && now != no_memory) return;
    for (unsigned i = 0; i < 8; ++i) bytes[i] = 0;
}

Debugging draw_debugging(Random& random, std::uint64_t operand, Line& line) {
    Debugging debugging;
    debugging.single_step = random.one_in(12);
    if (debugging.single_step) line << " stepped";
    if (operand == 0 || !random.one_in(8)) return debugging;
    // Data written, or written or read; of 1, 2, 8 and 4 bytes; near the operand's first or last byte.
    debugging.address = operand + random.number({0ULL, 0ULL, 4ULL, 7ULL, 8ULL, 16ULL}) - random.below(2) * 8;
    debugging.dr7 = 0x401 | random.number({1ULL, 3ULL, 3ULL}) << 16 | random.below(4) << 18;
    put(line, "dr7", debugging.dr7);
    put(line, "dr0", debugging.address - operand);
    return debugging;
}

void set_debugging(const Debugging& debugging) {
    asm volatile("movq %0, %%dr0" : : "r"(debugging.address));
    asm volatile("movq %0, %%dr6" : : "r"(0xFFFF0FF0UL));
    asm volatile("movq %0, %%dr7" : : "r"(debugging.dr7));
}

}  // namespace

void step_vmx_instruction(Random& random) {
    auto instruction = static_cast<Instruction>(random.below(instructions));
    // VMXOFF ends what the case built up: seldom. An entry by way of code made here has no way back.
    if (instruction == Instruction::vmxoff && !random.one_in(3)) instruction = Instruction::vmptrld;
    const bool entry = instruction == Instruction::vmlaunch || instruction == Instruction::vmresume;
    if (entry && current_vmcs() < 2) instruction = Instruction::vmptrst;
    if (instruction == Instruction::invvpid && !capabilities.has_invvpid()) instruction = Instruction::invept;
    Place place = draw_place(random);
    CodeRegisters registers{};
    std::uint64_t pointer = 0;
    if (has_memory(instruction) && place.bytes != nullptr) {
        fill(random, instruction, place.bytes);
        // Across a page's end the window and this alias go on in the same page.
        for (unsigned i = 0; i < 8; ++i) pointer |= std::uint64_t{place.bytes[i]} << (8 * i);
    }
    Line line;
    line << names[static_cast<unsigned>(instruction)];
    Emitter code{code_memory(), code_size};
    Debugging debugging = draw_debugging(random, has_memory(instruction) ? place.linear : 0, line);
    if (debugging.single_step) {
        // pushfq; or dword [rsp], 100H; popfq: the trap comes behind the next instruction.
        code.bytes({0x9C});
        code.with_immediate({0x81, 0x0C, 0x24}, 0x100, 4);
        code.bytes({0x9D});
    }
    emit(code, random, registers, instruction, place.linear, debugging, line);
    // The flags that a VMX instruction defines are set before it.
    registers.rflags = arithmetic_flags;
    if (has_memory(instruction)) {
        const bool window_operand = place.linear >> 30 == 5;
        put(line, window_operand ? "window" : "linear",
            window_operand ? place.linear - window : place.linear);
    }
    const bool writes = instruction == Instruction::vmwrite || instruction == Instruction::vmwrite_register;
    if (writes && current_vmcs() < vmcs_regions) world.guest_written[current_vmcs()] = true;
    set_debugging(debugging);
    const CodeEnd end = run(code, registers);
    set_debugging({});
    forget_pointer(place.bytes);
    constexpr std::uint64_t debug = 1;
    if (end.vector == CodeEnd::none || end.vector == debug) {
        if (end.vector == debug) {
            put(line, "dr6", end.dr6);
            put(line, "offset", end.offset);
            put(line, "rflags", end.rflags);
            // Past the instruction.
            registers.rflags = end.rflags;
        }
        const std::uint64_t flags = registers.rflags & arithmetic_flags;
        put(line, "flags", flags);
        learn(instruction, pointer, (flags & (flag_carry | flag_zero)) == 0);
        if (flags == flag_zero && world.in_vmx_operation)
            put(line, "number", read(field::vm_instruction_error));
        if (instruction == Instruction::vmread_register && flags == 0) put(line, "value", registers.rax);
    } else {
        put(line, "vector", end.vector);
        put(line, "error", end.error_code);
        put(line, "offset", end.offset);
        put(line, "rflags", end.rflags);
        if (end.vector == vector_page_fault) put(line, "cr2", end.cr2);
    }
    put(line, "current", current_vmcs());
    log_line(line);
}

void step_fields(Random& random) {
    make_a_guest_current();
    if (current_vmcs() >= 2) return;
    // Half of the fields that an L0 may show without an exit, half others; what was read stays what it was
    // until an exit.
    Line line;
    line << "fields";
    for (unsigned i = 0; i < 4; ++i) {
        const std::uint64_t encoding = draw_field(random, false);
        if (!vmx::is_well_formed(encoding) ||
            (vmx::is_high(encoding) && vmx::width(encoding) != vmx::FieldWidth::bits64))
            continue;
        const std::uint64_t value = read_raw(encoding);
        const bool again = random.one_in(2);
        // Host state and pointers differ in nothing either.
        put(line, "field", encoding);
        put(line, "is", value);
        if (again && read_raw(encoding) != value) line << " not twice";
        if (random.one_in(4)) {
            const unsigned vmcs = current_vmcs();
            const std::uint64_t address = physical(world.vmcs[vmcs]);
            const std::uint64_t other = physical(world.vmcs[2]);
            vmptrld(other);
            vmptrld(address);
            if (read_raw(encoding) != value) line << " not the same after VMPTRLD";
        }
    }
    log_line(line);
}

}  // namespace flatback::guests
