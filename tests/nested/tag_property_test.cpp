// Random programs of entries, INVVPIDs, moves, VMXOFFs and exhaustion, judged by a TLB that forgets nothing
// but what it must: no guest ever finds under its tag what is another's, or what was to be invalidated.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "tests/nested/ledger.hpp"

namespace flatback::nested_test::tag_property_test {
namespace {

// Whose translations: which virtual CPU's, of which guest (0: L1; 10000H: L2 without VPID; else vpid12), and
// how often that guest's context had been invalidated when they were made.
struct Content {
    unsigned owner;
    std::uint32_t guest;
    std::uint64_t generation;
    friend auto operator<=>(const Content&, const Content&) = default;
};
constexpr std::uint32_t without_vpid = 0x1'0000;

class Tlbs {
public:
    // The flushes that ran since the last call.
    void run(std::vector<Flush>& flushes) {
        for (const Flush& flush : flushes) {
            if (flush.kind == Flush::Kind::invvpid && flush.type == 1)
                cached_[{flush.tag, flush.cpu}].clear();
            // An address, or all but the globals: not enough where the whole is wanted.
        }
        flushes.clear();
    }
    // The processor caches what the guest uses.
    void use(std::uint16_t tag, unsigned cpu, const Content& content) {
        if (tag == 0) return;  // the processor flushes VPID 0 by itself
        auto& here = cached_[{tag, cpu}];
        for (const Content& other : here) RC_ASSERT(other == content);
        here.insert(content);
    }

private:
    std::map<std::pair<std::uint16_t, unsigned>, std::set<Content>> cached_;
};

struct Vcpu {
    explicit Vcpu(tag::VpidPool& pool, tag::Policy policy) : l1{{.tags = policy, .pool = &pool}} {}
    LedgerCpu l1;
    std::map<std::uint32_t, std::uint64_t> generations;
};

void run_program(tag::Policy policy) {
    tag::VpidPool pool{*rc::gen::element<std::uint16_t>(2, 3, 4, 6, 200)};
    Tlbs tlbs;
    std::vector<std::unique_ptr<Vcpu>> vcpus;
    for (unsigned n = 0; n < 2; ++n) vcpus.push_back(std::make_unique<Vcpu>(pool, policy));
    const auto l1_runs = [&](unsigned n) {
        Vcpu& v = *vcpus.at(n);
        tlbs.run(v.l1.port.flushes);
        tlbs.use(v.l1.vpid01(), v.l1.port.physical_cpu, {n, 0, v.generations[0]});
    };
    const auto steps = *rc::gen::inRange(5, 60);
    for (int step = 0; step < steps; ++step) {
        const auto n = *rc::gen::inRange(0U, 2U);
        Vcpu& v = *vcpus.at(n);
        const auto vpid12 = *rc::gen::inRange<std::uint16_t>(1, 5);
        switch (*rc::gen::inRange(0, 10)) {
            case 0:  // the virtual CPU moves
                v.l1.port.physical_cpu = *rc::gen::inRange(0U, 3U);
                v.l1.prepare_reentry();
                break;
            case 1:
                ++v.generations[vpid12];
                RC_ASSERT(v.l1.invvpid(1, vpid12) == vm_succeed);
                break;
            case 2:
                for (std::uint32_t each = 1; each < 8; ++each) ++v.generations[each];
                RC_ASSERT(v.l1.invvpid(2) == vm_succeed);
                break;
            case 3:
                RC_ASSERT(v.l1.invvpid(0, vpid12, 0x1000) == vm_succeed);
                break;
            case 4:
                v.l1.leave_and_enter_vmx_operation();
                break;
            case 5:
                ++v.generations[0];
                v.l1.l1_translations_changed();
                break;
            case 6:
                // VPID 0 is flushed at the entry and at the exit.
                ++v.generations[0];
                ++v.generations[without_vpid];
                v.l1.enter_without_vpid();
                tlbs.run(v.l1.port.flushes);
                tlbs.use(v.l1.l2_tag(), v.l1.port.physical_cpu,
                         {n, without_vpid, v.generations[without_vpid]});
                v.l1.leave();
                break;
            default:
                v.l1.enter_with(vpid12);
                tlbs.run(v.l1.port.flushes);
                tlbs.use(v.l1.l2_tag(), v.l1.port.physical_cpu, {n, vpid12, v.generations[vpid12]});
                if (*rc::gen::arbitrary<bool>()) {
                    RC_ASSERT(v.l1.l2_exits({.reason = ExitReason::ept_violation}) == l2_runs);
                    tlbs.run(v.l1.port.flushes);
                    tlbs.use(v.l1.l2_tag(), v.l1.port.physical_cpu, {n, vpid12, v.generations[vpid12]});
                }
                v.l1.leave();
                break;
        }
        l1_runs(n);
    }
    const std::uint32_t with_tag = static_cast<std::uint32_t>(vcpus.size());
    vcpus.clear();
    RC_ASSERT(pool.owned() == 0U);
    RC_ASSERT(with_tag == 2U);
}

RC_GTEST_PROP(TagPrograms, NeverShowAGuestWhatIsNotItsOwn, ()) {
    run_program(tag::Policy::mapped);
}
RC_GTEST_PROP(TagPrograms, NeverShowAGuestWhatIsNotItsOwnWithOneTagForAll, ()) {
    run_program(tag::Policy::single);
}

}  // namespace
}  // namespace flatback::nested_test::tag_property_test
