// Instructions that a control makes exit, or without which L2 does not have them. SDM 3C 26.1.3, 26.3.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/rule.hpp"

extern "C" {
extern char l2_rdpmc[];
extern char l2_monitor[];
extern char l2_mwait[];
extern char l2_pause[];
extern char l2_pause_loop[];
extern char l2_rdtscp[];
extern char l2_rdtsc[];
extern char l2_invpcid[];
extern char l2_rdrand[];
extern char l2_rdseed[];
extern char l2_xsaves[];
extern char l2_xrstors[];
}

asm(R"(
.pushsection .text
.globl l2_rdpmc, l2_monitor, l2_mwait, l2_pause, l2_pause_loop, l2_rdtscp, l2_invpcid, l2_rdrand, l2_rdseed
.globl l2_rdtsc
.globl l2_xsaves, l2_xrstors
l2_rdpmc:
    rdpmc
    vmcall
l2_monitor:
    monitor
    vmcall
l2_mwait:
    mwait
    vmcall
l2_pause:
    pause
    vmcall
l2_pause_loop:
    pause
    jmp l2_pause_loop
l2_rdtsc:
    rdtsc
    vmcall
l2_rdtscp:
    rdtscp
    vmcall
l2_invpcid:
    invpcid (%rsi), %rax
    vmcall
l2_rdrand:
    rdrand %rbx
    vmcall
l2_rdseed:
    rdseed %rbx
    vmcall
l2_xsaves:
    xsaves64 (%rsi)
    vmcall
l2_xrstors:
    xrstors64 (%rsi)
    vmcall
.popsection
)");

