// CR0, CR4, CR8, IA32_EFER and RFLAGS (SDM 3A 2.3 and 2.5, 3A 2.2.1), and DR6/DR7 (SDM 3B 18.2).
#pragma once

#include <cstdint>

namespace flatback::x86 {

// clang-format off
namespace cr0 {
inline constexpr std::uint64_t protection_enable     = 1ULL << 0;   // PE
inline constexpr std::uint64_t monitor_coprocessor   = 1ULL << 1;   // MP
inline constexpr std::uint64_t emulation             = 1ULL << 2;   // EM
inline constexpr std::uint64_t task_switched         = 1ULL << 3;   // TS
inline constexpr std::uint64_t extension_type        = 1ULL << 4;   // ET
inline constexpr std::uint64_t numeric_error         = 1ULL << 5;   // NE
inline constexpr std::uint64_t write_protect         = 1ULL << 16;  // WP
inline constexpr std::uint64_t alignment_mask        = 1ULL << 18;  // AM
inline constexpr std::uint64_t not_write_through     = 1ULL << 29;  // NW
inline constexpr std::uint64_t cache_disable         = 1ULL << 30;  // CD
inline constexpr std::uint64_t paging                = 1ULL << 31;  // PG
inline constexpr std::uint64_t defined_bits          = 0xe005'003f;
}  // namespace cr0

namespace cr3 {
inline constexpr std::uint64_t linear_address_masking        = 3ULL << 61;  // LAM_U57, LAM_U48
}  // namespace cr3

namespace cr4 {
inline constexpr std::uint64_t virtual_8086_extensions       = 1ULL << 0;   // VME
inline constexpr std::uint64_t protected_virtual_interrupts  = 1ULL << 1;   // PVI
inline constexpr std::uint64_t time_stamp_disable            = 1ULL << 2;   // TSD
inline constexpr std::uint64_t debugging_extensions          = 1ULL << 3;   // DE
inline constexpr std::uint64_t page_size_extensions          = 1ULL << 4;   // PSE
inline constexpr std::uint64_t physical_address_extension    = 1ULL << 5;   // PAE
inline constexpr std::uint64_t machine_check_enable          = 1ULL << 6;   // MCE
inline constexpr std::uint64_t page_global_enable            = 1ULL << 7;   // PGE
inline constexpr std::uint64_t performance_counter_enable    = 1ULL << 8;   // PCE
inline constexpr std::uint64_t fxsave_support                = 1ULL << 9;   // OSFXSR
inline constexpr std::uint64_t simd_exception_support        = 1ULL << 10;  // OSXMMEXCPT
inline constexpr std::uint64_t user_mode_instruction_prevention = 1ULL << 11;  // UMIP
inline constexpr std::uint64_t five_level_paging             = 1ULL << 12;  // LA57
inline constexpr std::uint64_t vmx_enable                    = 1ULL << 13;  // VMXE
inline constexpr std::uint64_t smx_enable                    = 1ULL << 14;  // SMXE
inline constexpr std::uint64_t fsgsbase_enable               = 1ULL << 16;  // FSGSBASE
inline constexpr std::uint64_t pcid_enable                   = 1ULL << 17;  // PCIDE
inline constexpr std::uint64_t xsave_enable                  = 1ULL << 18;  // OSXSAVE
inline constexpr std::uint64_t smep_enable                   = 1ULL << 20;  // SMEP
inline constexpr std::uint64_t smap_enable                   = 1ULL << 21;  // SMAP
inline constexpr std::uint64_t protection_key_enable         = 1ULL << 22;  // PKE
inline constexpr std::uint64_t control_flow_enforcement      = 1ULL << 23;  // CET
inline constexpr std::uint64_t supervisor_protection_keys    = 1ULL << 24;  // PKS
}  // namespace cr4

namespace efer {
inline constexpr std::uint64_t syscall_enable          = 1ULL << 0;   // SCE
inline constexpr std::uint64_t long_mode_enable        = 1ULL << 8;   // LME
inline constexpr std::uint64_t long_mode_active        = 1ULL << 10;  // LMA
inline constexpr std::uint64_t execute_disable_enable  = 1ULL << 11;  // NXE
inline constexpr std::uint64_t defined_bits            = 0xd01;
}  // namespace efer

namespace rflags {
inline constexpr std::uint64_t carry                      = 1ULL << 0;   // CF
inline constexpr std::uint64_t fixed_one                  = 1ULL << 1;
inline constexpr std::uint64_t parity                     = 1ULL << 2;   // PF
inline constexpr std::uint64_t auxiliary_carry            = 1ULL << 4;   // AF
inline constexpr std::uint64_t zero                       = 1ULL << 6;   // ZF
inline constexpr std::uint64_t sign                       = 1ULL << 7;   // SF
inline constexpr std::uint64_t trap                       = 1ULL << 8;   // TF
inline constexpr std::uint64_t interrupt_enable           = 1ULL << 9;   // IF
inline constexpr std::uint64_t direction                  = 1ULL << 10;  // DF
inline constexpr std::uint64_t overflow                   = 1ULL << 11;  // OF
inline constexpr std::uint64_t io_privilege_level         = 3ULL << 12;  // IOPL
inline constexpr std::uint64_t nested_task                = 1ULL << 14;  // NT
inline constexpr std::uint64_t resume                     = 1ULL << 16;  // RF
inline constexpr std::uint64_t virtual_8086               = 1ULL << 17;  // VM
inline constexpr std::uint64_t alignment_check            = 1ULL << 18;  // AC
inline constexpr std::uint64_t virtual_interrupt          = 1ULL << 19;  // VIF
inline constexpr std::uint64_t virtual_interrupt_pending  = 1ULL << 20;  // VIP
inline constexpr std::uint64_t identification             = 1ULL << 21;  // ID
// The six that VMsucceed clears and VMfail sets one of (SDM 3C 31.2).
inline constexpr std::uint64_t arithmetic = carry | parity | auxiliary_carry | zero | sign | overflow;
// Bits 63:22, 15, 5 and 3 are always 0.
inline constexpr std::uint64_t reserved_zero = 0xffff'ffff'ffc0'8028;
}  // namespace rflags

namespace dr6 {
inline constexpr std::uint64_t breakpoint_conditions  = 0xf;         // B0-B3
inline constexpr std::uint64_t bus_lock_not_detected  = 1ULL << 11;  // reads as 1 where bus-lock detection is absent
inline constexpr std::uint64_t debug_register_access  = 1ULL << 13;  // BD
inline constexpr std::uint64_t single_step            = 1ULL << 14;  // BS
inline constexpr std::uint64_t task_switch            = 1ULL << 15;  // BT
inline constexpr std::uint64_t not_in_transaction     = 1ULL << 16;  // RTM
inline constexpr std::uint64_t reset_value            = 0xffff'0ff0;
}  // namespace dr6

namespace dr7 {
inline constexpr std::uint64_t enable_bits     = 0xff;        // L0 to G3
inline constexpr std::uint64_t local_exact     = 1ULL << 8;   // LE
inline constexpr std::uint64_t global_exact    = 1ULL << 9;   // GE
inline constexpr std::uint64_t general_detect  = 1ULL << 13;  // GD
inline constexpr std::uint64_t reset_value     = 0x400;
}  // namespace dr7

namespace debugctl {
inline constexpr std::uint64_t last_branch_record        = 1ULL << 0;   // LBR
inline constexpr std::uint64_t branch_single_step        = 1ULL << 1;   // BTF
inline constexpr std::uint64_t branch_trace_store        = 0xfULL << 7; // BTS, BTINT, BTS_OFF_OS, BTS_OFF_USR
inline constexpr std::uint64_t freeze_while_in_smm       = 1ULL << 14;
inline constexpr std::uint64_t rtm_debug                 = 1ULL << 15;  // RTM
// Bits that a Skylake-X class processor defines: LBR, BTF, TR, BTS, BTINT, BTS_OFF_OS, BTS_OFF_USR,
// FREEZE_LBRS_ON_PMI, FREEZE_PERFMON_ON_PMI, ENABLE_UNCORE_PMI, FREEZE_WHILE_SMM, RTM (SDM 3B 18.4.1).
inline constexpr std::uint64_t defined_bits              = 0xffc3;
// Defined on no processor.
inline constexpr std::uint64_t always_reserved           = ~(defined_bits | 1ULL << 2 /* bus-lock detection */);
}  // namespace debugctl
// clang-format on

}  // namespace flatback::x86
