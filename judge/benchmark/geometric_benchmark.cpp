// How fast the geometric TLB takes accesses.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "machine/geometric/geometric_tlb.hpp"
#include "machine/translation/structure_editor.hpp"

namespace flatback::machine {
namespace {

/// A working set of `pages` pages of 4 KB, walked over at random, in two dimensions.
void accesses(benchmark::State& state) {
    const auto pages = static_cast<std::uint64_t>(state.range(0));
    PhysicalMemory memory;
    constexpr std::uint64_t root = 0x100'0000;
    constexpr std::uint64_t ept_root = 0x200'0000;
    std::uint64_t next_table = root + 0x1000;
    std::uint64_t next_ept_table = ept_root + 0x1000;
    StructureEditor<PagingFormat, PhysicalMemory> editor(memory, root, next_table);
    StructureEditor<EptFormat, PhysicalMemory> ept(memory, ept_root, next_ept_table);
    for (std::uint64_t page = 0; page < pages; ++page) {
        editor.map(0x4000'0000 + (page << 12), 0x800'0000 + (page << 12), PageSize::size_4k, 0x67);
    }
    for (std::uint64_t page = 0; page < 0x1000'0000; page += 0x20'0000) {
        ept.map(page, page, PageSize::size_2m, 0x37);
    }
    TranslationContext context;
    context.vpid = 1;
    context.pml4 = root;
    context.ept_in_use = true;
    context.ept.eptp = ept_root | 0x1E;
    GeometricTlb tlb(*find_geometry("skylake-x"));
    std::vector<std::uint64_t> addresses(4096);
    std::uint64_t random = 1;
    for (std::uint64_t& address : addresses) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        address = 0x4000'0000 + ((random >> 33) % pages << 12);
    }
    for (auto _ : state) {
        for (const std::uint64_t address : addresses) {
            benchmark::DoNotOptimize(tlb.access(memory, context, address, {AccessKind::read, true}));
        }
    }
    const TlbCounters& counters = tlb.counters();
    state.SetItemsProcessed(static_cast<std::int64_t>(counters.accesses));
    state.counters["miss_rate"] =
        static_cast<double>(counters.misses) / static_cast<double>(counters.accesses);
}
BENCHMARK(accesses)->Name("geometric/accesses")->Arg(48)->Arg(512)->Arg(1400)->Arg(4096);

}  // namespace
}  // namespace flatback::machine
