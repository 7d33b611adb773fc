// Compiles, and with -DMIX=n does not: each number that tells translations apart is given where it belongs.
#include "nested/notice.hpp"

using namespace flatback;

struct Port {
    void invvpid(vmx::InvvpidType, tag::TagNumber, x86::LinearAddress, tag::FlushCause, tag::Vpid12) {}
    void invept(vmx::InveptType, vmx::Eptp) {}
};

void use(Port& port, tag::TagNumber tag, tag::Vpid12 vpid12, x86::LinearAddress address, vmx::Eptp eptp) {
    constexpr auto cause = tag::FlushCause::unknown;
    constexpr auto type = vmx::InvvpidType::single_context;
    constexpr auto context = vmx::InveptType::single_context;
#if !defined(MIX)
    nested::invvpid_because(port, type, tag, address, cause, vpid12);
    nested::invept_because(port, context, eptp, cause);
    static_cast<void>(nested::Running{tag, vpid12, x86::Gpa<x86::L1>{0x1000}});
#elif MIX == 1
    nested::invvpid_because(port, type, vpid12, address, cause, vpid12);  // L1's number to the hardware
#elif MIX == 2
    nested::invvpid_because(port, type, tag, address, cause, tag);
#elif MIX == 3
    nested::invvpid_because(port, type, 7, address, cause, vpid12);
#elif MIX == 4
    nested::invvpid_because(port, type, tag, eptp, cause, vpid12);
#elif MIX == 5
    nested::invept_because(port, context, eptp.value, cause);
#elif MIX == 6
    static_cast<void>(nested::Running{vpid12, tag, x86::Gpa<x86::L1>{0x1000}});
#elif MIX == 7
    static_cast<void>(nested::Running{tag, vpid12, x86::Hpa{0x1000}});
#endif
}
