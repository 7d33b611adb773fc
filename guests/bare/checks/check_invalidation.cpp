// The operand checks of INVEPT and INVVPID, in their order: SDM 3C 31.3.

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

using Try = Outcome (*)(std::uint64_t type, const void* descriptor);

const Outcome bad_operand = vm_fail_valid(28);

// Every type that fits in a signed byte, as a 64-bit register holds it, and some that only 64 bits hold.
void check_every_type(std::string_view name, Try instruction, bool (*offered)(std::uint64_t)) {
    const RuleScope rule{
        {"3C 31.3 INVEPT, INVVPID", "a type that is not offered is VMfail with error 28", 31}};
    const InvalidationDescriptor good{usual_ept().pointer(), 0};
    const InvalidationDescriptor good_vpid{1, 0};
    const bool is_invvpid = instruction == try_invvpid;
    const InvalidationDescriptor& descriptor = is_invvpid ? good_vpid : good;
    Check check{name};
    const auto try_type = [&](std::uint64_t type) {
        Line what;
        what << "type ";
        what.hexadecimal(type);
        check.outcome(what.text(), instruction(type, &descriptor), offered(type) ? vm_succeed : bad_operand);
    };
    for (std::int64_t type = -127; type <= 127; ++type) try_type(static_cast<std::uint64_t>(type));
    constexpr std::uint64_t wide[] = {
        1ULL << 63, 1ULL << 32, (1ULL << 32) + 1, (1ULL << 32) + 2, (1ULL << 63) + 1, 256,
        257,        258,        0x10001,          0xFFFF'FFFF,      0x1'0000'0002};
    for (const std::uint64_t type : wide) try_type(type);
    check.known({"the type is taken by its low 32 bits"});
}

bool invept_type_offered(std::uint64_t type) {
    return (type == 1 || type == 2) && capabilities.has_invept_type(static_cast<unsigned>(type));
}

bool invvpid_type_offered(std::uint64_t type) {
    return type <= 3 && capabilities.has_invvpid_type(static_cast<unsigned>(type));
}

// A descriptor whose second half is on an unmapped page, or which is on one whole.
void check_descriptor_faults(std::string_view name, Try instruction, std::uint64_t low) {
    const RuleScope rule{{"3C 31.3 INVEPT, INVVPID", "the descriptor is read whole, with its faults", 9}};
    Page* const page = allocate_page();
    map_linear(0, physical(page) | linear_page::present);
    map_linear(1, 0);
    page->words[511] = low;
    const std::uint64_t hole = linear_window + page_size;
    Check check{name};
    for (const std::uint64_t type : {std::uint64_t{1}, std::uint64_t{2}}) {
        check.outcome("second half unmapped", instruction(type, window_address(page_size - 8)),
                      page_fault(hole, 0));
        check.outcome("one byte unmapped", instruction(type, window_address(page_size - 15)),
                      page_fault(hole, 0));
        check.outcome("all unmapped", instruction(type, window_address(page_size)), page_fault(hole, 0));
        check.outcome("not canonical", instruction(type, reinterpret_cast<const void*>(0x8000'0000'0000ULL)),
                      fault(vector_general_protection));
    }
}

void check_type_before_descriptor() {
    const RuleScope rule{{"3C 31.3 INVEPT, INVVPID", "the type is looked at before or after the descriptor"}};
    map_linear(1, 0);
    const void* const hole = window_address(page_size);
    Check check{"an-unsupported-invalidation-type-is-found-before-the-descriptors-fault"};
    check.outcome("INVEPT", try_invept(100, hole), bad_operand);
    if (capabilities.has_invvpid()) check.outcome("INVVPID", try_invvpid(100, hole), bad_operand);
    check.known({"the descriptor is read before the type is looked at"});
}

void check_descriptor_across_pages(std::string_view name, Try instruction, std::uint64_t low) {
    const RuleScope rule{{"3C 31.3 INVEPT, INVVPID", "the descriptor is read whole, with its faults", 9}};
    Page* const first = allocate_page();
    Page* const second = allocate_page();
    map_linear(0, physical(first) | linear_page::present);
    map_linear(1, physical(second) | linear_page::present);
    Check check{name};
    first->words[511] = low;
    second->words[0] = 0;
    check.outcome("good", instruction(1, window_address(page_size - 8)), vm_succeed);
    first->words[511] = ~std::uint64_t{0};
    check.outcome("bad low half", instruction(1, window_address(page_size - 8)), bad_operand);
}

void check_invvpid_descriptors() {
    const RuleScope rule{
        {"3C 31.3 INVVPID", "reserved bits, VPID 0000H and a non-canonical address are error 28", 7}};
    {
        Check check{"invvpid-with-a-reserved-descriptor-bit-fails-with-error-28"};
        for (std::uint64_t type = 0; type <= 3; ++type) {
            for (unsigned bit = 16; bit < 64; ++bit) {
                const InvalidationDescriptor descriptor{1 | 1ULL << bit, 0};
                check.outcome("INVVPID", try_invvpid(type, &descriptor), bad_operand);
            }
        }
    }
    {
        const InvalidationDescriptor vpid_0{0, 0x1000};
        Check check{"invvpid-of-vpid-zero-fails-with-error-28-for-types-0-1-3-and-works-for-2"};
        check.outcome("type 0", try_invvpid(0, &vpid_0), bad_operand);
        check.outcome("type 1", try_invvpid(1, &vpid_0), bad_operand);
        check.outcome("type 2", try_invvpid(2, &vpid_0), vm_succeed);
        check.outcome("type 3", try_invvpid(3, &vpid_0), bad_operand);
    }
    constexpr std::uint64_t not_canonical[] = {0x8000'0000'0000, 0xFFFF'7FFF'FFFF'FFFF, 0x0001'0000'0000'0000,
                                               0x8000'0000'0000'0000, 0x7FFF'0000'0000'1000};
    {
        Check check{"invvpid-of-a-noncanonical-address-fails-with-error-28-for-type-0-only"};
        for (const std::uint64_t address : not_canonical) {
            const InvalidationDescriptor descriptor{1, address};
            check.outcome("type 0", try_invvpid(0, &descriptor), bad_operand);
            check.outcome("type 1", try_invvpid(1, &descriptor), vm_succeed);
            check.outcome("type 2", try_invvpid(2, &descriptor), vm_succeed);
            check.outcome("type 3", try_invvpid(3, &descriptor), vm_succeed);
        }
    }
    {
        constexpr std::uint64_t canonical[] = {0, 0x7FFF'FFFF'FFFF, 0xFFFF'8000'0000'0000,
                                               0xFFFF'FFFF'FFFF'FFFF};
        Check check{"invvpid-accepts-canonical-addresses-of-both-halves"};
        for (const std::uint64_t address : canonical) {
            const InvalidationDescriptor descriptor{0xFFFF, address};
            check.outcome("type 0", try_invvpid(0, &descriptor), vm_succeed);
        }
    }
    {
        Check check{"invvpid-accepts-vpids-that-no-vmcs-uses"};
        for (std::uint64_t vpid = 1; vpid <= 0xFFFF; vpid = vpid * 3 + 1) {
            const InvalidationDescriptor descriptor{vpid, 0x1000};
            for (std::uint64_t type = 0; type <= 3; ++type) {
                check.outcome("INVVPID", try_invvpid(type, &descriptor), vm_succeed);
            }
        }
    }
}

void check_invept_descriptors() {
    const RuleScope rule{
        {"3C 31.3 INVEPT", "reserved bits of the descriptor and an EPTP that no entry takes are error 28"}};
    const std::uint64_t good = usual_ept().pointer();
    {
        Check check{"invept-single-context-with-an-eptp-that-would-fail-entry-fails-with-error-28"};
        const std::uint64_t bad[] = {(good & ~7ULL) | 1, good & ~0x38ULL,
                                     good | 1ULL << 63,  good | 1ULL << (cpuid(0x80000008).eax & 0xFF),
                                     good | 0x80,        ~std::uint64_t{0}};
        for (const std::uint64_t eptp : bad) {
            const InvalidationDescriptor descriptor{eptp, 0};
            check.outcome("type 1", try_invept(1, &descriptor), bad_operand);
            check.outcome("type 2", try_invept(2, &descriptor), vm_succeed);
        }
    }
    Check check{"invept-accepts-an-eptp-that-was-never-used"};
    const InvalidationDescriptor descriptor{0x123456000 | 6 | 3U << 3, 0};
    check.outcome("type 1", try_invept(1, &descriptor), vm_succeed);
}

// Ledger: these instructions use no VMCS, and need none.
void check_without_current_vmcs() {
    const RuleScope rule{{"3C 31.3 INVEPT, INVVPID", "no current VMCS is needed", 3}};
    const InvalidationDescriptor vpid{1, 0};
    const InvalidationDescriptor vpid_0{0, 0};
    const InvalidationDescriptor eptp{usual_ept().pointer(), 0};
    std::uint64_t current = 0;
    Check check{"invvpid-and-invept-without-a-current-vmcs-work-and-fail-invalid"};
    try_vmptrst(&current);
    check.equal("current-VMCS pointer", current, ~std::uint64_t{0});
    for (std::uint64_t type = 0; type <= 3; ++type) {
        check.outcome("INVVPID", try_invvpid(type, &vpid), vm_succeed);
        check.outcome("INVVPID of VPID 0", try_invvpid(type, &vpid_0),
                      type == 2 ? vm_succeed : vm_fail_invalid);
    }
    check.outcome("INVVPID of a bad type", try_invvpid(4, &vpid), vm_fail_invalid);
    check.outcome("INVEPT", try_invept(1, &eptp), vm_succeed);
    check.outcome("INVEPT of a bad type", try_invept(0, &eptp), vm_fail_invalid);
}

}  // namespace

void check_invalidation() {
    const PageScope scope;
    const bool invvpid = capabilities.secondary.may_set(secondary::enable_vpid) && capabilities.has_invvpid();
    {
        Check check{"the-vpid-control-and-the-invvpid-capability-appear-together"};
        check.equal("INVVPID", capabilities.has_invvpid(),
                    capabilities.secondary.may_set(secondary::enable_vpid));
        bool any_type = false;
        for (unsigned type = 0; type <= 3; ++type) any_type |= capabilities.has_invvpid_type(type);
        check.equal("types", any_type, capabilities.has_invvpid());
    }
    if (!invvpid) {
        const InvalidationDescriptor descriptor{1, 0};
        Check{"invvpid-is-undefined-where-it-is-not-offered"}.outcome("INVVPID", try_invvpid(1, &descriptor),
                                                                      fault(vector_invalid_opcode));
    } else {
        check_without_current_vmcs();
    }
    VmcsPlan plan = usual_plan(0, usual_ept().pointer());
    const L2 l2{plan};
    check_every_type("invept-takes-the-types-it-offers-and-fails-with-error-28-for-all-others", try_invept,
                     invept_type_offered);
    check_descriptor_faults("invept-with-its-descriptor-across-an-unmapped-page-faults", try_invept,
                            usual_ept().pointer());
    check_descriptor_across_pages("invept-reads-its-descriptor-across-two-pages", try_invept,
                                  usual_ept().pointer());
    check_invept_descriptors();
    check_type_before_descriptor();
    if (!invvpid) return;
    check_every_type("invvpid-takes-the-types-it-offers-and-fails-with-error-28-for-all-others", try_invvpid,
                     invvpid_type_offered);
    check_descriptor_faults("invvpid-with-its-descriptor-across-an-unmapped-page-faults", try_invvpid, 1);
    check_descriptor_across_pages("invvpid-reads-its-descriptor-across-two-pages", try_invvpid, 1);
    check_invvpid_descriptors();
    // A current VMCS without "enable VPID" is none of INVVPID's business.
    write(field::secondary_processor_based_vm_execution_controls,
          read(field::secondary_processor_based_vm_execution_controls) & ~secondary::enable_vpid);
    const InvalidationDescriptor descriptor{1, 0};
    Check check{"invvpid-works-while-the-current-vmcs-has-vpid-off"};
    for (std::uint64_t type = 0; type <= 3; ++type) {
        check.outcome("INVVPID", try_invvpid(type, &descriptor), vm_succeed);
    }
}

}  // namespace flatback::guests
