// What L1's own instructions cost it: CPUID, RDMSR and those that work on a VMCS.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"

namespace flatback::guests {
namespace {

void bench_fields() {
    report_bench("vmread", mean_ticks(bench_iterations, [] {
                               read(field::exit_reason);
                               read(field::guest_rip);
                           }) / 2);
    report_bench("vmwrite", mean_ticks(bench_iterations, [] { write(field::guest_rip, 0); }));
    // A field that no hypervisor reads or writes at each exit.
    report_bench("vmread_other", mean_ticks(bench_iterations, [] { read(field::guest_ia32_sysenter_esp); }));
    report_bench("vmwrite_other",
                 mean_ticks(bench_iterations, [] { write(field::guest_ia32_sysenter_esp, 0); }));
}

void bench_pointers(const L2& first, const L2& second) {
    const std::uint64_t a = first.vmcs_address();
    const std::uint64_t b = second.vmcs_address();
    std::uint64_t current = 0;
    report_bench("vmptrst", mean_ticks(bench_iterations, [&] { vmptrst(current); }));
    report_bench("vmptrld", mean_ticks(bench_iterations, [&] { vmptrld(b); }));
    report_bench("vmptrld_two", mean_ticks(bench_iterations, [&] {
                     vmptrld(a);
                     vmptrld(b);
                 }));
    const std::uint64_t inactive = physical(new_vmcs_region());
    report_bench("vmclear", mean_ticks(bench_iterations, [&] { vmclear(inactive); }));
}

}  // namespace

void bench_instructions() {
    const PageScope scope;
    report_bench("l1_cpuid", mean_ticks(bench_iterations, [] { cpuid(0); }));
    report_bench("l1_rdmsr_vmx_basic", mean_ticks(bench_iterations, [] { read_msr(0x480); }));
    L2 first{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    L2 second{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    // In VMX root operation VMCALL fails with an error number; that is what is timed. Bochs does not emulate
    // it.
    if (!directly_on_bochs()) {
        report_bench("l1_vmcall", mean_ticks(bench_iterations, [] {
                         asm volatile("vmcall" : : "a"(0) : "cc", "memory");
                     }));
    }
    bench_fields();
    bench_pointers(first, second);
}

}  // namespace flatback::guests
