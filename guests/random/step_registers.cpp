#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/code.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/l1_state.hpp"
#include "guests/random/log.hpp"
#include "guests/random/steps.hpp"
#include "guests/random/world.hpp"

namespace flatback::guests {
namespace {

void put_end(Line& line, const CodeEnd& end, const CodeRegisters& registers) {
    constexpr std::uint64_t visible_flags = 0x8D5;
    if (end.vector == CodeEnd::none) {
        put(line, "flags", registers.rflags & visible_flags);
        return;
    }
    put(line, "vector", end.vector);
    put(line, "error", end.error_code);
    put(line, "offset", end.offset);
    put(line, "rflags", end.rflags);
    put(line, "cs", end.cs);
    if (end.vector == vector_page_fault) put(line, "cr2", end.cr2);
}

void finish(Line& line) {
    put(line, "l1", l1_checksum());
    log_line(line);
    if (log_everything) print_l1_state();
}

// XSETBV exits always, whoever executes it: an L0 makes its checks.
void set_extended_control(Random& random, Emitter& code, CodeRegisters& registers, Line& line) {
    constexpr std::uint64_t os_xsave = 1U << 18;
    if (!random.one_in(6) && (capabilities.cr4_fixed1 & os_xsave) != 0) write_cr4(read_cr4() | os_xsave);
    registers.rcx = random.one_in(6) ? random.number({1ULL, 0x100000000ULL}) : 0;
    const std::uint64_t value = random.one_in(4)
                                    ? random.bits()
                                    : random.number({0ULL, 1ULL, 2ULL, 3ULL, 5ULL, 7ULL, 0xE7ULL, 0x67ULL,
                                                     0x1FULL, 0x207ULL, 0x8000000000000001ULL});
    registers.rax = value & 0xFFFFFFFF;
    registers.rdx = value >> 32;
    code.bytes({0x0F, 0x01, 0xD1});
    line << "xsetbv";
    put(line, "index", registers.rcx);
}

void put_extended_control(Line& line) {
    constexpr std::uint64_t os_xsave = 1U << 18;
    if ((read_cr4() & os_xsave) == 0) return;
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    put(line, "xcr0", std::uint64_t{high} << 32 | low);
}

}  // namespace

void step_control_register(Random& random) {
    CodeRegisters registers{};
    Emitter code{code_memory(), code_size};
    Line line;
    if (random.one_in(6)) {
        set_extended_control(random, code, registers, line);
        put(line, "value", registers.rdx << 32 | registers.rax);
        const CodeEnd end = run(code, registers);
        put_end(line, end, registers);
        put_extended_control(line);
        return finish(line);
    }
    if (random.one_in(2)) {
        // Bits with which this L1 can live, and now and then one that must fault.
        const std::uint64_t bits = random.one_in(4) ? random.bit_of(~0x60000000ULL) : random.some_of(0x5000E);
        // PG, PE, and the cache bits stay as they are: CD without effect here, PG and PE only where they must
        // fault.
        registers.rax = read_cr0() ^ (bits & ~0x60000000ULL);
        code.bytes({0x0F, 0x22, 0xC0});
        line << "cr0";
    } else {
        constexpr std::uint64_t tolerable = 0x300F8F | 1U << 16;
        registers.rax = read_cr4() ^ (random.one_in(4) ? random.bit_of(~0x20000ULL)
                                                       : random.bit_of(tolerable & capabilities.cr4_fixed1));
        code.bytes({0x0F, 0x22, 0xE0});
        line << "cr4";
    }
    put(line, "value", registers.rax);
    const CodeEnd end = run(code, registers);
    put_end(line, end, registers);
    finish(line);
}

void step_msr(Random& random) {
    CodeRegisters registers{};
    Emitter code{code_memory(), code_size};
    Line line;
    static constexpr std::uint32_t msrs[] = {
        msr_efer,  msr_pat,   msr_sysenter_cs, msr_sysenter_esp, msr_sysenter_eip,  msr_star,
        msr_lstar, msr_fmask, msr_fs_base,     msr_gs_base,      msr_kernel_gs_base};
    const std::uint32_t index = random.of(msrs);
    std::uint64_t value = random.one_in(3)   ? random.bits()
                          : random.one_in(2) ? random.bits() >> 20
                                             : usual_pat;
    if (index == msr_efer)
        value = usual_efer ^ (random.one_in(3) ? random.bit_of(~0x500ULL) : random.some_of(0x801));
    registers.rcx = index;
    registers.rax = value & 0xFFFFFFFF;
    registers.rdx = value >> 32;
    code.bytes({0x0F, 0x30});
    line << "wrmsr";
    put(line, "index", index);
    put(line, "value", value);
    const CodeEnd end = run(code, registers);
    // EFER.NXE decides whether bit 63 of an entry is reserved; a translation from before may still be used,
    // or not (SDM 3A 5.10.4.3).
    if (index == msr_efer) {
        for (unsigned page = 0; page < window_pages; ++page)
            invalidate_page(reinterpret_cast<void*>(window_address_of(page)));
    }
    put_end(line, end, registers);
    finish(line);
}

void step_user_port(Random& random) {
    // The task register's limit decides whether there is an I/O permission bitmap; an exit leaves 67H (SDM
    // 3C 28.5.2).
    Line line;
    line << "user";
    if (random.one_in(3)) {
        const auto limit = static_cast<std::uint32_t>(
            random.number({std::uint64_t{whole_tss}, std::uint64_t{whole_tss}, 0x67ULL, 0x77ULL}));
        load_descriptor_tables(limit);
        put(line, "limit", limit);
    }
    CodeRegisters registers{};
    // In user mode: in al, dx, or an instruction that needs privilege; int vector_end_of_user.
    const std::uint64_t port = random.number({0x80ULL, 0x3FULL, 0x81ULL, 0xFFFFULL, 0x61ULL});
    Emitter code{code_memory() + 64, 64};
    const std::uint64_t kind = random.below(6);
    registers.rdx = port;
    if (kind < 4)
        code.bytes({0xEC});
    else if (kind == 4)
        code.bytes({0x0F, 0x01, 0xC1});  // vmcall
    else
        code.bytes({0x0F, 0x78, 0xC8});  // vmread
    code.bytes({0xCD, vector_end_of_user});
    // push ss; push rsp; push rflags; push cs; push rip; iretq
    Emitter enter{code_memory(), 64};
    const std::uint64_t rip = window_address_of(user_code) + 64;
    enter.with_immediate({0x6A}, selector::user_data, 1);
    enter.bytes({0x6A, 0x00});
    enter.bytes({0x6A, 0x02});
    enter.with_immediate({0x6A}, selector::user_code64, 1);
    enter.with_immediate({0x48, 0xB8}, rip, 8);
    enter.bytes({0x50, 0x48, 0xCF});
    put(line, "kind", kind);
    put(line, "port", port);
    const CodeEnd end = run(enter, registers);
    put_end(line, end, registers);
    finish(line);
}

void step_event(Random& random) {
    Line line;
    switch (random.below(5)) {
        case 0:
            line << "nmi";
            send_self_nmi();
            break;
        case 1: {
            const auto vector = static_cast<std::uint8_t>(first_external_vector + random.below(0xB0));
            line << "interrupt, pending";
            put(line, "vector", vector);
            send_self_interrupt(vector);
            break;
        }
        case 2:
            line << "interrupts taken";
            asm volatile("sti; nop; nop; cli" : : : "memory");
            break;
        case 3:
            line << "iret";
            asm volatile("int $0x30" : : : "memory");
            break;
        default:
            line << "nmi while blocked";
            send_self_nmi();
            send_self_nmi();
    }
    put(line, "nmis", nmi_count);
    put(line, "externals", external_count);
    put(line, "last", last_external_vector);
    log_line(line);
}

}  // namespace flatback::guests
