#include <cstring>

#include "metal/entry_explanation.hpp"
#include "metal/hole_writes.hpp"
#include "metal/instructions.hpp"
#include "metal/interrupts.hpp"
#include "metal/log.hpp"
#include "metal/page_pool.hpp"
#include "metal/panic.hpp"
#include "metal/port.hpp"
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
      region_start_(boot.region.start),
      region_size_(boot.region.end - boot.region.start),
      ept01_pointer_(boot.ept01->pointer()),
      real_apic_(boot),
      apic_(real_apic_, boot.processor.physical_address_width),
      memory_type_registers_(try_read_msr(x86::msr::ia32_mtrrcap).value_or(0),
                             boot.processor.physical_address_width),
      written_pages_(*boot.ept01, *boot.pages) {
    msr_bitmap_ = physical_of(boot.pages->allocate_page_or_panic("the MSR bitmap"));
    no_memory_ = physical_of(boot.pages->allocate_page_or_panic("the page of no memory"));
    fill_msr_bitmap();
}

namespace {

// MSRs of what CPUID does not tell L1 of: as on a processor without it they are not there.
constexpr struct {
    std::uint32_t first, last;
} not_offered[] = {
    {0x08c, 0x08f},                  // SGX launch control
    {0x1cc, 0x1d4},                  // FRED
    {0x3f1, 0x3f1},                  // PEBS, the debug store ...
    {0x560, 0x571},                  // ... and processor trace, which write to memory past EPT
    {0x600, 0x600}, {0x6a0, 0x6a8},  // shadow stacks and indirect-branch tracking
    {0x6e1, 0x6e1},                  // supervisor protection keys
    {0x985, 0x98a},                  // user interrupts
    {0x990, 0x991},                  // key locker
};

constexpr bool is_kept_from_l1(std::uint32_t msr) {
    for (const auto& [first, last] : not_offered) {
        if (msr >= first && msr <= last) return true;
    }
    return false;
}

constexpr bool is_x2apic(std::uint32_t msr) {
    return msr >= x86::msr::x2apic_first && msr <= x86::msr::x2apic_last;
}

// IA32_MISC_ENABLE (SDM vol. 4, 1A0H).
constexpr std::uint64_t branch_trace_storage_unavailable = 1ULL << 11;
constexpr std::uint64_t pebs_unavailable = 1ULL << 12;
constexpr std::uint64_t execute_disable_off = 1ULL << 34;

}  // namespace

// What L0 keeps to itself or must know of. Everything else L1 has as the processor gives it.
void MetalPort::fill_msr_bitmap() {
    namespace msr = x86::msr;
    auto* bits = reinterpret_cast<std::uint8_t*>(page(msr_bitmap_));
    const auto set = [&](std::uint32_t number, bool write) {  // SDM 3C 25.6.9
        const bool high = number >= 0xc0000000;
        const std::uint32_t bit = high ? number - 0xc0000000 : number;
        std::uint8_t& byte = bits[(write ? 2048U : 0U) + (high ? 1024U : 0U) + bit / 8];
        byte = static_cast<std::uint8_t>(byte | (1U << (bit % 8)));
    };
    for (std::uint32_t number = msr::ia32_vmx_basic; number <= msr::ia32_vmx_procbased_ctls3; ++number) {
        set(number, false);
        set(number, true);
    }
    for (std::uint32_t number : {msr::ia32_feature_control, msr::ia32_apic_base, msr::ia32_smm_monitor_ctl}) {
        set(number, false);
        set(number, true);
    }
    for (const auto& [first, last] : not_offered) {
        for (std::uint32_t number = first; number <= last; ++number) {
            set(number, false);
            set(number, true);
        }
    }
    for (std::uint32_t number = msr::ia32_mtrr_physbase0; number <= msr::ia32_mtrr_def_type; ++number) {
        if (!host::MemoryTypeRegisters::may_contain(number)) continue;
        set(number, false);
        set(number, true);
    }
    for (std::uint32_t number = msr::x2apic_first; number <= msr::x2apic_last; ++number) {
        set(number, false);
        set(number, true);
    }
    set(msr::ia32_misc_enable, false);
    set(msr::ia32_misc_enable, true);
    // A microcode update would change the processor under L0. The rest live in the VMCS: L0 has to know when
    // they change.
    for (std::uint32_t number : {msr::ia32_bios_updt_trig, msr::ia32_efer, msr::ia32_pat,
                                 msr::ia32_sysenter_cs, msr::ia32_sysenter_esp, msr::ia32_sysenter_eip}) {
        set(number, true);
    }
}

// Whether the MSR may be one of these (SDM 3C 25.6.9: outside both ranges it exits). For the others nothing
// is to be looked up.
bool MetalPort::keeps(std::uint32_t msr, bool write) {
    const bool high = msr >= 0xc0000000;
    const std::uint32_t bit = high ? msr - 0xc0000000 : msr;
    if (bit > 0x1fff) return true;
    const auto* bits = reinterpret_cast<const std::uint8_t*>(page(msr_bitmap_));
    return (bits[(write ? 2048U : 0U) + (high ? 1024U : 0U) + bit / 8] >> (bit % 8) & 1) != 0;
}

