#include <algorithm>
#include <cstring>

#include "host/msrs.hpp"
#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/interrupts.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/machine_check.hpp"
#include "metal/ground/panic.hpp"
#include "metal/l0/entry_explanation.hpp"
#include "metal/l0/hole_writes.hpp"
#include "metal/l0/port.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/processors/given_processors.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr.hpp"

extern "C" void vm_exit_entry();

namespace flatback::metal {

void vmx_instruction_failed(const char* instruction, std::uint64_t operand) {
    panic(instruction, " ", log::hex(operand), " failed: a bug of L0's; please report it with what follows");
}

extern "C" {
void vmread_failed(std::uint64_t encoding) {
    vmx_instruction_failed("VMREAD", encoding);
}
void vmwrite_failed(std::uint64_t encoding) {
    vmx_instruction_failed("VMWRITE", encoding);
}
}

MetalPort::MetalPort(GuestRegisters& registers, BootResult& boot)
    : registers_(registers),
      boot_(boot),
      revision_(boot.processor.capabilities.basic.revision()),
      direct_map_end_(direct_map_size()),
      special_start_(boot.region.start),
      special_size_(boot.region.end - boot.region.start),
      ept01_pointer_(boot.ept01->pointer()),
      real_apic_(boot),
      kept_pages_(boot),
      keeps_pages_(real_apic_.keeps_writes() || !kept_pages_.pages().empty()),
      apic_(real_apic_, boot.processor.physical_address_width),
      memory_type_registers_(try_read_msr(x86::msr::ia32_mtrrcap).value_or(0),
                             boot.processor.physical_address_width),
      written_pages_(*boot.ept01, *boot.pages, other_processors()) {
    msr_bitmap_ = physical_of(boot.pages->allocate_page_or_panic("the MSR bitmap"));
    no_memory_ = physical_of(boot.pages->allocate_page_or_panic("the page of no memory"));
    msr_bitmap_words_ = page(msr_bitmap_);
    host::fill_msr_bitmap(msr_bitmap());
    msr_bitmap().intercept(x86::msr::ia32_debugctl, host::MsrBitmap::Access::write);
    if (real_apic_.has_x2apic()) {
        const x86::Hpa of_l1 = physical_of(boot.pages->allocate_page_or_panic("the MSR bitmap of L1"));
        std::memcpy(page(of_l1), msr_bitmap_words_, x86::page_size_4k);
        real_apic_.set_msr_bitmap(of_l1);
    }
    if (apic_.in_x2apic_mode()) {
        static_cast<void>(real_apic_.enter_x2apic_mode());
        static_cast<void>(real_apic_.place_page(std::nullopt));
    }
    make_io_bitmaps();
    if (real_apic_.keeps_writes() || apic_.in_x2apic_mode()) widen_special_pages(real_apic_.home());
    for (const std::uint64_t kept : kept_pages_.pages()) widen_special_pages(kept);
}

void put_host_state(GuestRegisters& registers) {
    namespace field = vmx::field;
    put(field::host_cr0, read_cr0());
    put(field::host_cr3, read_cr3());
    put(field::host_cr4, read_cr4());
    put(field::host_cs_selector, selector::code);
    put(field::host_ss_selector, selector::data);
    put(field::host_ds_selector, 0);
    put(field::host_es_selector, 0);
    put(field::host_fs_selector, 0);
    put(field::host_gs_selector, 0);
    put(field::host_tr_selector, selector::task);
    put(field::host_fs_base, 0);
    put(field::host_gs_base, reinterpret_cast<std::uint64_t>(&this_processor()));
    put(field::host_tr_base, tss_base());
    put(field::host_gdtr_base, gdt_base());
    put(field::host_idtr_base, idt_base());
    put(field::host_ia32_sysenter_cs, 0);
    put(field::host_ia32_sysenter_esp, 0);
    put(field::host_ia32_sysenter_eip, 0);
    put(field::host_ia32_efer, read_msr(x86::msr::ia32_efer));
    put(field::host_ia32_pat, read_msr(x86::msr::ia32_pat));
    put(field::host_rsp, reinterpret_cast<std::uint64_t>(&registers + 1));
    put(field::host_rip, reinterpret_cast<std::uint64_t>(&vm_exit_entry));
}

void MetalPort::write_host_state() {
    namespace field = vmx::field;
    put_host_state(registers_);
    put(field::address_of_io_bitmap_a, io_bitmaps_[0].value());
    put(field::address_of_io_bitmap_b, io_bitmaps_[1].value());
}

namespace {
// Out of the way of a machine on which no page is kept.
[[gnu::noinline]] nested::HostMapping mapping_beside_kept_pages(const MetalPort& port,
                                                                const HostMapping& found,
                                                                x86::Gpa<x86::L1> address) {
    return {found.address, found.page_shift, found.memory_type,
            !found.is_hole && !port.is_kept_page(address.value())};
}
}  // namespace

nested::HostMapping MetalPort::host_mapping(x86::Gpa<x86::L1> address) {
    const auto found = boot_.ept01->lookup(address);
    if (!found) {
        if (real_apic_.is_kept_page(address.value())) {
            return {x86::Hpa{real_apic_.home() + address.page_offset()}, 12, x86::MemoryType::uncacheable,
                    false, false};
        }
        return {boot_.ept01->hole_page() + address.page_offset(), 12, x86::MemoryType::write_back, false};
    }
    if (keeps_pages_) [[unlikely]]
        return mapping_beside_kept_pages(*this, *found, address);
    return {found->address, found->page_shift, found->memory_type, !found->is_hole};
}

nested::HostMapping MetalPort::page_for_write(x86::Gpa<x86::L1> address) {
    if (real_apic_.is_kept_page(address.value())) return real_apic_.let_write(address.value());
    if (kept_pages_.is_kept(address.value())) return kept_pages_.let_write(address.value());
    return host_mapping(address);
}

std::byte* MetalPort::no_memory() {
    auto* ones = reinterpret_cast<std::byte*>(page(no_memory_));
    std::memset(ones, 0xff, x86::page_size);
    return ones;
}

std::byte* MetalPort::special_page(x86::Gpa<x86::L1> page) {
    if (real_apic_.is_kept_page(page.value())) return apic_registers();
    if (kept_pages_.is_kept(page.value())) return no_memory();
    const auto found = boot_.ept01->lookup(page);
    if (!found || found->is_hole || found->address.value() >= direct_map_end_) return no_memory();
    return reinterpret_cast<std::byte*>(direct_map_base + found->address.value());
}

// What L0 writes there for L1 must not be a command that no processor may get.
std::byte* MetalPort::apic_registers() {
    auto* words = reinterpret_cast<std::uint32_t*>(page(no_memory_));
    std::memset(words, 0, x86::page_size);
    constexpr std::uint32_t distance = 16;
    constexpr std::uint32_t end = 0x400;
    for (std::uint32_t offset = 0; offset < end; offset += distance)
        words[offset / sizeof *words] = apic_.read_page(offset);
    return reinterpret_cast<std::byte*>(words);
}

void MetalPort::widen_special_pages(std::uint64_t page) {
    const std::uint64_t end = std::max(special_start_ + special_size_, page + x86::page_size_4k);
    special_start_ = std::min(special_start_, page);
    special_size_ = end - special_start_;
}

std::uint64_t read_debug_address(unsigned number) {
    std::uint64_t address = 0;
    switch (number) {
        case 0:
            asm volatile("mov %%db0, %0" : "=r"(address));
            break;
        case 1:
            asm volatile("mov %%db1, %0" : "=r"(address));
            break;
        case 2:
            asm volatile("mov %%db2, %0" : "=r"(address));
            break;
        default:
            asm volatile("mov %%db3, %0" : "=r"(address));
            break;
    }
    return address;
}
std::uint32_t read_protection_key_rights() {
    // RDPKRU wants CR4.PKE. It means nothing to L0's own pages, none of which is a user page.
    const std::uint64_t cr4 = read_cr4();
    std::uint32_t rights = 0;
    asm volatile(
        "mov %2, %%cr4\n\t"
        "rdpkru\n\t"
        "mov %1, %%cr4"
        : "=&a"(rights)
        : "r"(cr4), "r"(cr4 | x86::cr4::protection_key_enable), "c"(0)
        : "rdx", "memory");
    return rights;
}

std::optional<x86::Hpa> MetalPort::allocate_page() {
    void* fresh = boot_.pages->allocate_page();
    if (fresh == nullptr) return std::nullopt;
    return physical_of(fresh);
}

std::optional<std::uint64_t> MetalPort::read_l1_msr(std::uint32_t msr) {
    return host::read_msr(*this, msr);
}
bool MetalPort::write_l1_msr(std::uint32_t msr, std::uint64_t value) {
    return host::write_msr(*this, msr, value);
}
std::optional<std::uint64_t> MetalPort::read_processor_msr(std::uint32_t msr) {
    return try_read_msr(msr);
}
bool MetalPort::write_processor_msr(std::uint32_t msr, std::uint64_t value) {
    return try_write_msr(msr, value);
}
// L0 itself runs without any of its features. Without a debug store, whose area L1 could not choose, the bits
// of that are reserved.
bool MetalPort::takes_debugctl(std::uint64_t value) {
    if ((value & x86::debugctl::branch_trace_store) != 0) return false;
    const bool taken = try_write_msr(x86::msr::ia32_debugctl, value);
    write_msr(x86::msr::ia32_debugctl, 0);
    return taken;
}

std::uint32_t MetalPort::read_apic_page(std::uint32_t offset) {
    return apic_.read_page(offset);
}

bool MetalPort::let_write_vanish() {
    let_hole_write_through_ept02();
    return true;
}

bool MetalPort::handle_ept01_violation(std::uint64_t guest_physical) {
    if (real_apic_.is_kept_page(guest_physical)) {
        real_apic_.let_write_in_ept01(guest_physical);
        let_kept_write_through_ept01();
        return true;
    }
    if (kept_pages_.is_kept(guest_physical)) {
        kept_pages_.let_write_in_ept01(guest_physical);
        let_kept_write_through_ept01();
        return true;
    }
    if (let_hole_write_through(guest_physical)) return true;
    if (written_pages_.let_write(x86::Gpa<x86::L1>{guest_physical})) return true;
    switch (boot_.ept01->touch(guest_physical)) {
        case Ept01::Touched::filled:
            return true;
        case Ept01::Touched::filled_instead:
            invept(vmx::InveptType::single_context, ept01_pointer_);
            return true;
        case Ept01::Touched::outside:
            break;
    }
    log::info("an access beyond all physical addresses, at ", log::hex(guest_physical));
    return false;
}

std::uint8_t MetalPort::acknowledge_interrupt() {
    const auto vector = take_external_interrupt();
    return vector ? *vector : apic_.spurious_vector();
}

void MetalPort::return_machine_check() {
    take_machine_check_of_entry();
}

void MetalPort::notice(nested::Notice what, std::uint64_t detail) {
    switch (what) {
        case nested::Notice::entry_check_failed:
        case nested::Notice::entry_msr_refused:
        case nested::Notice::exit_msr_refused:
            break;  // come with their values, below
        case nested::Notice::guest_state_refused:
            explain_refused_entry(static_cast<std::uint32_t>(detail), boot_);
            break;
        case nested::Notice::hardware_refused_vmcs02:
            log::debug("the processor refused vmcs02, VM-instruction error ", detail);
            break;
    }
}

void MetalPort::notice(nested::EntryCheck check, const nested::Vmcs12& vmcs12) {
    explain_entry_check(check, vmcs12);
}

void MetalPort::notice(nested::Notice what, const nested::RefusedMsr& refused) {
    explain_refused_msr(what, refused);
}

void MetalPort::l1_shutdown(const char* why) {
    l1_ended("by ", why, ", processor ", this_processor_number());
}

void MetalPort::fatal(const char* why) {
    panic("the engine stopped: ", why);
}

}  // namespace flatback::metal
