// An exit of L1's by an access to a control register: which instruction it is, and its operand.
#pragma once

#include <concepts>
#include <cstdint>

#include "../vmx/exit_qualification.hpp"
#include "../vmx/field.hpp"
#include "../x86/segment.hpp"
#include "control_registers.hpp"

namespace flatback::host {

template <typename H>
concept ControlRegisterExitHost = ControlRegisterHost<H> && requires(H& host, unsigned number) {
    // By number (SDM 3C table 28-3), but for 4: RSP is in the VMCS.
    { host.general_register(number) } -> std::same_as<std::uint64_t&>;
};

namespace detail {

constexpr unsigned register_rsp = 4;

template <ControlRegisterExitHost H>
[[nodiscard]] std::uint64_t mask_of_operands(H& host) {
    const x86::AccessRights code{host.get(vmx::field::guest_cs_access_rights)};
    return x86::is_64_bit_mode(host.get(vmx::field::guest_ia32_efer), code) ? ~std::uint64_t{0} : 0xffff'ffff;
}

template <ControlRegisterExitHost H>
[[nodiscard]] Outcome move_to(H& host, vmx::ControlRegisterAccess access) {
    const std::uint64_t value =
        (access.general_register == register_rsp ? host.get(vmx::field::guest_rsp)
                                                 : host.general_register(access.general_register)) &
        mask_of_operands(host);
    switch (access.control_register) {
        case 0:
            return write_cr0(host, value);
        case 3:
            return write_cr3(host, value);
        case 4:
            return write_cr4(host, value);
        default:
            return Outcome::not_handled;  // CR8: the host alone knows L1's task priority
    }
}

template <ControlRegisterExitHost H>
[[nodiscard]] Outcome move_from(H& host, vmx::ControlRegisterAccess access) {
    if (access.control_register != 3) return Outcome::not_handled;  // of the others no read exits but CR8's
    const std::uint64_t value = host.get(vmx::field::guest_cr3) & mask_of_operands(host);
    if (access.general_register == register_rsp) {
        host.put(vmx::field::guest_rsp, value);
    } else {
        host.general_register(access.general_register) = value;
    }
    return Outcome::done;
}

}  // namespace detail

// The exit's fields are as the processor left them. RIP stays where it is.
template <ControlRegisterExitHost H>
[[nodiscard]] Outcome emulate_control_register_access(H& host) {
    const auto access = vmx::ControlRegisterAccess::decode(host.get(vmx::field::exit_qualification));
    using enum vmx::ControlRegisterAccess::Kind;
    switch (access.kind) {
        case mov_to:
            return detail::move_to(host, access);
        case mov_from:
            return detail::move_from(host, access);
        case clts:
            clear_task_switched(host);
            return Outcome::done;
        case lmsw:
            load_machine_status(host, access.lmsw_source);
            return Outcome::done;
    }
    return Outcome::not_handled;
}

}  // namespace flatback::host
