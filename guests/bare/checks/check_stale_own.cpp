// Stale translations of L1's own: it edits its page tables, and L2s run in between. What L1 invalidates is
// gone when it looks again, whatever its hypervisor did meanwhile. SDM 3A 5.10.4, 3C 29.4.3.1.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/checks/stale.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/linear_window.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t cr4_pge = 1U << 7;

std::uint64_t look() {
    return *static_cast<volatile std::uint64_t*>(window_address(0));
}

void by_invlpg() {
    invalidate_page(window_address(0));
}
void by_cr3() {
    write_cr3(read_cr3());
}
void by_pge() {
    const std::uint64_t cr4 = read_cr4();
    write_cr4(cr4 ^ cr4_pge);
    write_cr4(cr4);
}

struct Case {
    std::string_view name;
    void (*invalidate)();
    std::uint64_t bits;
    Rule rule;
};

// clang-format off
constexpr Case cases[] = {
    {"invlpg", by_invlpg, 0, {"3A 5.10.4.1", "INVLPG invalidates the address", 23}},
    {"invlpg-of-a-global-page", by_invlpg, linear_page::global, {"3A 5.10.4.1", "INVLPG invalidates global translations too", 23}},
    {"mov-to-cr3", by_cr3, 0, {"3A 5.10.4.1", "MOV to CR3 invalidates what is not global", 23}},
    {"a-change-of-cr4-pge", by_pge, linear_page::global, {"3A 5.10.4.1", "a change of CR4.PGE invalidates everything", 23}},
};
// clang-format on

// L1 has read the old word through its window, which then leads to the new one.
class PlantedWindow final {
public:
    explicit PlantedWindow(std::uint64_t bits)
        : old_{physical(page_with(old_word)) | 3 | bits}, new_{physical(page_with(new_word)) | 3 | bits} {}
    ~PlantedWindow() { map_linear(0, 0); }
    PlantedWindow(const PlantedWindow&) = delete;
    PlantedWindow& operator=(const PlantedWindow&) = delete;

    void plant(Check& check) const {
        map_linear(0, old_);
        check.equal("what L1 read", look(), old_word);
    }
    void change() const { edit_linear(0, new_); }

private:
    std::uint64_t old_;
    std::uint64_t new_;
};

// L2 runs before the change, before the invalidation, and behind it; the next case leaves one of them out.
void check_between(Check& check, L2& l2, const Case& each, unsigned when) {
    const PlantedWindow window{each.bits};
    const auto run_l2 = [&](unsigned place) {
        if ((when >> place & 1) != 0) check.runs_past(l2, reason::cpuid);
    };
    window.plant(check);
    run_l2(0);
    window.change();
    run_l2(1);
    each.invalidate();
    run_l2(2);
    check.equal("what L1 read", look(), new_word);
}

void check_cases(bool with_vpid) {
    for (const Case& each : cases) {
        const PageScope scope;
        const RuleScope rule{each.rule};
        VmcsPlan plan = usual_plan(physical(l2_cpuid_loop), usual_ept().pointer());
        if (!with_vpid) {
            plan.secondary &= ~secondary::enable_vpid;
            plan.vpid = 0;
        }
        L2 l2{plan};
        Line name;
        name << "no-stale-translation-of-l1s-own-after-" << each.name << (with_vpid ? "" : "-and-no-vpid");
        Check check{name.text()};
        for (unsigned when = 0; when < 8; ++when) {
            write(field::guest_rip, physical(l2_cpuid_loop));
            check_between(check, l2, each, when);
        }
    }
}

// Without VPIDs L1 and L2 are both VPID 0000H: the exit itself invalidates, for L1 too.
void check_exit_without_vpid() {
    const PageScope scope;
    const RuleScope rule{
        {"3C 29.4.3.1", "with \"enable VPID\" 0 every entry and exit invalidates VPID 0000H", 25}};
    VmcsPlan plan = usual_plan(physical(l2_cpuid_loop), usual_ept().pointer());
    plan.secondary &= ~secondary::enable_vpid;
    plan.vpid = 0;
    L2 l2{plan};
    for (const std::uint64_t bits : {std::uint64_t{0}, linear_page::global}) {
        const PlantedWindow window{bits};
        Line name;
        name << "no-stale-translation-of-l1s-own-" << (bits == 0 ? "" : "global-page-")
             << "after-an-exit-without-a-vpid";
        Check check{name.text()};
        write(field::guest_rip, physical(l2_cpuid_loop));
        window.plant(check);
        window.change();
        check.runs_past(l2, reason::cpuid);
        check.equal("what L1 read", look(), new_word);
    }
}

}  // namespace

void check_stale_own() {
    if (!capabilities.secondary.may_set(secondary::enable_ept)) {
        report_not_offered("EPT (part stale-own)");
        return;
    }
    if (capabilities.secondary.may_set(secondary::enable_vpid)) check_cases(true);
    check_cases(false);
    check_exit_without_vpid();
}

}  // namespace flatback::guests
