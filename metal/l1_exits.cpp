#include "metal/l1_exits.hpp"

#include <optional>

#include "metal/instructions.hpp"
#include "metal/interrupts.hpp"
#include "metal/log.hpp"
#include "metal/panic.hpp"
#include "nested/complete_instruction.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/field.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"
#include "x86/cpuid.hpp"
#include "x86/exception.hpp"

namespace flatback::metal {

namespace {

using nested::Fault;

template <vmx::FieldWidth W, vmx::FieldKind K>
vmx::field_value_t<W> get(vmx::Field<W, K> what) {
    return static_cast<vmx::field_value_t<W>>(vmread(what.encoding));
}
void put(auto what, std::uint64_t value) {
    vmwrite(what.encoding, value);
}

constexpr Fault general_protection{.vector = static_cast<std::uint8_t>(x86::Vector::general_protection),
                                   .has_error_code = true};
constexpr Fault invalid_opcode{.vector = static_cast<std::uint8_t>(x86::Vector::invalid_opcode)};

[[gnu::always_inline]] inline void advance() {
    nested::complete_instruction([](auto what) { return get(what); },
                                 [](auto what, std::uint64_t value) { put(what, value); },
                                 get(vmx::field::guest_rflags));
}

// What L1 does not find in CPUID: what L0 would have to emulate, or to switch between guests, or what writes
// to memory past EPT (the debug store and processor trace).
constexpr std::uint32_t hidden_features_ecx = x86::cpuid::features_ecx_smx |
                                              x86::cpuid::features_ecx_osxsave | 1U << 2 /* DTES64 */ |
                                              1U << 4 /* DS-CPL */;
constexpr std::uint32_t hidden_features_edx = 1U << 21;  // DS
constexpr std::uint32_t hidden_extended_ebx = x86::cpuid::extended_ebx_sgx | 1U << 25 /* processor trace */;
constexpr std::uint32_t os_protection_keys = 1U << 4;
constexpr std::uint32_t hidden_extended_ecx = os_protection_keys | 1U << 7 /* shadow stacks */ |
                                              1U << 16 /* LA57 */ | 1U << 30 /* SGX LC */ |
                                              1U << 31 /* supervisor keys */;
constexpr std::uint32_t hidden_extended_edx =
    1U << 5 /* user interrupts */ | 1U << 18 /* PCONFIG */ | 1U << 20 /* indirect-branch tracking */;
constexpr std::uint32_t hidden_extended_1_eax =
    1U << 17 /* FRED */ | 1U << 18 /* LKGS */ | 1U << 26 /* LAM */;

// The leaves of features, in L1's registers already.
[[gnu::noinline]] void adjust_features(Cpu& cpu, std::uint32_t leaf, std::uint32_t subleaf) {
    std::uint64_t& eax = cpu.frame.registers.by_number[0];
    std::uint64_t& ebx = cpu.frame.registers.by_number[3];
    std::uint64_t& ecx = cpu.frame.registers.by_number[1];
    std::uint64_t& edx = cpu.frame.registers.by_number[2];
    const std::uint64_t cr4 = get(vmx::field::guest_cr4);
    if (leaf == x86::cpuid::leaf_features) {
        ecx &= ~std::uint64_t{hidden_features_ecx};
        ecx |= x86::cpuid::features_ecx_vmx | x86::cpuid::features_ecx_hypervisor;
        if ((cr4 & x86::cr4::xsave_enable) != 0) ecx |= x86::cpuid::features_ecx_osxsave;
        edx &= ~std::uint64_t{hidden_features_edx};
        if (!cpu.port.apic_enabled()) edx &= ~std::uint64_t{x86::cpuid::features_edx_apic};
    } else if (subleaf == 0) {
        ebx &= ~std::uint64_t{hidden_extended_ebx};
        ecx &= ~std::uint64_t{hidden_extended_ecx};
        edx &= ~std::uint64_t{hidden_extended_edx};
        if ((cr4 & x86::cr4::protection_key_enable) != 0) ecx |= os_protection_keys;
    } else if (subleaf == 1) {
        eax &= ~std::uint64_t{hidden_extended_1_eax};
    }
}

// CPUID: the processor's, but for what L1 has its own copy of and what L0 does not let it have.
[[gnu::always_inline]] inline void emulate_cpuid(Cpu& cpu) {
    std::uint64_t* registers = cpu.frame.registers.by_number;
    const auto leaf = static_cast<std::uint32_t>(registers[0]);
    const auto subleaf = static_cast<std::uint32_t>(registers[1]);
    if (leaf - x86::cpuid::leaf_hypervisor < 0x100) [[unlikely]] {
        information_leaf(cpu, leaf);
        return;
    }
    // 64-bit results: the processor clears their upper halves, as it would L1's.
    struct {
        std::uint64_t eax, ebx, ecx, edx;
    } result;
    asm volatile("cpuid"
                 : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
                 : "a"(leaf), "c"(subleaf));
    registers[0] = result.eax;
    registers[3] = result.ebx;
    registers[1] = result.ecx;
    registers[2] = result.edx;
    if (leaf == x86::cpuid::leaf_features || leaf == x86::cpuid::leaf_extended_features) [[unlikely]] {
        adjust_features(cpu, leaf, subleaf);
    }
}

void emulate_msr(Cpu& cpu, bool write) {
    std::uint64_t* registers = cpu.frame.registers.by_number;
    const auto msr = static_cast<std::uint32_t>(registers[1]);
    if (write) {
        if (!cpu.vcpu.write_guest_msr(msr, (registers[2] << 32) | (registers[0] & 0xffffffff))) {
            cpu.vcpu.inject(general_protection);
            return;
        }
        cpu.vcpu.l1_msr_changed();
    } else {
        const auto value = cpu.vcpu.read_guest_msr(msr);
        if (!value) {
            cpu.vcpu.inject(general_protection);
            return;
        }
        registers[0] = *value & 0xffffffff;
        registers[2] = *value >> 32;
    }
    advance();
}

// Into vmcs01, for an L1 that switches PAE paging on or changes it (SDM 3A 4.4.1). EPT is on, so they live in
// the VMCS.
bool load_pae_pointers(Cpu& cpu) {
    const std::uint64_t table = get(vmx::field::guest_cr3) & 0xffffffe0;
    const auto* page = cpu.port.l1_page(x86::Gpa<x86::L1>{table});
    if (page == nullptr) return false;
    const auto* in_memory = reinterpret_cast<const std::uint64_t*>(page + (table & 0xfff));
    std::uint64_t entries[4];
    for (std::uint32_t i = 0; i < 4; ++i) {
        entries[i] = __atomic_load_n(&in_memory[i], __ATOMIC_RELAXED);
        if (!x86::is_valid_pae_pdpte(entries[i], cpu.capabilities.physical_address_width)) return false;
    }
    for (std::uint32_t i = 0; i < 4; ++i) vmwrite(vmx::field::guest_pdpte0.encoding + 2 * i, entries[i]);
    return true;
}

// MOV to CR0 exits only where L1 changes CR0.NE, which is 1 in VMX operation whatever L1 wants.
bool write_cr0(Cpu& cpu, std::uint64_t value) {
    using namespace x86::cr0;
    const std::uint64_t before = get(vmx::field::guest_cr0);
    if ((value >> 32) != 0 || ((value & paging) != 0 && (value & protection_enable) == 0) ||
        ((value & not_write_through) != 0 && (value & cache_disable) == 0)) {
        return false;
    }
    if (cpu.vcpu.in_vmx_operation() && !cpu.capabilities.promised.cr0.permits(value)) return false;
    const std::uint64_t cr4 = get(vmx::field::guest_cr4);
    const std::uint64_t efer = get(vmx::field::guest_ia32_efer);
    const std::uint32_t entry = get(vmx::field::vm_entry_controls);
    if ((value & paging) != 0 && (before & paging) == 0) {
        if ((efer & x86::efer::long_mode_enable) != 0) {
            if ((cr4 & x86::cr4::physical_address_extension) == 0 ||
                x86::AccessRights{get(vmx::field::guest_cs_access_rights)}.is_long_mode()) {
                return false;
            }
            put(vmx::field::guest_ia32_efer, efer | x86::efer::long_mode_active);
            put(vmx::field::vm_entry_controls, entry | vmx::entry_control::ia32e_mode_guest);
        } else if ((cr4 & x86::cr4::physical_address_extension) != 0 && !load_pae_pointers(cpu)) {
            return false;
        }
    } else if ((value & paging) == 0 && (before & paging) != 0) {
        if (x86::AccessRights{get(vmx::field::guest_cs_access_rights)}.is_long_mode() ||
            (cr4 & x86::cr4::pcid_enable) != 0) {
            return false;
        }
        put(vmx::field::guest_ia32_efer, efer & ~x86::efer::long_mode_active);
        put(vmx::field::vm_entry_controls, entry & ~vmx::entry_control::ia32e_mode_guest);
        cpu.vcpu.l1_translations_changed();
    }
    value |= extension_type;
    put(vmx::field::guest_cr0, value | numeric_error);
    put(vmx::field::cr0_read_shadow, value);
    return true;
}

// MOV to CR4 exits only where L1 changes VMXE, which is 1 in VMX operation, or SMXE or LA57, which it may not
// have.
bool write_cr4(Cpu& cpu, std::uint64_t value) {
    using namespace x86::cr4;
    const std::uint64_t before = get(vmx::field::guest_cr4);
    const bool long_mode = (get(vmx::field::guest_ia32_efer) & x86::efer::long_mode_active) != 0;
    if ((value & ~cpu.capabilities.promised.cr4.fixed1) != 0) return false;
    if (cpu.vcpu.in_vmx_operation() && (value & vmx_enable) == 0) return false;
    if (long_mode &&
        ((value & physical_address_extension) == 0 || ((value ^ before) & five_level_paging) != 0)) {
        return false;
    }
    if ((value & pcid_enable) != 0 && (before & pcid_enable) == 0 &&
        (!long_mode || (get(vmx::field::guest_cr3) & x86::cr3::pcid_mask) != 0)) {
        return false;
    }
    put(vmx::field::guest_cr4, value | vmx_enable);
    constexpr std::uint64_t paging_bits =
        page_size_extensions | physical_address_extension | page_global_enable | smep_enable | pcid_enable;
    if (((value ^ before) & paging_bits) != 0) {
        cpu.vcpu.l1_translations_changed();
        const bool pae = (value & physical_address_extension) != 0;
        if (!long_mode && pae && (get(vmx::field::guest_cr0) & x86::cr0::paging) != 0 &&
            !load_pae_pointers(cpu)) {
            put(vmx::field::guest_cr4, before);
            return false;
        }
    }
    put(vmx::field::cr4_read_shadow, value);
    return true;
}

void emulate_control_register(Cpu& cpu) {
    const auto access = vmx::ControlRegisterAccess::decode(get(vmx::field::exit_qualification));
    using Kind = vmx::ControlRegisterAccess::Kind;
    const auto source = [&] {
        std::uint64_t value = access.general_register == 4
                                  ? get(vmx::field::guest_rsp)
                                  : cpu.frame.registers.by_number[access.general_register];
        if (!x86::AccessRights{get(vmx::field::guest_cs_access_rights)}.is_long_mode()) value &= 0xffffffff;
        return value;
    };
    bool done = false;
    if (access.kind == Kind::mov_to && access.control_register == 0) {
        done = write_cr0(cpu, source());
    } else if (access.kind == Kind::mov_to && access.control_register == 4) {
        done = write_cr4(cpu, source());
    } else {
        panic("an access of L1's to a control register that L0 does not intercept, qualification ",
              log::hex(get(vmx::field::exit_qualification)));
    }
    if (done) {
        advance();
    } else {
        cpu.vcpu.inject(general_protection);
    }
}

[[noreturn, gnu::cold]] void l1_died(const char* how) {
    refuse("L1 ended with ", how, " at RIP ", log::hex(get(vmx::field::guest_rip)), ", CR3 ",
           log::hex(get(vmx::field::guest_cr3)), ", RSP ", log::hex(get(vmx::field::guest_rsp)));
}

[[gnu::cold, gnu::noinline]] nested::Entry handle_rare_l1_exit(Cpu& cpu, std::uint32_t exit_reason);

}  // namespace

nested::Entry handle_l1_exit(Cpu& cpu, std::uint32_t exit_reason) {
    using enum vmx::ExitReason;
    // By how often they come: what L1 does all the time first.
    if (exit_reason == static_cast<std::uint32_t>(vmx::ExitReason::cpuid)) [[likely]] {
        nested::Counters& counters = cpu.vcpu.counters();
        ++counters.handled_by_l0[static_cast<std::size_t>(vmx::ExitReason::cpuid)];
        emulate_cpuid(cpu);
        advance();
        return nested::Entry::vmresume;
    }
    switch (static_cast<vmx::ExitReason>(exit_reason)) {
        case vmcall:
        case vmclear:
        case vmlaunch:
        case vmptrld:
        case vmptrst:
        case vmx::ExitReason::vmread:
        case vmresume:
        case vmx::ExitReason::vmwrite:
        case vmxoff:
        case vmx::ExitReason::vmxon:
        case vmx::ExitReason::invept:
        case vmx::ExitReason::invvpid:
            return cpu.vcpu.handle_vmx_instruction(static_cast<vmx::ExitReason>(exit_reason));
        default:
            return handle_rare_l1_exit(cpu, exit_reason);
    }
}

namespace {

nested::Entry handle_rare_l1_exit(Cpu& cpu, std::uint32_t exit_reason) {
    using enum vmx::ExitReason;
    const vmx::ExitReasonField reason{exit_reason};
    nested::Counters& counters = cpu.vcpu.counters();
    if (reason.is_entry_failure()) {
        panic("the processor refused L1's state, exit reason ", log::hex(exit_reason), ", qualification ",
              get(vmx::field::exit_qualification));
    }
    if (static_cast<std::size_t>(reason.basic()) < nested::exit_reason_count) {
        ++counters.handled_by_l0[static_cast<std::size_t>(reason.basic())];
    }
    switch (reason.basic()) {
        case rdmsr:
            emulate_msr(cpu, false);
            break;
        case wrmsr:
            emulate_msr(cpu, true);
            break;
        case control_register_access:
            emulate_control_register(cpu);
            break;
        case xsetbv: {
            std::uint64_t* registers = cpu.frame.registers.by_number;
            if (try_xsetbv(static_cast<std::uint32_t>(registers[1]),
                           (registers[2] << 32) | (registers[0] & 0xffffffff))) {
                advance();
            } else {
                cpu.vcpu.inject(general_protection);
            }
            break;
        }
        case invd:
            // Without writing back, what L0 has in the caches would be lost too.
            asm volatile("wbinvd" ::: "memory");
            advance();
            break;
        case getsec:
            cpu.vcpu.inject(invalid_opcode);
            break;
        case ept_violation:
            if (!cpu.port.handle_ept01_violation(get(vmx::field::guest_physical_address))) {
                cpu.vcpu.inject(general_protection);
            }
            break;
        case triple_fault:
            l1_died("a triple fault");
        case init_signal:
            l1_died("an INIT signal, which Flatback does not emulate,");
        case task_switch:
            l1_died("a hardware task switch, which Flatback does not emulate,");
        default:
            panic("an exit of L1's that L0 did not ask for, reason ", exit_reason, " (",
                  name_of(reason.basic()), "), qualification ",
                  log::hex(get(vmx::field::exit_qualification)));
    }
    return nested::Entry::vmresume;
}

}  // namespace

}  // namespace flatback::metal
