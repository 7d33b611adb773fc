#include "guests/random/l2_code.hpp"

#include "guests/bare/l1/cpu.hpp"
#include "guests/random/code.hpp"
#include "guests/random/l1_state.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

// What is drawn for one slot.
class Snippet final {
public:
    Snippet(Random& random, unsigned bits, std::uint64_t slot)
        : random_{random}, bits_{bits}, code_{sandbox_bytes(l2_memory::code + slot * slot_size), slot_size} {}

    void write();

private:
    // An operand-size prefix where 32-bit operands need one.
    void wide() {
        if (bits_ == 16) code_.bytes({0x66});
    }
    // mov REGISTER, immediate
    void load(unsigned register_number, std::uint64_t value) {
        wide();
        code_.with_immediate({static_cast<std::uint8_t>(0xB8 + register_number)}, value, 4);
    }
    // An instruction whose operand is memory at EBX, or RBX.
    void at_ebx(std::initializer_list<std::uint8_t> instruction) {
        if (bits_ == 16) code_.bytes({0x67});
        code_.bytes(instruction);
    }
    std::uint64_t address();
    void memory();
    void control_register();
    void msr();
    void io();
    void flags();
    void far_transfer();
    void leave_or_enter_long_mode();
    void descriptor_tables();
    void vmx_instruction();
    void debug_register();
    void paging_structure();

    static constexpr unsigned eax = 0, ecx = 1, edx = 2, ebx = 3;
    Random& random_;
    unsigned bits_;
    Emitter code_;
};

std::uint64_t Snippet::address() {
    using namespace l2_memory;
    const std::uint64_t page = random_.number({data, data, data + 0x1000, data + 0x2000, data + 0x3000,
                                               data + 0x4000, data + 0x5000, data + 0x6000, local_apic,
                                               nothing, alias, unmapped, code, std::uint64_t{0x7F000000}});
    const std::uint64_t offset = random_.number({0, 8, 0x20, 0x30, 0xFFC, 0xFFE, 0x800});
    // The local APIC's registers are defined for aligned 32-bit accesses only (SDM 3A 11.4.1), and 32-bit
    // code may come to run as 64-bit code.
    if (page == local_apic) return data + offset;
    // 16-bit code has its segments at l2_memory::code.
    return bits_ == 16 && random_.one_in(2) ? random_.below(0x10000) : page + offset;
}

void Snippet::memory() {
    load(ebx, address());
    wide();
    switch (random_.below(8)) {
        case 0:
            return at_ebx({0x8B, 0x03});  // mov eax, [ebx]
        case 1:
            return at_ebx({0x89, 0x03});  // mov [ebx], eax
        case 2:
            return at_ebx({0x01, 0x0B});  // add [ebx], ecx
        case 3:
            return at_ebx({0xFF, 0x03});  // inc [ebx]
        case 4:
            return at_ebx({0x0F, 0xC1, 0x03});  // xadd [ebx], eax
        case 5:
            return at_ebx({0xFF, 0x33});  // push [ebx]
        case 6:
            return at_ebx({0xFF, 0xE3});  // jmp ebx: a fetch there
        default:
            return at_ebx({0x0F, 0xC7, 0x0B});  // cmpxchg8b
    }
}

void Snippet::control_register() {
    const std::uint64_t own_tables = physical(world.sandbox) + l2_memory::without_ept;
    static constexpr std::uint8_t reads[] = {0xC0, 0xE0};
    const bool is_cr4 = random_.one_in(2);
    switch (random_.below(5)) {
        case 0:
            code_.bytes(
                {0x0F, 0x20, random_.of({std::uint8_t{0xD8}, std::uint8_t{0xC0}, std::uint8_t{0xE0}})});
            break;
        case 1:
            load(eax, random_.number({l2_memory::pml4, l2_memory::pae_pdpt, l2_memory::directory32,
                                      own_tables + l2_memory::pml4, own_tables + l2_memory::pae_pdpt,
                                      std::uint64_t{0x12345678}}));
            code_.bytes({0x0F, 0x22, 0xD8});
            break;
        case 2:
            code_.bytes({0x0F, 0x06});  // clts
            break;
        default:
            // mov eax, crN; xor eax, one bit; mov crN, eax
            code_.bytes({0x0F, 0x20, reads[is_cr4]});
            wide();
            code_.with_immediate({0x35}, random_.bit_of(is_cr4 ? 0x7027FF : 0xE005003F), 4);
            code_.bytes({0x0F, 0x22, reads[is_cr4]});
            if (random_.one_in(3)) code_.bytes({0x0F, 0x01, 0xF0});  // lmsw ax
    }
}

