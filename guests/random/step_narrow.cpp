// VMX instructions of a 32-bit L1: a VMWRITE there gives a 64-bit field 32 bits and zeros (SDM 3C 31.3), and
// operands are found by the PDPTEs that MOV to CR3 loaded.
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/fields.hpp"
#include "guests/random/log.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

extern "C" std::uint64_t boot_pdpt[];

namespace flatback::guests {
namespace {

struct Move {
    std::uint32_t encoding, value, read, flags;
};
constexpr unsigned moves = 3;

// The offsets are known to narrow.S.
struct NarrowScript {
    std::uint32_t cr3, cr4, return_cr3, return_cr4;
    std::uint32_t vmxon, vmcs;  // linear addresses of the pointers
    std::uint32_t count, flags;
    std::uint32_t pdpte;  // the address of the table whose second entry is cleared, or 0
    Move move[moves];
};
extern "C" {
void run_narrow(NarrowScript* script);
void narrow_nmi();
extern char vector_stubs[];
extern std::uint64_t narrow_gates[6];
extern volatile std::uint64_t narrow_nmis;
}

Page* tables;
Page* pointers;

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
        narrow_gates[2] = gate(reinterpret_cast<std::uint64_t>(&narrow_nmi), selector::code32);
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
    // What VMXOFF finds active may be lost (SDM 3C 31.3, VMXOFF).
    const std::uint64_t address = physical(world.vmcs[vmcs]);
    vmclear(address);
    try_vmxoff();
    world.in_vmx_operation = false;
    world.launched[vmcs] = false;

    Line line;
    line << "narrow";
    const bool with_pae = random.one_in(2);
    const bool through_alias = random.one_in(2);
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
    narrow_nmis = 0;
    run_narrow(&script);
    nmi_count = nmi_count + narrow_nmis;
    write_cr0(cr0);
    write_cr4(cr4);
    put(line, "pae", with_pae ? 1 : 0);
    put(line, "flags", script.flags & arithmetic_flags);
    make_a_guest_current();
    vmptrld(address);
    for (const Move& move : script.move) {
        put(line, "field", move.encoding);
        put(line, "value", move.value);
        put(line, "flags", move.flags & arithmetic_flags);
        if ((move.flags & (flag_carry | flag_zero)) != 0) continue;
        put(line, "read", move.read);
        put(line, "is", read_raw(move.encoding & ~1U));
    }
    for (unsigned i = moves; i-- > 0;) write_raw(script.move[i].encoding & ~1U, before[i]);
    log_line(line);
}

}  // namespace flatback::guests
