// What a VMX instruction costs by the page that its memory operand lies in: the dearest of them all, as a
// hypervisor may keep its operands in pages of any size, and of user mode.

#include <algorithm>

#include "guests/bare/benches/bench.hpp"
#include "guests/bare/catalogue.hpp"
#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/linear_window.hpp"
#include "x86/paging.hpp"

extern "C" std::uint64_t boot_pml4[];
extern "C" std::uint64_t boot_pdpt[];

namespace flatback::guests {
namespace {

namespace entry = x86::page_entry;

// A gigabyte of linear addresses for each kind of page, at which the first gigabyte of memory is seen.
constexpr unsigned first_gigabyte = 8;
constexpr std::uint64_t rights = entry::present | entry::writable;

Page directory;
Page table;

// The linear address of `object` in a page of this size with these rights besides.
template <typename T>
T& seen_through(T& object, EptLevel size, std::uint64_t besides) {
    const std::uint64_t address = physical(&object);
    std::uint64_t& gigabyte = boot_pdpt[first_gigabyte];
    const std::uint64_t index = address >> 21 & 511;
    if (size == EptLevel::page_1g) {
        gigabyte = rights | besides | entry::page_size;
    } else {
        gigabyte = physical(&directory) | rights | besides;
        const std::uint64_t start = address & ~(large_page_size - 1);
        if (size == EptLevel::page_2m) {
            directory.words[index] = start | rights | besides | entry::page_size;
        } else {
            directory.words[index] = physical(&table) | rights | besides;
            for (std::uint64_t i = 0; i < 512; ++i) {
                table.words[i] = (start + i * page_size) | rights | besides;
            }
        }
    }
    write_cr3(read_cr3());
    return *reinterpret_cast<T*>((std::uint64_t{first_gigabyte} << 30) + (address & ((1ULL << 30) - 1)));
}

struct alignas(16) Operands {
    InvalidationDescriptor vpid;
    InvalidationDescriptor eptp;
    std::uint64_t current;
    std::uint64_t inactive;
    std::uint64_t stored;
};

std::uint64_t dearest(Operands& operands) {
    std::uint64_t most = 0;
    const auto time = [&most](auto body) { most = std::max(most, mean_ticks(bench_iterations, body)); };
    time([&] { vmptrld(operands.current); });
    time([&] { vmptrst(operands.stored); });
    time([&] { vmclear(operands.inactive); });
    const std::uint64_t field = field::guest_ia32_sysenter_esp.encoding;
    time([&] { asm volatile("vmread %1, %0" : "=m"(operands.stored) : "r"(field) : "cc"); });
    time([&] { asm volatile("vmwrite %0, %1" : : "m"(operands.stored), "r"(field) : "cc"); });
    if (capabilities.has_invept()) time([&] { invept(invept_type::single_context, operands.eptp); });
    if (capabilities.has_invvpid_type(0))
        time([&] { invvpid(invvpid_type::individual_address, operands.vpid); });
    return most;
}

}  // namespace

void bench_operands() {
    const PageScope scope;
    L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    run_or_die(l2, reason::vmcall);
    auto& operands = *reinterpret_cast<Operands*>(allocate_page());
    operands = {{1, 0x1000}, {usual_ept().pointer(), 0}, l2.vmcs_address(), physical(new_vmcs_region()), 0};
    boot_pml4[0] |= entry::user;  // what is below decides
    struct Kind {
        std::string_view name;
        EptLevel size;
        std::uint64_t besides;
    };
    for (const Kind& kind : {Kind{"operand_4k", EptLevel::page_4k, 0},
                             {"operand_user_4k", EptLevel::page_4k, entry::user},
                             {"operand_user_2m", EptLevel::page_2m, entry::user},
                             {"operand_user_1g", EptLevel::page_1g, entry::user}}) {
        report_bench(kind.name, dearest(seen_through(operands, kind.size, kind.besides)));
    }
    boot_pdpt[first_gigabyte] = 0;
    boot_pml4[0] &= ~entry::user;
    write_cr3(read_cr3());
}

}  // namespace flatback::guests
