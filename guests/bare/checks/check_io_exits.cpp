// I/O instructions of L2: unconditional exits, I/O bitmaps, qualification. SDM 3C 25.6.4, table 28-5.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_port_program[];
extern char l2_two_ports_program[];
extern char l2_write_and_read_port[];
extern char l2_write_string_to_port[];
extern char l2_read_string_from_port[];
}

asm(R"(
.pushsection .text
.globl l2_port_program, l2_two_ports_program, l2_write_and_read_port, l2_write_string_to_port
.globl l2_read_string_from_port
l2_port_program:
    outb %al, $0x80
    movl $0x9E3C, %edx
    inw (%dx), %ax
    outl %eax, $0x84
    cld
    movl $3, %ecx
    rep outsb
    vmcall
l2_two_ports_program:
    inw (%dx), %ax
    vmcall
l2_write_and_read_port:
    outw %ax, (%dx)
    inw (%dx), %ax
    vmcall
l2_write_string_to_port:
    outsw
    vmcall
l2_read_string_from_port:
    insw
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

void set_primary(std::uint32_t controls) {
    write(field::primary_processor_based_vm_execution_controls,
          read(field::primary_processor_based_vm_execution_controls) | controls);
}

struct IoBitmaps {
    std::uint8_t* a = reinterpret_cast<std::uint8_t*>(allocate_page());
    std::uint8_t* b = reinterpret_cast<std::uint8_t*>(allocate_page());

    // To be called while the VMCS that uses them is current.
    void use() const {
        write(field::address_of_io_bitmap_a, physical(a));
        write(field::address_of_io_bitmap_b, physical(b));
        set_primary(primary::use_io_bitmaps);
    }

    void intercept(unsigned port, bool exits) const {
        std::uint8_t& byte = (port < 0x8000 ? a : b)[(port & 0x7FFF) / 8];
        const auto bit = static_cast<std::uint8_t>(1U << (port % 8));
        byte = static_cast<std::uint8_t>(exits ? byte | bit : byte & ~bit);
    }
};

// SDM 3C table 28-5.
constexpr std::uint64_t qualification(unsigned size, bool in, bool string, bool rep, bool immediate,
                                      unsigned port) {
    return (size - 1) | (in ? 8U : 0U) | (string ? 16U : 0U) | (rep ? 32U : 0U) | (immediate ? 64U : 0U) |
           std::uint64_t{port} << 16;
}

void check_unconditional() {
    const RuleScope rule{{"3C 26.1.3", "without I/O bitmaps unconditional I/O exiting decides"}};
    L2 l2{usual_plan(physical(l2_port_program), usual_ept().pointer())};
    set_primary(primary::unconditional_io_exiting);
    Page* const text = allocate_page();
    l2.registers.rsi = physical(text);
    Check check{"unconditional-io-exiting-exits-with-size-direction-string-rep-and-port"};
    check.runs_to(l2, reason::io_instruction);
    check.equal("OUT imm8, AL", read(field::exit_qualification),
                qualification(1, false, false, false, true, 0x80));
    L2::skip_instruction();
    check.runs_to(l2, reason::io_instruction);
    check.equal("IN AX, DX", read(field::exit_qualification),
                qualification(2, true, false, false, false, 0x9E3C));
    L2::skip_instruction();
    l2.registers.rax = 0;
    check.runs_to(l2, reason::io_instruction);
    check.equal("OUT imm8, EAX", read(field::exit_qualification),
                qualification(4, false, false, false, true, 0x84));
    L2::skip_instruction();
    check.runs_to(l2, reason::io_instruction);
    check.equal("REP OUTSB", read(field::exit_qualification),
                qualification(1, false, true, true, false, 0x9E3C));
    check.equal("linear address of the string", read(field::guest_linear_address), physical(text));
    check.equal("RCX", l2.registers.rcx, 3);
    L2::skip_instruction();
    check.runs_to(l2, reason::vmcall);
}

void check_bitmaps() {
    const RuleScope rule{{"3C 25.6.4", "with I/O bitmaps the bit of the port decides"}};
    const IoBitmaps bitmaps;
    L2 l2{usual_plan(physical(l2_port_program), usual_ept().pointer())};
    bitmaps.use();
    l2.registers.rsi = physical(allocate_page());
    {
        Check check{"with-empty-io-bitmaps-no-port-exits"};
        check.runs_to(l2, reason::vmcall);
    }
    bitmaps.intercept(0x80, true);
    bitmaps.intercept(0x9E3C, true);
    {
        Check check{"a-bit-set-in-the-io-bitmaps-later-is-seen-in-both-halves"};
        write(field::guest_rip, physical(l2_port_program));
        check.runs_to(l2, reason::io_instruction);
        check.equal("port", read(field::exit_qualification) >> 16, 0x80);
        L2::skip_instruction();
        check.runs_to(l2, reason::io_instruction);
        check.equal("port", read(field::exit_qualification) >> 16, 0x9E3C);
    }
    bitmaps.intercept(0x80, false);
    {
        Check check{"a-bit-cleared-in-the-io-bitmaps-later-is-seen"};
        write(field::guest_rip, physical(l2_port_program));
        check.runs_to(l2, reason::io_instruction);
        check.equal("port", read(field::exit_qualification) >> 16, 0x9E3C);
    }
    {
        Check check{"with-io-bitmaps-unconditional-io-exiting-is-ignored"};
        bitmaps.intercept(0x9E3C, false);
        set_primary(primary::unconditional_io_exiting);
        write(field::guest_rip, physical(l2_port_program));
        check.runs_to(l2, reason::vmcall);
    }
}

void check_wide_accesses() {
    const RuleScope rule{{"3C 25.6.4", "an access exits where the bit of any of its ports is 1"}};
    const IoBitmaps bitmaps;
    L2 l2{usual_plan(physical(l2_two_ports_program), usual_ept().pointer())};
    bitmaps.use();
    bitmaps.intercept(0x9E3D, true);
    {
        Check check{"a-two-byte-access-exits-when-only-its-second-port-is-intercepted"};
        l2.registers.rdx = 0x9E3C;
        check.runs_to(l2, reason::io_instruction);
    }
    {
        Check check{"a-two-byte-access-across-the-two-io-bitmaps-exits-by-its-second-port"};
        bitmaps.intercept(0x8000, true);
        l2.registers.rdx = 0x7FFF;
        check.runs_to(l2, reason::io_instruction);
        check.equal("port", read(field::exit_qualification) >> 16, 0x7FFF);
    }
    Check check{"an-access-that-wraps-around-port-ffff-exits-with-empty-io-bitmaps"};
    l2.registers.rdx = 0xFFFF;
    check.runs_to(l2, reason::io_instruction);
    check.equal("port", read(field::exit_qualification) >> 16, 0xFFFF);
}

// ACPI's PM1a control register; 0 where there is none.
std::uint16_t sleep_port() {
    const auto word = [](std::uint64_t address) {
        return *reinterpret_cast<volatile std::uint32_t*>(address);
    };
    for (std::uint64_t rsdp = 0xE0000; rsdp < 0x100000; rsdp += 16) {
        if (word(rsdp) != 0x20445352 || word(rsdp + 4) != 0x20525450) continue;  // "RSD PTR "
        const std::uint64_t rsdt = word(rsdp + 16);
        for (std::uint64_t at = rsdt + 36; at < rsdt + word(rsdt + 4); at += 4) {
            if (word(word(at)) == 0x50434146)
                return static_cast<std::uint16_t>(word(word(at) + 64));  // "FACP"
        }
    }
    return 0;
}

// The machine would come back from it without the L0: whoever asks, at the port itself, gets no sleep.
void check_sleep_requests() {
    const std::uint16_t port = sleep_port();
    if (!under_flatback() || !beneath_is_bochs() || port == 0)
        return report_not_offered("an L0 that keeps the machine from sleeping");
    constexpr std::uint64_t request = 1U << 13 | 1U << 10 | 1;  // SLP_EN, this machine's S3, SCI_EN
    constexpr std::uint64_t without = 1U << 10 | 1;
    constexpr std::uint64_t reserved = 2;
    const auto ask = [port](L2& l2) {
        write(field::guest_rip, physical(l2_write_and_read_port));
        l2.registers.rdx = port;
        l2.registers.rax = request;
    };
    {
        Check check{"a-sleep-request-of-an-l2-without-io-exits-is-refused"};
        L2 l2{usual_plan(0, usual_ept().pointer())};
        ask(l2);
        check.runs_to(l2, reason::vmcall);
        check.equal("the register", l2.registers.rax & 0xFFFF & ~reserved, without);
    }
    {
        Check check{"a-sleep-request-by-a-string-of-an-l2s-is-refused-and-the-rest-is-not"};
        L2 l2{usual_plan(0, usual_ept().pointer())};
        Page* const page = allocate_page();
        page->words[0] = request;
        write(field::guest_rip, physical(l2_write_string_to_port));
        l2.registers.rdx = port;
        l2.registers.rsi = physical(page);
        check.runs_to(l2, reason::vmcall);
        check.equal("RSI", l2.registers.rsi, physical(page) + 2);
        write(field::guest_rip, physical(l2_read_string_from_port));
        l2.registers.rdi = physical(&page->words[1]);
        check.runs_to(l2, reason::vmcall);
        check.equal("RDI", l2.registers.rdi, physical(page) + 10);
        check.equal("the register", page->words[1] & ~reserved, without);
    }
    {
        Check check{"a-string-of-an-l2s-at-a-port-that-l0-keeps-meets-l1s-ept"};
        const PageScope scope;
        Ept12 ept;
        ept.map_identity(0, 4ULL << 30, EptLevel::page_2m);
        const std::uint64_t page = physical(allocate_large_page());
        ept.entry(page, EptLevel::page_2m) = 0;
        L2 l2{usual_plan(0, ept.pointer())};
        write(field::guest_rip, physical(l2_write_string_to_port));
        l2.registers.rdx = port;
        l2.registers.rsi = page + 0x123;
        check.runs_to(l2, reason::ept_violation);
        check.equal("qualification", read(field::exit_qualification), 0x181);
        check.equal("guest-physical address", read(field::guest_physical_address), page + 0x123);
        check.equal("guest-linear address", read(field::guest_linear_address), page + 0x123);
        check.equal("RIP", read(field::guest_rip), physical(l2_write_string_to_port));
        check.equal("RSI", l2.registers.rsi, page + 0x123);
    }
    {
        Check check{"a-sleep-request-of-an-l2-with-io-bitmaps-is-refused-where-l1-does-not-intercept-it"};
        L2 l2{usual_plan(0, usual_ept().pointer())};
        const IoBitmaps bitmaps;
        bitmaps.use();
        for (unsigned round = 0; round < 2; ++round) {
            ask(l2);
            check.runs_to(l2, reason::vmcall);
            check.equal("the register", l2.registers.rax & 0xFFFF & ~reserved, without);
            bitmaps.intercept(port + 1, true);
            ask(l2);
            check.runs_to(l2, reason::io_instruction);
            check.equal("qualification", read(field::exit_qualification),
                        qualification(2, false, false, false, false, port));
            bitmaps.intercept(port + 1, false);
        }
    }
    Check check{"a-sleep-request-of-an-l2-whose-io-all-exits-is-l1s"};
    L2 l2{usual_plan(0, usual_ept().pointer())};
    set_primary(primary::unconditional_io_exiting);
    ask(l2);
    check.runs_to(l2, reason::io_instruction);
}

}  // namespace

void check_io_exits() {
    const PageScope scope;
    check_unconditional();
    check_bitmaps();
    check_wide_accesses();
    check_sleep_requests();
}

}  // namespace flatback::guests
