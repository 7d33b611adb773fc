// What L2's memory costs: first touch of pages that EPT12 maps, and touching them again.

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/part.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t pages_a_round = 64;
constexpr std::uint64_t rounds = 8;
// Linear = L2-physical, at an address where nothing else is.
constexpr std::uint64_t window = 1ULL << 30;

// Ticks from L1's VMRESUME to L2's VMCALL after it touched one round's pages.
std::uint64_t touch(L2& l2, std::uint64_t round) {
    l2.registers.rdi = window + round * pages_a_round * page_size;
    l2.registers.rcx = pages_a_round;
    write(field::guest_rip, physical(l2_touch_pages));
    const std::uint64_t ticks = ticks_of(1, [&] { enter_l2(&l2.registers, false); });
    if (read(field::exit_reason) != reason::vmcall || l2.registers.rcx != 0) {
        leave_part("ept02: L2 did not touch its pages");
    }
    return ticks;
}

}  // namespace

void bench_ept02() {
    const PageScope scope;
    Ept12 hierarchy;
    hierarchy.map_identity(0, 48 << 20, EptLevel::page_4k);  // this image, and L2's paging structures in it
    for (std::uint64_t page = 0; page < (rounds + 1) * pages_a_round; ++page) {
        hierarchy.map(window + page * page_size, physical(allocate_page()), EptLevel::page_4k);
    }
    const InvalidationDescriptor descriptor{hierarchy.pointer(), 0};
    invept(invept_type::single_context, descriptor);
    L2 l2{usual_plan(physical(l2_vmcall_loop), hierarchy.pointer())};
    run_or_die(l2, reason::vmcall);
    touch(l2, rounds);  // code and paging structures are mapped by this one

    std::uint64_t first = 0;
    std::uint64_t again = 0;
    std::uint64_t after_invept = 0;
    for (std::uint64_t round = 0; round < rounds; ++round) first += touch(l2, round);
    for (std::uint64_t round = 0; round < rounds; ++round) again += touch(l2, round);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        invept(invept_type::single_context, descriptor);
        after_invept += touch(l2, round);
    }
    report_bench("ept02_fill", first / (rounds * pages_a_round));
    report_bench("retouch64", again / (rounds * pages_a_round));
    report_bench("retouch64_after_invept", after_invept / (rounds * pages_a_round));
}

}  // namespace flatback::guests
