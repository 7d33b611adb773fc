#include "guests/random/l1_state.hpp"

#include <iterator>
#include <string_view>

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/random/faults.hpp"
#include "guests/random/log.hpp"

extern "C" std::uint64_t boot_pml4[];

namespace flatback::guests {
namespace {

constexpr std::uint32_t shared_msrs[] = {msr_pat,          msr_sysenter_cs, msr_sysenter_esp,
                                         msr_sysenter_eip, msr_star,        msr_lstar,
                                         msr_cstar,        msr_fmask,       msr_kernel_gs_base};

constexpr std::string_view shared_names[] = {"pat",   "sysenter_cs", "sysenter_esp", "sysenter_eip",  "star",
                                             "lstar", "cstar",       "fmask",        "kernel_gs_base"};

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint64_t base;
};

template <typename Visit>
void visit_registers(Visit visit) {
    std::uint64_t value = 0;
    visit("cr0", read_cr0());
    visit("cr3", read_cr3());
    visit("cr4", read_cr4());
    asm volatile("movq %%cr8, %0" : "=r"(value));
    visit("cr8", value);
    asm volatile("movq %%dr0, %0" : "=r"(value));
    visit("dr0", value);
    asm volatile("movq %%dr1, %0" : "=r"(value));
    visit("dr1", value);
    asm volatile("movq %%dr6, %0" : "=r"(value));
    visit("dr6", value);
    asm volatile("movq %%dr7, %0" : "=r"(value));
    visit("dr7", value);
    visit("efer", read_msr(msr_efer));
    visit("debugctl", read_msr(msr_debugctl));
    visit("fs_base", read_msr(msr_fs_base));
    visit("gs_base", read_msr(msr_gs_base));
    for (unsigned i = 0; i < std::size(shared_msrs); ++i) visit(shared_names[i], read_msr(shared_msrs[i]));
    std::uint16_t selector = 0;
    asm volatile("movw %%es, %0" : "=rm"(selector));
    visit("es", selector);
    asm volatile("movw %%cs, %0" : "=rm"(selector));
    visit("cs", selector);
    asm volatile("movw %%ss, %0" : "=rm"(selector));
    visit("ss", selector);
    asm volatile("movw %%ds, %0" : "=rm"(selector));
    visit("ds", selector);
    asm volatile("movw %%fs, %0" : "=rm"(selector));
    visit("fs", selector);
    asm volatile("movw %%gs, %0" : "=rm"(selector));
    visit("gs", selector);
    asm volatile("str %0" : "=rm"(selector));
    visit("tr", selector);
    asm volatile("sldt %0" : "=rm"(selector));
    visit("ldtr", selector);
    TablePointer pointer{};
    asm volatile("sgdt %0" : "=m"(pointer));
    visit("gdtr_limit", pointer.limit);
    visit("gdtr_base", pointer.base - gdt_base());
    asm volatile("sidt %0" : "=m"(pointer));
    visit("idtr_limit", pointer.limit);
    visit("idtr_base", pointer.base - idt_base());
}

}  // namespace

void reset_l1_state() {
    asm volatile("cli; cld");
    // IRET ends blocking by NMI, which an exit due to an NMI leaves.
    asm volatile("int $0x30" : : : "memory");
    write_msr(msr_efer, usual_efer);
    write_cr3(reinterpret_cast<std::uint64_t>(boot_pml4));
    constexpr std::uint64_t cr0 = 0x80010031;
    constexpr std::uint64_t cr4 = 0x20;
    write_cr0((cr0 | capabilities.cr0_fixed0) & capabilities.cr0_fixed1);
    write_cr4(((cr4 | capabilities.cr4_fixed0 | cr4_vmxe) & capabilities.cr4_fixed1));
    load_descriptor_tables();
    asm volatile("movw %w0, %%ds; movw %w0, %%es; movw %w0, %%ss" : : "r"(selector::data));
    asm volatile("movw %w0, %%fs; movw %w0, %%gs" : : "r"(0));
    constexpr std::uint64_t zero = 0;
    asm volatile("movq %0, %%dr0; movq %0, %%dr1; movq %0, %%dr2; movq %0, %%dr3" : : "r"(zero));
    asm volatile("movq %0, %%dr6" : : "r"(0xFFFF0FF0UL));
    asm volatile("movq %0, %%dr7" : : "r"(0x400UL));
    asm volatile("movq %0, %%cr8; movq %0, %%cr2" : : "r"(zero));
    write_msr(msr_fs_base, 0);
    write_msr(msr_gs_base, 0);
    for (const std::uint32_t msr : shared_msrs) write_msr(msr, msr == msr_pat ? usual_pat : 0);
    // What an L2 accepted by itself is in service still.
    constexpr unsigned priorities = 16;
    for (unsigned i = 0; i < priorities; ++i) end_of_interrupt();
    asm volatile("sti; nop; nop; cli");
    constexpr std::uint64_t os_xsave = 1U << 18;
    if ((capabilities.cr4_fixed1 & os_xsave) == 0) return;
    // XCR0 is what it was after reset.
    const std::uint64_t usual = read_cr4();
    write_cr4(usual | os_xsave);
    asm volatile("xsetbv" : : "a"(1), "d"(0), "c"(0));
    write_cr4(usual);
}

std::uint64_t l1_checksum() {
    std::uint64_t sum = 1;
    visit_registers([&sum](std::string_view, std::uint64_t value) {
        asm("crc32q %1, %0" : "+r"(sum) : "r"(value));
    });
    return sum;
}

void print_l1_state() {
    Line line;
    line << "  L1";
    visit_registers([&line](std::string_view name, std::uint64_t value) {
        put(line, name, value);
        if (line.text().size() < 300) return;
        log_line(line);
        line = Line{};
        line << "  L1";
    });
    log_line(line);
}

}  // namespace flatback::guests
