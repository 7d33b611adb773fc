// vmcs01 as the software machine's VM entry judges it, by rules of its own (machine/cpu/entry_checks_*).
#include "host/vmcs01.hpp"

#include <gtest/gtest.h>

#include "host/cpuid.hpp"
#include "machine/cpu/machine.hpp"
#include "nested/vmcs/current_vmcs.hpp"
#include "tests/host/words.hpp"
#include "vmx/field_table.hpp"

namespace flatback::host::vmcs01_test {
namespace {

namespace field = vmx::field;
using machine::Completion;
using machine::Machine;

vmx::Capabilities capabilities_of(const machine::ProcessorModel& model) {
    return vmx::Capabilities::from_msrs([&](std::uint32_t msr) { return model.vmx.read(msr).value_or(0); });
}

// A machine in VMX operation with an empty VMCS that is current.
class Processor {
public:
    Processor() {
        constexpr std::uint64_t vmxon_region = 0x1000;
        for (const std::uint64_t region : {vmxon_region, vmcs}) machine.memory().write(region, revision());
        machine.start_vmx_operation(0, vmxon_region);
        EXPECT_FALSE(machine.clear_vmcs(0, vmcs));
        EXPECT_FALSE(machine.load_vmcs(0, vmcs));
        put_host_state();
    }
    [[nodiscard]] std::uint64_t vmread(std::uint32_t encoding) {
        return machine.current_vmcs(0)->read(encoding);
    }
    void vmwrite(std::uint32_t encoding, std::uint64_t value) {
        EXPECT_TRUE(machine.model().has_field(encoding)) << std::hex << encoding;
        machine.current_vmcs(0)->write(encoding, value);
    }
    [[nodiscard]] Completion enter_with(const L1State& start, tag::TagNumber tag) {
        nested::CurrentVmcs current{*this};
        const Vmcs01Places places{
            .ept01_pointer = vmx::Eptp::make(0x3000, x86::MemoryType::write_back, false),
            .msr_bitmap = x86::Hpa{0x4000},
            .tag = tag};
        EXPECT_TRUE(set_up_vmcs01(current, capabilities_of(machine.model()), places, start));
        return machine.enter_guest(0, true);
    }

