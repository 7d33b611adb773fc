// The instructions that load control registers as L0 completes them, against SDM 2B "MOV-Move to/from Control
// Registers", 2A "CLTS" and "LMSW", and 3A 9.8.5.
#include <gtest/gtest.h>

#include <array>
#include <map>

#include "host/control_register_access.hpp"

namespace flatback::host::control_registers_test {
namespace {

namespace field = vmx::field;
namespace cr0 = x86::cr0;
namespace cr4 = x86::cr4;
namespace efer = x86::efer;

constexpr std::uint32_t code_32 = 0xc09b;
constexpr std::uint32_t code_64 = 0xa09b;
constexpr std::uint32_t tss_16 = 0x83;
constexpr std::uint32_t tss_64 = 0x8b;
constexpr std::uint64_t protected_mode = cr0::protection_enable | cr0::extension_type;
constexpr std::uint64_t with_paging = protected_mode | cr0::paging;

nested::Capabilities usual_capabilities() {
    nested::Capabilities all;
    all.physical_address_width = 40;
    all.promised.cr0 = {.fixed0 = cr0::paging | cr0::numeric_error | cr0::protection_enable,
                        .fixed1 = 0xffff'ffff};
    all.promised.cr4 = {.fixed0 = cr4::vmx_enable, .fixed1 = nested::offered::cr4};
    return all;
}

// vmcs01 as a table of words, one page of memory, and what was asked of the processor.
class Guest {
public:
    Guest() {
        put(field::guest_tr_access_rights, tss_64);
        put(field::guest_cs_access_rights, code_32);
        set_cr0(protected_mode);
        set_cr4(0);
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard]] vmx::field_value_t<W> get(vmx::Field<W, K> what) {
        return static_cast<vmx::field_value_t<W>>(words[what.encoding]);
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void put(vmx::Field<W, K> what, std::type_identity_t<vmx::field_value_t<W>> value) {
        words[what.encoding] = value;
    }
    const std::byte* l1_page(x86::Gpa<x86::L1> address) {
        return (address.value() & ~0xfffULL) == page_address ? reinterpret_cast<const std::byte*>(page)
                                                             : nullptr;
    }
    [[nodiscard]] bool in_vmx_operation() const { return vmx_operation; }
    void set_cache_control(std::uint64_t bits) { cache_control = bits; }
    void translations_changed() { ++flushes; }
    void efer_changed() { ++efer_changes; }

    // As MOV left them, with L0's bits: CR0.NE and CR4.VMXE are 1.
    void set_cr0(std::uint64_t value) {
        put(field::guest_cr0, value | cr0::numeric_error);
        put(field::cr0_read_shadow, value);
        cache_control = value & (cr0::cache_disable | cr0::not_write_through);
    }
    void set_cr4(std::uint64_t value) {
        put(field::guest_cr4, value | cr4::vmx_enable);
        put(field::cr4_read_shadow, value);
    }
    void set_long_mode(std::uint32_t code) {
        set_cr0(with_paging);
        set_cr4(cr4::physical_address_extension);
        put(field::guest_ia32_efer, efer::long_mode_enable | efer::long_mode_active);
        put(field::vm_entry_controls, vmx::entry_control::ia32e_mode_guest);
        put(field::guest_cs_access_rights, code);
    }
    [[nodiscard]] bool in_long_mode() {
        const bool control = (get(field::vm_entry_controls) & vmx::entry_control::ia32e_mode_guest) != 0;
        EXPECT_EQ((get(field::guest_ia32_efer) & efer::long_mode_active) != 0, control);
        return control;
    }
    [[nodiscard]] const nested::Capabilities& capabilities() const { return promised; }
    [[nodiscard]] std::uint64_t& general_register(unsigned number) { return general[number]; }

    // False: #GP(0).
    [[nodiscard]] bool write_cr0(std::uint64_t value) { return is_done(host::write_cr0(*this, value)); }
    [[nodiscard]] bool write_cr3(std::uint64_t value) { return is_done(host::write_cr3(*this, value)); }
    [[nodiscard]] bool write_cr4(std::uint64_t value) { return is_done(host::write_cr4(*this, value)); }
    [[nodiscard]] Outcome exit(const vmx::ControlRegisterAccess& access) {
        put(field::exit_qualification, access.encode());
        return emulate_control_register_access(*this);
    }
    // #GP(0), and nothing of L1 has changed.
    void expect_fault_of_cr0(std::uint64_t value) {
        expect_fault([&] { return write_cr0(value); });
    }
    void expect_fault_of_cr3(std::uint64_t value) {
        expect_fault([&] { return write_cr3(value); });
    }
    void expect_fault_of_cr4(std::uint64_t value) {
        expect_fault([&] { return write_cr4(value); });
    }

    static constexpr std::uint64_t page_address = 0x7000;
    nested::Capabilities promised = usual_capabilities();
    std::map<std::uint32_t, std::uint64_t> words;
    std::array<std::uint64_t, 16> general{};
    alignas(4096) std::uint64_t page[512] = {};
    bool vmx_operation = false;
    std::uint64_t cache_control = 0;
    unsigned flushes = 0;
    unsigned efer_changes = 0;

private:
    static bool is_done(Outcome outcome) {
        EXPECT_TRUE(outcome == Outcome::done || outcome == Outcome::general_protection);
        return outcome == Outcome::done;
    }
    void expect_fault(auto&& instruction) {
        const auto before = words;
        const std::uint64_t cache_before = cache_control;
        EXPECT_FALSE(instruction());
        for (const auto& [encoding, value] : words) {
            const auto found = before.find(encoding);
            EXPECT_EQ(value, found == before.end() ? 0 : found->second) << std::hex << encoding;
        }
        EXPECT_EQ(cache_control, cache_before);
        EXPECT_EQ(flushes, 0U);
        EXPECT_EQ(efer_changes, 0U);
    }
};
static_assert(ControlRegisterExitHost<Guest>);

TEST(L1Cr0, NumericErrorIsTheReadersOnly) {
    Guest guest;
    ASSERT_TRUE(guest.write_cr0(protected_mode | cr0::numeric_error));
    EXPECT_EQ(guest.get(field::cr0_read_shadow), protected_mode | cr0::numeric_error);
    ASSERT_TRUE(guest.write_cr0(protected_mode));
    EXPECT_EQ(guest.get(field::cr0_read_shadow), protected_mode);
    EXPECT_EQ(guest.get(field::guest_cr0), protected_mode | cr0::numeric_error);
}

TEST(L1Cr0, ReservedBitsOfTheLowHalfAreIgnored) {
    Guest guest;
    ASSERT_TRUE(guest.write_cr0(0x1ffa'ffc0 | cr0::protection_enable));
    EXPECT_EQ(guest.get(field::cr0_read_shadow), protected_mode) << "and ET is always 1";
    EXPECT_EQ(guest.get(field::guest_cr0), protected_mode | cr0::numeric_error);
}

TEST(L1Cr0, InvalidCombinationsFault) {
    Guest guest;
    guest.expect_fault_of_cr0(protected_mode | 1ULL << 32);
    guest.expect_fault_of_cr0(cr0::paging | cr0::extension_type);
    guest.expect_fault_of_cr0(protected_mode | cr0::not_write_through);
}

TEST(L1Cr0, VmxOperationHoldsItsFixedBits) {
    Guest guest;
    guest.set_long_mode(code_64);
    guest.vmx_operation = true;
    guest.expect_fault_of_cr0(with_paging);
    EXPECT_TRUE(guest.write_cr0(with_paging | cr0::numeric_error | cr0::write_protect));
}

TEST(L1Cr0, CacheControlReachesTheProcessor) {
    Guest guest;
    constexpr std::uint64_t both = cr0::cache_disable | cr0::not_write_through;
    ASSERT_TRUE(guest.write_cr0(protected_mode | cr0::cache_disable));
    EXPECT_EQ(guest.cache_control, cr0::cache_disable);
    EXPECT_EQ(guest.get(field::guest_cr0) & both, cr0::cache_disable);
    guest.set_cr0(protected_mode | cr0::cache_disable);
    ASSERT_TRUE(guest.write_cr0(protected_mode | both));
    EXPECT_EQ(guest.cache_control, both);
    ASSERT_TRUE(guest.write_cr0(protected_mode));
    EXPECT_EQ(guest.cache_control, 0U);
}

TEST(L1Cr0, SwitchesToIa32eMode) {
    Guest guest;
    guest.set_cr4(cr4::physical_address_extension);
    guest.put(field::guest_ia32_efer, efer::long_mode_enable);
    ASSERT_TRUE(guest.write_cr0(with_paging));
    EXPECT_TRUE(guest.in_long_mode());
    EXPECT_EQ(guest.efer_changes, 1U);
}

TEST(L1Cr0, TheSwitchToIa32eModeFaults) {
    {
        SCOPED_TRACE("with TR holding a 16-bit TSS");
        Guest guest;
        guest.set_cr4(cr4::physical_address_extension);
        guest.put(field::guest_ia32_efer, efer::long_mode_enable);
        guest.put(field::guest_tr_access_rights, tss_16);
        guest.expect_fault_of_cr0(with_paging | cr0::numeric_error);
    }
    {
        SCOPED_TRACE("without PAE");
        Guest guest;
        guest.put(field::guest_ia32_efer, efer::long_mode_enable);
        guest.expect_fault_of_cr0(with_paging);
    }
    {
        SCOPED_TRACE("with CS.L set");
        Guest guest;
        guest.set_cr4(cr4::physical_address_extension);
        guest.put(field::guest_ia32_efer, efer::long_mode_enable);
        guest.put(field::guest_cs_access_rights, code_64);
        guest.expect_fault_of_cr0(with_paging);
    }
}

TEST(L1Cr0, ASixteenBitTaskIsNoHindranceOutsideIa32eMode) {
    Guest guest;
    guest.put(field::guest_tr_access_rights, tss_16);
    EXPECT_TRUE(guest.write_cr0(with_paging));
    EXPECT_FALSE(guest.in_long_mode());
}

// CS.L is reserved outside IA-32e mode (SDM 3A 3.4.5): it keeps nobody from anything there but from that
// mode.
TEST(L1Cr0, TheLongBitOfCodeIsNoHindranceOutsideIa32eMode) {
    Guest guest;
    guest.put(field::guest_cs_access_rights, code_64);
    ASSERT_TRUE(guest.write_cr0(with_paging));
    EXPECT_FALSE(guest.in_long_mode());
    ASSERT_TRUE(guest.write_cr0(protected_mode));
    EXPECT_EQ(guest.flushes, 1U);
}

TEST(L1Cr0, LeavesIa32eModeAndDropsTranslations) {
    Guest guest;
    guest.set_long_mode(code_32);
    ASSERT_TRUE(guest.write_cr0(protected_mode));
    EXPECT_FALSE(guest.in_long_mode());
    EXPECT_EQ(guest.get(field::guest_ia32_efer), efer::long_mode_enable);
    EXPECT_EQ(guest.flushes, 1U);
}

TEST(L1Cr0, LeavingIa32eModeFaultsIn64BitModeAndWithPcid) {
    Guest guest;
    guest.set_long_mode(code_64);
    guest.expect_fault_of_cr0(protected_mode);
    guest.set_long_mode(code_32);
    guest.set_cr4(cr4::physical_address_extension | cr4::pcid_enable);
    guest.expect_fault_of_cr0(protected_mode);
}

// SDM 3A 4.4.1: a MOV to CR0 that leaves PAE paging on and changes PG, CD or NW loads the PDPTEs.
TEST(L1Cr0, PaePointersAreLoadedWherePagingOrCacheControlChanges) {
    for (const std::uint64_t before : {protected_mode, with_paging}) {
        Guest guest;
        guest.set_cr4(cr4::physical_address_extension);
        guest.set_cr0(before);
        guest.put(field::guest_cr3, Guest::page_address + 0x20);
        guest.page[4] = 0x1001;
        guest.page[7] = 0x2001;
        ASSERT_TRUE(guest.write_cr0(with_paging | (before == with_paging ? cr0::cache_disable : 0)));
        EXPECT_EQ(guest.get(field::guest_pdpte0), 0x1001U);
        EXPECT_EQ(guest.get(field::guest_pdpte1), 0U);
        EXPECT_EQ(guest.get(field::guest_pdpte3), 0x2001U);
    }
    Guest guest;
    guest.set_cr4(cr4::physical_address_extension);
    guest.set_cr0(with_paging);
    guest.put(field::guest_cr3, Guest::page_address);
    guest.page[0] = 0x1001;
    ASSERT_TRUE(guest.write_cr0(with_paging | cr0::numeric_error | cr0::write_protect));
    EXPECT_EQ(guest.get(field::guest_pdpte0), 0U) << "neither changes";
}

TEST(L1Cr0, ABadPaePointerFaults) {
    for (const std::uint64_t bad : {0x1003ULL, 0x1021ULL, 0x1'00'0000'1001ULL}) {
        Guest guest;
        guest.set_cr4(cr4::physical_address_extension);
        guest.put(field::guest_cr3, Guest::page_address);
        guest.page[0] = 0x1001;
        guest.page[3] = bad;
        guest.expect_fault_of_cr0(with_paging | cr0::cache_disable);
    }
    Guest guest;
    guest.set_cr4(cr4::physical_address_extension);
    guest.put(field::guest_cr3, 0x9000);
    guest.expect_fault_of_cr0(with_paging);  // no memory there: ones
}

TEST(L1Cr4, VmxEnableIsTheReadersOnly) {
    Guest guest;
    ASSERT_TRUE(guest.write_cr4(cr4::vmx_enable));
    EXPECT_EQ(guest.get(field::cr4_read_shadow), cr4::vmx_enable);
    ASSERT_TRUE(guest.write_cr4(0));
    EXPECT_EQ(guest.get(field::guest_cr4), cr4::vmx_enable);
    guest.vmx_operation = true;
    guest.expect_fault_of_cr4(0);
}

TEST(L1Cr4, WhatIsNotPromisedFaults) {
    Guest guest;
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t value = 1ULL << bit;
        if ((nested::offered::cr4 & value) == 0) guest.expect_fault_of_cr4(value);
    }
}

TEST(L1Cr4, Ia32eModeKeepsPae) {
    Guest guest;
    guest.set_long_mode(code_64);
    guest.expect_fault_of_cr4(cr4::vmx_enable);
}

TEST(L1Cr4, PcidNeedsIa32eModeAndAnEmptyPcid) {
    Guest guest;
    guest.expect_fault_of_cr4(cr4::physical_address_extension | cr4::pcid_enable);
    guest.set_long_mode(code_64);
    guest.put(field::guest_cr3, 0x1008);
    guest.expect_fault_of_cr4(cr4::physical_address_extension | cr4::pcid_enable);
    guest.put(field::guest_cr3, 0x1000);
    EXPECT_TRUE(guest.write_cr4(cr4::physical_address_extension | cr4::pcid_enable));
}

TEST(L1Cr4, WhatDropsTranslationsDoes) {
    for (const std::uint64_t bit : {cr4::page_global_enable, cr4::page_size_extensions, cr4::smep_enable,
                                    cr4::physical_address_extension}) {
        Guest guest;
        ASSERT_TRUE(guest.write_cr4(bit));
        EXPECT_EQ(guest.flushes, 1U) << std::hex << bit;
        ASSERT_TRUE(guest.write_cr4(bit | cr4::time_stamp_disable));
        EXPECT_EQ(guest.flushes, 1U) << std::hex << bit;
    }
}

TEST(L1Cr4, PaePointersAreLoadedOrTheInstructionFaults) {
    Guest guest;
    guest.set_cr0(with_paging);
    guest.put(field::guest_cr3, Guest::page_address);
    guest.page[1] = 0x3003;
    guest.expect_fault_of_cr4(cr4::physical_address_extension);
    guest.page[1] = 0x3001;
    ASSERT_TRUE(guest.write_cr4(cr4::physical_address_extension));
    EXPECT_EQ(guest.get(field::guest_pdpte1), 0x3001U);
    guest.page[1] = 0x4001;
    ASSERT_TRUE(guest.write_cr4(cr4::physical_address_extension | cr4::time_stamp_disable));
    EXPECT_EQ(guest.get(field::guest_pdpte1), 0x3001U);
    ASSERT_TRUE(guest.write_cr4(cr4::physical_address_extension | cr4::page_global_enable));
    EXPECT_EQ(guest.get(field::guest_pdpte1), 0x4001U);
}

// SDM 2B: with CR4.CET set CR0.WP cannot be cleared, nor CR4.CET be set without it.
// Of paging without PAE CR3 names no pointers, whatever lies there.
TEST(L1Cr4, WithoutPaeNoPointerIsLoaded) {
    Guest guest;
    guest.set_cr0(with_paging);
    guest.put(field::guest_cr3, Guest::page_address);
    guest.page[1] = 0x3003;
    EXPECT_TRUE(guest.write_cr4(cr4::page_global_enable));
    EXPECT_EQ(guest.get(field::guest_pdpte1), 0U);
}

TEST(L1Cr0, ControlFlowEnforcementHoldsWriteProtect) {
    Guest guest;
    guest.promised.promised.cr4.fixed1 |= cr4::control_flow_enforcement;
    guest.set_cr0(protected_mode | cr0::write_protect);
    guest.set_cr4(cr4::control_flow_enforcement);
    guest.expect_fault_of_cr0(protected_mode | cr0::numeric_error);
    EXPECT_TRUE(guest.write_cr0(protected_mode | cr0::write_protect | cr0::numeric_error));
}
TEST(L1Cr4, ControlFlowEnforcementNeedsWriteProtect) {
    Guest guest;
    guest.promised.promised.cr4.fixed1 |= cr4::control_flow_enforcement;
    guest.expect_fault_of_cr4(cr4::control_flow_enforcement);
    guest.set_cr0(protected_mode | cr0::write_protect);
    EXPECT_TRUE(guest.write_cr4(cr4::control_flow_enforcement));
}

TEST(L1Cr4, Ia32eModeKeepsTheDepthOfPaging) {
    Guest guest;
    guest.promised.promised.cr4.fixed1 |= cr4::five_level_paging;
    ASSERT_TRUE(guest.write_cr4(cr4::five_level_paging));
    guest.set_long_mode(code_64);
    guest.expect_fault_of_cr4(cr4::physical_address_extension | cr4::five_level_paging);
    guest.set_cr4(cr4::physical_address_extension | cr4::five_level_paging);
    guest.expect_fault_of_cr4(cr4::physical_address_extension);
}

// SDM 3A 3.4.5: outside IA-32e mode CS.L is reserved, so that code with it is no 64-bit code.
TEST(L1Cr0, CodeWithLOutsideIa32eModeLeavesPaging) {
    Guest guest;
    guest.set_cr0(with_paging);
    guest.put(field::guest_cs_access_rights, code_64);
    EXPECT_TRUE(guest.write_cr0(protected_mode | cr0::numeric_error));
    guest.set_cr0(protected_mode);
    EXPECT_TRUE(guest.write_cr0(with_paging));
}

TEST(L1Cr3, ReservedBitsFault) {
    Guest guest;
    guest.set_long_mode(code_64);
    guest.expect_fault_of_cr3(1ULL << 40);
    guest.expect_fault_of_cr3(0x1000 | 1ULL << 63);  // without PCIDE the bit means nothing
    ASSERT_TRUE(guest.write_cr3(0xff'ffff'f018));
    EXPECT_EQ(guest.get(field::guest_cr3), 0xff'ffff'f018U);
    EXPECT_EQ(guest.flushes, 1U);
}

// SDM 3A 4.10.4.1: bit 63 says that nothing is to be dropped, and is not stored.
TEST(L1Cr3, WithPcidsBit63KeepsTranslations) {
    Guest guest;
    guest.set_long_mode(code_64);
    guest.set_cr4(cr4::physical_address_extension | cr4::pcid_enable);
    ASSERT_TRUE(guest.write_cr3(0x1003 | 1ULL << 63));
    EXPECT_EQ(guest.get(field::guest_cr3), 0x1003U);
    EXPECT_EQ(guest.flushes, 0U);
    ASSERT_TRUE(guest.write_cr3(0x1004));
    EXPECT_EQ(guest.flushes, 1U);
}

TEST(L1Cr3, PaePointersAreLoadedOrTheInstructionFaults) {
    Guest guest;
    guest.set_cr4(cr4::physical_address_extension);
    ASSERT_TRUE(guest.write_cr3(0x9000)) << "without paging nothing is read";
    guest.set_cr0(with_paging);
    guest.flushes = 0;
    guest.page[2] = 0x5003;
    guest.expect_fault_of_cr3(Guest::page_address);
    EXPECT_EQ(guest.get(field::guest_cr3), 0x9000U);
    guest.page[2] = 0x5001;
    ASSERT_TRUE(guest.write_cr3(Guest::page_address));
    EXPECT_EQ(guest.get(field::guest_pdpte2), 0x5001U);
    EXPECT_EQ(guest.get(field::guest_cr3), Guest::page_address);
}

// What L1 reads is the shadow where the mask has the bit, and the register elsewhere.
TEST(L1MachineStatus, ClearsTaskSwitchedAlone) {
    Guest guest;
    guest.put(field::cr0_guest_host_mask, held_cr0 | cr0::task_switched);
    guest.set_cr0(protected_mode | cr0::task_switched);
    guest.put(field::guest_cr0, guest.get(field::guest_cr0) | cr0::write_protect);
    ASSERT_EQ(guest.exit({.kind = vmx::ControlRegisterAccess::Kind::clts}), Outcome::done);
    EXPECT_EQ(guest.get(field::guest_cr0), protected_mode | cr0::write_protect | held_cr0);
    EXPECT_EQ(guest.get(field::cr0_read_shadow), protected_mode | cr0::write_protect);
}

TEST(L1MachineStatus, IsLoadedFromFourBits) {
    using Kind = vmx::ControlRegisterAccess::Kind;
    Guest guest;
    guest.put(field::cr0_guest_host_mask, held_cr0);
    guest.set_cr0(cr0::extension_type | cr0::task_switched);
    ASSERT_EQ(guest.exit({.kind = Kind::lmsw, .lmsw_source = 0xfff7}), Outcome::done);
    EXPECT_EQ(guest.get(field::cr0_read_shadow), cr0::extension_type | 7);
    ASSERT_EQ(guest.exit({.kind = Kind::lmsw, .lmsw_source = 0x8}), Outcome::done);
    EXPECT_EQ(guest.get(field::cr0_read_shadow), protected_mode | cr0::task_switched) << "PE stays";
    EXPECT_EQ(guest.get(field::guest_cr0), protected_mode | cr0::task_switched | held_cr0);
}

TEST(L1ControlRegisterAccess, TakesTheOperandInTheWidthOfTheMode) {
    using Kind = vmx::ControlRegisterAccess::Kind;
    Guest guest;
    guest.general[9] = 0xffff'ffff'0000'0000 | cr4::page_global_enable;
    const vmx::ControlRegisterAccess access{
        .control_register = 4, .kind = Kind::mov_to, .general_register = 9};
    ASSERT_EQ(guest.exit(access), Outcome::done);
    EXPECT_EQ(guest.get(field::cr4_read_shadow), cr4::page_global_enable);
    guest.put(field::guest_cs_access_rights, code_64);
    EXPECT_EQ(guest.exit(access), Outcome::done) << "CS.L alone is no 64-bit mode";
    guest.set_long_mode(code_64);
    EXPECT_EQ(guest.exit(access), Outcome::general_protection);
    guest.set_long_mode(code_32);
    guest.put(field::guest_ss_access_rights, code_64);
    guest.general[9] |= cr4::physical_address_extension;
    EXPECT_EQ(guest.exit(access), Outcome::done) << "compatibility mode is CS's";
}

TEST(L1ControlRegisterAccess, KnowsRsp) {
    using Kind = vmx::ControlRegisterAccess::Kind;
    Guest guest;
    guest.set_long_mode(code_64);
    guest.put(field::guest_rsp, 0x3000);
    ASSERT_EQ(guest.exit({.control_register = 3, .kind = Kind::mov_to, .general_register = 4}),
              Outcome::done);
    EXPECT_EQ(guest.get(field::guest_cr3), 0x3000U);
    guest.put(field::guest_cr3, 0x4000);
    ASSERT_EQ(guest.exit({.control_register = 3, .kind = Kind::mov_from, .general_register = 4}),
              Outcome::done);
    EXPECT_EQ(guest.get(field::guest_rsp), 0x4000U);
    ASSERT_EQ(guest.exit({.control_register = 3, .kind = Kind::mov_from, .general_register = 15}),
              Outcome::done);
    EXPECT_EQ(guest.general[15], 0x4000U);
}

TEST(L1ControlRegisterAccess, LeavesTheTaskPriorityToTheHost) {
    using Kind = vmx::ControlRegisterAccess::Kind;
    Guest guest;
    for (const Kind kind : {Kind::mov_to, Kind::mov_from})
        EXPECT_EQ(guest.exit({.control_register = 8, .kind = kind}), Outcome::not_handled);
}

}  // namespace
}  // namespace flatback::host::control_registers_test
