#include "machine/price/lat_ctx.hpp"

#include <algorithm>

#include "machine/translation/structure_editor.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine::price {

namespace {

// Guest-physical addresses of an L2.
constexpr std::uint64_t kernel_code_frame = 0x100'0000;
constexpr std::uint64_t kernel_data_frame = 0x200'0000;
constexpr std::uint64_t process_frame = 0x400'0000;  // kernel pages of the processes
constexpr std::uint64_t user_frame = 0x800'0000;     // theirs
constexpr std::uint64_t user_bytes = 0x4'0000;       // for each process
constexpr std::uint64_t table_frame = 0x1000'0000;   // paging structures
constexpr std::uint64_t table_bytes = 0x10'0000;     // for each process
constexpr std::uint64_t l2_memory = 0x2000'0000;     // 512 MBytes of host memory for each L2

// Linear addresses, as Linux lays them out.
constexpr std::uint64_t kernel_text = 0xFFFF'FFFF'8100'0000;
constexpr std::uint64_t direct_map = 0xFFFF'8880'0000'0000;
constexpr std::uint64_t user_text = 0x40'0000;
constexpr std::uint64_t user_heap = 0x7F00'0000'0000;
constexpr std::uint64_t user_stack = 0x7FFF'F000'0000;

// Host memory.
constexpr std::uint64_t l0_tables = 0x10'0000;
constexpr std::uint64_t l0_linear = 0xFFFF'9000'0000'0000;
constexpr std::uint64_t l1_tables = 0x1000'0000;
constexpr std::uint64_t l1_code_linear = 0xFFFF'FFFF'8200'0000;
constexpr std::uint64_t l1_data_linear = 0xFFFF'8880'4000'0000;
constexpr std::uint64_t l1_frames = 0x2000'0000;
constexpr std::uint64_t ept01_tables = 0x30'0000;
constexpr std::uint64_t ept_tables = 0x4000'0000;
constexpr std::uint64_t ept_bytes = 0x40'0000;
constexpr std::uint64_t l2_frames = 0x10'0000'0000;

// Accessed and dirty already: the model counts steady states.
constexpr std::uint64_t kernel_flags = 0x163;  // present, writable, accessed, dirty, global
constexpr std::uint64_t user_flags = 0x67;     // present, writable, user, accessed, dirty
constexpr std::uint64_t ept_flags = 0x37;

struct Touch {
    std::uint64_t address = 0;
    Access access{};
};

constexpr Access kernel_fetch{AccessKind::fetch, false};
constexpr Access kernel_load{AccessKind::read, false};
constexpr Access user_fetch{AccessKind::fetch, true};
constexpr Access user_load{AccessKind::read, true};

/// Structures at one offset of host memory, as their owner sees them.
struct Shifted {
    PhysicalMemory& memory;
    std::uint64_t offset;

    [[nodiscard]] std::uint64_t read(std::uint64_t address) const { return memory.read(address + offset); }
    void write(std::uint64_t address, std::uint64_t value) { memory.write(address + offset, value); }
};

constexpr std::uint16_t vpid01 = 1;

/// The processor, the programs on it, and L0's policy.
class Model {
public:
    Model(const TlbGeometry& geometry, Policy policy, unsigned l2s, const Column& column,
          const Assumptions& assumptions)
        : assume_(assumptions),
          policy_(policy),
          column_(column),
          memory_({.limit_bytes = std::uint64_t{4} << 30, .address_bits = 46}),
          tlb_(geometry) {
        build_l0_and_l1();
        for (unsigned l2 = 0; l2 < l2s; ++l2) build_l2(l2);
        for (unsigned process = 0; process < column.processes; ++process) build_touches(process);
        slots_.assign(assume_.slots, Slot{});
    }

    /// Switches to the next process of the ring of `l2`; the processor runs it.
    void context_switch(unsigned l2) {
        const unsigned from = current_process_[l2];
        const unsigned to = (from + 1) % column_.processes;
        TranslationContext now = l2_context(l2, from);
        for (const Touch& touch : leave_[from]) access(now, touch);
        tlb_.invalidate(invalidation::mov_cr3(now.vpid, 0));
        current_process_[l2] = to;
        now = l2_context(l2, to);
        for (const Touch& touch : enter_[to]) access(now, touch);
        exits_due_ += assume_.exits_per_switch;
    }

