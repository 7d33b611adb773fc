// VMREAD and VMWRITE: SDM 3C 31.3.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "guests/bare/l1/rule.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t guest_rip = field::guest_rip.encoding;
constexpr std::uint64_t untouched = 0x5555'AAAA'5555'AAAA;
// IA32_VMX_MISC bit 29: VMWRITE may write any supported field.
constexpr std::uint64_t may_write_all_fields = 1U << 29;

void check_without_current_vmcs() {
    const RuleScope rule{{"3C 31.3 VMREAD, VMWRITE", "without a current VMCS: VMfailInvalid"}};
    std::uint64_t value = untouched;
    Check check{"vmread-and-vmwrite-without-a-current-vmcs-fail-invalid"};
    check.outcome("VMREAD", try_vmread(guest_rip, value), vm_fail_invalid);
    check.equal("destination", value, untouched);
    check.outcome("VMWRITE", try_vmwrite(guest_rip, 1), vm_fail_invalid);
    check.outcome("VMREAD of an unsupported field", try_vmread(0xFFFF, value), vm_fail_invalid);
}

void check_unsupported_fields() {
    const RuleScope rule{{"3C 31.3 VMREAD, VMWRITE", "a field that there is not is error 12"}};
    // No field: a reserved bit 12, an index past any, bits 63:15, a high half of a natural-width field.
    constexpr std::uint64_t encodings[] = {
        0x1000, 0x01FE, 0x7FFE, 0x1'0000'681E, 0x681F, 0x8000'0000'0000'681E, 0x0801};
    {
        Check check{"vmread-of-an-unsupported-field-fails-with-error-12"};
        for (const std::uint64_t encoding : encodings) {
            std::uint64_t value = untouched;
            Line what;
            what << "VMREAD ";
            what.hexadecimal(encoding);
            check.outcome(what.text(), try_vmread(encoding, value), vm_fail_valid(12));
            check.equal("destination", value, untouched);
        }
    }
    Check check{"vmwrite-of-an-unsupported-field-fails-with-error-12"};
    for (const std::uint64_t encoding : encodings) {
        Line what;
        what << "VMWRITE ";
        what.hexadecimal(encoding);
        check.outcome(what.text(), try_vmwrite(encoding, 1), vm_fail_valid(12));
    }
}

void check_read_only_fields() {
    const RuleScope rule{{"3C 31.3 VMWRITE", "a read-only field is error 13 where IA32_VMX_MISC[29] is 0"}};
    constexpr std::uint64_t encodings[] = {field::exit_reason.encoding, field::exit_qualification.encoding,
                                           field::guest_physical_address.encoding,
                                           field::vm_instruction_error.encoding,
                                           field::guest_linear_address.encoding};
    if ((capabilities.misc & may_write_all_fields) == 0) {
        Check check{"vmwrite-of-a-read-only-field-fails-with-error-13"};
        for (const std::uint64_t encoding : encodings) {
            const bool with_ept = encoding == field::guest_physical_address.encoding;
            if (with_ept && !capabilities.secondary.may_set(secondary::enable_ept)) continue;
            check.outcome("VMWRITE", try_vmwrite(encoding, 1), vm_fail_valid(13));
        }
    } else {
        Check check{"vmwrite-of-exit-information-works-where-it-is-offered"};
        for (const std::uint64_t encoding : encodings) {
            check.outcome("VMWRITE", try_vmwrite(encoding, 0x1234), vm_succeed);
            check.equal("field", read_raw(encoding), 0x1234);
        }
    }
}

void check_values() {
    const RuleScope rule{{"3C 25.11.2", "a field keeps what was written, in its width"}};
    std::uint64_t value = 0;
    {
        Check check{"vmwrite-then-vmread-gives-the-value-back-in-every-width"};
        check.outcome("VMWRITE", try_vmwrite(field::guest_es_selector.encoding, 0xABCD), vm_succeed);
        check.outcome("VMREAD", try_vmread(field::guest_es_selector.encoding, value), vm_succeed);
        check.equal("16 bits", value, 0xABCD);
        check.outcome("VMWRITE", try_vmwrite(field::exception_bitmap.encoding, 0x89ABCDEF), vm_succeed);
        check.outcome("VMREAD", try_vmread(field::exception_bitmap.encoding, value), vm_succeed);
        check.equal("32 bits", value, 0x89ABCDEF);
        check.outcome("VMWRITE", try_vmwrite(field::tsc_offset.encoding, 0x0123456789ABCDEF), vm_succeed);
        check.outcome("VMREAD", try_vmread(field::tsc_offset.encoding, value), vm_succeed);
        check.equal("64 bits", value, 0x0123456789ABCDEF);
        check.outcome("VMWRITE", try_vmwrite(guest_rip, 0xFEDCBA9876543210), vm_succeed);
        check.outcome("VMREAD", try_vmread(guest_rip, value), vm_succeed);
        check.equal("natural width", value, 0xFEDCBA9876543210);
    }
    {
        Check check{"vmwrite-ignores-bits-above-the-fields-width"};
        write(field::guest_es_selector, 0xFFFF'FFFF'FFFF'1234);
        check.equal("16 bits", read_raw(field::guest_es_selector.encoding), 0x1234);
        write(field::exception_bitmap, 0xFFFF'FFFF'0000'5678);
        check.equal("32 bits", read_raw(field::exception_bitmap.encoding), 0x5678);
    }
    {
        Check check{"the-high-access-type-reads-and-writes-bits-63-to-32"};
        const std::uint64_t high = field::tsc_offset.encoding + 1;
        write(field::tsc_offset, 0x1111111122222222);
        check.outcome("VMREAD", try_vmread(high, value), vm_succeed);
        check.equal("high half", value, 0x11111111);
        check.outcome("VMWRITE", try_vmwrite(high, 0x33333333), vm_succeed);
        check.equal("whole field", read_raw(field::tsc_offset.encoding), 0x3333333322222222);
    }
}

void check_memory_operands() {
    const RuleScope rule{
        {"3C 31.3 VMREAD, VMWRITE", "a memory operand is read or written whole, with its faults"}};
    Page* const low = allocate_page();
    Page* const high = allocate_page();
    const std::uint64_t hole = linear_window + page_size;
    map_linear(0, physical(low) | linear_page::present | linear_page::writable);
    map_linear(1, physical(high) | linear_page::present | linear_page::writable);
    write(field::guest_rip, 0x0102030405060708);
    {
        Check check{"vmread-to-memory-stores-eight-bytes-across-two-pages"};
        check.outcome("VMREAD", try_vmread_to(guest_rip, window_address(page_size - 3)), vm_succeed);
        check.equal("first three bytes", low->words[511] >> 40, 0x060708);
        check.equal("last five bytes", high->words[0], 0x0102030405);
        high->words[0] = 0x2102030405;
        check.outcome("VMWRITE", try_vmwrite_from(guest_rip, window_address(page_size - 3)), vm_succeed);
        check.equal("field", read(field::guest_rip), 0x2102030405060708);
    }
    map_linear(1, 0);
    {
        Check check{"vmread-to-memory-across-an-unmapped-page-faults-as-a-write"};
        low->words[511] = untouched;
        check.outcome("VMREAD", try_vmread_to(guest_rip, window_address(page_size - 4)), page_fault(hole, 2));
        check.equal("bytes on the mapped page", low->words[511], untouched);
    }
    {
        Check check{"vmwrite-from-memory-across-an-unmapped-page-faults-as-a-read"};
        check.outcome("VMWRITE", try_vmwrite_from(guest_rip, window_address(page_size - 4)),
                      page_fault(hole, 0));
        check.equal("field", read(field::guest_rip), 0x2102030405060708);
    }
    map_linear(0, physical(low) | linear_page::present);
    Check{"vmread-to-a-read-only-page-faults-with-the-present-bit"}.outcome(
        "VMREAD", try_vmread_to(guest_rip, window_address(0)), page_fault(linear_window, 3));
}

}  // namespace

void check_vmcs_access() {
    const PageScope scope;
    check_without_current_vmcs();
    const L2 l2{usual_plan(0, usual_ept().pointer())};
    check_unsupported_fields();
    check_read_only_fields();
    check_values();
    check_memory_operands();
}

}  // namespace flatback::guests
