#include "guests/bare/l1/trace_reader.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "interface/information_leaves.hpp"

namespace flatback::guests::trace_reader {

namespace sub = trace::subleaf;

bool available() {
    if (!under_flatback() || cpuid(interface::information_leaf).eax < trace::leaf) return false;
    return (cpuid(trace::leaf, sub::format).edx & trace::state::available) != 0;
}

void start() {
    cpuid(trace::leaf, sub::start);
}
void stop() {
    cpuid(trace::leaf, sub::stop);
}
std::uint64_t capacity() {
    return cpuid(trace::leaf, sub::format).ecx;
}
std::uint64_t written() {
    const CpuidResult answer = cpuid(trace::leaf, sub::written);
    return answer.eax | std::uint64_t{answer.edx} << 32;
}

trace::Event event(std::uint64_t number) {
    const std::uint64_t place = number % capacity();
    const CpuidResult first = cpuid(trace::leaf, sub::event_half(place, 0));
    const CpuidResult second = cpuid(trace::leaf, sub::event_half(place, 1));
    return {first.eax | std::uint64_t{first.ebx} << 32, first.ecx | std::uint64_t{first.edx} << 32,
            second.eax | std::uint64_t{second.ebx} << 32, second.ecx | std::uint64_t{second.edx} << 32};
}

}  // namespace flatback::guests::trace_reader