namespace flatback::guests {
namespace {

constexpr std::uint32_t invalid_opcode_exits = 1U << 6;
constexpr std::uint32_t undefined_opcode = 0x8000'0306;
constexpr std::uint64_t cr4_osxsave = 1ULL << 18;

void start(L2& l2, const char* program, std::uint64_t operand) {
    write(field::guest_rip, physical(program));
    write(field::guest_rflags, 2);
    l2.registers = {};
    l2.registers.rsi = operand;
}
void set_primary(std::uint32_t controls, bool on) {
    const std::uint32_t before = read(field::primary_processor_based_vm_execution_controls);
    write(field::primary_processor_based_vm_execution_controls, on ? before | controls : before & ~controls);
}
void set_secondary(std::uint32_t controls, bool on) {
    const std::uint32_t before = read(field::secondary_processor_based_vm_execution_controls);
    write(field::secondary_processor_based_vm_execution_controls,
          on ? before | controls : before & ~controls);
}

struct Exiting {
    std::string_view name;
    const char* program;
    std::uint32_t primary;
    std::uint32_t secondary;
    vmx::ExitReason reason;
    std::uint64_t length;
};

// A control alone decides whether the instruction exits.
void check_exiting(L2& l2, const Exiting& each, std::uint64_t operand) {
    const RuleScope rule{{"3C 26.1.3", "an instruction exits where its control is 1"}};
    if (!capabilities.primary.may_set(each.primary) || !capabilities.secondary.may_set(each.secondary)) {
        report_not_offered(each.name);
        return;
    }
    Check check{each.name};
    set_primary(each.primary, true);
    set_secondary(each.secondary, true);
    start(l2, each.program, operand);
    check.runs_to(l2, reason::number(each.reason));
    check.equal("RIP", read(field::guest_rip), physical(each.program));
    check.equal("length", read(field::vm_exit_instruction_length), each.length);
    set_primary(each.primary, false);
    set_secondary(each.secondary, false);
}

// Without the control the instruction is undefined in L2, with it L2 has it.
void check_enabling(L2& l2, std::string_view name, const char* program, std::uint32_t control,
                    std::uint64_t operand) {
    const RuleScope rule{{"3C 26.3", "an instruction is undefined where its enable control is 0"}};
    if (!capabilities.secondary.may_set(control)) {
        report_not_offered(name);
        return;
    }
    Check check{name};
    set_secondary(control, false);
    start(l2, program, operand);
    check.runs_to(l2, reason::exception_or_nmi);
    check.equal("without it", read(field::vm_exit_interruption_information), undefined_opcode);
    set_secondary(control, true);
    start(l2, program, operand);
    check.runs_to(l2, reason::vmcall);
    set_secondary(control, false);
}

void check_pause_loop(L2& l2) {
    const RuleScope rule{{"3C 26.1.3", "PAUSE exits by PAUSE-loop exiting at CPL 0 after gap and window"}};
    if (!capabilities.secondary.may_set(secondary::pause_loop_exiting)) {
        report_not_offered("PAUSE-loop exiting");
        return;
    }
    Check check{"a-loop-of-pauses-exits-with-pause-loop-exiting"};
    set_secondary(secondary::pause_loop_exiting, true);
    write(field::ple_gap, 1000);
    write(field::ple_window, 5000);
    start(l2, l2_pause_loop, 0);
    const std::uint64_t begin = read_tsc();
    check.runs_to(l2, reason::number(vmx::ExitReason::pause));
    check.holds("not before the window's end", read_tsc() - begin >= 5000);
    set_secondary(secondary::pause_loop_exiting, false);
}

// L1 reads its own counter before and behind: L2's lies between what these come to.
void check_time_stamp_counter(L2& l2) {
    const RuleScope rule{
        {"3C 26.3", "RDTSC gives the counter multiplied by the TSC multiplier, plus the TSC offset"}};
    constexpr std::uint64_t one = std::uint64_t{1} << 48;
    struct Reading {
        std::string_view what;
        bool offsets;
        bool scales;
        std::uint64_t multiplier;
        std::uint64_t offset;
    };
    constexpr Reading readings[] = {
        {"neither", false, false, one / 2, 0x1234'0000'0000},
        {"an offset", true, false, one / 2, 0x1234'0000'0000},
        {"a negative offset", true, false, 3 * one, 0 - std::uint64_t{0x10'0000}},
        {"half as fast", true, true, one / 2, 0},
        {"three and a half times as fast, with an offset", true, true, 3 * one + one / 2, 0x77'0000'0000},
        {"by little, with a negative offset", true, true, one + 1, 0 - std::uint64_t{0x1000}},
        {"a multiplier that counts nothing without an offset", false, true, 2 * one, 0x100'0000},
    };
    if (!capabilities.secondary.may_set(secondary::use_tsc_scaling)) {
        report_not_offered("TSC scaling");
        return;
    }
    Check check{"l2-reads-the-time-stamp-counter-multiplied-and-with-its-offset"};
    for (const Reading& each : readings) {
        set_primary(primary::use_tsc_offsetting, each.offsets);
        set_secondary(secondary::use_tsc_scaling, each.scales);
        write(field::tsc_multiplier, each.multiplier);
        write(field::tsc_offset, each.offset);
        const auto as_l2 = [&](std::uint64_t counter) {
            if (!each.offsets) return counter;
            __extension__ using Wide = unsigned __int128;
            return (each.scales ? static_cast<std::uint64_t>(Wide{counter} * each.multiplier >> 48)
                                : counter) +
                   each.offset;
        };
        start(l2, l2_rdtsc, 0);
        const std::uint64_t before = as_l2(read_tsc());
        check.runs_to(l2, reason::vmcall);
        const std::uint64_t behind = as_l2(read_tsc());
        const std::uint64_t found = (l2.registers.rax & 0xFFFF'FFFF) | l2.registers.rdx << 32;
        check.holds(each.what, found - before <= behind - before);
    }
    set_primary(primary::use_tsc_offsetting, false);
    set_secondary(secondary::use_tsc_scaling, false);
}

}  // namespace

void check_instruction_controls() {
    const PageScope scope;
    VmcsPlan plan = usual_plan(physical(l2_rdpmc), usual_ept().pointer());
    L2 l2{plan};
    const std::uint64_t operand = physical(allocate_page());
    write(field::exception_bitmap, invalid_opcode_exits);
    using vmx::ExitReason;
    const Exiting exiting[] = {
        {"rdpmc-exits-with-rdpmc-exiting", l2_rdpmc, primary::rdpmc_exiting, 0, ExitReason::rdpmc, 2},
        {"monitor-exits-with-monitor-exiting", l2_monitor, primary::monitor_exiting, 0, ExitReason::monitor,
         3},
        {"mwait-exits-with-mwait-exiting", l2_mwait, primary::mwait_exiting, 0, ExitReason::mwait, 3},
        {"pause-exits-with-pause-exiting", l2_pause, primary::pause_exiting, 0, ExitReason::pause, 2},
        {"rdtscp-exits-with-rdtsc-exiting", l2_rdtscp, primary::rdtsc_exiting, secondary::enable_rdtscp,
         ExitReason::rdtscp, 3},
        {"invpcid-exits-with-invlpg-exiting", l2_invpcid, primary::invlpg_exiting, secondary::enable_invpcid,
         ExitReason::invpcid, 5},
        {"rdrand-exits-with-rdrand-exiting", l2_rdrand, 0, secondary::rdrand_exiting, ExitReason::rdrand, 4},
        {"rdseed-exits-with-rdseed-exiting", l2_rdseed, 0, secondary::rdseed_exiting, ExitReason::rdseed, 4},
    };
    for (const Exiting& each : exiting) check_exiting(l2, each, operand);
    {
        Check check{"pause-does-not-exit-without-its-control"};
        start(l2, l2_pause, 0);
        check.runs_to(l2, reason::vmcall);
    }
    check_enabling(l2, "l2-has-rdtscp-with-its-control", l2_rdtscp, secondary::enable_rdtscp, operand);
    check_enabling(l2, "l2-has-invpcid-with-its-control", l2_invpcid, secondary::enable_invpcid, operand);
    write(field::guest_cr4, read(field::guest_cr4) | cr4_osxsave);
    if (capabilities.secondary.may_set(secondary::enable_xsaves_xrstors)) write(field::xss_exiting_bitmap, 0);
    check_enabling(l2, "l2-has-xsaves-with-its-control", l2_xsaves, secondary::enable_xsaves_xrstors,
                   operand);
    check_enabling(l2, "l2-has-xrstors-with-its-control", l2_xrstors, secondary::enable_xsaves_xrstors,
                   operand);
    check_pause_loop(l2);
    check_time_stamp_counter(l2);
}

}  // namespace flatback::guests
