// Must not compile: each of these drops an owed flush. WHICH chooses one; 0 drops none, and must compile.
#include <utility>

#include "tag/vpid12_map.hpp"

using namespace flatback;

void drop(tag::Vpid12Map<4>& map, tag::Vpid01& vpid01, tag::OwedFlush (*owe)());
void drop(tag::Vpid12Map<4>& map, tag::Vpid01& vpid01, tag::OwedFlush (*owe)()) {
    constexpr tag::Cpu cpu{0};
    constexpr tag::Vpid12 vpid12{1};
#if WHICH == 0
    tag::Entry entry = map.enter(vpid12, cpu);
    if (entry.flush) std::move(*entry.flush).paid();
    vpid01.invalidate();
    owe().keep();
#elif WHICH == 1
    map.enter(vpid12, cpu);
#elif WHICH == 2
    map.enter_without_vpid(cpu);
#elif WHICH == 3
    map.invvpid_single(vpid12, cpu);
#elif WHICH == 4
    map.invvpid_address(vpid12, x86::LinearAddress{0x1000}, cpu);
#elif WHICH == 5
    map.invvpid_all(cpu);
#elif WHICH == 6
    vpid01.enter_l1(cpu);
#elif WHICH == 7
    owe();
#elif WHICH == 8
    tag::Entry entry = map.enter(vpid12, cpu);
    if (entry.flush) entry.flush->paid();  // paying takes the flush away: an rvalue
#endif
}
