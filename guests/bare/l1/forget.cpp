#include "guests/bare/l1/forget.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"

namespace flatback::guests {
namespace {

bool offers_invvpid(std::uint64_t type) {
    return capabilities.has_invvpid() && capabilities.has_invvpid_type(static_cast<unsigned>(type));
}

bool offers_invept(std::uint64_t type) {
    return capabilities.has_invept() && capabilities.has_invept_type(static_cast<unsigned>(type));
}

// Outside of VMX operation the instructions fault, and nothing is owed: no L2 can run there, and each VPID
// and EPTP that one uses later is forgotten at its new beginning.
void invvpid_if_possible(std::uint64_t type, const InvalidationDescriptor& descriptor) {
    try_invvpid(type, &descriptor);
}

void invept_if_possible(std::uint64_t type, const InvalidationDescriptor& descriptor) {
    try_invept(type, &descriptor);
}

}  // namespace

void forget_vpid(std::uint16_t vpid) {
    if (vpid != 0 && offers_invvpid(invvpid_type::single_context)) {
        invvpid_if_possible(invvpid_type::single_context, {vpid, 0});
    } else {
        forget_all_vpids();
    }
}

void forget_linear(std::uint16_t vpid, std::uint64_t linear_address) {
    if (vpid != 0 && offers_invvpid(invvpid_type::individual_address)) {
        invvpid_if_possible(invvpid_type::individual_address, {vpid, linear_address});
    } else {
        forget_vpid(vpid);
    }
}

void forget_all_vpids() {
    if (offers_invvpid(invvpid_type::all_contexts)) invvpid_if_possible(invvpid_type::all_contexts, {0, 0});
}

void forget_ept(std::uint64_t ept_pointer) {
    if (offers_invept(invept_type::single_context)) {
        invept_if_possible(invept_type::single_context, {ept_pointer, 0});
    } else {
        forget_all_epts();
    }
}

void forget_all_epts() {
    if (offers_invept(invept_type::all_contexts)) invept_if_possible(invept_type::all_contexts, {0, 0});
}

}  // namespace flatback::guests
