// The bare L1 of 32 bits: VMX from 32-bit paging and from PAE paging, and what is left of it without paging.

#include "guests/bare/l1/multiboot.hpp"
#include "guests/bare/l1/serial.hpp"
#include "guests/bare32/check.hpp"
#include "guests/bare32/checks.hpp"
#include "guests/bare32/cpu.hpp"
#include "guests/bare32/interrupts.hpp"
#include "guests/bare32/vmcs.hpp"

namespace flatback::guests::bare32 {
namespace {

constexpr std::uint32_t multiboot_loader_magic = 0x2BADB002;

[[noreturn]] void refuse(std::string_view why) {
    report_error("bare32-l1", why);
    power_off();
}

void check_in(Paging form, std::string_view mode) {
    set_mode(mode);
    set_paging(form);
    if (enter_vmx_operation() != vm_succeed) refuse("VMXON failed");
    check_vmcs_pointer();
    check_field_halves();
    check_segments();
    check_wrapping();
    if (form == Paging::pae) check_loaded_pdptes();
    check_invalidation();
    check_launch();
    check_guests();
    check_host_state();
    for (unsigned i = 0; i < vmcs_regions; ++i) {
        const std::uint64_t address = physical(&vmcs_region(i));
        try_vmclear(physical(&address));
    }
    Check check{"vmxoff-succeeds"};
    check.outcome("VMXOFF", try_vmxoff(), vm_succeed);
}

}  // namespace

extern "C" void bare32_main(std::uint32_t magic, std::uint32_t information) {
    start_serial();
    report_stage("bare32-l1");
    start_interrupts();
    if (magic != multiboot_loader_magic) refuse("not started by a Multiboot 1 loader");
    boot_information = MultibootInformation{information};
    if ((cpuid(1).ecx >> 5 & 1) == 0) refuse("CPUID: no VMX");
    capabilities = read_capabilities();
    write_cr0(read_cr0() | cr0_ne);
    set_mode("bare32-no-paging");
    check_without_paging();
    check_in(Paging::legacy, "bare32-legacy");
    check_in(Paging::pae, "bare32-pae");
    report_end();
    power_off();
}

}  // namespace flatback::guests::bare32
