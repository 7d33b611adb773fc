// L0's trace tells what happened: no exit missing, and each flush with the cause that this guest gave it.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/counters.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/rule.hpp"
#include "guests/bare/l1/trace_reader.hpp"

namespace flatback::guests {
namespace {

using trace::Event;
using trace::Kind;
using trace::Level;

constexpr unsigned rounds = 50;

enum class Mode : std::uint32_t { mapped = 0, single = 1, off = 2 };

Mode mode() {
    return static_cast<Mode>(cpuid(interface::identity_leaf).ebx);
}

std::uint64_t exits_counted() {
    const CpuidResult answer = cpuid(interface::counter_leaf, static_cast<std::uint32_t>(Counter::l0_exits));
    return answer.eax | std::uint64_t{answer.edx} << 32;
}

// Records what the body does. The exits that start and stop it: of these the trace has only the second.
template <typename Body>
void traced(Body body) {
    trace_reader::start();
    body();
    trace_reader::stop();
}

template <typename Visit>
void each_event(Visit visit) {
    const std::uint64_t written = trace_reader::written();
    const std::uint64_t capacity = trace_reader::capacity();
    for (std::uint64_t i = written > capacity ? written - capacity : 0; i < written; ++i) {
        visit(trace_reader::event(i));
    }
}

template <typename Condition>
std::uint64_t count_where(Condition condition) {
    std::uint64_t events = 0;
    each_event([&](const Event& event) {
        if (condition(event)) ++events;
    });
    return events;
}

std::uint64_t count_l2_entries() {
    return count_where(
        [](const Event& event) { return event.kind() == Kind::entry && event.to() == Level::l2; });
}

std::uint64_t count_flushes(Kind kind, tag::FlushCause cause) {
    return count_where([&](const Event& event) { return event.kind() == kind && event.cause() == cause; });
}

std::uint64_t count_all_flushes() {
    return count_where([](const Event& event) {
        return event.kind() == Kind::flush_tag || event.kind() == Kind::flush_ept;
    });
}

void check_format() {
    Check check{"trace-describes-itself"};
    const CpuidResult format = cpuid(trace::leaf, trace::subleaf::format);
    check.equal("version", format.eax, trace::format_version);
    check.equal("bytes an event", format.ebx, sizeof(Event));
    check.holds("the capacity is a power of two", format.ecx != 0 && (format.ecx & (format.ecx - 1)) == 0);
    trace_reader::start();
    cpuid(0);
    check.holds("no event is given out while recording", trace_reader::event(0) == Event{});
    trace_reader::stop();
    check.holds("events are given out afterwards", !(trace_reader::event(0) == Event{}));
    check.holds("nothing stands where nothing was recorded",
                trace_reader::event(trace_reader::capacity() - 1) == Event{});
}

void check_switches() {
    L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
    run_or_die(l2, reason::cpuid);
    const std::uint64_t before = exits_counted();
    traced([&] {
        for (unsigned i = 0; i < rounds; ++i) {
            cpuid(0);
            read(field::guest_ia32_sysenter_esp);  // exits or not, by VMCS shadowing
            reflect_cpuid(l2);
        }
    });
    const std::uint64_t counted = exits_counted() - before;

    Check check{"trace-has-every-exit-that-l0-counts"};
    std::uint64_t exits = 0;
    std::uint64_t l2_entries = 0;
    std::uint64_t l2_cpuids = 0;
    bool in_l0 = false;
    Level running = Level::l1;
    std::uint64_t last = 0;
    each_event([&](const Event& event) {
        check.holds("time goes on", event.tsc >= last);
        last = event.tsc;
        if (event.kind() == Kind::exit) {
            check.holds("an exit comes after an entry", !in_l0);
            check.holds("what exits is what was entered", event.from() == running);
            check.holds("an exit leads to L0", event.to() == Level::l0);
            in_l0 = true;
            ++exits;
            const bool from_l2 = event.from() == Level::l2;
            if (from_l2 && event.reason() == vmx::ExitReason::cpuid) ++l2_cpuids;
            check.equal("the VMCS of this guest's that L2 runs by", event.vmcs12(),
                        from_l2 ? l2.vmcs_address() : 0);
        } else if (event.kind() == Kind::entry) {
            check.holds("an entry comes after an exit", in_l0);
            in_l0 = false;
            running = event.to();
            if (running == Level::l2) ++l2_entries;
        } else {
            check.holds("L0 flushes while it runs", in_l0);
        }
    });
    // Counted besides: the exit that started the recording, and the last reading of the counter.
    check.equal("exits", exits, counted - 2);
    check.equal("entries into L2", l2_entries, rounds);
    check.equal("CPUID exits of L2", l2_cpuids, rounds);
    check.holds("it ends with the exit that stopped it", in_l0 && running == Level::l1);
}

void check_flushes_without_vpid() {
    VmcsPlan plan = usual_plan(physical(l2_cpuid_loop), usual_ept().pointer());
    plan.secondary &= ~secondary::enable_vpid;
    plan.vpid = 0;
    L2 l2{plan};
    run_or_die(l2, reason::cpuid);
    traced([&] {
        for (unsigned i = 0; i < rounds; ++i) reflect_cpuid(l2);
    });
    Check check{"trace-without-vpid-every-entry-and-exit-flushes"};
    check.equal("entries into L2", count_l2_entries(), rounds);
    check.equal("flushes by VM entries", count_flushes(Kind::flush_tag, tag::FlushCause::entry_without_vpid),
                rounds);
    check.equal("flushes by VM exits", count_flushes(Kind::flush_tag, tag::FlushCause::exit_without_vpid),
                rounds);
    check.equal("all flushes", count_all_flushes(), 2 * rounds);
}

void check_flushes_with_vpid() {
    L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
    run_or_die(l2, reason::cpuid);
    const auto alternate = [&](unsigned times) {
        for (unsigned i = 0; i < times; ++i) {
            write(field::virtual_processor_identifier, 1 + i % 2);
            reflect_cpuid(l2);
        }
    };
    alternate(2);
    {
        traced([&] {
            for (unsigned i = 0; i < rounds; ++i) reflect_cpuid(l2);
        });
        Check check{"trace-one-vpid-does-not-flush"};
        check.equal("entries into L2", count_l2_entries(), rounds);
        check.equal("all flushes", count_all_flushes(), 0);
    }
    {
        traced([&] { alternate(rounds); });
        Check check{"trace-alternating-vpids-flush-by-mode"};
        check.equal("entries into L2", count_l2_entries(), rounds);
        const unsigned expected = mode() == Mode::mapped ? 0 : rounds;
        check.equal("flushes of a tag handed out",
                    count_flushes(Kind::flush_tag, tag::FlushCause::tag_handed_out), expected);
        check.equal("all flushes", count_all_flushes(), expected);
    }
}

void check_invalidations() {
    L2 l2{usual_plan(physical(l2_cpuid_loop), usual_ept().pointer())};
    run_or_die(l2, reason::cpuid);
    reflect_cpuid(l2);
    Check check{"trace-names-the-instruction-that-flushed"};
    struct Case {
        std::uint64_t type;
        tag::FlushCause cause;
    };
    constexpr Case cases[] = {
        {invvpid_type::individual_address, tag::FlushCause::l1_invvpid_address},
        {invvpid_type::single_context, tag::FlushCause::l1_invvpid_single_context},
        {invvpid_type::all_contexts, tag::FlushCause::l1_invvpid_all_contexts},
        {invvpid_type::single_context_retaining_globals, tag::FlushCause::l1_invvpid_retaining_globals}};
    const InvalidationDescriptor vpid_1{1, 0x1000};
    for (const Case& each : cases) {
        if (!capabilities.has_invvpid_type(static_cast<unsigned>(each.type))) continue;
        const bool address = each.type == invvpid_type::individual_address;
        const InvalidationDescriptor whole{1, 0};
        traced([&] {
            invvpid(each.type, address ? vpid_1 : whole);
            reflect_cpuid(l2);
        });
        Line what;
        what << "INVVPID type " << each.type;
        check.equal(what.text(), count_flushes(Kind::flush_tag, each.cause), 1);
        check.equal("all flushes", count_all_flushes(), 1);
        each_event([&](const Event& event) {
            if (event.kind() != Kind::flush_tag) return;
            check.equal("the vpid12 of the flush", event.vpid12(), 1);
            check.equal("its address", event.operand, address ? 0x1000 : 0);
        });
    }
    if (!capabilities.has_invept_type(invept_type::single_context)) return;
    traced([&] {
        invept(invept_type::single_context, {usual_ept().pointer(), 0});
        reflect_cpuid(l2);
    });
    check.equal("INVEPT type 1", count_flushes(Kind::flush_ept, tag::FlushCause::l1_invept_single_context),
                1);
}

void check_wrap() {
    const std::uint64_t capacity = trace_reader::capacity();
    traced([&] {
        for (std::uint64_t i = 0; i < capacity / 2 + 10; ++i) cpuid(0);
    });
    Check check{"trace-keeps-the-newest-events"};
    // Two events a CPUID, and the exit that stopped it.
    check.equal("events written", trace_reader::written(), capacity + 21);
    std::uint64_t last = 0;
    std::uint64_t events = 0;
    each_event([&](const Event& event) {
        check.holds("from the oldest to the newest", event.tsc > last);
        last = event.tsc;
        ++events;
    });
    check.equal("events kept", events, capacity);
}

}  // namespace

void check_trace() {
    const RuleScope rule{{"", "L0's own trace tells what happened"}};
    if (!trace_reader::available()) {
        report_not_offered("L0's trace (trace=on)");
        return;
    }
    const PageScope scope;
    trace_reader::stop();
    check_format();
    check_switches();
    check_flushes_without_vpid();
    if (capabilities.secondary.may_set(secondary::enable_vpid)) {
        check_flushes_with_vpid();
        check_invalidations();
    }
    check_wrap();
    trace_reader::start();
}

}  // namespace flatback::guests
