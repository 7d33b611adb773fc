// The tests that a porter runs on his own Port find nothing wrong with a good one, and each broken guarantee
// by its name.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <flatback/machine/cpu/machine.hpp>
#include <flatback/port_tests/port_tests.hpp>
#include <flatback/tag/vpid_pool.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "examples/minimal_host/port.hpp"

namespace flatback::broken_ports_test {
namespace {

namespace field = vmx::field;
using x86::Gpa;
using x86::Hpa;
using x86::L1;

enum class Defect : std::uint8_t {
    none,
    vmwrite_cuts_to_32_bits,
    vmread_of_a_field_gives_its_neighbour,
    load_vmcs_does_nothing,
    clear_vmcs_forgets,
    revision_of_a_shadow_vmcs,
    host_state_without_tr_base,
    host_state_only_where_it_differs_from_zero,
    host_state_overwrites_guest_state,
    pages_not_zeroed,
    one_page_for_all,
    page_not_aligned,
    l1_page_of_identity,
    host_mapping_of_identity,
    l1_page_is_a_copy,
    l1_page_with_offset,
    l1_page_wraps,
    l1_page_of_one_page,
    host_mapping_of_the_page,
    host_mapping_in_too_large_blocks,
    host_mapping_of_another_page,
    host_mapping_of_nothing_is_l1s,
    host_mapping_of_nothing_is_large,
    ept01_violation_always_handled,
    one_register_for_two,
    capabilities_of_the_processor,
    every_msr_is_writable,
    every_msr_reads_as_zero,
    feature_control_not_locked,
    bitmap_of_ones,
    bitmap_of_zeros,
    bitmap_is_new_each_time,
    ept01_is_uncacheable,
    ept01_has_accessed_flags_in_reserved_bits,
    cpu_changes,
    vmcs01_without_efer,
    vmcs01_with_another_tag,
    vmcs01_leaves_vmxe,
};

class BrokenPort final : public minimal_host::Port {
public:
    using Good = minimal_host::Port;

    BrokenPort(machine::Machine& processor, const nested::Capabilities& promised, Defect defect)
        : Good(processor, promised), processor_(processor), defect_(defect) {}

