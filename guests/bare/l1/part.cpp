#include "guests/bare/l1/part.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/local_apic.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/vmcs.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/bare/l1/watchdog.hpp"

extern "C" {
std::uint64_t call_part(void (*run)());
[[noreturn]] void resume_behind_part();
extern std::uint64_t part_stack;
}

namespace flatback::guests {
namespace {

constexpr std::string_view took_too_long = "did not come to its end";

// Why the part was left. Not an object of the namespace: no constructor runs before bare_main.
Line& reason() {
    static Line line;
    return line;
}

// What a part may have changed and not put back.
struct Registers {
    std::uint64_t cr0, cr3, cr4, efer, pat;

    static Registers now() {
        return {read_cr0(), read_cr3(), read_cr4(), read_msr(msr_efer), read_msr(msr_pat)};
    }
    void restore() const {
        write_cr4(cr4);
        write_cr0(cr0);
        write_cr3(cr3);
        write_msr(msr_efer, efer);
        write_msr(msr_pat, pat);
    }
};

// What the part left behind of interrupts is taken and forgotten.
void take_pending_interrupts() {
    unblock_nmi();
    for (unsigned vector = 32; vector < 256; ++vector) count_interrupts(static_cast<std::uint8_t>(vector));
    for (unsigned i = 0; i < 16; ++i) end_of_interrupt();
    asm volatile("sti; nop; nop; cli" : : : "memory");
}

// Its pages stay taken: VMCSs that it made active may be in them, and no hypervisor gives such memory away.
void mend(const Registers& before) {
    before.restore();
    start_interrupts();
    take_pending_interrupts();
    try_vmxoff();
    if (enter_vmx_operation()) return;
    report_error("bare-l1", "VMXON failed behind a part that was left");
    power_off();
}

}  // namespace

void run_part(const Part& part, unsigned seconds) {
    if (part.offered != nullptr && !part.offered()) {
        Line line;
        report_not_offered((line << part.about << " (part " << part.name << ")").text());
        return;
    }
    // Where an emulator's debugger that is told to stops (docs/watch.md). Otherwise it does nothing.
    asm volatile("xchg %%bx, %%bx" : : : "memory");
    show_checks_reported();
    const Registers before = Registers::now();
    if (seconds != 0) watchdog::start(seconds);
    const bool left = call_part(part.run) != 0;
    const bool late = watchdog::expired();
    if (seconds != 0) watchdog::stop();
    if (left) mend(before);
    if (!left && !late) return;
    Line check;
    check << "part-" << part.name << "-comes-to-its-end";
    Line why;
    why << (left ? reason().text() : took_too_long);
    if (!Check::open().empty()) why << ", in " << Check::open();
    report_fail(check.text(), why.text());
    report_result(check.text(), Verdict::failed, "the part comes to its end", why.text());
    Check::forget_open();
    forget_rules();
}

void leave_part(std::string_view why) {
    if (part_stack == 0) {
        report_error("bare-l1", why);
        power_off();
    }
    reason() = {};
    reason() << why;
    resume_behind_part();
}

void leave_part_if_time_is_up() {
    if (part_stack != 0 && watchdog::expired()) leave_part(took_too_long);
}

bool time_is_up(InterruptFrame& frame) {
    if (part_stack == 0 || !watchdog::expired()) return false;
    reason() = {};
    reason() << took_too_long << ", at rip ";
    reason().hexadecimal(frame.rip);
    frame.rip = reinterpret_cast<std::uint64_t>(&resume_behind_part);
    frame.cs = 0x08;
    frame.ss = 0x10;
    frame.rflags = 2;
    return true;
}

}  // namespace flatback::guests
