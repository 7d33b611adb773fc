#include "port.hpp"

#include <cstdio>
#include <cstdlib>
#include <flatback/host/msrs.hpp>
#include <flatback/vmx/field.hpp>
#include <flatback/vmx/field_table.hpp>
#include <flatback/x86/control_registers.hpp>

namespace minimal_host {

Port::Port(machine::Machine& processor, const nested::Capabilities& promised)
    : processor_(processor), promised_(promised) {
    nothing_ = *allocate_page();
    msr_bitmap_ = *allocate_page();
    flatback::host::fill_msr_bitmap(msr_bitmap());
    make_ept01();
}

// 2 MB pages, write-back; beyond L1's memory there is nothing.
void Port::make_ept01() {
    constexpr std::uint64_t all = 7;  // read, write, execute
    constexpr std::uint64_t leaf = all | 6 << 3 | 1 << 7;
    ept01_ = allocate_page()->value();
    const std::uint64_t second = allocate_page()->value();
    const std::uint64_t third = allocate_page()->value();
    page(x86::Hpa{ept01_})[0] = second | all;
    page(x86::Hpa{second})[0] = third | all;
    for (std::uint64_t at = 0; at < l1_memory_size; at += 2 << 20)
        page(x86::Hpa{third})[at >> 21] = (l1_memory + at) | leaf;
}

void Port::load_vmcs(x86::Hpa page) {
    if (processor_.load_vmcs(0, page.value())) fatal("VMPTRLD failed");
}

void Port::clear_vmcs(x86::Hpa page) {
    processor_.memory().note_direct_writes();  // the revision identifier was written by a pointer
    if (processor_.clear_vmcs(0, page.value())) fatal("VMCLEAR failed");
}

// What the processor loads at each exit: this hypervisor's registers. Here it is no code of the machine's
// that goes on, so that only the rules of SDM 3C 27.2.2 to 27.2.4 matter.
void Port::write_host_state() {
    namespace field = vmx::field;
    const auto put = [this](auto what, std::uint64_t value) { vmwrite(what.encoding, value); };
    for (const auto& each : vmx::all_fields) {
        if (vmx::kind(each.encoding) == vmx::FieldKind::host_state) vmwrite(each.encoding, 0);
    }
    put(field::host_cr0, machine::Registers{}.cr0);
    put(field::host_cr4, machine::Registers{}.cr4 | x86::cr4::vmx_enable);
    put(field::host_ia32_efer, machine::Registers{}.efer);
    put(field::host_ia32_pat, machine::Registers{}.pat);
    put(field::host_cs_selector, 0x08);
    put(field::host_tr_selector, 0x18);
    put(field::host_rip, 0x10'0000);
}

void Port::invvpid(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address) {
    if (processor_.invalidate_vpid(0, static_cast<std::uint64_t>(type),
                                   {tag::raw(tag), linear_address.value()}))
        fatal("INVVPID failed");
}

void Port::invept(vmx::InveptType type, vmx::Eptp eptp) {
    if (processor_.invalidate_ept(0, static_cast<std::uint64_t>(type), {eptp.value, 0}))
        fatal("INVEPT failed");
}

std::byte* Port::l1_page(x86::Gpa<x86::L1> address) {
    const std::uint64_t base = address.align_down().value();
    if (base >= l1_memory_size) return nullptr;
    return reinterpret_cast<std::byte*>(page(x86::Hpa{l1_memory + base}));
}

nested::HostMapping Port::host_mapping(x86::Gpa<x86::L1> address) {
    if (address.value() < l1_memory_size)
        return {x86::Hpa{l1_memory + address.value()}, 21, x86::MemoryType::write_back, true};
    return {nothing_ + address.page_offset(), 12, x86::MemoryType::write_back, true};
}

std::optional<x86::Hpa> Port::allocate_page() {
    if (next_page_ == l1_memory) return std::nullopt;
    next_page_ += x86::page_size;
    return x86::Hpa{next_page_ - x86::page_size};
}

// The VMX capabilities as promised, IA32_FEATURE_CONTROL, and what else no host has to think of is answered
// there.
std::optional<std::uint64_t> Port::read_l1_msr(std::uint32_t msr) {
    return flatback::host::read_msr(*this, msr);
}
bool Port::write_l1_msr(std::uint32_t msr, std::uint64_t value) {
    return flatback::host::write_msr(*this, msr, value);
}

void Port::l1_shutdown(const char* why) {
    std::fprintf(stderr, "L1 is shut down: %s\n", why);
    std::exit(1);
}

void Port::fatal(const char* why) {
    std::fprintf(stderr, "the host stops: %s\n", why);
    std::abort();
}

}  // namespace minimal_host