    std::uint64_t vmread(std::uint32_t encoding) {
        const bool neighbour =
            is(Defect::vmread_of_a_field_gives_its_neighbour) && encoding == field::guest_rsp.encoding;
        return Good::vmread(neighbour ? field::guest_rip.encoding : encoding);
    }
    void vmwrite(std::uint32_t encoding, std::uint64_t value) {
        Good::vmwrite(encoding, is(Defect::vmwrite_cuts_to_32_bits) ? value & 0xffff'ffff : value);
    }
    void load_vmcs(Hpa page) {
        if (is(Defect::load_vmcs_does_nothing) && loaded_) return;
        loaded_ = true;
        current_ = page;
        Good::load_vmcs(page);
    }
    void clear_vmcs(Hpa page) {
        if (is(Defect::clear_vmcs_forgets)) {
            Good::load_vmcs(page);
            Good::vmwrite(field::guest_rip.encoding, 0);
        }
        Good::clear_vmcs(page);
        if (is(Defect::clear_vmcs_forgets) && current_ != page) Good::load_vmcs(current_);
    }
    std::uint32_t hardware_vmcs_revision() {
        return Good::hardware_vmcs_revision() | (is(Defect::revision_of_a_shadow_vmcs) ? 1U << 31 : 0);
    }
    void write_host_state() {
        const std::uint64_t tr_base = Good::vmread(field::host_tr_base.encoding);
        const std::uint64_t gdtr_base = Good::vmread(field::host_gdtr_base.encoding);
        Good::write_host_state();
        if (is(Defect::host_state_without_tr_base)) Good::vmwrite(field::host_tr_base.encoding, tr_base);
        if (is(Defect::host_state_only_where_it_differs_from_zero))
            Good::vmwrite(field::host_gdtr_base.encoding, gdtr_base);
        if (is(Defect::host_state_overwrites_guest_state)) Good::vmwrite(field::guest_cr3.encoding, 0);
    }
    std::byte* l1_page(Gpa<L1> address) {
        if (is(Defect::l1_page_of_identity))
            return reinterpret_cast<std::byte*>(page(Hpa{address.align_down().value()}));
        if (is(Defect::l1_page_wraps)) address = Gpa<L1>{address.value() % minimal_host::l1_memory_size};
        if (is(Defect::l1_page_of_one_page) && address.value() < minimal_host::l1_memory_size)
            address = Gpa<L1>{};
        std::byte* const good = Good::l1_page(address);
        if (good == nullptr) return good;
        if (is(Defect::l1_page_with_offset)) return good + address.page_offset();
        if (!is(Defect::l1_page_is_a_copy)) return good;
        auto& copy = copies_[next_copy_++ % copies_.size()];
        std::copy_n(good, copy.size(), copy.data());
        return copy.data();
    }
    nested::HostMapping host_mapping(Gpa<L1> address) {
        nested::HostMapping mapping = Good::host_mapping(address);
        const bool has_memory = address.value() < minimal_host::l1_memory_size;
        if (is(Defect::host_mapping_of_identity)) mapping.address = Hpa{address.value()};
        if (is(Defect::host_mapping_of_the_page)) mapping.address = mapping.address.align_down();
        if (is(Defect::host_mapping_in_too_large_blocks) && has_memory) mapping.page_shift = 30;
        if (is(Defect::host_mapping_of_another_page) && has_memory) mapping.address += 0x20'0000;
        if (is(Defect::host_mapping_of_nothing_is_l1s) && !has_memory)
            mapping.address = Hpa{minimal_host::l1_memory + 0x2000 + address.page_offset()};
        if (is(Defect::host_mapping_of_nothing_is_large) && !has_memory) mapping.page_shift = 21;
        return mapping;
    }
    std::optional<Hpa> allocate_page() {
        if (is(Defect::one_page_for_all)) {
            if (!only_) only_ = Good::allocate_page();
            for (unsigned word = 0; word < 512; ++word) page(*only_)[word] = 0;
            return only_;
        }
        const auto fresh = Good::allocate_page();
        if (is(Defect::pages_not_zeroed)) page(*fresh)[511] = 1;
        if (is(Defect::page_not_aligned) && ++allocated_ > 5) return Hpa{fresh->value() + 8};
        return fresh;
    }
    std::uint64_t& general_register(unsigned number) {
        return Good::general_register(is(Defect::one_register_for_two) && number == 15 ? 14 : number);
    }
    std::optional<std::uint64_t> read_l1_msr(std::uint32_t msr) {
        const bool is_capability =
            msr >= x86::msr::ia32_vmx_basic && msr <= x86::msr::ia32_vmx_procbased_ctls3;
        if (is(Defect::capabilities_of_the_processor) && is_capability)
            return processor_.model().vmx.read(msr);
        if (is(Defect::feature_control_not_locked) && msr == x86::msr::ia32_feature_control) return 4;
        const auto good = Good::read_l1_msr(msr);
        return is(Defect::every_msr_reads_as_zero) && !is_capability && !good
                   ? std::optional<std::uint64_t>{0}
                   : good;
    }
    bool write_l1_msr(std::uint32_t msr, std::uint64_t value) {
        return is(Defect::every_msr_is_writable) || Good::write_l1_msr(msr, value);
    }
    Hpa l0_msr_bitmap() {
        if (is(Defect::bitmap_is_new_each_time)) return *Good::allocate_page();
        return Good::l0_msr_bitmap();
    }
    bool handle_ept01_violation(std::uint64_t address) {
        return is(Defect::ept01_violation_always_handled) || Good::handle_ept01_violation(address);
    }
    vmx::Eptp ept01_pointer() {
        const std::uint64_t good = Good::ept01_pointer().value;
        if (is(Defect::ept01_is_uncacheable)) return {good & ~std::uint64_t{7}};
        return {is(Defect::ept01_has_accessed_flags_in_reserved_bits) ? good | 1 << 8 : good};
    }
    tag::Cpu cpu() { return tag::Cpu{is(Defect::cpu_changes) ? cpu_++ : 0}; }

private:
    [[nodiscard]] bool is(Defect defect) const { return defect_ == defect; }

    machine::Machine& processor_;
    Defect defect_;
    bool loaded_ = false;
    Hpa current_{};
    std::optional<Hpa> only_;
    unsigned allocated_ = 0;
    unsigned cpu_ = 0;
    std::size_t next_copy_ = 0;
    std::array<std::array<std::byte, 4096>, 4> copies_{};
};
static_assert(nested::Port<BrokenPort>);

// The guarantees that are broken, by name.
std::vector<std::string> broken_guarantees(Defect defect) {
    machine::Machine processor{{}};
    const auto hardware = vmx::Capabilities::from_msrs(
        [&](std::uint32_t msr) { return processor.model().vmx.read(msr).value_or(0); });
    const nested::Capabilities promised =
        nested::make_capabilities(hardware, processor.model().physical_address_bits, true);
    BrokenPort port{processor, promised, defect};
    minimal_host::Port& good = port;

    const Hpa region = *good.allocate_page();
    *good.page(region) = good.hardware_vmcs_revision();
    processor.start_vmx_operation(0, region.value());
    const Hpa vmcs01 = *good.allocate_page();
    *good.page(vmcs01) = good.hardware_vmcs_revision();
    good.clear_vmcs(vmcs01);
    port.load_vmcs(vmcs01);

    const auto put = [&](auto what, std::uint64_t value) { good.vmwrite(what.encoding, value); };
    const std::uint16_t tag = 7;
    namespace exit = vmx::exit_control;
    namespace entry = vmx::entry_control;
    put(field::ept_pointer, port.ept01_pointer().value);
    put(field::address_of_msr_bitmaps, good.l0_msr_bitmap().value());
    put(field::primary_processor_based_vm_execution_controls,
        vmx::primary::use_msr_bitmaps | vmx::primary::activate_secondary_controls);
    put(field::secondary_processor_based_vm_execution_controls,
        vmx::secondary::enable_ept | vmx::secondary::enable_vpid);
    put(field::virtual_processor_identifier, defect == Defect::vmcs01_with_another_tag ? tag + 1 : tag);
    put(field::vm_exit_controls, exit::host_address_space_size | exit::save_debug_controls |
                                     exit::save_ia32_pat | exit::load_ia32_pat | exit::save_ia32_efer |
                                     exit::load_ia32_efer);
    put(field::vm_entry_controls, entry::load_debug_controls | entry::load_ia32_pat |
                                      (defect == Defect::vmcs01_without_efer ? 0U : entry::load_ia32_efer));
    put(field::cr0_guest_host_mask, x86::cr0::numeric_error);
    put(field::guest_cr0, x86::cr0::numeric_error);
    put(field::cr4_guest_host_mask,
        (defect == Defect::vmcs01_leaves_vmxe ? 0 : x86::cr4::vmx_enable) | promised.unpromised_cr4);
    put(field::guest_cr4, x86::cr4::vmx_enable);
    std::uint64_t* bitmap = good.page(good.l0_msr_bitmap());
    for (unsigned word = 0; word < 512; ++word) {
        if (defect == Defect::bitmap_of_ones) bitmap[word] = ~std::uint64_t{0};
        if (defect == Defect::bitmap_of_zeros) bitmap[word] = 0;
    }

    std::vector<std::string> broken;
    const bool all = port_tests::run(port,
                                     {.capabilities = promised,
                                      .vmcs01 = vmcs01,
                                      .vpid01 = tag::TagNumber{tag},
                                      .memory = Gpa<L1>{0x2000},
                                      .other_memory = Gpa<L1>{0x40'3000},
                                      .nothing = Gpa<L1>{0x2000'0000},
                                      .page_reaches_l1_memory = true},
                                     [&](const char* guarantee, const char* how) {
                                         if (how != nullptr) broken.emplace_back(guarantee);
                                     });
    EXPECT_EQ(all, broken.empty());
    EXPECT_EQ(processor.cpu(0).current_vmcs, vmcs01.value()) << "vmcs01 is current again";
    return broken;
}

struct Case {
    Defect defect;
    const char* guarantee;
};
void PrintTo(const Case& which, std::ostream* out) {
    *out << "defect " << static_cast<unsigned>(which.defect) << ", " << which.guarantee;
}

TEST(PortTests, FindNothingWrongWithTheExamplesPort) {
    EXPECT_EQ(broken_guarantees(Defect::none), std::vector<std::string>{});
}

class BrokenPorts : public ::testing::TestWithParam<Case> {};

TEST_P(BrokenPorts, AreFoundByTheGuaranteeThatTheyBreak) {
    const auto found = broken_guarantees(GetParam().defect);
    EXPECT_NE(std::ranges::find(found, GetParam().guarantee), found.end()) << ::testing::PrintToString(found);
}

constexpr const char* fields = "vmwrite and vmread reach every field that the processor has";
constexpr const char* host_state = "write_host_state writes all host state and no guest state";
constexpr const char* fresh = "allocate_page gives zeroed pages, each once";
constexpr const char* own = "L1 reaches no page of the host's";
constexpr const char* memory = "l1_page is L1's memory itself";
constexpr const char* no_memory = "l1_page has nothing where L1 has no memory";
constexpr const char* blocks = "host_mapping is of the very byte, in whole blocks";
constexpr const char* total = "host_mapping is total";
constexpr const char* msrs = "L1's MSRs are as promised";
constexpr const char* bitmap = "l0_msr_bitmap has what the engine must know of";
constexpr const char* ept01 = "ept01_pointer is one that VM entry takes";
constexpr const char* vmcs01 = "vmcs01 is as the engine needs it";

INSTANTIATE_TEST_SUITE_P(
    Each, BrokenPorts,
    ::testing::Values(
        Case{Defect::vmwrite_cuts_to_32_bits, fields},
        Case{Defect::vmread_of_a_field_gives_its_neighbour, fields},
        Case{Defect::load_vmcs_does_nothing, "load_vmcs makes the VMCS current"},
        Case{Defect::clear_vmcs_forgets, "clear_vmcs keeps what was written"},
        Case{Defect::revision_of_a_shadow_vmcs, "hardware_vmcs_revision is an ordinary VMCS's"},
        Case{Defect::host_state_without_tr_base, host_state},
        Case{Defect::host_state_only_where_it_differs_from_zero, host_state},
        Case{Defect::host_state_overwrites_guest_state, host_state}, Case{Defect::pages_not_zeroed, fresh},
        Case{Defect::one_page_for_all, fresh}, Case{Defect::page_not_aligned, fresh},
        Case{Defect::l1_page_of_identity, own}, Case{Defect::host_mapping_of_identity, own},
        Case{Defect::l1_page_is_a_copy, memory}, Case{Defect::l1_page_with_offset, memory},
        Case{Defect::l1_page_of_one_page, memory}, Case{Defect::l1_page_wraps, no_memory},
        Case{Defect::ept01_violation_always_handled, no_memory},
        Case{Defect::host_mapping_of_the_page, blocks},
        Case{Defect::host_mapping_in_too_large_blocks, blocks},
        Case{Defect::host_mapping_of_another_page, blocks},
        Case{Defect::host_mapping_of_nothing_is_l1s, total},
        Case{Defect::host_mapping_of_nothing_is_large, total},
        Case{Defect::one_register_for_two, "general_register has one place for each"},
        Case{Defect::capabilities_of_the_processor, msrs}, Case{Defect::every_msr_is_writable, msrs},
        Case{Defect::every_msr_reads_as_zero, msrs}, Case{Defect::feature_control_not_locked, msrs},
        Case{Defect::bitmap_of_ones, bitmap}, Case{Defect::bitmap_of_zeros, bitmap},
        Case{Defect::bitmap_is_new_each_time, bitmap}, Case{Defect::ept01_is_uncacheable, ept01},
        Case{Defect::ept01_has_accessed_flags_in_reserved_bits, ept01},
        Case{Defect::cpu_changes, "cpu is one processor"}, Case{Defect::vmcs01_without_efer, vmcs01},
        Case{Defect::vmcs01_with_another_tag, vmcs01}, Case{Defect::vmcs01_leaves_vmxe, vmcs01}),
    [](const auto& which) { return "Defect" + std::to_string(static_cast<unsigned>(which.param.defect)); });

}  // namespace
}  // namespace flatback::broken_ports_test
