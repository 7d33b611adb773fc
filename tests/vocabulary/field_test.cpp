// VMCS encodings against numbers written by hand from SDM 3D appendix B, and the rules of the encoding.
#include "vmx/field.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <string>

#include "vmx/field_table.hpp"

namespace flatback::vmx::field_test {
namespace {

template <FieldWidth W, FieldKind K, std::uint32_t Encoding>
concept Constructible = requires {
    typename std::integral_constant<std::uint32_t, Field<W, K>{Encoding}.encoding>;
};

TEST(VmcsField, HasTheEncodingOfTheManual) {
    // The first and last field of every table of appendix B, and those that hypervisors touch on each exit.
    EXPECT_EQ(field::virtual_processor_identifier.encoding, 0x0000u);
    EXPECT_EQ(field::eptp_index.encoding, 0x0004u);
    EXPECT_EQ(field::guest_es_selector.encoding, 0x0800u);
    EXPECT_EQ(field::guest_tr_selector.encoding, 0x080eu);
    EXPECT_EQ(field::pml_index.encoding, 0x0812u);
    EXPECT_EQ(field::host_es_selector.encoding, 0x0c00u);
    EXPECT_EQ(field::host_tr_selector.encoding, 0x0c0cu);
    EXPECT_EQ(field::address_of_io_bitmap_a.encoding, 0x2000u);
    EXPECT_EQ(field::ept_pointer.encoding, 0x201au);
    EXPECT_EQ(field::vmwrite_bitmap_address.encoding, 0x2028u);
    EXPECT_EQ(field::xss_exiting_bitmap.encoding, 0x202cu);
    EXPECT_EQ(field::tsc_multiplier.encoding, 0x2032u);
    EXPECT_EQ(field::guest_physical_address.encoding, 0x2400u);
    EXPECT_EQ(field::vmcs_link_pointer.encoding, 0x2800u);
    EXPECT_EQ(field::guest_ia32_efer.encoding, 0x2806u);
    EXPECT_EQ(field::guest_pdpte3.encoding, 0x2810u);
    EXPECT_EQ(field::guest_ia32_bndcfgs.encoding, 0x2812u);
    EXPECT_EQ(field::host_ia32_pat.encoding, 0x2c00u);
    EXPECT_EQ(field::host_ia32_perf_global_ctrl.encoding, 0x2c04u);
    EXPECT_EQ(field::pin_based_vm_execution_controls.encoding, 0x4000u);
    EXPECT_EQ(field::exception_bitmap.encoding, 0x4004u);
    EXPECT_EQ(field::vm_exit_controls.encoding, 0x400cu);
    EXPECT_EQ(field::vm_entry_controls.encoding, 0x4012u);
    EXPECT_EQ(field::secondary_processor_based_vm_execution_controls.encoding, 0x401eu);
    EXPECT_EQ(field::ple_window.encoding, 0x4022u);
    EXPECT_EQ(field::vm_instruction_error.encoding, 0x4400u);
    EXPECT_EQ(field::exit_reason.encoding, 0x4402u);
    EXPECT_EQ(field::vm_exit_instruction_length.encoding, 0x440cu);
    EXPECT_EQ(field::vm_exit_instruction_information.encoding, 0x440eu);
    EXPECT_EQ(field::guest_es_limit.encoding, 0x4800u);
    EXPECT_EQ(field::guest_es_access_rights.encoding, 0x4814u);
    EXPECT_EQ(field::guest_interruptibility_state.encoding, 0x4824u);
    EXPECT_EQ(field::guest_activity_state.encoding, 0x4826u);
    EXPECT_EQ(field::guest_ia32_sysenter_cs.encoding, 0x482au);
    EXPECT_EQ(field::vmx_preemption_timer_value.encoding, 0x482eu);
    EXPECT_EQ(field::host_ia32_sysenter_cs.encoding, 0x4c00u);
    EXPECT_EQ(field::cr0_guest_host_mask.encoding, 0x6000u);
    EXPECT_EQ(field::cr3_target_value_3.encoding, 0x600eu);
    EXPECT_EQ(field::exit_qualification.encoding, 0x6400u);
    EXPECT_EQ(field::guest_linear_address.encoding, 0x640au);
    EXPECT_EQ(field::guest_cr0.encoding, 0x6800u);
    EXPECT_EQ(field::guest_rsp.encoding, 0x681cu);
    EXPECT_EQ(field::guest_rip.encoding, 0x681eu);
    EXPECT_EQ(field::guest_rflags.encoding, 0x6820u);
    EXPECT_EQ(field::guest_ia32_sysenter_eip.encoding, 0x6826u);
    EXPECT_EQ(field::host_cr0.encoding, 0x6c00u);
    EXPECT_EQ(field::host_rsp.encoding, 0x6c14u);
    EXPECT_EQ(field::host_rip.encoding, 0x6c16u);
}

TEST(VmcsField, ValueTypeFollowsTheWidth) {
    static_assert(std::is_same_v<decltype(field::virtual_processor_identifier)::Value, std::uint16_t>);
    static_assert(std::is_same_v<decltype(field::ept_pointer)::Value, std::uint64_t>);
    static_assert(std::is_same_v<decltype(field::exit_reason)::Value, std::uint32_t>);
    static_assert(std::is_same_v<decltype(field::guest_rip)::Value, std::uint64_t>);
    EXPECT_EQ(sizeof(field_value_t<FieldWidth::bits16>), 2u);
    EXPECT_EQ(sizeof(field_value_t<FieldWidth::natural>), 8u);
}

TEST(VmcsField, EncodingThatContradictsItsTypeDoesNotCompile) {
    using enum FieldWidth;
    using enum FieldKind;
    static_assert(Constructible<natural, guest_state, 0x681e>);
    static_assert(!Constructible<bits32, guest_state, 0x681e>);   // width
    static_assert(!Constructible<natural, host_state, 0x681e>);   // kind
    static_assert(!Constructible<bits64, control, 0x2001>);       // high access type
    static_assert(!Constructible<bits16, control, 0x1000>);       // reserved bit 12
    static_assert(!Constructible<bits16, control, 0x8000>);       // reserved bit 15
    static_assert(!Constructible<bits16, control, 0x8000'0000>);  // reserved bit 31
}

TEST(VmcsEncoding, IsDecodedBitByBit) {
    EXPECT_EQ(width(0x0812), FieldWidth::bits16);
    EXPECT_EQ(width(0x2812), FieldWidth::bits64);
    EXPECT_EQ(width(0x4812), FieldWidth::bits32);
    EXPECT_EQ(width(0x6812), FieldWidth::natural);
    EXPECT_EQ(kind(0x6000), FieldKind::control);
    EXPECT_EQ(kind(0x6400), FieldKind::exit_information);
    EXPECT_EQ(kind(0x6800), FieldKind::guest_state);
    EXPECT_EQ(kind(0x6c00), FieldKind::host_state);
    EXPECT_EQ(index(0x2032), 25u);
    EXPECT_EQ(index(0x03fe), 0x1ffu);
    EXPECT_TRUE(is_high(0x2033));
    EXPECT_FALSE(is_high(0x2032));
    EXPECT_TRUE(is_well_formed(0x6fff));
    EXPECT_FALSE(is_well_formed(0x1000));
    EXPECT_FALSE(is_well_formed(0x8000));
    EXPECT_FALSE(is_well_formed(0x1'0000'0000));
}

TEST(VmcsFieldTable, HoldsEveryFieldOfTheHeaderUnderItsName) {
    std::ifstream header{FLATBACK_FIELD_HEADER};
    ASSERT_TRUE(header);
    const std::regex declaration{R"(^inline constexpr \w+\s+(\w+)\{0x([0-9a-f]{4})\};)"};
    std::size_t declared = 0;
    for (std::string line; std::getline(header, line);) {
        std::smatch match;
        if (!std::regex_search(line, match, declaration)) continue;
        ++declared;
        EXPECT_EQ(name_of(std::stoul(match[2], nullptr, 16)), match[1].str());
    }
    EXPECT_EQ(declared, field_count);
}

TEST(VmcsFieldTable, NumbersFieldsDenselyInTheOrderOfTheirEncodings) {
    std::set<int> places;
    int previous = -1;
    for (const NamedField& named : all_fields) {
        const int place = dense_index(named.encoding);
        EXPECT_EQ(place, previous + 1) << named.name;
        previous = place;
        places.insert(place);
    }
    EXPECT_EQ(places.size(), field_count);
    EXPECT_EQ(*places.rbegin(), static_cast<int>(field_count) - 1);
}

TEST(VmcsFieldTable, KnowsNoOtherEncoding) {
    std::set<std::uint64_t> known;
    for (const NamedField& named : all_fields) {
        known.insert(named.encoding);
        if (width(named.encoding) == FieldWidth::bits64) known.insert(named.encoding + 1);
    }
    for (std::uint64_t encoding = 0; encoding < 0x2'0000; ++encoding) {
        EXPECT_EQ(dense_index(encoding) >= 0, known.contains(encoding)) << std::hex << encoding;
    }
    for (unsigned bit = 15; bit < 64; ++bit) EXPECT_EQ(dense_index(0x681eULL | 1ULL << bit), -1) << bit;
    EXPECT_EQ(name_of(0x482c), "?");  // the hole in the 32-bit guest-state fields
}

TEST(VmcsFieldTable, HighAccessNamesTheSameFieldOnlyForSixtyFourBits) {
    EXPECT_EQ(dense_index(0x2011), dense_index(field::tsc_offset.encoding));
    EXPECT_EQ(dense_index(0x4003), -1);
    EXPECT_EQ(dense_index(0x681f), -1);
    EXPECT_EQ(dense_index(0x0001), -1);
}

TEST(VmcsFieldTable, CompileTimeIndexIsTheRunTimeIndex) {
    static_assert(dense_index<field::virtual_processor_identifier>() == 0);
    static_assert(dense_index<field::host_rip>() == field_count - 1);
    EXPECT_EQ(static_cast<int>(dense_index<field::guest_rip>()), dense_index(0x681e));
}

TEST(VmcsFieldTable, HighestIndexIsThatOfTheTscMultiplier) {
    EXPECT_EQ(highest_field_index, 25u);
}

}  // namespace
}  // namespace flatback::vmx::field_test
