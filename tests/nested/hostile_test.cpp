// Whatever L1 writes into its VMCS and its memory, L0 goes on and no vmcs02 holds what is not L1's.
// VirtualCpu checks the latter at every entry, with the processor's own rules for vmcs01 and vmcs02.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nested/vmcs/vmcs12.hpp"
#include "tests/nested/ept12.hpp"
#include "tests/nested/virtual_cpu.hpp"
#include "vmx/exit_qualification.hpp"

namespace flatback::nested_test::hostile_test {
namespace {

// Values that are interesting to some field: single bits, edges, addresses of L1's, of L0's and of nobody.
rc::Gen<std::uint64_t> any_word() {
    return rc::gen::oneOf(
        rc::gen::arbitrary<std::uint64_t>(),
        rc::gen::map(rc::gen::inRange(0, 64), [](int bit) { return std::uint64_t{1} << bit; }),
        rc::gen::map(rc::gen::inRange(0, 64), [](int bit) { return ~(std::uint64_t{1} << bit); }),
        rc::gen::element<std::uint64_t>(0, ~0ULL, L1Memory::l0_start, L1Memory::l0_end - 0x1000,
                                        L1Memory::size, 0x1000, 0x8005'0033, 0x26a0, 0xd01,
                                        0x0007'0406'0007'0406, 0x400, 0x8000'0b0e, 0x8000'0030, 0x8000'0202,
                                        FakePort::l0_pages_start, layout::msr_list));
}

struct Edit {
    std::size_t field;
    std::uint64_t value;
    bool flips;  // one bit of what is there, which is likelier to stay valid
};
void showValue(const Edit& edit, std::ostream& out) {
    out << vmx::all_fields.at(edit.field).name << (edit.flips ? " ^= " : " = ") << std::hex << edit.value
        << std::dec;
}

rc::Gen<Edit> any_edit() {
    return rc::gen::apply(
        [](std::size_t field, std::uint64_t value, bool flips, int bit) {
            return Edit{field, flips ? std::uint64_t{1} << bit : value, flips};
        },
        rc::gen::inRange<std::size_t>(0, vmx::field_count), any_word(), rc::gen::arbitrary<bool>(),
        rc::gen::inRange(0, 64));
}

void apply(VirtualCpu& l1, const std::vector<Edit>& edits) {
    for (const Edit& edit : edits) {
        const std::uint32_t encoding = vmx::all_fields.at(edit.field).encoding;
        if (l1.vmread(encoding) != vm_succeed) continue;
        const std::uint64_t value = edit.flips ? l1.value_read() ^ edit.value : edit.value;
        (void)l1.vmwrite(encoding, value);  // of exit information it fails
    }
}

// L2 does what may follow an entry; true where the engine may go on.
void let_l2_exit(VirtualCpu& l1, std::uint64_t address) {
    if (!l1.in_l2()) return;
    if (l1.l1_ept_pointer()) (void)l1.l2_touches(address & 0xffff'ffff'f000, 1);
    if (!l1.in_l2()) return;
    // An access that L0 answers by itself, in the delivery of any event, or that it cannot answer.
    constexpr std::uint32_t events[] = {0,           0x8000'0030, 0x8000'0202, 0x8000'0b0d,
                                        0x8000'0b0e, 0x8000'0b08, 0x8000'0430, 0x8000'030d};
    l1.port.ept01_grants = (address & 8) != 0;
    (void)l1.l2_exits({.reason = ExitReason::ept_violation,
                       .qualification = address & 0x1fff,
                       .vectoring = events[address >> 4 & 7],
                       .instruction_length = static_cast<std::uint32_t>(address >> 7 & 15),
                       .guest_physical = address & 0xffff'ffff'f000});
    if (!l1.in_l2()) return;
    l1.port.registers.at(1) = static_cast<std::uint32_t>(address);
    (void)l1.l2_exits({.reason = ExitReason::rdmsr, .instruction_length = 2});
    if (l1.in_l2()) (void)l1.l2_executes_cpuid();
}

RC_GTEST_PROP(Hostile, AnyFieldsMakeAnEntryThatWorksOrFailsInOrder, ()) {
    VirtualCpu l1{{.shadow_vmcs = *rc::gen::arbitrary<bool>()}};
    l1.prepare();
    const auto rounds = *rc::gen::container<std::vector<std::vector<Edit>>>(
        3, rc::gen::resize(6, rc::gen::container<std::vector<Edit>>(any_edit())));
    const bool with_ept = *rc::gen::arbitrary<bool>();
    const auto address = *any_word();
    Ept12 ept{l1};
    ept.map(0, 0x1000'0000, 7 | Ept12::write_back, 2);
    if (with_ept) l1.use_ept(ept.eptp());
    bool launched = false;
    for (const auto& edits : rounds) {
        apply(l1, edits);
        l1.port.nmi_pending = *rc::gen::arbitrary<bool>();
        l1.refusal = *rc::gen::weightedElement<std::optional<VirtualCpu::Refusal>>(
            {{5, std::nullopt},
             {1, VirtualCpu::Refusal::vmfail},
             {1, VirtualCpu::Refusal::guest_state},
             {1, VirtualCpu::Refusal::msr_list}});
        try {
            const Outcome outcome = launched ? l1.vmresume() : l1.vmlaunch();
            l1.refusal.reset();
            launched = launched || outcome == l2_runs;
            let_l2_exit(l1, address);
        } catch (const L1Shutdown&) {
            return;  // a VMX abort: L1's own end, not L0's
        }
    }
}

RC_GTEST_PROP(Hostile, AnyRegionMakesAVmcsOfThoseWords, ()) {
    VirtualCpu l1{{.shadow_vmcs = *rc::gen::arbitrary<bool>()}};
    l1.prepare();
    ASSERT_EQ(l1.vmclear(layout::vmcs_region(0)), vm_succeed);
    // Everything in the region is L1's to scribble on, the launch state included.
    const auto scribbles = *rc::gen::container<std::vector<std::pair<std::size_t, std::uint64_t>>>(
        rc::gen::pair(rc::gen::inRange<std::size_t>(1, 512), any_word()));
    for (const auto& [word, value] : scribbles)
        l1.port.memory.write(layout::vmcs_region(0) + word * 8, value);
    ASSERT_EQ(l1.vmptrld(layout::vmcs_region(0)), vm_succeed);
    for (const vmx::NamedField& named : vmx::all_fields) {
        const Outcome outcome = l1.vmread(named.encoding);
        if (outcome == vm_succeed) RC_ASSERT((l1.value_read() & ~nested::field_mask(named.encoding)) == 0U);
    }
    try {
        if (l1.vmlaunch() == l2_runs || (!l1.in_l2() && l1.vmresume() == l2_runs)) let_l2_exit(l1, 0);
    } catch (const L1Shutdown&) {
    }
}

RC_GTEST_PROP(Hostile, AnyInstructionWithAnyOperandsIsAnswered, ()) {
    VirtualCpu l1{{.shadow_vmcs = *rc::gen::arbitrary<bool>()}};
    l1.prepare();
    const auto reasons = *rc::gen::container<std::vector<ExitReason>>(rc::gen::element(
        ExitReason::vmcall, ExitReason::vmclear, ExitReason::vmptrld, ExitReason::vmptrst, ExitReason::vmread,
        ExitReason::vmwrite, ExitReason::vmxoff, ExitReason::vmxon, ExitReason::invept, ExitReason::invvpid));
    for (const ExitReason reason : reasons) {
        for (unsigned number = 0; number < 16; ++number) {
            if (number != 4) l1.port.registers.at(number) = *any_word();
        }
        const Outcome outcome = l1.execute_raw(reason, *rc::gen::arbitrary<std::uint32_t>(), *any_word());
        RC_ASSERT(outcome.kind != Outcome::Kind::lost);
        RC_ASSERT(outcome.kind != Outcome::Kind::l2_runs);
    }
}

// --- EPT02 reaches only what EPT12 gives, and nothing of L0's

constexpr std::uint64_t interesting_pages[] = {0x1000'0000,
                                               L1Memory::l0_start - 0x20'0000,
                                               L1Memory::l0_start - 0x1000,
                                               L1Memory::l0_start,
                                               L1Memory::l0_end - 0x1000,
                                               L1Memory::l0_end,
                                               L1Memory::size - 0x1000,
                                               L1Memory::size,
                                               0x4000'0000,
                                               0};

// What an EPT12 means, by the SDM's walk.
struct Permitted {
    std::uint64_t l1_physical = 0;
    std::uint64_t permissions = 0;
};
Permitted walk_ept12(VirtualCpu& l1, std::uint64_t root, std::uint64_t address) {
    std::uint64_t table = root;
    std::uint64_t permissions = 7;
    for (unsigned level = 4;; --level) {
        if (!L1Memory::has(table)) return {};
        const auto entry = l1.port.memory.read<std::uint64_t>(table + x86::table_index(address, level) * 8);
        if (!vmx::ept_entry::is_present(entry)) return {};
        if (vmx::is_ept_misconfigured(entry, level, l1.capabilities.promised.ept_vpid, physical_width))
            return {};
        permissions &= entry;
        if (vmx::ept_entry::is_leaf(entry, level)) {
            return {
                vmx::ept_entry::page_address(entry, level) | (address & (x86::bytes_per_entry(level) - 1)),
                permissions};
        }
        table = vmx::ept_entry::table_address(entry);
    }
}

bool is_l0s(VirtualCpu& l1, std::uint64_t host) {
    const std::uint64_t l1_physical = host - FakePort::host_offset;
    if (l1_physical >= L1Memory::l0_start && l1_physical < L1Memory::l0_end) return true;
    const std::uint64_t nothing = l1.port.host_mapping(x86::Gpa<x86::L1>{L1Memory::size}).address.value();
    return l1.port.has_page(host) && host / 0x1000 != nothing / 0x1000;
}

// Every leaf of the EPT02 that is in use.
void for_each_leaf(VirtualCpu& l1, std::uint64_t table, unsigned level, std::uint64_t address,
                   std::uint64_t permissions, auto&& visit) {
    for (std::uint64_t index = 0; index < 512; ++index) {
        const std::uint64_t entry = l1.port.page(x86::Hpa{table})[index];
        if (!vmx::ept_entry::is_present(entry)) continue;
        const std::uint64_t at = address + index * x86::bytes_per_entry(level);
        if (vmx::ept_entry::is_leaf(entry, level)) {
            visit(at, x86::bytes_per_entry(level), vmx::ept_entry::page_address(entry, level),
                  permissions & entry);
        } else {
            for_each_leaf(l1, vmx::ept_entry::table_address(entry), level - 1, at, permissions & entry,
                          visit);
        }
    }
}

RC_GTEST_PROP(HostileEpt12, GivesL2OnlyWhatItPermitsAndNothingOfL0s, ()) {
    VirtualCpu l1;
    l1.port.block_shift = *rc::gen::element(12U, 21U, 30U);
    const bool accessed_dirty = *rc::gen::arbitrary<bool>();
    Ept12 ept{l1};
    const auto count = *rc::gen::inRange(1, 24);
    std::vector<std::uint64_t> addresses;
    for (int n = 0; n < count; ++n) {
        const std::uint64_t address =
            *rc::gen::inRange<std::uint64_t>(0, 64) * 0x1000 +
            *rc::gen::element<std::uint64_t>(0, 0x20'0000, 0x4000'0000, 0x80'0000'0000);
        const auto level = *rc::gen::inRange(1U, 4U);
        const std::uint64_t target =
            *rc::gen::oneOf(rc::gen::elementOf(std::vector<std::uint64_t>(std::begin(interesting_pages),
                                                                          std::end(interesting_pages))),
                            rc::gen::map(rc::gen::inRange<std::uint64_t>(0, 1ULL << 21),
                                         [](std::uint64_t page) { return page << 12; })) &
            ~(x86::bytes_per_entry(level) - 1);
        const std::uint64_t permissions = *rc::gen::inRange<std::uint64_t>(0, 8);
        const std::uint64_t type = *rc::gen::element<std::uint64_t>(0, 1, 2, 4, 5, 6, 6, 6);
        const std::uint64_t flags = *rc::gen::element<std::uint64_t>(0, 0x100, 0x300);
        ept.map(address, target, permissions | type << 3 | flags, level);
        addresses.push_back(address);
    }
    l1.prepare();
    l1.use_ept(ept.eptp(accessed_dirty));
    ASSERT_EQ(l1.vmlaunch(), l2_runs);
    for (int n = 0; n < 40; ++n) {
        const std::uint64_t address =
            *rc::gen::elementOf(addresses) + *rc::gen::element<std::uint64_t>(0, 0x1000, 0x5123);
        const std::uint64_t access = *rc::gen::element<std::uint64_t>(1, 2, 3, 4);
        const Permitted permitted = walk_ept12(l1, ept.root(), address);
        const bool allowed = (access & ~permitted.permissions) == 0;
        const unsigned let_through = l1.port.writes_let_through;
        const Outcome outcome = l1.l2_touches(address, access);
        if (l1.port.writes_let_through != let_through) {
            const auto mapping = l1.port.host_mapping(x86::Gpa<x86::L1>{permitted.l1_physical});
            RC_ASSERT(allowed && (access & 2) != 0U && !mapping.writable);
            l1.write_vanished();
        }
        if (!l1.in_l2()) {
            RC_ASSERT(!allowed);
            ASSERT_EQ(l1.vmresume(), l2_runs);
            continue;
        }
        RC_ASSERT(outcome == l2_runs);
    }
    const std::uint64_t root = vmx::Eptp{l1.vmcs02().get(field::ept_pointer)}.root();
    for_each_leaf(l1, root, 4, 0, 7,
                  [&](std::uint64_t at, std::uint64_t size, std::uint64_t host, std::uint64_t permissions) {
                      for (const std::uint64_t offset :
                           {std::uint64_t{0}, (size / 2) & ~std::uint64_t{0xfff}, size - 0x1000}) {
                          const Permitted permitted = walk_ept12(l1, ept.root(), at + offset);
                          RC_ASSERT((permissions & ~permitted.permissions) == 0U);
                          const auto mapping =
                              l1.port.host_mapping(x86::Gpa<x86::L1>{permitted.l1_physical & ~0xfffULL});
                          RC_ASSERT(host + offset == mapping.address.value());
                          RC_ASSERT(mapping.writable || (permissions & 2) == 0U);
                      }
                      for (std::uint64_t offset = 0; offset < size;
                           offset += std::max(size / 512, std::uint64_t{0x1000})) {
                          RC_ASSERT(!is_l0s(l1, host + offset));
                      }
                  });
}

}  // namespace
}  // namespace flatback::nested_test::hostile_test