void Snippet::msr() {
    static constexpr std::uint32_t msrs[] = {
        msr_efer,     msr_efer,  msr_pat,   msr_sysenter_cs,    msr_sysenter_esp, msr_sysenter_eip,
        msr_star,     msr_lstar, msr_fmask, msr_kernel_gs_base, msr_fs_base,      msr_gs_base,
        msr_debugctl, 0x480,     0x1B,      0x12345678};
    const std::uint32_t index = random_.of(msrs);
    load(ecx, index);
    if (random_.one_in(3)) {
        code_.bytes({0x0F, 0x32});
        return;
    }
    // IA32_EFER is changed by a bit; others are written with what may fault.
    if (index == msr_efer) {
        code_.bytes({0x0F, 0x32});
        wide();
        code_.with_immediate({0x35}, random_.bit_of(0x901), 4);
    } else {
        load(eax, index == msr_pat ? 0x06060606 : index == msr_debugctl ? 0 : random_.bits());
        load(edx, index == msr_pat ? 0x06060606 : random_.number({0ULL, 0ULL, 0xFFFFFFFFULL, 0x12345678ULL}));
    }
    code_.bytes({0x0F, 0x30});
}

void Snippet::io() {
    load(edx, random_.number({0x80ULL, 0x81ULL, 0x60ULL, 0xFFFFULL, 0x8000ULL}));
    switch (random_.below(6)) {
        case 0:
            return code_.bytes({0xE4, 0x80});
        case 1:
            return code_.bytes({0xE6, 0x80});
        case 2:
            return code_.bytes({0xEC});
        case 3:
            return code_.bytes({0xEE});
        case 4:
            return code_.bytes({0x6C});  // insb
        default:
            load(ecx, 3);
            return code_.bytes({0xF3, 0x6E});  // rep outsb
    }
}

void Snippet::flags() {
    switch (random_.below(5)) {
        case 0:
            return code_.bytes({0xFB, 0x90});  // sti; nop
        case 1:
            return code_.bytes({0xFA});
        case 2:
            code_.bytes({0x8C, 0xD0, 0x8E, 0xD0});  // mov eax, ss; mov ss, eax
            return;
        default:
            // pushf; xor word [rsp], some; popf
            code_.bytes({0x9C});
            if (bits_ == 16) {
                code_.bytes({0x58});
                code_.with_immediate({0x35}, random_.bit_of(0xF7D5), 2);
                code_.bytes({0x50, 0x9D});
            } else {
                code_.bytes({0x58});
                code_.with_immediate({0x35}, random_.bit_of(0x277FD5), 4);
                code_.bytes({0x50, 0x9D});
            }
    }
}

void Snippet::far_transfer() {
    const std::uint64_t target = l2_memory::code + (slots - 1) * slot_size;
    const std::uint64_t selector = random_.number(
        {0x08ULL, 0x18ULL, 0x20ULL, 0x33ULL, 0x3BULL, 0x78ULL, 0x10ULL, 0x58ULL, 0x40ULL, 0ULL});
    switch (random_.below(4)) {
        case 0:
            // push selector; push target; retf
            code_.with_immediate({0x6A}, selector, 1);
            if (bits_ == 16)
                code_.with_immediate({0x68}, target & 0xFFFF, 2);
            else
                code_.with_immediate({0x68}, target, 4);
            if (bits_ == 64) code_.bytes({0x48});
            return code_.bytes({0xCB});
        case 1:
            if (bits_ == 64) code_.bytes({0x48});
            return code_.bytes({0xCF});
        case 2:
            load(eax, selector);
            return code_.bytes({0x8E, random_.of({std::uint8_t{0xC0}, std::uint8_t{0xD8}, std::uint8_t{0xE0},
                                                  std::uint8_t{0xE8}, std::uint8_t{0xD0}})});
        default:
            if (bits_ == 64) return code_.bytes({0x0F, 0x05});  // syscall
            return code_.bytes({0x0F, 0x34});                   // sysenter
    }
}

void Snippet::leave_or_enter_long_mode() {
    if (bits_ == 64) {
        // To compatibility mode by a far return; there, CR0.PG off.
        code_.with_immediate({0x6A}, 0x18, 1);
        const std::uint8_t* const here = code_.here();
        const auto target =
            l2_memory::code + static_cast<std::uint64_t>(here - sandbox_bytes(l2_memory::code)) + 7;
        code_.with_immediate({0x68}, target, 4);
        code_.bytes({0x48, 0xCB});
        code_.bytes({0x0F, 0x20, 0xC0});      // mov eax, cr0
        code_.bytes({0x0F, 0xBA, 0xF0, 31});  // btr eax, 31
        code_.bytes({0x0F, 0x22, 0xC0});      // mov cr0, eax
        code_.bytes({0x0F, 0x01, 0xC1});
        return;
    }
    // CR0.PG: off where it is on, on where it is off.
    code_.bytes({0x0F, 0x20, 0xC0});
    wide();
    code_.bytes({0x0F, 0xBA, 0xF8, 31});  // btc eax, 31
    code_.bytes({0x0F, 0x22, 0xC0});
}