    static constexpr std::uint64_t vmcs = 0x2000;
    Machine machine{{}};

private:
    [[nodiscard]] std::uint32_t revision() const { return machine.model().vmx.revision(); }
    void put_host_state() {
        nested::CurrentVmcs current{*this};
        const machine::Registers usual{};
        current.put(field::host_cr0, usual.cr0);
        current.put(field::host_cr4, usual.cr4 | x86::cr4::vmx_enable);
        current.put(field::host_ia32_efer, usual.efer);
        current.put(field::host_ia32_pat, usual.pat);
        current.put(field::host_cs_selector, 0x08);
        current.put(field::host_tr_selector, 0x18);
        current.put(field::host_rip, 0x10'0000);
    }
};

void expect_entered(const L1State& start, tag::TagNumber tag = tag::TagNumber{1}) {
    Processor processor;
    const Completion entered = processor.enter_with(start, tag);
    EXPECT_EQ(entered.kind, Completion::Kind::vm_entry)
        << (entered.failed_check != nullptr ? entered.failed_check : "");
}

TEST(Vmcs01, IsEnteredAfterReset) {
    expect_entered(state_at_reset());
}
TEST(Vmcs01, IsEnteredInProtectedMode) {
    expect_entered(state_in_protected_mode(0x08, 0x10, 0x10'0000));
}
TEST(Vmcs01, IsEnteredInLongMode) {
    expect_entered(state_in_long_mode(0x10, 0x18, 0x100'0000, 0x5000));
}
TEST(Vmcs01, IsEnteredWithoutATag) {
    expect_entered(state_in_long_mode(0x10, 0x18, 0x100'0000, 0x5000), tag::TagNumber::none);
}

// SDM 3A table 10-1.
TEST(Vmcs01, AfterResetTheFirstInstructionIsAtTheTopOf4Gb) {
    Processor processor;
    ASSERT_EQ(processor.enter_with(state_at_reset(), tag::TagNumber{1}).kind, Completion::Kind::vm_entry);
    const nested::CurrentVmcs current{processor};
    EXPECT_EQ(current.get(field::guest_cs_base) + current.get(field::guest_rip), 0xffff'fff0U);
    EXPECT_EQ(current.get(field::guest_cs_selector), 0xf000);
    EXPECT_EQ(current.get(field::cr0_read_shadow), 0x6000'0010U);
    EXPECT_EQ(current.get(field::cr4_read_shadow), 0U);
    EXPECT_EQ(current.get(field::guest_ia32_efer), 0U);
    EXPECT_EQ(current.get(field::guest_rflags), 2U);
    EXPECT_EQ(current.get(field::guest_dr7), 0x400U);
    EXPECT_EQ(current.get(field::guest_idtr_limit), 0xffffU);
}

// A virtual CPU that begins anew does so in the VMCS that it had.
TEST(Vmcs01, KeepsNothingOfWhatTheVmcsHeld) {
    L1State start = state_in_long_mode(0x10, 0x18, 0x100'0000, 0x5000);
    start.gdtr = {.base = 0x1'1000, .limit = 0x27};
    start.idtr = {.base = 0x1'2000, .limit = 0xfff};
    Words words;
    for (const vmx::NamedField& each : vmx::all_fields) words.words[each.encoding] = 0x77;
    ASSERT_TRUE(set_up_vmcs01(words, capabilities_of(machine::full_processor_model()), {}, start));
    for (const std::uint32_t encoding :
         {field::exception_bitmap.encoding, field::page_fault_error_code_mask.encoding,
          field::page_fault_error_code_match.encoding, field::cr3_target_count.encoding,
          field::vm_exit_msr_store_count.encoding, field::vm_exit_msr_load_count.encoding,
          field::vm_entry_msr_load_count.encoding, field::vm_entry_interruption_information.encoding,
          field::guest_interruptibility_state.encoding, field::guest_activity_state.encoding,
          field::guest_pending_debug_exceptions.encoding, field::guest_ia32_sysenter_cs.encoding,
          field::guest_ia32_sysenter_esp.encoding, field::guest_ia32_sysenter_eip.encoding,
          field::guest_ia32_debugctl.encoding}) {
        EXPECT_EQ(words.words.at(encoding), 0U) << std::hex << encoding;
    }
    EXPECT_EQ(words.get(field::cr4_read_shadow), start.cr4);
    EXPECT_EQ(words.get(field::cr0_read_shadow), start.cr0);
    EXPECT_EQ(words.get(field::vmcs_link_pointer), ~std::uint64_t{0});
    EXPECT_EQ(words.get(field::guest_gdtr_base), 0x1'1000U);
    EXPECT_EQ(words.get(field::guest_gdtr_limit), 0x27U);
    EXPECT_EQ(words.get(field::guest_idtr_base), 0x1'2000U);
    EXPECT_EQ(words.get(field::guest_idtr_limit), 0xfffU);
    EXPECT_EQ(words.get(field::guest_rsp), start.rsp);
    EXPECT_EQ(words.get(field::guest_rip), start.rip);
    EXPECT_EQ(words.get(field::guest_cr3), start.cr3);
    EXPECT_EQ(words.get(field::guest_ia32_pat), start.pat);
    EXPECT_EQ(words.get(field::guest_dr7), start.dr7);
}

// What VMX operation holds L1 does not see, and what it was not promised it cannot set without an exit.
TEST(Vmcs01, HidesWhatVmxOperationHolds) {
    Words words;
    ASSERT_TRUE(set_up_vmcs01(words, capabilities_of(machine::full_processor_model()), {},
                              state_in_protected_mode(0x08, 0x10, 0)));
    const auto l1_reads = [&](auto real, auto mask, auto shadow) {
        return (words.get(real) & ~words.get(mask)) | (words.get(shadow) & words.get(mask));
    };
    EXPECT_EQ(l1_reads(field::guest_cr0, field::cr0_guest_host_mask, field::cr0_read_shadow), 0x11U);
    EXPECT_EQ(l1_reads(field::guest_cr4, field::cr4_guest_host_mask, field::cr4_read_shadow), 0U);
    EXPECT_NE(words.get(field::guest_cr0) & x86::cr0::numeric_error, 0U);
    EXPECT_NE(words.get(field::guest_cr4) & x86::cr4::vmx_enable, 0U);
    EXPECT_EQ(words.get(field::cr4_guest_host_mask) & ~nested::offered::cr4, ~nested::offered::cr4);
}

// Of a processor that can do everything (SDM 3C 25.6.2): the instructions that CPUID shows L1 work, and those
// that it does not (host/cpuid.hpp: PCONFIG) are undefined, as on a processor without them.
TEST(Vmcs01, EnablesWhatCpuidShows) {
    vmx::Capabilities all = capabilities_of(machine::full_processor_model());
    all.secondary_processor_based.allowed1 = 0xffff'ffff;
    Words words;
    ASSERT_TRUE(set_up_vmcs01(words, all, {}, state_at_reset()));
    const std::uint32_t enabled = words.get(field::secondary_processor_based_vm_execution_controls);
    constexpr std::uint32_t shown = vmx::secondary::enable_rdtscp | vmx::secondary::enable_invpcid |
                                    vmx::secondary::enable_xsaves_xrstors |
                                    vmx::secondary::enable_user_wait_and_pause;
    EXPECT_EQ(enabled & shown, shown);
    x86::CpuidResult features{.edx = 0xffff'ffff};
    hide_features(x86::cpuid::leaf_extended_features, 0, features);
    ASSERT_EQ(features.edx & 1U << 18, 0U) << "PCONFIG";
    EXPECT_EQ(enabled & vmx::secondary::enable_pconfig, 0U);
    features = {.ebx = 0xffff'ffff};
    hide_features(x86::cpuid::leaf_extended_features, 0, features);
    ASSERT_EQ(features.ebx & x86::cpuid::extended_ebx_sgx, 0U);
    EXPECT_NE(enabled & vmx::secondary::enable_encls_exiting, 0U) << "firmware may have enabled SGX";
    EXPECT_EQ(words.get(field::encls_exiting_bitmap), ~std::uint64_t{0});
}

TEST(Vmcs01, NamesWhatTheProcessorLacks) {
    vmx::Capabilities lacking = capabilities_of(machine::full_processor_model());
    lacking.secondary_processor_based.allowed1 &= ~vmx::secondary::unrestricted_guest;
    Words words;
    const auto done = set_up_vmcs01(words, lacking, {}, state_at_reset());
    ASSERT_FALSE(done);
    EXPECT_STREQ(done.error().name, "secondary processor-based controls");
    EXPECT_EQ(done.error().controls, vmx::secondary::unrestricted_guest);
    EXPECT_TRUE(words.words.empty()) << "nothing was written";
}

// Fields that come with a control exist only where it does.
TEST(Vmcs01, WritesNoFieldThatTheProcessorLacks) {
    vmx::Capabilities lacking = capabilities_of(machine::full_processor_model());
    lacking.secondary_processor_based.allowed1 &=
        ~(vmx::secondary::enable_vpid | vmx::secondary::enable_xsaves_xrstors);
    Words words;
    ASSERT_TRUE(set_up_vmcs01(words, lacking, {}, state_at_reset()));
    EXPECT_FALSE(words.words.contains(field::virtual_processor_identifier.encoding));
    EXPECT_FALSE(words.words.contains(field::xss_exiting_bitmap.encoding));
}

}  // namespace
}  // namespace flatback::host::vmcs01_test
