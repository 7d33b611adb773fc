// Compiles, and with -DTEMPORARY does not.
#include <flatback/nested/vcpu.hpp>

#include "outside/port.hpp"

void make(outside::Port& port, flatback::tag::VpidPool& vpids) {
    using namespace flatback;
    const nested::Capabilities named = nested::make_capabilities({}, 36, true);
#ifdef TEMPORARY
    nested::NestedVcpu<outside::Port> vcpu{
        port, nested::make_capabilities({}, 36, true), vpids, x86::Hpa{}, {}};
#else
    nested::NestedVcpu<outside::Port> vcpu{port, named, vpids, x86::Hpa{}, {}};
#endif
}
