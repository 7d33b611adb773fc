// VMCSs that are valid for VM entry, to be broken one field at a time.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <ostream>
#include <string>

#include "nested/entry/checks.hpp"
#include "vmx/field_table.hpp"

namespace flatback::nested {

// What GoogleTest prints of a verdict.
inline void PrintTo(const EntryVerdict& verdict, std::ostream* out) {
    *out << (verdict ? std::string_view{"accepted"} : name_of(verdict.error()));
}

namespace testing_entry {

namespace field = vmx::field;
namespace pin = vmx::pin;
namespace primary = vmx::primary;
namespace secondary = vmx::secondary;
namespace exit_control = vmx::exit_control;
namespace entry_control = vmx::entry_control;

inline constexpr std::uint64_t non_canonical = 0x0000'8000'0000'0000;
inline constexpr unsigned physical_address_width = 40;
inline constexpr std::uint64_t beyond_width = 1ULL << physical_address_width;
inline constexpr std::uint32_t revision = 0x1234;

class SampleVmcs {
public:
    template <vmx::FieldWidth W, vmx::FieldKind K>
    [[nodiscard]] vmx::field_value_t<W> get(vmx::Field<W, K> which) const {
        return static_cast<vmx::field_value_t<W>>(words_.at(place_of(which.encoding)));
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void set(vmx::Field<W, K> which, vmx::field_value_t<W> value) {
        words_.at(place_of(which.encoding)) = value;
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void raise(vmx::Field<W, K> which, vmx::field_value_t<W> bits) {
        set(which, static_cast<vmx::field_value_t<W>>(get(which) | bits));
    }
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void lower(vmx::Field<W, K> which, vmx::field_value_t<W> bits) {
        set(which, static_cast<vmx::field_value_t<W>>(get(which) & ~bits));
    }

private:
    static std::size_t place_of(std::uint32_t encoding) {
        return static_cast<std::size_t>(vmx::dense_index(encoding));
    }
    std::array<std::uint64_t, vmx::field_count> words_{};
};

// Bytes of zero except where written.
class SampleMemory {
public:
    template <typename T>
    [[nodiscard]] T read(std::uint64_t physical) const {
        T value = 0;
        for (std::size_t i = 0; i < sizeof(T); ++i) {
            const auto found = bytes_.find(physical + i);
            if (found != bytes_.end())
                value = static_cast<T>(value | static_cast<T>(T{found->second} << (8 * i)));
        }
        return value;
    }
    template <typename T>
    void write(std::uint64_t physical, T value) {
        for (std::size_t i = 0; i < sizeof(T); ++i)
            bytes_[physical + i] = static_cast<std::uint8_t>(value >> (8 * i));
    }

private:
    std::map<std::uint64_t, std::uint8_t> bytes_;
};

// Everything that the checks know of is promised, so that each rule can be broken on its own.
inline vmx::Capabilities everything_promised() {
    vmx::Capabilities all;
    all.basic.value = revision | 6ULL << 50 | vmx::BasicCapability::true_controls;
    all.pin_based = {0x16, 0xff};
    all.primary_processor_based = {0x0400'6172, 0xfff9'fffe};
    all.secondary_processor_based = {0, 0x1fff'ffff};
    all.vm_exit = {0x0003'6dfb, 0x33ff'ffff};
    all.vm_entry = {0x11fb, 0x0007'ffff};
    all.misc.value = vmx::MiscCapability::activity_hlt | vmx::MiscCapability::activity_shutdown |
                     vmx::MiscCapability::activity_wait_for_sipi |
                     4ULL << vmx::MiscCapability::cr3_target_count_shift;
    all.cr0 = {0x8000'0021, 0xffff'ffff};
    all.cr4 = {0x2000, 0x00ff'7fff | 1ULL << 23};
    using Cap = vmx::EptVpidCapability;
    all.ept_vpid.value = Cap::execute_only | Cap::walk_length_4 | Cap::uncacheable | Cap::write_back |
                         Cap::page_2m | Cap::page_1g | Cap::accessed_dirty;
    all.vm_functions = vmx::vm_function::eptp_switching;
    return all;
}

struct Attempt {
    vmx::Capabilities promised = everything_promised();
    EntryContext context{.ia32e_mode = true, .in_smm = false, .current_vmcs = 0x9000};
    SampleVmcs vmcs;
    SampleMemory memory;
    bool has_rtm = true;
    bool has_sgx = true;

    [[nodiscard]] EntryRules rules() const {
        return {.promised = promised,
                .physical_address_width = physical_address_width,
                .has_rtm = has_rtm,
                .has_sgx = has_sgx};
    }
    // As VM entry does them.
    [[nodiscard]] EntryVerdict check() const {
        if (auto verdict = check_control_fields(vmcs, rules(), context, memory); !verdict) return verdict;
        if (auto verdict = check_host_state(vmcs, rules(), context); !verdict) return verdict;
        return check_guest_state(vmcs, rules(), context, memory);
    }
};

inline void set_segment(SampleVmcs& vmcs, std::size_t which, std::uint16_t selector, std::uint64_t base,
                        std::uint32_t limit, std::uint32_t rights) {
    const detail::GuestSegmentFields& fields = detail::guest_segment_fields.at(which);
    vmcs.set(fields.selector, selector);
    vmcs.set(fields.base, base);
    vmcs.set(fields.limit, limit);
    vmcs.set(fields.rights, rights);
}

// A 64-bit guest of a 64-bit host, no control in use that need not be.
inline Attempt long_mode() {
    Attempt attempt;
    SampleVmcs& v = attempt.vmcs;
    v.set(field::pin_based_vm_execution_controls, attempt.promised.pin_based.adjust(0));
    v.set(field::primary_processor_based_vm_execution_controls,
          attempt.promised.primary_processor_based.adjust(0));
    v.set(field::vm_exit_controls, attempt.promised.vm_exit.adjust(exit_control::host_address_space_size));
    v.set(field::vm_entry_controls, attempt.promised.vm_entry.adjust(entry_control::ia32e_mode_guest));

    v.set(field::host_cr0, 0x8005'0033);
    v.set(field::host_cr3, 0x1000);
    v.set(field::host_cr4, 0x20a0);
    v.set(field::host_cs_selector, 0x10);
    v.set(field::host_tr_selector, 0x40);
    v.set(field::host_rip, 0xffff'8000'0000'1000);

    v.set(field::guest_cr0, 0x8005'0033);
    v.set(field::guest_cr3, 0x2000);
    v.set(field::guest_cr4, 0x20a0);
    set_segment(v, detail::es, 0x18, 0, 0xffff'ffff, 0xc093);
    set_segment(v, detail::cs, 0x10, 0, 0xffff'ffff, 0xa09b);
    set_segment(v, detail::ss, 0x18, 0, 0xffff'ffff, 0xc093);
    set_segment(v, detail::ds, 0x18, 0, 0xffff'ffff, 0xc093);
    set_segment(v, detail::fs, 0x18, 0xffff'8000'0000'0000, 0xffff'ffff, 0xc093);
    set_segment(v, detail::gs, 0x18, 0x0000'7fff'ffff'f000, 0xffff'ffff, 0xc093);
    set_segment(v, detail::ldtr, 0x48, 0x5000, 0xf, 0x82);
    set_segment(v, detail::tr, 0x40, 0x6000, 0x67, 0x8b);
    v.set(field::guest_gdtr_limit, 0xffff);
    v.set(field::guest_idtr_limit, 0xfff);
    v.set(field::guest_dr7, 0x400);
    v.set(field::guest_rip, 0xffff'8000'0000'2000);
    v.set(field::guest_rflags, 0x202);
    v.set(field::vmcs_link_pointer, ~0ULL);
    return attempt;
}

// The same with every feature on that can be on together, every address valid.
inline Attempt all_features() {
    Attempt attempt = long_mode();
    SampleVmcs& v = attempt.vmcs;
    v.raise(field::pin_based_vm_execution_controls,
            pin::external_interrupt_exiting | pin::nmi_exiting | pin::virtual_nmis |
                pin::activate_vmx_preemption_timer | pin::process_posted_interrupts);
    v.raise(field::primary_processor_based_vm_execution_controls,
            primary::use_io_bitmaps | primary::use_msr_bitmaps | primary::use_tpr_shadow |
                primary::nmi_window_exiting | primary::activate_secondary_controls);
    v.set(field::secondary_processor_based_vm_execution_controls,
          secondary::virtualize_apic_accesses | secondary::enable_ept | secondary::enable_vpid |
              secondary::unrestricted_guest | secondary::apic_register_virtualization |
              secondary::virtual_interrupt_delivery | secondary::enable_vm_functions |
              secondary::vmcs_shadowing | secondary::enable_pml | secondary::ept_violation_ve |
              secondary::mode_based_execute_control | secondary::use_tsc_scaling);
    v.raise(field::vm_exit_controls, exit_control::load_ia32_perf_global_ctrl |
                                         exit_control::acknowledge_interrupt_on_exit |
                                         exit_control::load_ia32_pat | exit_control::load_ia32_efer |
                                         exit_control::save_vmx_preemption_timer_value);
    v.raise(field::vm_entry_controls, entry_control::load_debug_controls |
                                          entry_control::load_ia32_perf_global_ctrl |
                                          entry_control::load_ia32_pat | entry_control::load_ia32_efer |
                                          entry_control::load_ia32_bndcfgs);
    v.set(field::cr3_target_count, 4);
    v.set(field::address_of_io_bitmap_a, 0x1'0000);
    v.set(field::address_of_io_bitmap_b, 0x1'1000);
    v.set(field::address_of_msr_bitmaps, 0x1'2000);
    v.set(field::virtual_apic_address, 0x1'3000);
    v.set(field::apic_access_address, 0x1'4000);
    v.set(field::posted_interrupt_notification_vector, 0xf2);
    v.set(field::posted_interrupt_descriptor_address, 0x1'5040);
    v.set(field::virtual_processor_identifier, 1);
    v.set(field::ept_pointer, 0x1'605e);
    v.set(field::pml_address, 0x1'7000);
    v.set(field::vm_function_controls, vmx::vm_function::eptp_switching);
    v.set(field::eptp_list_address, 0x1'8000);
    v.set(field::vmread_bitmap_address, 0x1'9000);
    v.set(field::vmwrite_bitmap_address, 0x1'a000);
    v.set(field::virtualization_exception_information_address, 0x1'b000);
    v.set(field::tsc_multiplier, 1ULL << 48);
    v.set(field::vm_exit_msr_store_address, 0x1'c010);
    v.set(field::vm_exit_msr_store_count, 3);
    v.set(field::vm_exit_msr_load_address, 0x1'd020);
    v.set(field::vm_exit_msr_load_count, 2);
    v.set(field::vm_entry_msr_load_address, 0x1'e030);
    v.set(field::vm_entry_msr_load_count, 1);
    v.set(field::host_ia32_pat, 0x0007'0406'0007'0406);
    v.set(field::host_ia32_efer, 0xd01);
    v.set(field::host_ia32_perf_global_ctrl, 0x7'0000'000f);
    v.set(field::guest_ia32_pat, 0x0007'0406'0007'0406);
    v.set(field::guest_ia32_efer, 0xd01);
    v.set(field::guest_ia32_perf_global_ctrl, 0x7'0000'000f);
    v.set(field::guest_ia32_bndcfgs, 0x0000'7fff'ffff'f003);
    v.set(field::guest_ia32_debugctl, 1);
    v.set(field::vmcs_link_pointer, 0x2'0000);
    attempt.memory.write<std::uint32_t>(0x2'0000, revision | 0x8000'0000);
    return attempt;
}

// A 32-bit guest without unrestricted guest, at privilege level 3, paging without PAE.
inline Attempt protected_mode() {
    Attempt attempt = long_mode();
    SampleVmcs& v = attempt.vmcs;
    v.lower(field::vm_entry_controls, entry_control::ia32e_mode_guest);
    v.set(field::guest_cr4, 0x2010);
    set_segment(v, detail::cs, 0x1b, 0, 0xffff'ffff, 0xc0fb);
    set_segment(v, detail::ss, 0x23, 0, 0xffff'ffff, 0xc0f3);
    for (const std::size_t which : {detail::ds, detail::es, detail::fs, detail::gs}) {
        set_segment(v, which, 0x23, 0, 0xffff'ffff, 0xc0f3);
    }
    v.set(field::guest_rip, 0x40'1000);
    return attempt;
}

inline Attempt pae_paging() {
    Attempt attempt = protected_mode();
    attempt.vmcs.raise(field::guest_cr4, x86::cr4::physical_address_extension);
    attempt.vmcs.set(field::guest_cr3, 0x3020);
    for (const std::uint64_t table : {0x3020u, 0x3028u, 0x3030u, 0x3038u}) {
        attempt.memory.write<std::uint64_t>(table, 0x4001);
    }
    return attempt;
}

inline void use_ept(SampleVmcs& vmcs) {
    vmcs.raise(field::primary_processor_based_vm_execution_controls, primary::activate_secondary_controls);
    vmcs.raise(field::secondary_processor_based_vm_execution_controls, secondary::enable_ept);
    vmcs.set(field::ept_pointer, 0x1'605e);
}

inline Attempt real_mode() {
    Attempt attempt = protected_mode();
    SampleVmcs& v = attempt.vmcs;
    use_ept(v);
    v.raise(field::secondary_processor_based_vm_execution_controls, secondary::unrestricted_guest);
    v.set(field::guest_cr0, 0x30);
    v.set(field::guest_cr4, 0x2000);
    set_segment(v, detail::cs, 0xf000, 0xf'0000, 0xffff, 0x9b);
    for (const std::size_t which : {detail::ss, detail::ds, detail::es, detail::fs, detail::gs}) {
        set_segment(v, which, 0x2001, 0x2'0010, 0xffff, 0x93);
    }
    v.set(field::guest_rip, 0xfff0);
    return attempt;
}

inline Attempt virtual_8086() {
    Attempt attempt = protected_mode();
    SampleVmcs& v = attempt.vmcs;
    v.raise(field::guest_rflags, x86::rflags::virtual_8086);
    for (std::size_t which = detail::es; which <= detail::gs; ++which) {
        set_segment(v, which, 0x2001, 0x2'0010, 0xffff, 0xf3);
    }
    return attempt;
}

inline EntryVerdict refused(EntryCheck check) {
    return Unexpected{check};
}

// One way to break one rule: `prepared` is valid, and what `breaks` does to it breaks `expected` and nothing
// before it.
struct BrokenRule {
    EntryCheck expected;
    Attempt (*prepared)();
    void (*breaks)(Attempt&);
};

inline void PrintTo(const BrokenRule& rule, std::ostream* out) {
    *out << name_of(rule.expected);
}

inline std::string case_name(const ::testing::TestParamInfo<BrokenRule>& info) {
    return std::string{name_of(info.param.expected)} + "_" + std::to_string(info.index);
}

class BrokenRuleTest : public ::testing::TestWithParam<BrokenRule> {
protected:
    static void expect_named() {
        const BrokenRule& rule = GetParam();
        Attempt attempt = rule.prepared();
        ASSERT_EQ(attempt.check(), EntryVerdict{}) << "the state must be valid before it is broken";
        rule.breaks(attempt);
        EXPECT_EQ(attempt.check(), refused(rule.expected));
    }
};

}  // namespace testing_entry
}  // namespace flatback::nested
