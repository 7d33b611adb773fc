// VMX instructions of a 32-bit L1: a VMWRITE there gives a 64-bit field 32 bits and zeros (SDM 3C 31.3), and
// operands are found by the PDPTEs that MOV to CR3 loaded.
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
// A 32-bit L1: a VMWRITE there gives a 64-bit field 32 bits and zeros (SDM 3C 31.3), operands are found by
// the PDPTEs that MOV to CR3 loaded, and through segments; an exit comes to a host that is no 64-bit one.
#include "guests/random/faults.hpp"
#include "guests/random/fields.hpp"
#include "guests/random/log.hpp"
#include "guests/random/narrow.hpp"
#include "guests/random/narrow_parts.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

extern "C" std::uint64_t boot_pdpt[];

namespace flatback::guests {
namespace {

extern "C" {
void narrow_nmi();
void narrow_undefined();
void narrow_not_present();
void narrow_stack_fault();
void narrow_protection();
void narrow_page_fault();
extern char vector_stubs[];
extern volatile std::uint64_t narrow_nmis;
}

constexpr unsigned moves = NarrowScript::moves;

Page* tables;
Page* pointers;
// Of what is read or written through a segment, in the page of pointers.
constexpr std::uint32_t operand_place = 0x800;

constexpr std::uint32_t page_size_extensions = 0x10;
constexpr std::uint32_t pae = 0x20;
constexpr std::uint64_t address_of_table = 0x000FFFFFFFFFF000;

// The first gigabyte twice: at 0, and again 1 GB above.
void make_tables(bool with_pae) {
    if (with_pae) {
        for (unsigned i = 0; i < 4; ++i)
            tables->words[i] = (boot_pdpt[i == 1 ? 0 : i] & address_of_table) | 1;
        return;
    }
    auto* const directory = reinterpret_cast<std::uint32_t*>(tables->words);
    for (std::uint32_t i = 0; i < 1024; ++i) directory[i] = (i >= 256 && i < 512 ? i - 256 : i) << 22 | 0x83;
}

// The interrupt gate's first eight bytes, which are all of it in 32-bit mode.
std::uint64_t gate(std::uint64_t handler, std::uint64_t selector) {
    return (handler & 0xFFFF) | selector << 16 | 0x8EULL << 40 | (handler >> 16 & 0xFFFF) << 48;
}

std::uint32_t low(const volatile void* pointer) {
    return static_cast<std::uint32_t>(physical(pointer));
}

}  // namespace

void step_narrow(Random& random) {
    if (tables == nullptr) {
        tables = allocate_page();
        pointers = allocate_page();
        constexpr std::uint64_t nmi = 2;
        const auto fill = [](unsigned vector, void (*handler)()) {
            narrow_gates[vector] = gate(reinterpret_cast<std::uint64_t>(handler), selector::code32);
        };
        fill(2, narrow_nmi);
        fill(6, narrow_undefined);
        fill(11, narrow_not_present);
        fill(12, narrow_stack_fault);
        fill(13, narrow_protection);
        fill(14, narrow_page_fault);
        narrow_gates[4] = gate(reinterpret_cast<std::uint64_t>(vector_stubs) + nmi * 16, selector::code64);
    }
    make_a_guest_current();
    const unsigned vmcs = current_vmcs();
    if (vmcs >= 2) return;
    NarrowScript script{};
    std::uint64_t before[moves] = {};
    for (unsigned i = 0; i < moves; ++i) {
        std::uint64_t encoding = 0;
        do {
            encoding = draw_field(random, true);
        } while (!vmx::is_well_formed(encoding) || vmx::width(encoding) == vmx::FieldWidth::bits16);
        script.move[i].encoding = static_cast<std::uint32_t>(encoding);
        script.move[i].value = static_cast<std::uint32_t>(random.bits());
        before[i] = read_raw(encoding & ~std::uint64_t{1});
    }
    const bool enters = random.one_in(2);
    const bool with_code = random.one_in(2);
    NarrowOperand operand{};
    if (with_code) operand = draw_narrow_operand(random);
    const std::uint64_t operand_before = operand.written != 0 ? read_raw(operand.written & ~1U) : 0;
    // What VMXOFF finds active may be lost (SDM 3C 31.3, VMXOFF).
    const std::uint64_t address = physical(world.vmcs[vmcs]);
    vmclear(address);
    try_vmxoff();
    world.in_vmx_operation = false;
    world.launched[vmcs] = false;

    Line line;
    line << "narrow";
    const bool with_pae = random.one_in(2);
    // An exit loads the PDPTEs anew, so that an alias would be gone behind it.
    const bool through_alias = !enters && random.one_in(2);
    make_tables(with_pae);
    pointers->words[0] = physical(world.vmxon);
    pointers->words[1] = address;
    const std::uint64_t cr0 = read_cr0();
    const std::uint64_t cr4 = read_cr4();
    // PCIDE needs long mode; SMEP, SMAP and the rest stay.
    script.return_cr4 = static_cast<std::uint32_t>(cr4 & ~std::uint64_t{0x20000});
    script.cr4 = (script.return_cr4 & ~pae) | (with_pae ? pae : page_size_extensions);
    script.cr3 = low(tables);
    script.return_cr3 = static_cast<std::uint32_t>(read_cr3());
    const std::uint32_t alias = through_alias ? 0x40000000 : 0;
    script.vmxon = low(&pointers->words[0]) + alias;
    script.vmcs = low(&pointers->words[1]) + alias;
    script.count = moves;
    script.pdpte = with_pae && through_alias ? low(tables) : 0;
    script.vector = NarrowScript::no_exception;
    if (with_code) script.code = write_narrow_code(operand, low(pointers) + operand_place);
    if (enters) {
        // Filled in 64-bit mode, with what only a 32-bit L1 may have.
        make_a_guest_current();
        vmptrld(address);
        fill_narrow_guest(random, script, line);
        vmclear(address);
        try_vmxoff();
        world.in_vmx_operation = false;
    }
    narrow_nmis = 0;
    run_narrow(&script);
    nmi_count = nmi_count + narrow_nmis;
    write_cr0(cr0);
    write_cr4(cr4);
    put(line, "pae", with_pae ? 1 : 0);
    put(line, "flags", script.flags & arithmetic_flags);
    make_a_guest_current();
    vmptrld(address);
    for (const NarrowScript::Move& move : script.move) {
        put(line, "field", move.encoding);
        put(line, "value", move.value);
        put(line, "flags", move.flags & arithmetic_flags);
        if ((move.flags & (flag_carry | flag_zero)) != 0) continue;
        put(line, "read", move.read);
        put(line, "is", read_raw(move.encoding & ~1U));
    }
    log_line(line);
    if (with_code) put_narrow_operand(operand, script, pointers->words[operand_place / 8]);
    if (enters) put_narrow_exits(script);
    if (operand.written != 0) write_raw(operand.written & ~1U, operand_before);
    for (unsigned i = moves; i-- > 0;) write_raw(script.move[i].encoding & ~1U, before[i]);
    world.guest_written[vmcs] = true;
    // Its mode, its controls and its host were others.
    if (enters) refill_current_guest(random);
}

}  // namespace flatback::guests