    [[nodiscard]] bool exit_is_due() {
        if (exits_due_ < 1) return false;
        exits_due_ -= 1;
        return true;
    }

    /// The L2 that runs exits; L1 handles it and enters `to`.
    void exit_and_enter(unsigned to) {
        if (policy_ != Policy::bare) visit_l0();
        if (policy_ == Policy::single || policy_ == Policy::shared) flush(vpid01);
        for (unsigned visit = 2; visit + 1 < assume_.l0_visits_per_exit; ++visit) {
            if (policy_ != Policy::bare) visit_l0();
        }
        for (const Touch& touch : l1_touches_) access(l1_context(), touch);
        if (policy_ != Policy::bare) visit_l0();
        enter(to);
    }

    /// What L0 does at an entry into `l2`, whose VPID is its number + 1.
    void enter(unsigned l2) {
        switch (policy_) {
            case Policy::bare:
                break;
            case Policy::shared:
                flush(vpid01);
                break;
            case Policy::single:
                if (last_l2_ != static_cast<int>(l2)) flush(2);
                break;
            case Policy::mapped:
                take_slot(l2);
                break;
        }
        last_l2_ = static_cast<int>(l2);
    }

    [[nodiscard]] const TlbCounters& counters() const { return tlb_.counters(); }

private:
    struct Slot {
        int l2 = -1;
        std::uint64_t used = 0;
    };

    void access(const TranslationContext& context, const Touch& touch) {
        tlb_.access(memory_, context, touch.address, touch.access);
    }

    void flush(std::uint16_t tag) { tlb_.invalidate(invalidation::invvpid_single_context(tag)); }

    void take_slot(unsigned l2) {
        Slot* victim = &slots_.front();
        for (Slot& slot : slots_) {
            if (slot.l2 == static_cast<int>(l2)) {
                slot.used = ++clock_;
                slot_of_[l2] = static_cast<unsigned>(&slot - slots_.data());
                return;
            }
            if (slot.used < victim->used) victim = &slot;
        }
        *victim = {static_cast<int>(l2), ++clock_};
        slot_of_[l2] = static_cast<unsigned>(victim - slots_.data());
        flush(static_cast<std::uint16_t>(2 + slot_of_[l2]));
    }

    void visit_l0() {
        TranslationContext context;
        context.pml4 = l0_tables;
        for (unsigned page = 0; page < assume_.l0_pages; ++page) {
            const std::uint64_t address = l0_linear + page * x86::page_size_2m;
            access(context, {address, page == 0 ? kernel_fetch : kernel_load});
        }
    }

    [[nodiscard]] TranslationContext l1_context() const {
        TranslationContext context;
        context.pml4 = l1_tables;
        if (policy_ != Policy::bare) {
            context.vpid = vpid01;
            context.ept_in_use = true;
            context.ept.eptp = ept01_tables | 0x1E;
        }
        return context;
    }

    [[nodiscard]] TranslationContext l2_context(unsigned l2, unsigned process) const {
        TranslationContext context;
        context.pml4 = table_frame + process * table_bytes;
        context.ept_in_use = true;
        context.ept.eptp = (ept_tables + l2 * ept_bytes) | 0x1E;
        switch (policy_) {
            case Policy::bare:
                context.vpid = static_cast<std::uint16_t>(l2 + 1);
                break;
            case Policy::shared:
                context.vpid = vpid01;
                break;
            case Policy::single:
                context.vpid = 2;
                break;
            case Policy::mapped:
                context.vpid = static_cast<std::uint16_t>(2 + slot_of_[l2]);
                break;
        }
        return context;
    }

