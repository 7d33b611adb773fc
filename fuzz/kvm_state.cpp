#include "fuzz/kvm_state.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

#include "nested/state/kvm.hpp"

namespace flatback::fuzz {

namespace {

namespace kvm = nested::kvm;
using State = std::vector<std::byte>;
using Page = std::array<std::byte, 4096>;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

// To KVM, in a buffer of just the size that it may take: empty where it is refused.
State to_kvm(const State& state, kvm::Beside& beside) {
    State made(kvm::header_size + kvm::vmcs_size);
    std::map<std::uint64_t, Page> regions;
    const auto size =
        kvm::to_kvm(state, beside, made, [&](std::uint64_t address) { return regions[address].data(); });
    if (!size) {
        if (!regions.empty() || made != State(made.size())) fail("what was refused has had an effect");
        return {};
    }
    for (auto& [address, page] : regions) {
        const Page before = page;
        if (!kvm::region_from_kvm(page.data()) || !kvm::region_to_kvm(page.data()) || page != before)
            fail("a VMCS of KVM's is another there and back");
    }
    made.resize(*size);
    return made;
}

State from_kvm(const State& state, const kvm::Beside& beside) {
    State made(10'000);
    const auto size = kvm::from_kvm(state, beside, made);
    made.resize(size ? *size : 0);
    return made;
}

}  // namespace

void run_kvm_state(std::span<const std::uint8_t> bytes) {
    if (bytes.empty() || bytes.size() > 20'000) return;
    State input;
    for (const std::uint8_t byte : bytes.subspan(1)) input.push_back(std::byte{byte});
    kvm::Beside beside;
    beside.promised.basic.value = kvm::revision;
    beside.promised.misc.value = kvm::preemption_timer_rate;
    beside.time_stamp_counter = std::uint64_t{bytes[0]} << 20;
    if ((bytes[0] & 1) != 0) {
        Page page{};
        std::copy_n(input.begin(), std::min(input.size(), page.size()), page.begin());
        const Page before = page;
        const bool done = (bytes[0] & 2) != 0 ? kvm::region_from_kvm(page.data()).has_value()
                                              : kvm::region_to_kvm(page.data()).has_value();
        if (!done && page != before) fail("a region that was refused is another");
        static_cast<void>(to_kvm(input, beside));
        return;
    }
    const State taken = from_kvm(input, beside);
    if (taken.empty()) return;
    const State kvms = to_kvm(taken, beside);
    if (kvms.empty()) fail("a state that was KVM's cannot be given back");
    const State again = to_kvm(from_kvm(kvms, beside), beside);
    if (again != kvms) fail("a state for KVM is another there and back");
}

}  // namespace flatback::fuzz
