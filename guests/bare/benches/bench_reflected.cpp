// What one exit from L2 to L1 and back costs, in ticks and in what L0 does for it.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/counters.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"

namespace flatback::guests {
namespace {

void report_counters(std::string_view group, const CounterInterval& interval, std::uint64_t events) {
    struct Named {
        std::string_view name;
        Counter counter;
    };
    constexpr Named named[] = {
        {"l0_exits", Counter::l0_exits},
        {"vmreads", Counter::vmreads_by_l0},
        {"vmwrites", Counter::vmwrites_by_l0},
        {"vmptrlds", Counter::vmptrlds_by_l0},
        {"l2_tag_flushes", Counter::l2_tag_flushes},
        {"l1_tag_flushes", Counter::l1_tag_flushes},
    };
    for (const Named& each : named) {
        Line key;
        key << group << "." << each.name;
        report_bench(key.text(), hundredths(interval.of(each.counter), events));
    }
}

// Times the body, then counts it in a loop of its own: reading counters is not to be timed.
template <typename Body>
void bench_with_counters(std::string_view name, std::string_view group, Body body) {
    report_bench(name, mean_ticks(bench_iterations, body));
    if (!under_flatback()) return;
    CounterInterval interval;
    for (std::uint64_t i = 0; i < bench_iterations; ++i) body();
    interval.end();
    report_counters(group, interval, bench_iterations);
}

// The same reflected CPUID under controls that other hypervisors choose.
void bench_controls(std::string_view name, const VmcsPlan& plan) {
    L2 l2{plan};
    run_or_die(l2, reason::cpuid);
    report_bench(name, mean_ticks(bench_iterations, [&] { reflect_cpuid(l2); }));
}

void bench_other_controls() {
    const VmcsPlan usual = usual_plan(physical(l2_cpuid_loop), usual_ept().pointer());
    VmcsPlan plan = usual;
    plan.entry |= entry_control::load_debug_controls;
    plan.exit |= exit_control::save_debug_controls;
    bench_controls("l2_cpuid_reflected_all_loaded", plan);
    constexpr std::uint32_t of_exit = exit_control::save_ia32_efer | exit_control::load_ia32_efer |
                                      exit_control::save_ia32_pat | exit_control::load_ia32_pat;
    plan = usual;
    plan.entry &= ~(entry_control::load_ia32_efer | entry_control::load_ia32_pat);
    plan.exit &= ~of_exit;
    bench_controls("l2_cpuid_reflected_nothing_loaded", plan);
    plan = usual;
    plan.primary |= primary::use_io_bitmaps | primary::use_msr_bitmaps;
    plan.msr_bitmaps = physical(allocate_page());
    bench_controls("l2_cpuid_reflected_bitmaps", plan);
    plan.entry |= entry_control::load_debug_controls;
    plan.exit |= exit_control::save_debug_controls;
    bench_controls("l2_cpuid_reflected_bitmaps_all_loaded", plan);
}

// Fields that few hypervisors use at every exit. Where L0 shadows VMCSs it comes to let L1 reach them without
// one, and looks at them by itself.
void bench_other_fields() {
    {
        L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
        run_or_die(l2, reason::cpuid);
        report_bench("l2_cpuid_reflected_cr3_written", mean_ticks(bench_iterations, [&] {
                         write(field::guest_cr3, read(field::guest_cr3));
                         reflect_cpuid(l2);
                     }));
    }
    L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
    run_or_die(l2, reason::cpuid);
    // All of the segment registers, of which each has so many: more than L0 lets L1 have.
    const auto use_all = [] {
        for (std::uint32_t offset = 0; offset < 16; offset += 2) {
            for (const std::uint32_t first :
                 {field::guest_es_selector.encoding, field::guest_es_base.encoding,
                  field::guest_es_limit.encoding, field::guest_es_access_rights.encoding}) {
                write_raw(first + offset, read_raw(first + offset));
            }
        }
        for (const std::uint32_t encoding :
             {field::guest_cr3.encoding, field::guest_gdtr_base.encoding, field::guest_idtr_base.encoding})
            write_raw(encoding, read_raw(encoding));
    };
    report_bench("l2_cpuid_reflected_all_fields_used", mean_ticks(16, [&] {
                     use_all();
                     reflect_cpuid(l2);
                 }));
    report_bench("l2_cpuid_reflected_behind_all_fields", mean_ticks(128, [&] { reflect_cpuid(l2); }));
}

}  // namespace

void bench_reflected() {
    const PageScope scope;
    {
        L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
        run_or_die(l2, reason::vmcall);
        // VMCALL is not skipped: it exits again at the same place, and L1 has nothing to do but resume.
        report_bench("l2_vmcall_resume_only",
                     mean_ticks(bench_iterations, [&] { enter_l2(&l2.registers, false); }));
    }
    L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
    run_or_die(l2, reason::cpuid);
    bench_with_counters("l2_cpuid_reflected", "per_reflected", [&] { reflect_cpuid(l2); });
    const InvalidationDescriptor vpid_1{1, 0};
    if (capabilities.has_invvpid() && capabilities.has_invvpid_type(1)) {
        report_bench("l2_cpuid_reflected_invvpid", mean_ticks(bench_iterations, [&] {
                         invvpid(invvpid_type::single_context, vpid_1);
                         reflect_cpuid(l2);
                     }));
    }
    if (capabilities.secondary.may_set(secondary::enable_vpid)) {
        std::uint64_t vpid = 1;
        bench_with_counters("l2_cpuid_reflected_alternating", "per_alternating", [&] {
            vpid ^= 3;
            write(field::virtual_processor_identifier, vpid);
            reflect_cpuid(l2);
        });
    }
    bench_other_controls();
    bench_other_fields();
}

}  // namespace flatback::guests
