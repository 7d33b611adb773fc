// The ports that L0 keeps from its guests, and what it does of an instruction at one of them.
#include "metal/firmware/sleep_requests.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/pci.hpp"
#include "metal/ground/spin_lock.hpp"
#include "metal/l0/port.hpp"
#include "metal/l0/second_devices.hpp"
#include "metal/l0/turn_requests.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/processors/given_processors.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/field.hpp"

namespace flatback::metal {
namespace {

// Held while L0 looks at CONFIG_ADDRESS and writes what it selects: another processor may not change it
// between the two.
constinit SpinLock configuration_space{};

constexpr std::uint16_t serial_data = 0x3f8;  // whose lines the second VM's stand between

}  // namespace

void MetalPort::make_io_bitmaps() {
    for (x86::Hpa& half : io_bitmaps_)
        half = physical_of(boot_.pages->allocate_page_or_panic("an I/O bitmap"));
    const auto keep = [&](std::uint32_t number) {  // SDM 3C 25.6.4
        auto* bits = reinterpret_cast<std::uint8_t*>(page(io_bitmaps_[number >> 15]));
        std::uint8_t& byte = bits[(number & 0x7FFF) / 8];
        byte = static_cast<std::uint8_t>(byte | 1U << (number % 8));
    };
    for (const std::uint16_t number : boot_.sleep.requests()) keep(number);
    if (boot_.second_vm) {
        keep(serial_data);
        keep(EndPort::port);
    }
    if (boot_.sleep.fixed().empty()) return;
    const bool alone = given_processors().size() == 1;
    for (std::uint32_t byte = 0; byte < 4; ++byte) {
        keep(pci::data_port + byte);
        if (!alone) keep(pci::address_port + byte);
    }
}

void MetalPort::tell_of_fixed_register() {
    if (!told_of_moved_ports_)
        log::info(
            "a guest moves the ports of ACPI's power management, or configuration space in memory: they "
            "stay where they are");
    told_of_moved_ports_ = true;
}

void MetalPort::tell_of_sleep_request(std::uint64_t place, std::uint64_t value) {
    if (!told_of_sleep_request_)
        log::info("a guest asks for a sleep state from which it would wake without L0: refused, at ",
                  log::hex(place), ", ", log::hex(value));
    told_of_sleep_request_ = true;
}

std::uint32_t MetalPort::input(vmx::IoAccess access) {
    return read_port(access.port, access.size);
}

void MetalPort::output(vmx::IoAccess access, std::uint32_t value) {
    if (boot_.second_vm && see_first_vms_output(access.port, value)) return;
    const SpinLockGuard guard{configuration_space};
    if (reaches_fixed(boot_.sleep, access, read_port_32(pci::address_port))) {
        tell_of_fixed_register();
        return;
    }
    if (answer_io(boot_.sleep, access, value) == IoAnswer::refused) {
        tell_of_sleep_request(access.port, value);
        value = without_request(boot_.sleep, access, value);
    }
    write_port(access.port, access.size, value);
}

void MetalPort::write_kept_register(const RegisterWrite& write) {
    const KeptRegisters::Decision decision = boot_.kept.decide(write);
    switch (decision.answer) {
        case KeptRegisters::Answer::fixed:
            tell_of_fixed_register();
            return;
        case KeptRegisters::Answer::refused:
            tell_of_sleep_request(write.address, write.value);
            break;
        case KeptRegisters::Answer::written:
            break;
    }
    KeptPages::write({write.address, write.size, decision.value});
}

// IN and OUT of the guest whose VMCS is current. The processor looked at the privilege level and the task's
// permission bitmap before the exit (SDM 3C 26.1.1). False: #GP(0), for INS and OUTS of a guest of L1's.
bool MetalPort::handle_io() {
    const auto access = vmx::IoAccess::decode(metal::vmread(vmx::field::exit_qualification.encoding));
    if (access.is_string) return false;
    std::uint64_t& rax = registers_.by_number[0];
    if (!access.is_in) {
        output(access, static_cast<std::uint32_t>(rax));
        return true;
    }
    rax = with_input(rax, access.size, input(access));
    return true;
}

}  // namespace flatback::metal