    void build_l0_and_l1() {
        std::uint64_t next = l0_tables + x86::page_size_4k;
        StructureEditor<PagingFormat, PhysicalMemory> l0(memory_, l0_tables, next);
        for (unsigned page = 0; page < assume_.l0_pages; ++page) {
            l0.map(l0_linear + page * x86::page_size_2m, page * x86::page_size_2m, PageSize::size_2m,
                   kernel_flags);
        }
        next = l1_tables + x86::page_size_4k;
        StructureEditor<PagingFormat, PhysicalMemory> l1(memory_, l1_tables, next);
        for (unsigned page = 0; page < assume_.l1_code; ++page) {
            const std::uint64_t offset = page * x86::page_size_4k;
            l1.map(l1_code_linear + offset, l1_frames + offset, PageSize::size_4k, kernel_flags);
            l1_touches_.push_back({l1_code_linear + offset, kernel_fetch});
        }
        for (unsigned page = 0; page < assume_.l1_data; ++page) {
            // Spread over L1's memory, as a kernel's data are.
            const std::uint64_t offset = page * (x86::page_size_4k * 7);
            l1.map(l1_data_linear + offset, l1_frames + 0x100'0000 + offset, PageSize::size_4k, kernel_flags);
            l1_touches_.push_back({l1_data_linear + offset, kernel_load});
        }
        next = ept01_tables + x86::page_size_4k;
        StructureEditor<EptFormat, PhysicalMemory> ept01(memory_, ept01_tables, next);
        for (std::uint64_t page = l1_tables; page < l1_frames + 0x200'0000; page += x86::page_size_2m) {
            ept01.map(page, page, PageSize::size_2m, ept_flags);
        }
    }

    void map_guest_physical(unsigned l2, std::uint64_t first, std::uint64_t bytes) {
        std::uint64_t& next = next_ept_table_[l2];
        StructureEditor<EptFormat, PhysicalMemory> ept(memory_, ept_tables + l2 * ept_bytes, next);
        const std::uint64_t step = page_bytes(assume_.ept_page);
        for (std::uint64_t page = page_base(first, assume_.ept_page); page < first + bytes; page += step) {
            ept.map(page, l2_frames + l2 * l2_memory + page, assume_.ept_page, ept_flags);
        }
    }

    void build_l2(unsigned l2) {
        next_ept_table_[l2] = ept_tables + l2 * ept_bytes + x86::page_size_4k;
        Shifted guest{memory_, l2_frames + l2 * l2_memory};
        for (unsigned process = 0; process < column_.processes; ++process) {
            const std::uint64_t root = table_frame + process * table_bytes;
            std::uint64_t next = root + x86::page_size_4k;
            StructureEditor<PagingFormat, Shifted> tables(guest, root, next);
            // Kernel code and the direct map are of large pages.
            tables.map(kernel_text, kernel_code_frame, PageSize::size_2m, kernel_flags);
            for (std::uint64_t page = kernel_data_frame; page < table_frame; page += x86::page_size_2m) {
                tables.map(direct_map + page, page, PageSize::size_2m, kernel_flags);
            }
            const std::uint64_t frames = user_frame + process * user_bytes;
            std::uint64_t frame = frames;
            const auto map_user = [&](std::uint64_t address, unsigned pages) {
                for (unsigned page = 0; page < pages; ++page, frame += x86::page_size_4k) {
                    tables.map(address + page * x86::page_size_4k, frame, PageSize::size_4k, user_flags);
                }
            };
            map_user(user_text, assume_.user_code);
            map_user(user_stack, assume_.user_data);
            map_user(user_heap, column_.kilobytes / 4);
            map_guest_physical(l2, frames, frame - frames);
            map_guest_physical(l2, root, next - root);
        }
        map_guest_physical(l2, kernel_code_frame, assume_.kernel_code * x86::page_size_4k);
        map_guest_physical(l2, kernel_data_frame, assume_.kernel_data * x86::page_size_4k * 5);
        map_guest_physical(l2, process_frame,
                           column_.processes * assume_.kernel_per_process * x86::page_size_4k * 3);
    }

    void build_touches(unsigned process) {
        std::vector<Touch>& leave = leave_.emplace_back();
        std::vector<Touch>& enter = enter_.emplace_back();
        const auto kernel = [&](std::vector<Touch>& touches, unsigned first, unsigned last) {
            for (unsigned page = first; page < last; ++page) {
                touches.push_back({kernel_text + page * x86::page_size_4k, kernel_fetch});
            }
        };
        const auto process_pages = [&](std::vector<Touch>& touches) {
            for (unsigned page = 0; page < assume_.kernel_per_process; ++page) {
                const std::uint64_t number = process * assume_.kernel_per_process + page;
                touches.push_back(
                    {direct_map + process_frame + number * (x86::page_size_4k * 3), kernel_load});
            }
        };
        // Writing the token and sleeping, then waking and reading it: each side runs most of the kernel's
        // part.
        kernel(leave, 0, assume_.kernel_code);
        for (unsigned page = 0; page < assume_.kernel_data; ++page) {
            leave.push_back({direct_map + kernel_data_frame + page * (x86::page_size_4k * 5), kernel_load});
        }
        process_pages(leave);
        process_pages(enter);
        kernel(enter, 0, assume_.kernel_code / 2);
        for (unsigned page = 0; page < assume_.user_code; ++page) {
            enter.push_back({user_text + page * x86::page_size_4k, user_fetch});
        }
        for (unsigned page = 0; page < assume_.user_data; ++page) {
            enter.push_back({user_stack + page * x86::page_size_4k, user_load});
        }
        for (unsigned page = 0; page < column_.kilobytes / 4; ++page) {
            enter.push_back({user_heap + page * x86::page_size_4k, user_load});
        }
    }

    Assumptions assume_;
    Policy policy_;
    Column column_;
    PhysicalMemory memory_;
    GeometricTlb tlb_;
    std::vector<Touch> l1_touches_;
    std::vector<std::vector<Touch>> leave_;
    std::vector<std::vector<Touch>> enter_;
    std::array<std::uint64_t, 32> next_ept_table_{};
    std::array<unsigned, 32> current_process_{};
    std::array<unsigned, 32> slot_of_{};
    std::vector<Slot> slots_;
    std::uint64_t clock_ = 0;
    int last_l2_ = -1;
    double exits_due_ = 0;
};

Price price_of(const TlbCounters& counters, std::uint64_t switches) {
    const auto per_switch = [switches](std::uint64_t count) {
        return static_cast<double>(count) / static_cast<double>(switches);
    };
    return {per_switch(counters.misses), per_switch(counters.walk_references), per_switch(counters.cycles)};
}

}  // namespace

std::string_view name_of(Policy policy) {
    switch (policy) {
        case Policy::mapped:
            return "mapped";
        case Policy::single:
            return "single";
        case Policy::shared:
            return "shared";
        case Policy::bare:
            return "bare";
    }
    return {};
}

std::string_view name_of(const Column& column) {
    constexpr std::array<std::string_view, 7> names = {"2p/0K",  "2p/16K",  "2p/64K", "8p/16K",
                                                       "8p/64K", "16p/16K", "16p/64K"};
    for (std::size_t index = 0; index < columns.size(); ++index) {
        if (columns[index].processes == column.processes && columns[index].kilobytes == column.kilobytes) {
            return names[index];
        }
    }
    return {};
}

Price context_switch(const TlbGeometry& geometry, Policy policy, const Column& column,
                     const Assumptions& assumptions) {
    Model model(geometry, policy, 1, column, assumptions);
    model.enter(0);
    const auto run = [&](std::uint64_t switches) {
        for (std::uint64_t count = 0; count < switches; ++count) {
            model.context_switch(0);
            while (model.exit_is_due()) model.exit_and_enter(0);
        }
    };
    // A whole number of exits is measured, whatever their rate.
    const std::uint64_t rings = std::uint64_t{assumptions.measured_rounds} * 16;
    run(rings / 4);
    const TlbCounters before = model.counters();
    run(rings);
    return price_of(model.counters() - before, rings);
}

Price taking_turns(const TlbGeometry& geometry, Policy policy, unsigned l2s, const Assumptions& assumptions) {
    Assumptions no_other_exits = assumptions;
    no_other_exits.exits_per_switch = 0;
    Model model(geometry, policy, l2s, {8, 16}, no_other_exits);
    unsigned current = 0;
    model.enter(current);
    const auto run = [&](std::uint64_t turns) {
        for (std::uint64_t turn = 0; turn < turns; ++turn) {
            for (unsigned count = 0; count < assumptions.switches_per_turn; ++count)
                model.context_switch(current);
            const unsigned next = (current + 1) % l2s;
            model.exit_and_enter(next);
            current = next;
        }
    };
    const std::uint64_t turns = std::uint64_t{assumptions.measured_rounds} * l2s;
    run(turns / 4);
    const TlbCounters before = model.counters();
    run(turns);
    return price_of(model.counters() - before, turns * assumptions.switches_per_turn);
}

}  // namespace flatback::machine::price