void Snippet::descriptor_tables() {
    load(ebx, l2_memory::data);
    switch (random_.below(7)) {
        case 0:
            return at_ebx({0x0F, 0x01, 0x03});  // sgdt
        case 1:
            return at_ebx({0x0F, 0x01, 0x0B});  // sidt
        case 2:
            return at_ebx({0x0F, 0x01, 0x1B});  // lidt
        case 3:
            return code_.bytes({0x0F, 0x00, 0xC8});  // str eax
        case 4:
            load(eax, random_.number({0x40ULL, 0x60ULL, 0x68ULL, 0ULL}));
            return code_.bytes({0x0F, 0x00, 0xD8});  // ltr ax
        case 5:
            load(eax, 0);
            return code_.bytes({0x0F, 0x00, 0xD0});  // lldt ax
        default:
            return code_.bytes({0x0F, 0x01, 0xE0});  // smsw eax
    }
}

void Snippet::vmx_instruction() {
    load(ebx, l2_memory::data);
    switch (random_.below(10)) {
        case 0:
            return code_.bytes({0x0F, 0x01, 0xC2});
        case 1:
            return code_.bytes({0x0F, 0x01, 0xC3});
        case 2:
            return code_.bytes({0x0F, 0x01, 0xC4});
        case 3:
            return at_ebx({0x0F, 0xC7, 0x33});
        case 4:
            return at_ebx({0x66, 0x0F, 0xC7, 0x33});
        case 5:
            return at_ebx({0xF3, 0x0F, 0xC7, 0x33});
        case 6:
            return at_ebx({0x0F, 0xC7, 0x3B});
        case 7:
            return at_ebx({0x0F, 0x78, 0x03});
        case 8:
            return at_ebx({0x66, 0x0F, 0x38, 0x81, 0x03});
        default:
            return code_.bytes({0x0F, 0x79, 0xC1});
    }
}

void Snippet::debug_register() {
    switch (random_.below(4)) {
        case 0:
            return code_.bytes({0x0F, 0x21, 0xF8});  // mov eax, dr7
        case 1:
            load(eax, l2_memory::data);
            return code_.bytes({0x0F, 0x23, 0xC0});  // mov dr0, eax
        default:
            // DR0 on data or on the next slots' instructions.
            load(eax, random_.number({0x400ULL, 0x401ULL, 0x402ULL, 0x30401ULL, 0x2401ULL}));
            return code_.bytes({0x0F, 0x23, 0xF8});
    }
}

void Snippet::paging_structure() {
    // Changes one bit of a page-table entry of L2's own, of a page of data.
    const std::uint64_t entry = l2_memory::data / page_size + random_.below(7);
    const std::uint64_t base = random_.one_in(4) ? l2_memory::without_ept : 0;
    load(ebx, base + (random_.one_in(3) ? l2_memory::table32 + entry * 4 : l2_memory::table + entry * 8));
    load(eax, random_.bit_of(0x7F));
    wide();
    at_ebx({0x31, 0x03});  // xor [ebx], eax
    load(ebx, l2_memory::data + random_.below(7) * page_size);
    at_ebx({0x0F, 0x01, 0x3B});  // invlpg
    wide();
    at_ebx({0x8B, 0x03});
}

void Snippet::write() {
    switch (random_.below(20)) {
        case 0:
        case 1:
        case 2:
            return memory();
        case 3:
            load(eax, random_.below(4));
            return code_.bytes({0x0F, 0xA2});
        case 4:
        case 5:
            return control_register();
        case 6:
        case 7:
            return msr();
        case 8:
            return io();
        case 9:
            return flags();
        case 10:
            return far_transfer();
        case 11:
        case 12:
            return leave_or_enter_long_mode();
        case 13:
            return descriptor_tables();
        case 14:
            return vmx_instruction();
        case 15:
            return debug_register();
        case 16:
            return paging_structure();
        case 17:
            return code_.bytes({0xCD, static_cast<std::uint8_t>(random_.below(256))});
        case 18: {
            static constexpr std::uint8_t single[] = {0xF4, 0xCC, 0xF1, 0xCE, 0x9C, 0x9D};
            return code_.bytes({random_.of(single)});
        }
        default:
            switch (random_.below(7)) {
                case 0:
                    return code_.bytes({0x0F, 0x0B});  // ud2
                case 1:
                    return code_.bytes({0x0F, 0x09});  // wbinvd
                case 2:
                    return code_.bytes({0xF3, 0x90});  // pause
                case 3:
                    return code_.bytes({0x0F, 0x01, 0xD1});  // xsetbv
                case 4:
                    return code_.bytes({0x0F, 0x01, 0xF8});  // swapgs
                case 5:
                    return code_.bytes({0x0F, 0x31});  // rdtsc
                default:
                    load(ebx, address());
                    return at_ebx({0x0F, 0x01, 0x3B});  // invlpg
            }
    }
}

}  // namespace

void write_l2_code(Random& random, unsigned bits) {
    auto* const first = sandbox_bytes(l2_memory::code);
    for (std::uint64_t i = 0; i < slots * slot_size; ++i) first[i] = 0x90;
    for (std::uint64_t slot = 0; slot + 1 < slots; ++slot) Snippet{random, bits, slot}.write();
    // vmcall; jmp -5
    Emitter last{sandbox_bytes(l2_memory::code + (slots - 1) * slot_size), slot_size};
    last.bytes({0x0F, 0x01, 0xC1, 0xEB, 0xFB});
}

}  // namespace flatback::guests
