// Rules that the engine decides by, each tried at every bit: the machine has its own (machine/rules/,
// machine/cpu/), so that one that is wrong on either side is a difference.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "judge/trial/nested_world.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/prepare.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "vmx/field_table.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine::rules_test {
namespace {

namespace field = vmx::field;

constexpr std::uint64_t vmcs = layout::vmcs_region(0);
// 48-bit linear addresses end here, and what else an edge of the canonical range might be.
constexpr std::array<std::uint64_t, 8> edges = {
    0x0000'7FFF'FFFF'FFFF, 0x0000'8000'0000'0000, 0xFFFF'7FFF'FFFF'FFFF, 0xFFFF'8000'0000'0000,
    0x0001'0000'0000'0000, 0xFFFE'8000'0000'0000, 0x00FF'FFFF'FFFF'FFFF, 0x7FFF'8000'0000'0000};

void expect_same(const Scenario& say, const std::string& what, const NestedWorld::Options& options = {}) {
    NestedWorld::Options bounded = options;
    bounded.limit_is_error = true;  // a comparison that ends early would say nothing
    try {
        if (compare(say.program(), bounded))
            ADD_FAILURE() << what << ":\n" << account(say.program(), bounded);
    } catch (const std::exception& reached) {
        ADD_FAILURE() << what << ": " << reached.what();
    }
}

Scenario prepared(const Guest& guest = {.vpid = 1, .ept = 0, .tables = 1}) {
    Scenario say;
    say.l1().vmxon().prepare(vmcs, guest);
    return say;
}

// Whatever is wrong with it, L1 has the VMCS back afterwards.
void try_entry(Scenario& say) {
    say.l1().vmlaunch().vmresume().l2().vmcall().l1();
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> fields_of(const GuestSettings& settings) {
    return guest_fields(NestedWorld::l1_model({}), settings);
}

// MSR lists are read from memory: a program of their own, below.
bool is_list_count(std::uint64_t encoding) {
    return encoding == field::vm_exit_msr_store_count.encoding ||
           encoding == field::vm_exit_msr_load_count.encoding ||
           encoding == field::vm_entry_msr_load_count.encoding;
}

void try_every_bit(const Guest& guest) {
    const GuestSettings settings{guest.vpid, guest.ept ? *guest.ept + 1U : 0U, guest.tables};
    for (const auto& [encoding, good] : fields_of(settings)) {
        if (is_list_count(encoding)) continue;
        Scenario say = prepared(guest);
        const vmx::FieldWidth width = vmx::width(encoding);
        const unsigned bits = width == vmx::FieldWidth::bits16   ? 16
                              : width == vmx::FieldWidth::bits32 ? 32
                                                                 : 64;
        for (unsigned bit = 0; bit < bits; ++bit) {
            say.vmwrite(encoding, good ^ std::uint64_t{1} << bit);
            try_entry(say);
            // An L2 that is entered halted comes back by an NMI.
            if (encoding == field::guest_activity_state.encoding && bit == 0)
                say.l0().nmi().l2().vmcall().l1();
            say.vmwrite(encoding, good);
        }
        if (bits == 64) {
            for (const std::uint64_t edge : edges) {
                say.vmwrite(encoding, edge);
                try_entry(say);
                say.vmwrite(encoding, good);
            }
        }
        try_entry(say);
        expect_same(say, std::string(vmx::name_of(encoding)));
        // The last one was good, and came to stand.
        NestedWorld world(NestedWorld::Options{});
        EXPECT_EQ(Runner(world).run(say.program()).back().status, Observation::Status::exit)
            << vmx::name_of(encoding);
    }
}

TEST(Rules, VmEntryWithEachBitOfEachFieldTheOtherWay) {
    try_every_bit({.vpid = 1, .ept = 0, .tables = 1});
}

TEST(Rules, VmEntryWithEachBitOfEachFieldTheOtherWayWithoutEptAndVpid) {
    try_every_bit({.tables = 1});
}

TEST(Rules, VmEntryWithEachEventToInject) {
    for (const std::uint64_t rflags :
         {x86::rflags::fixed_one, x86::rflags::fixed_one | x86::rflags::interrupt_enable}) {
        for (std::uint64_t type = 0; type < 8; ++type) {
            Scenario say = prepared();
            say.vmwrite(field::guest_rflags, rflags);
            for (const std::uint64_t error_code : {0U, 0x800U}) {
                for (std::uint64_t vector = 0; vector < 256; vector += vector < 34 ? 1 : 37) {
                    say.vmwrite(field::vm_entry_interruption_information,
                                1U << 31 | type << 8 | error_code | vector);
                    try_entry(say);
                }
            }
            for (unsigned bit = 0; bit < 32; ++bit) {
                const std::uint64_t vector = type == 2 ? 2 : 3;
                say.vmwrite(field::vm_entry_interruption_information,
                            (1U << 31 | type << 8 | vector) ^ 1ULL << bit);
                try_entry(say);
            }
            expect_same(say, "type " + std::to_string(type));
        }
    }
}

TEST(Rules, VmEntryWithEachErrorCodeAndInstructionLength) {
    Scenario say = prepared();
    for (unsigned bit = 0; bit < 32; ++bit) {
        say.vmwrite(field::vm_entry_exception_error_code, 1ULL << bit);
        say.vmwrite(field::vm_entry_interruption_information, 0x8000'0B0D);
        try_entry(say);
    }
    for (const std::uint64_t length : {0U, 1U, 14U, 15U, 16U, 17U, 0x100U}) {
        for (const std::uint64_t type : {4U, 5U, 6U}) {
            say.vmwrite(field::vm_entry_instruction_length, length);
            say.vmwrite(field::vm_entry_interruption_information, 1U << 31 | type << 8 | 3);
            try_entry(say);
        }
    }
    expect_same(say, "error codes and lengths");
}

TEST(Rules, VmEntryUnderEachBlockingWithEachKindOfEvent) {
    Scenario say = prepared();
    constexpr std::array<std::uint64_t, 4> events = {0, 0x8000'0030, 0x8000'0202, 0x8000'0306};
    for (const std::uint64_t pin : {0U, 0x8U, 0x28U}) {
        say.vmwrite(field::pin_based_vm_execution_controls,
                    NestedWorld::l1_model({}).vmx.pin_based.nearest(static_cast<std::uint32_t>(pin)));
        for (const std::uint64_t rflags : {std::uint64_t{2}, std::uint64_t{0x202}, std::uint64_t{0x302}}) {
            for (std::uint64_t blocking = 0; blocking < 16; ++blocking) {
                for (const std::uint64_t pending : {std::uint64_t{0}, std::uint64_t{1} << 14}) {
                    for (const std::uint64_t event : events) {
                        say.vmwrite(field::guest_rflags, rflags);
                        say.vmwrite(field::guest_interruptibility_state, blocking);
                        say.vmwrite(field::guest_pending_debug_exceptions, pending);
                        say.vmwrite(field::vm_entry_interruption_information, event);
                        try_entry(say);
                    }
                }
            }
        }
    }
    expect_same(say, "blocking");
}

// PAE paging, with and without EPT: which PDPTEs an entry refuses, and what for. What such a guest does is
// not modelled.
TEST(Rules, VmEntryWithEachBitOfAPdpte) {
    for (const bool ept : {true, false}) {
        Scenario say =
            prepared(ept ? Guest{.vpid = 1, .ept = 0, .tables = 1} : Guest{.vpid = 1, .tables = 1});
        const rules::Capabilities has = NestedWorld::l1_model({}).vmx;
        constexpr std::uint64_t table = layout::data_page(9) + 0x20;
        say.vmwrite(field::vm_entry_controls, has.vm_entry.nearest(vmx::entry_control::load_ia32_efer));
        say.vmwrite(field::guest_ia32_efer, x86::efer::execute_disable_enable);
        say.vmwrite(field::guest_cs_access_rights, 0xC09B);
        say.vmwrite(field::guest_cr3, table);
        constexpr std::array pdptes = {field::guest_pdpte0, field::guest_pdpte1, field::guest_pdpte2,
                                       field::guest_pdpte3};
        const auto set = [&](unsigned index, std::uint64_t value) {
            if (ept) {
                say.vmwrite(pdptes[index], value);
            } else {
                say.edit().poke(table + 8 * index, value).l1();
            }
        };
        for (unsigned index = 0; index < 4; ++index) set(index, 0);
        for (unsigned index = 0; index < 4; ++index) {
            for (const std::uint64_t present : {0U, 1U}) {
                for (unsigned bit = 1; bit < 64; ++bit) {
                    set(index, present | std::uint64_t{1} << bit);
                    try_entry(say);
                }
            }
            set(index, 0);
        }
        try_entry(say);
        expect_same(say, ept ? "PDPTEs of the VMCS" : "PDPTEs in memory");
    }
}

TEST(Rules, InveptAndInvvpidWithEachBitOfTheirOperands) {
    Scenario say = prepared();
    for (const std::uint64_t type : {0U, 1U, 2U, 3U, 4U}) {
        say.invept(type, layout::eptp(0)).invept(type, 0);
        for (unsigned bit = 0; bit < 64; ++bit) {
            const std::uint64_t flip = std::uint64_t{1} << bit;
            say.invept(type, layout::eptp(0) ^ flip).invept(type ^ flip, layout::eptp(0));
            say.invvpid(type, 1 ^ flip, 0x4000'0000).invvpid(type, 1, flip).invvpid(type, 1, 0 - flip);
            say.invvpid(type, 1, flip - 1).invvpid(type ^ flip, 1, 0x4000'0000);
        }
        for (const std::uint64_t edge : edges) say.invvpid(type, 1, edge);
    }
    expect_same(say, "operands");
    NestedWorld::Options off;
    off.tags = tag::Policy::off;
    expect_same(say, "operands, no VPIDs", off);
}

TEST(Rules, PointersOfVmcssWithEachBitTheOtherWay) {
    Scenario say;
    say.l1();
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t flip = std::uint64_t{1} << bit;
        say.vmxon(layout::vmxon_region(0) ^ flip).vmxoff();
    }
    say.vmxon();
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t flip = std::uint64_t{1} << bit;
        if (bit < 12 || bit >= 36) say.vmclear(vmcs ^ flip).vmptrld(vmcs ^ flip).vmptrst();
    }
    say.vmclear(layout::vmxon_region(0)).vmptrld(layout::vmxon_region(0)).vmptrst();
    expect_same(say, "pointers");
}

// What the capability MSRs say, and so which fields there are.
TEST(Rules, CapabilityMsrsAndTheFieldsThatGoWithThem) {
    for (const tag::Policy tags : {tag::Policy::mapped, tag::Policy::off}) {
        NestedWorld::Options options;
        options.tags = tags;
        Scenario say = prepared({.tables = 1});
        for (std::uint64_t msr = 0x480; msr <= 0x493; ++msr) say.rdmsr(msr).wrmsr(msr, 0);
        say.rdmsr(0x3A).wrmsr(0x3A, 5);
        for (std::uint64_t encoding = 0; encoding < 0x8000; ++encoding) say.vmread(encoding);
        for (unsigned bit = 15; bit < 64; ++bit)
            say.vmread(field::guest_rip.encoding | std::uint64_t{1} << bit);
        expect_same(say, "capabilities", options);
    }
}

TEST(Rules, VmwriteOfEachFieldKeepsItsWidth) {
    Scenario say = prepared({.tables = 1});
    for (const vmx::NamedField& named : vmx::all_fields) {
        for (const std::uint64_t high : {0U, 1U}) {
            for (const std::uint64_t value : {~std::uint64_t{0}, std::uint64_t{0x0123'4567'89AB'CDEF}})
                say.vmwrite(named.encoding | high, value).vmread(named.encoding).vmread(named.encoding | 1);
        }
    }
    expect_same(say, "widths");
}

// CR0 and CR4 in and out of VMX operation, in L1 and in its guest; EFER, PAT, DEBUGCTL and the SYSENTER MSRs.
TEST(Rules, RegistersWithEachBitTheOtherWay) {
    constexpr std::uint64_t cr0 = 0x8001'0033;
    constexpr std::uint64_t cr4 = 0x20A0;
    constexpr std::array<std::uint64_t, 7> msrs = {0x277, 0xC000'0080, 0x1D9,      0x174,
                                                   0x175, 0x176,       0xC000'0103};
    for (const Actor who : {Actor::l1, Actor::l2}) {
        Scenario say = prepared();
        if (who == Actor::l2) say.vmlaunch().l2();
        for (unsigned bit = 0; bit < 64; ++bit) {
            const std::uint64_t flip = std::uint64_t{1} << bit;
            // Without paging nothing of L1's is where it was.
            if (bit != 31 && bit != 0) say.mov_to_cr0(cr0 ^ flip).mov_from_cr0().mov_to_cr0(cr0);
            say.mov_to_cr4(cr4 ^ flip).mov_from_cr4().mov_to_cr4(cr4);
            for (const std::uint64_t msr : msrs) {
                // L2's WRMSR exits to L1: no MSR bitmap.
                if (who == Actor::l1) say.wrmsr(msr, flip).rdmsr(msr);
            }
        }
        expect_same(say, who == Actor::l1 ? "L1's registers" : "L2's registers");
    }
}

}  // namespace
}  // namespace flatback::machine::rules_test