void MetalPort::write_host_state() {
    namespace field = vmx::field;
    const auto put = [](auto what, std::uint64_t value) { metal::vmwrite(what.encoding, value); };
    put(field::host_cr0, read_cr0());
    put(field::host_cr3, read_cr3());
    put(field::host_cr4, read_cr4());
    put(field::host_cs_selector, selector::code);
    for (auto what : {field::host_ss_selector, field::host_ds_selector, field::host_es_selector,
                      field::host_fs_selector, field::host_gs_selector}) {
        put(what, what.encoding == field::host_ss_selector.encoding ? selector::data : 0);
    }
    put(field::host_tr_selector, selector::task);
    put(field::host_fs_base, 0);
    put(field::host_gs_base, 0);
    put(field::host_tr_base, tss_base());
    put(field::host_gdtr_base, gdt_base());
    put(field::host_idtr_base, idt_base());
    put(field::host_ia32_sysenter_cs, 0);
    put(field::host_ia32_sysenter_esp, 0);
    put(field::host_ia32_sysenter_eip, 0);
    put(field::host_ia32_efer, read_msr(x86::msr::ia32_efer));
    put(field::host_ia32_pat, read_msr(x86::msr::ia32_pat));
    put(field::host_rsp, reinterpret_cast<std::uint64_t>(&registers_ + 1));
    put(field::host_rip, reinterpret_cast<std::uint64_t>(&vm_exit_entry));
}

nested::HostMapping MetalPort::host_mapping(x86::Gpa<x86::L1> address) {
    const auto found = boot_.ept01->lookup(address);
    if (!found)
        return {boot_.ept01->hole_page() + address.page_offset(), 12, x86::MemoryType::write_back, false};
    return {found->address, found->page_shift, found->memory_type, !found->is_hole};
}

std::byte* MetalPort::no_memory() {
    auto* ones = reinterpret_cast<std::byte*>(page(no_memory_));
    std::memset(ones, 0xff, x86::page_size);
    return ones;
}

// Neither VM exits nor L0 change these.
std::uint64_t MetalPort::debug_address(unsigned number) {
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
std::uint32_t MetalPort::protection_key_rights() {
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
    namespace number = x86::msr;
    if (msr >= number::ia32_vmx_basic && msr <= number::ia32_vmx_procbased_ctls3) {
        return promised_ != nullptr ? promised_->read_msr(msr) : std::nullopt;
    }
    return keeps(msr, false) ? read_kept_msr(msr) : try_read_msr(msr);
}

std::optional<std::uint64_t> MetalPort::read_kept_msr(std::uint32_t msr) {
    namespace number = x86::msr;
    if (is_kept_from_l1(msr)) return std::nullopt;
    if (is_x2apic(msr)) return apic_.read(msr);
    if (memory_type_registers_.contains(msr)) {
        if (const auto written = memory_type_registers_.read(msr)) return written;
        return try_read_msr(msr);
    }
    switch (msr) {
        case number::ia32_misc_enable: {
            const auto real = try_read_msr(msr);
            if (!real) return real;
            return *real | branch_trace_storage_unavailable | pebs_unavailable;
        }
        case number::ia32_feature_control:
            return x86::feature_control::locked | x86::feature_control::vmx_outside_smx;
        case number::ia32_apic_base:
            return apic_.base();
        case number::ia32_smm_monitor_ctl:
            return 0;
        default:
            return try_read_msr(msr);
    }
}

bool MetalPort::write_l1_msr(std::uint32_t msr, std::uint64_t value) {
    namespace number = x86::msr;
    // IA32_DEBUGCTL exits for nobody, but only the engine writes it here.
    if (msr != number::ia32_debugctl && !keeps(msr, true)) return try_write_msr(msr, value);
    if (msr >= number::ia32_vmx_basic && msr <= number::ia32_vmx_procbased_ctls3) return false;
    if (is_kept_from_l1(msr)) return false;
    if (memory_type_registers_.contains(msr)) return memory_type_registers_.write(msr, value);
    if (is_x2apic(msr)) return apic_.write(msr, value);
    switch (msr) {
        case number::ia32_misc_enable:
            // L0's own pages are not executable by "execute disable", so that it stays on, and reads as that;
            // the two flags are read-only.
            return try_write_msr(
                msr, value & ~(branch_trace_storage_unavailable | pebs_unavailable | execute_disable_off));
        case number::ia32_debugctl: {
            // It lives in the VMCS; here the processor only says whether it takes the value.
            if ((value & x86::debugctl::always_reserved) != 0) return false;
            const bool taken = try_write_msr(msr, value);
            write_msr(msr, 0);
            return taken;
        }
        case number::ia32_feature_control:  // locked
        case number::ia32_smm_monitor_ctl:
            return false;
        case number::ia32_bios_updt_trig:  // taken, and without effect
            return true;
        case number::ia32_apic_base:
            return apic_.write_base(value);
        default:
            return try_write_msr(msr, value);
    }
}

bool MetalPort::let_write_vanish() {
    let_hole_write_through_ept02();
    return true;
}

bool MetalPort::handle_ept01_violation(std::uint64_t guest_physical) {
    if (let_hole_write_through(guest_physical)) return true;
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
    l1_ended("by ", why);
}

void MetalPort::fatal(const char* why) {
    panic("the engine stopped: ", why);
}

}  // namespace flatback::metal
