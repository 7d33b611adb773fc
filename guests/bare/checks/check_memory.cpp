// L0 hides in memory that L1's memory map calls reserved: L1, and the L2 to which L1 gives all of memory, can
// neither read nor alter it.

#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/check.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/memory_program.hpp"
#include "guests/bare/l1/reserved_memory.hpp"
#include "guests/bare/l1/rule.hpp"
#include "interface/information_leaves.hpp"

namespace flatback::guests {
namespace {

constexpr std::uint64_t pattern = 0xDEAD'BEEF'0BAD'F00D;

using Range = MemoryHole;

// The text that L0 carries, each character one past the real one, so that this image does not carry it.
constexpr char scrambled_marker[] = "GMBUCBDL.M1.TFDSFU";

bool is_secret(const volatile char* text) {
    for (unsigned i = 0; i + 1 < sizeof scrambled_marker; ++i) {
        if (text[i] != static_cast<char>(scrambled_marker[i] - 1)) return false;
    }
    return true;
}

// The first byte of this value in [at, end), or end. One string instruction: ranges are tens of megabytes.
std::uint64_t find_byte(std::uint64_t at, std::uint64_t end, char value) {
    std::uint64_t left = end - at;
    bool found = false;
    if (left != 0) asm volatile("repne scasb" : "+D"(at), "+c"(left), "=@ccz"(found) : "a"(value) : "memory");
    return found ? at - 1 : end;
}

bool finds_secret(const Range& range) {
    const std::uint64_t end = range.end - sizeof scrambled_marker;
    for (std::uint64_t at = range.begin; (at = find_byte(at, end, scrambled_marker[0] - 1)) < end; ++at) {
        if (is_secret(reinterpret_cast<const volatile char*>(at))) return true;
    }
    return false;
}

// Every page: one word at its front.
void overwrite(const Range& range) {
    for (std::uint64_t at = range.begin; at < range.end; at += page_size) {
        *reinterpret_cast<volatile std::uint64_t*>(at) = pattern;
    }
}

bool l0_lives() {
    return under_flatback() && cpuid(interface::identity_leaf).eax != 0;
}

void check_from_l1(const Range& range) {
    {
        // The search itself: a marker that is there is found.
        Check check{"the-search-for-l0s-marker-finds-one-that-is-there"};
        Page* const page = allocate_page();
        auto* const text = reinterpret_cast<char*>(page->words) + 1234;
        for (unsigned i = 0; i + 1 < sizeof scrambled_marker; ++i)
            text[i] = static_cast<char>(scrambled_marker[i] - 1);
        check.holds("found", finds_secret({physical(page), physical(page) + page_size}));
        text[0] = 'f';
        check.holds("and not when it is another",
                    !finds_secret({physical(page), physical(page) + page_size}));
    }
    {
        Check check{"l1-reads-nothing-of-l0-in-reserved-memory"};
        check.holds("a reserved range to look at", range.end > range.begin);
        check.holds("L0's marker is not found", !finds_secret(range));
    }
    Check check{"l0-lives-on-after-l1-wrote-over-all-reserved-memory"};
    const CpuidResult before = cpuid(interface::identity_leaf);
    overwrite(range);
    check.holds("the leaf of L0", l0_lives());
    check.equal("its version", cpuid(interface::identity_leaf).eax, before.eax);
    check.holds("L0's marker is not found", !finds_secret(range));
}

// An L1 may write any address into its EPT12: what is L0's is not there for L2 either.
void check_from_l2(const Range& range) {
    Ept12 hierarchy;
    map_image(hierarchy);
    for (std::uint64_t i = 0; i < 64; ++i) {
        const std::uint64_t at = range.begin + i * ((range.end - range.begin) / 64) / page_size * page_size;
        hierarchy.map(free_window + i * page_size, at, EptLevel::page_4k);
    }
    L2 l2{usual_plan(0, hierarchy.pointer())};
    Check check{"l2-neither-reads-nor-alters-l0-through-an-ept12-that-maps-reserved-memory"};
    for (std::uint64_t i = 0; i < 64; ++i) {
        for (const char* const program : {l2_store, l2_load}) {
            start(l2, program, free_window + i * page_size, pattern);
            const std::uint32_t got = l2.run();
            check.holds("it reads as other memory, or is an EPT violation",
                        got == reason::vmcall || got == reason::ept_violation);
        }
        check.holds("the leaf of L0", l0_lives());
    }
}

// Physical addresses of L0 in every place of a VMCS where L1 may put an address.
void check_as_vmcs_address(const Range& range) {
    L2 l2{usual_plan(physical(l2_load), usual_ept().pointer())};
    const std::uint64_t at = range.end - page_size;
    Check check{"addresses-of-reserved-memory-in-a-vmcs-do-not-reach-l0"};
    write(field::vm_entry_msr_load_address, at);
    write(field::vm_entry_msr_load_count, 1);
    start(l2, l2_load, physical(l2_load));
    l2.run();
    check.holds("after a load list in reserved memory", l0_lives());
    write(field::vm_entry_msr_load_count, 0);
    write(field::address_of_msr_bitmaps, at);
    write(field::address_of_io_bitmap_a, at);
    write(field::primary_processor_based_vm_execution_controls,
          read(field::primary_processor_based_vm_execution_controls) | primary::use_msr_bitmaps |
              primary::use_io_bitmaps);
    start(l2, l2_load, physical(l2_load));
    l2.run();
    check.holds("after bitmaps in reserved memory", l0_lives());
    write(field::ept_pointer, at | 6 | 3U << 3);
    l2.run();
    check.holds("after an EPT12 in reserved memory", l0_lives());
    const std::uint64_t current = l2.vmcs_address();
    try_vmptrld(&at);
    check.holds("after VMPTRLD of reserved memory", l0_lives());
    try_vmclear(&at);
    check.holds("after VMCLEAR of reserved memory", l0_lives());
    vmptrld(current);
}

// Where L0 writes for L1: a destination in L0's own memory must not be written.
void check_as_operand(const Range& range) {
    const L2 l2{usual_plan(physical(l2_load), usual_ept().pointer())};
    Check check{"vmptrst-and-vmread-into-reserved-memory-do-not-reach-l0"};
    for (std::uint64_t at = range.begin; at < range.end; at += (range.end - range.begin) / 256) {
        auto* const word = reinterpret_cast<void*>(at);
        check.outcome("VMPTRST", try_vmptrst(word), vm_succeed);
        check.outcome("VMREAD", try_vmread_to(field::guest_rip.encoding, word), vm_succeed);
        check.outcome("VMREAD of an unshadowed field", try_vmread_to(field::guest_cs_base.encoding, word),
                      vm_succeed);
        check.holds("the leaf of L0", l0_lives());
    }
    check.holds("L0's marker is not found", !finds_secret(range));
}

}  // namespace

void check_memory() {
    const RuleScope rule{{"", "the memory of a hypervisor beneath can neither be read nor written"}};
    if (!under_flatback()) {
        report_not_offered("an L0 whose memory could be looked for");
        return;
    }
    const PageScope scope;
    const Range range = top_reserved_range();
    check_from_l1(range);
    if (range.end <= range.begin) return;
    check_from_l2(range);
    check_as_vmcs_address(range);
    check_as_operand(range);
}

}  // namespace flatback::guests
