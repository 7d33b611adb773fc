// EPT02: what L2's guest-physical addresses mean to the hardware. L1's EPT12 composed with L0's EPT01, filled
// lazily from EPT violations and forgotten when L1 executes INVEPT.
//
// It keeps several contexts, one an EP4TA of L1's, so that an L1 that alternates between EPTPs loses nothing.
// Two EPTPs with one EP4TA are one context (SDM 3C 29.4.2: guest-physical mappings are tagged by EP4TA).
// Entries are only ever added between invalidations, so that filling needs no hardware invalidation: the EPT
// violation itself dropped what the processor had cached for the address (SDM 3C 29.4.3.1).
//
// A violation also fills the neighbours that EPT12 maps: a processor may cache whatever the structures allow
// at any time (SDM 3C 29.4.2), and an exit costs far more than a few entries.
//
// Not shared between virtual CPUs.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "../../vmx/ept.hpp"
#include "../../x86/address.hpp"
#include "../../x86/words.hpp"
#include "../notice.hpp"
#include "../port.hpp"
#include "page_modification_log.hpp"
#include "table_pages.hpp"

namespace flatback::nested {

enum class EptAccess : std::uint8_t { read = 1, write = 2, execute = 4 };  // as exit-qualification bits 2:0

// What a guest-physical access of L2's comes to.
struct EptOutcome {
    enum class Kind : std::uint8_t {
        filled,            // EPT02 now allows it
        overtaken,         // another processor of L1's kept changing EPT12 under the walk: L2 is to ask again
        unwritable,        // it does, until close_unwritable(): a write to what host_mapping() keeps from it
        violation,         // L1's EPT12 does not: L1 is to see an EPT violation
        log_full,          // L1's page-modification log has no room for it
        misconfiguration,  // EPT12 holds an entry that the SDM forbids
        out_of_memory,     // no page for a table, even with every context emptied
    };
    Kind kind;
    std::uint8_t permissions = 0;  // of EPT12 for this address, RWX in bits 2:0; 0 where not present
    unsigned page_shift = 12;      // violation: how much the EPT12 entry that does not allow it stands for
    bool wrote_ept12 = false;      // accessed or dirty flags were set there
};

template <Port P>
class Ept02 final {
public:
    static constexpr unsigned context_count = 16;
    static constexpr unsigned most_walks = 16;  // of one access

    struct Limits {
        unsigned physical_address_width;  // L1's MAXPHYADDR
        // As L1 was promised: no larger pages than the hardware takes.
        vmx::EptVpidCapability ept_vpid;
    };

    Ept02(P& port, const Limits& limits) : port_(port), limits_(limits), free_(port) {}
    Ept02(const Ept02&) = delete;
    Ept02& operator=(const Ept02&) = delete;

    static constexpr vmx::Eptp no_pointer{0};

    // Where EPT12 alone leads, with its accessed and dirty flags: for L0's own accesses in L2's place.
    struct Reached {
        EptOutcome::Kind kind;  // filled, violation, log_full, misconfiguration or overtaken
        std::uint8_t permissions = 0;
        unsigned page_shift = 12;
        x86::Gpa<x86::L1> address{};
    };
    // log: L1's, where it keeps one.
    [[nodiscard]] Reached reach(vmx::Eptp eptp12, x86::Gpa<x86::L2> guest_physical, std::uint8_t access,
                                PageModificationLog<P>* log);

    // The hardware's EPTP for L1's; no_pointer where memory for a root is out. eptp12 has been checked.
    [[gnu::always_inline]] vmx::Eptp pointer_for(vmx::Eptp eptp12) {
        const std::uint64_t ep4ta = eptp12.root();
        const bool accessed_dirty = eptp12.enables_accessed_dirty();
        ++clock_;
        // Mostly it is the last one.
        if (current_ != nullptr && current_->ep4ta12 == ep4ta && current_->accessed_dirty == accessed_dirty &&
            current_->root.value() != 0) [[likely]] {
            current_->last_used = clock_;
            return pointer(*current_);
        }
        return pointer_for_another(ep4ta, accessed_dirty);
    }

    // An EPT violation at `guest_physical` under the context of the last pointer_for(). access: RWX bits 2:0.
    // log: L1's, where it keeps one.
    EptOutcome resolve(vmx::Eptp eptp12, x86::Gpa<x86::L2> guest_physical, std::uint8_t access,
                       PageModificationLog<P>* log);

    // L1 gets to see a violation at the address: what was filled for it is forgotten, as the processor
    // forgets what it has cached (SDM 3C 29.4.3.1). L1 may then map it otherwise without INVEPT. page_shift:
    // of the EPT12 entry that the processor would have cached whole, and EPT02 may have in pieces.
    //
    // Pieces go with the entry above them, however many they are: L1 decides how much it lets one exit drop.
    // Their tables stay the context's, unreachable, and are used again when it is emptied.
    void forget(x86::Gpa<x86::L2> guest_physical, unsigned page_shift) {
        TableEntries table{port_.page(current_->root)};
        for (unsigned level = 4;; --level) {
            const unsigned index = x86::table_index(guest_physical, level);
            const std::uint64_t entry = table[index];
            if (!vmx::ept_entry::is_present(entry)) return;
            if (vmx::ept_entry::is_leaf(entry, level)) {
                table.erase(index);  // the processor has dropped its copy
                return;
            }
            if (12 + 9 * (level - 1) <= page_shift) {
                table.erase(index);
                flush(*current_, tag::FlushCause::ept_translation_dropped);
                return;
            }
            table = TableEntries{port_.page(x86::Hpa{vmx::ept_entry::table_address(entry)})};
        }
    }

    // Of every Kind::unwritable since this was last called: EPT02 forgets it.
    void close_unwritable() {
        for (; unwritable_used_ != 0; --unwritable_used_) {
            const x86::Gpa<x86::L2> address = unwritable_[unwritable_used_ - 1];
            TableEntries table{port_.page(current_->root)};
            for (unsigned level = 4;; --level) {
                const unsigned index = x86::table_index(address, level);
                const std::uint64_t entry = table[index];
                if (!vmx::ept_entry::is_present(entry)) break;
                if (vmx::ept_entry::is_leaf(entry, level)) {
                    table.erase(index);
                    break;
                }
                table = TableEntries{port_.page(x86::Hpa{vmx::ept_entry::table_address(entry)})};
            }
        }
        flush(*current_, tag::FlushCause::ept_translation_dropped);
    }

    // A page for the host's or the engine's other needs when memory is out, at the cost of what was filled.
    // Not while L2 is about to run.
    [[gnu::noinline, gnu::cold]] std::optional<x86::Hpa> give_page() {
        if (auto page = take_page()) return page;
        if (current_ == nullptr) return std::nullopt;
        empty(*current_, tag::FlushCause::ept_memory_out);
        return new_table();
    }

    // INVEPT of one EP4TA, and of all: what was filled is forgotten and the hardware's copies dropped.
    void invalidate(vmx::Eptp eptp12) {
        const std::uint64_t root = eptp12.root();
        if (current_ != nullptr && current_->ep4ta12 == root)
            return empty(*current_, tag::FlushCause::l1_invept_single_context);  // mostly it is this one
        for (unsigned i = 0; i < contexts_used_; ++i) {
            if (contexts_[i].ep4ta12 == root)
                return empty(contexts_[i], tag::FlushCause::l1_invept_single_context);
        }
    }
    void invalidate_all(tag::FlushCause cause = tag::FlushCause::l1_invept_all_contexts) {
        for (std::uint32_t rest = filled_; rest != 0; rest &= rest - 1) {
            empty(contexts_[static_cast<unsigned>(__builtin_ctz(rest))], cause);
        }
    }
    // EPT01 changed: nothing made of it may be used.
    void forget_host() {
        invalidate_all(tag::FlushCause::ept_contexts_stale);
        block_ = {};
    }
    // Every context that ever had a root, for a host that must reach them all (rules 5 and 6 of
    // docs/tags.md): this CPU may hold something of one that was emptied on another.
    void flush_hardware(tag::FlushCause cause) {
        for (unsigned i = 0; i < contexts_used_; ++i) {
            if (contexts_[i].root.value() != 0) flush(contexts_[i], cause);
        }
    }

    [[nodiscard]] std::uint64_t leaves_filled() const { return leaves_filled_; }
    [[nodiscard]] std::uint64_t hardware_invepts() const { return hardware_invepts_; }
    [[nodiscard]] std::uint64_t pages_in_use() const {
        std::uint64_t pages = 0;
        for (const Context& context : contexts_) {
            if (context.root.value() != 0) pages += 1 + (context.tables ? context.tables->count() : 0);
        }
        return pages;
    }

private:
    static constexpr unsigned root_entries = x86::entries_per_table;
    struct Context {
        std::uint64_t ep4ta12 = ~std::uint64_t{0};
        bool accessed_dirty = false;
        x86::Hpa root{};
        std::uint64_t last_used = 0;
        // The root's entries that may be present: guests use few.
        unsigned first_used = root_entries;
        unsigned end_used = 0;
        std::optional<TablePages<P>> tables;
    };

    // The last pair of level-1 tables: what a processor's paging-structure cache would hold. Dropped with
    // every invalidation, and wherever L1 gets to see a violation, as the processor drops its own then.
    struct RecentTables {
        const Context* context = nullptr;
        std::uint64_t region = 0;  // guest-physical address / 2 MB
        std::uint64_t* table12 = nullptr;
        std::uint64_t* table02 = nullptr;
        std::uint8_t permissions = 0;  // of the levels above
    };
    // A piece of L1's memory that EPT01 maps in one piece.
    struct HostBlock {
        std::uint64_t start = 0;
        std::uint64_t size = 0;
        std::uint64_t host = 0;
        x86::MemoryType memory_type{};
        std::uint64_t permissions = 0;
        std::uint8_t page_shift = 12;
    };
    // As many as one instruction may need at once, and more.
    static constexpr unsigned most_unwritable = 32;
    static constexpr unsigned neighbours = 16;  // an aligned group of entries: two cache lines

    // What makes entries of EPT02 of those of one level-1 table of EPT12: nothing of it changes from one to
    // the next.
    struct Filling {
        const std::uint64_t* table12;
        std::uint64_t start;  // of the block, in L1's memory
        std::uint64_t size;
        std::uint64_t host;         // and in the host's, with the bits that every entry gets
        std::uint64_t permissions;  // of the levels above, and of the block
        std::uint64_t kept;         // the bits of EPT12's entry that EPT02's has too

        template <bool AccessedDirty>
        [[nodiscard]] std::uint64_t entry(unsigned index, std::uint8_t access) const;
    };
    [[nodiscard]] Filling filling(bool accessed_dirty) const;
    template <bool AccessedDirty>
    [[nodiscard]] bool fill_recent(unsigned index, std::uint8_t access);
    template <bool AccessedDirty>
    void fill_neighbours(const Filling& filling, unsigned index);
    const HostBlock& host_block(x86::Gpa<x86::L1> address) {
        if (address.value() - block_.start >= block_.size) {
            const HostMapping mapping = port_.host_mapping(address);
            const std::uint64_t size = std::uint64_t{1} << mapping.page_shift;
            block_ = {.start = address.value() & ~(size - 1),
                      .size = size,
                      .host = mapping.address.value() & ~(size - 1),
                      .memory_type = mapping.memory_type,
                      .permissions =
                          vmx::ept_entry::permissions & ~(mapping.writable   ? std::uint64_t{0}
                                                          : mapping.readable ? vmx::ept_entry::write
                                                                             : vmx::ept_entry::permissions),
                      .page_shift = static_cast<std::uint8_t>(mapping.page_shift)};
        }
        return block_;
    }
    static constexpr std::uint64_t l1s_memory_type =
        vmx::ept_entry::memory_type_mask | vmx::ept_entry::ignore_pat;
    static std::uint64_t leaf_type(const HostBlock& block, std::uint64_t entry12) {
        // Where EPT01 says write-back, L1's choice holds; else the device's memory type wins over anything L1
        // asked for.
        return block.memory_type == x86::MemoryType::write_back
                   ? entry12 & l1s_memory_type
                   : vmx::ept_entry::memory_type(block.memory_type);
    }

    struct Walk12 {
        EptOutcome::Kind kind;
        std::uint8_t permissions;
        bool writable_now;              // false: a write must come back here, to set the dirty flag
        std::uint8_t memory_type_bits;  // bits 6:3 of the leaf: memory type, ignore PAT
        unsigned page_shift;
        x86::Gpa<x86::L1> address;
        std::uint64_t* table1 = nullptr;     // the level-1 table, where there is one
        std::uint8_t permissions_above = 0;  // of the levels above it
        bool wrote_flags = false;
    };
    template <bool AccessedDirty>
    Walk12 walk_ept12(vmx::Eptp eptp12, x86::Gpa<x86::L2> guest_physical, std::uint8_t access,
                      PageModificationLog<P>* log);

    vmx::Eptp pointer(const Context& context) const {
        return vmx::Eptp::make(context.root.value(), x86::MemoryType::write_back, context.accessed_dirty);
    }
    [[gnu::noinline]] vmx::Eptp pointer_for_another(std::uint64_t ep4ta, bool accessed_dirty) {
        Context& context = context_for(ep4ta, accessed_dirty);
        current_ = &context;
        if (context.root.value() == 0) {
            const auto root = take_page();
            if (!root) return no_pointer;
            context.root = *root;
        }
        return pointer(context);
    }
    Context& context_for(std::uint64_t ep4ta, bool accessed_dirty) {
        Context* oldest = nullptr;
        for (unsigned i = 0; i < contexts_used_; ++i) {
            Context& context = contexts_[i];
            if (context.ep4ta12 == ep4ta) {
                // Entries filled without accessed and dirty flags may not serve an EPTP that asks for them,
                // nor the other way round.
                if (context.accessed_dirty != accessed_dirty) {
                    if (context.root.value() != 0) empty(context, tag::FlushCause::ept_context_flags_changed);
                    context.accessed_dirty = accessed_dirty;
                }
                context.last_used = clock_;
                return context;
            }
            if (oldest == nullptr || context.last_used < oldest->last_used) oldest = &context;
        }
        if (contexts_used_ < context_count) oldest = &contexts_[contexts_used_++];
        if (oldest->root.value() != 0) empty(*oldest, tag::FlushCause::ept_context_replaced);
        oldest->ep4ta12 = ep4ta;
        oldest->accessed_dirty = accessed_dirty;
        oldest->last_used = clock_;
        return *oldest;
    }

    void flush(const Context& context, tag::FlushCause cause) {
        ++hardware_invepts_;
        invept_because(port_, vmx::InveptType::single_context, pointer(context), cause);
    }
    [[nodiscard]] std::uint32_t bit_of(const Context& context) const {
        return std::uint32_t{1} << static_cast<unsigned>(&context - contexts_.data());
    }
    void empty(Context& context, tag::FlushCause cause) {
        recent_.context = nullptr;
        if (context.end_used == 0) return;  // never filled, so nothing can be cached of it
        auto* root = port_.page(context.root);
        for (unsigned i = context.first_used; i < context.end_used; ++i) root[i] = 0;
        filled_ &= ~bit_of(context);
        context.first_used = root_entries;
        context.end_used = 0;
        flush(context, cause);  // before any of its tables can become something else
        if (context.tables) free_.join(*context.tables);
    }

    std::optional<x86::Hpa> new_table() {
        if (spare_) return std::exchange(spare_, std::nullopt);
        if (auto page = free_.pop()) return page;
        return port_.allocate_page();
    }
    // A table for the current context.
    std::optional<x86::Hpa> take_table() {
        if (!current_->tables) current_->tables.emplace(port_);
        const auto page = take_page();
        if (page && !current_->tables->push(*page, [this] { return take_page(); })) {
            spare_ = page;  // still zeroed
            return std::nullopt;
        }
        return page;
    }
    // An empty page. Where memory is out, the contexts but the current one give their tables, the oldest
    // first.
    std::optional<x86::Hpa> take_page() {
        while (true) {
            if (auto page = new_table()) return page;
            Context* oldest = nullptr;
            for (Context& context : contexts_) {
                const bool has_tables = context.tables && context.tables->count() != 0;
                if (&context == current_ || !has_tables) continue;
                if (oldest == nullptr || context.last_used < oldest->last_used) oldest = &context;
            }
            if (oldest == nullptr) return std::nullopt;
            empty(*oldest, tag::FlushCause::ept_memory_out);
        }
    }

    P& port_;
    Limits limits_;
    std::array<Context, context_count> contexts_;
    std::uint32_t filled_ = 0;  // a bit for each of contexts_ that has an entry in its root
    RecentTables recent_;
    HostBlock block_;
    unsigned contexts_used_ = 0;  // from the front, ever used
    Context* current_ = nullptr;
    TablePages<P> free_;
    std::optional<x86::Hpa> spare_;
    std::array<x86::Gpa<x86::L2>, most_unwritable> unwritable_{};  // in the current context
    unsigned unwritable_used_ = 0;
    std::uint64_t clock_ = 0;
    std::uint64_t leaves_filled_ = 0;
    std::uint64_t hardware_invepts_ = 0;
};

template <Port P>
template <bool AccessedDirty>
typename Ept02<P>::Walk12 Ept02<P>::walk_ept12(vmx::Eptp eptp12, x86::Gpa<x86::L2> guest_physical,
                                               std::uint8_t access,
                                               [[maybe_unused]] PageModificationLog<P>* log) {
    using Kind = EptOutcome::Kind;
    std::uint64_t table = eptp12.root();
    std::uint8_t permissions = 7;
    struct Step {
        std::uint64_t* slot;
        std::uint64_t entry;
    };
    [[maybe_unused]] std::array<Step, 4> path;  // from the level on at which the walk is
    for (unsigned level = 4;; --level) {
        const unsigned shift = 12 + 9 * (level - 1);
        auto* page = port_.l1_page(x86::Gpa<x86::L1>{table});
        if (page == nullptr) return {Kind::misconfiguration, 0, false, 0, 0, {}};
        auto* slot = reinterpret_cast<std::uint64_t*>(page) + ((guest_physical.value() >> shift) & 511);
        const std::uint64_t entry = x86::read_word(slot);
        if ((entry & vmx::ept_entry::permissions) == 0) return {Kind::violation, 0, false, 0, shift, {}};
        if (vmx::is_ept_misconfigured(entry, level, limits_.ept_vpid, limits_.physical_address_width)) {
            return {Kind::misconfiguration, 0, false, 0, 0, {}};
        }
        const std::uint8_t permissions_above = permissions;
        permissions = static_cast<std::uint8_t>(permissions & entry & vmx::ept_entry::permissions);
        if constexpr (AccessedDirty) path[level - 1] = {slot, entry};
        const bool leaf = level == 1 || (level <= 3 && (entry & vmx::ept_entry::page_size) != 0);
        if (!leaf) {
            table = entry & vmx::ept_entry::address_mask;
            continue;
        }
        if ((access & ~permissions) != 0) return {Kind::violation, permissions, false, 0, shift, {}};
        bool writable_now = (permissions & 2) != 0;
        bool wrote_flags = false;
        if constexpr (AccessedDirty) {  // SDM 3C 29.3.5
            for (unsigned l = level; l <= 4; ++l) {
                std::uint64_t flags = vmx::ept_entry::accessed;
                if (l == level && (access & 2) != 0) flags |= vmx::ept_entry::dirty;
                if ((path[l - 1].entry & flags) == flags) continue;
                // SDM 3C 29.3.6: the index is looked at before a flag is set, and a dirty flag is noted.
                if (log != nullptr && !wrote_flags && log->is_full()) [[unlikely]]
                    return {Kind::log_full, 0, false, 0, shift, {}};
                if (!x86::set_bits(path[l - 1].slot, path[l - 1].entry, flags))
                    return {Kind::overtaken, 0, false, 0, shift, {}, nullptr, 0, true};
                wrote_flags = true;
                if (log != nullptr && (flags & ~path[l - 1].entry & vmx::ept_entry::dirty) != 0) [[unlikely]]
                    log->note(guest_physical);
            }
            writable_now = writable_now && ((entry & vmx::ept_entry::dirty) != 0 || (access & 2) != 0);
        }
        const std::uint64_t in_page = (std::uint64_t{1} << shift) - 1;
        return {Kind::filled,
                permissions,
                writable_now,
                static_cast<std::uint8_t>(entry &
                                          (vmx::ept_entry::memory_type_mask | vmx::ept_entry::ignore_pat)),
                shift,
                x86::Gpa<x86::L1>{(entry & vmx::ept_entry::address_mask & ~in_page) |
                                  (guest_physical.value() & in_page)},
                level == 1 ? reinterpret_cast<std::uint64_t*>(page) : nullptr,
                permissions_above,
                wrote_flags};
    }
}

// EPT02's entry for one of EPT12's. access 0: a neighbour, which nothing has accessed. 0: not the plain case.
// An address in the block is one that L1's physical addresses reach.
template <Port P>
template <bool AccessedDirty>
[[gnu::always_inline]] inline std::uint64_t Ept02<P>::Filling::entry(unsigned index,
                                                                     std::uint8_t access) const {
    namespace bit = vmx::ept_entry;
    const std::uint64_t entry = x86::read_word(&table12[index]);
    const std::uint64_t offset = (entry & bit::address_mask) - start;
    if ((entry & bit::read) == 0 || offset >= size ||
        !vmx::is_valid_ept_memory_type((entry >> bit::memory_type_shift) & 7) ||
        (access & ~(entry & permissions)) != 0) {
        return 0;
    }
    std::uint64_t bits = entry & kept;
    if constexpr (AccessedDirty) {  // only where nothing has to be set in EPT12
        if ((entry & bit::accessed) == 0) return 0;
        if ((entry & bit::dirty) == 0) {
            if ((access & bit::write) != 0) return 0;
            bits &= ~bit::write;
        }
    }
    return (host + offset) | bits;
}

template <Port P>
typename Ept02<P>::Filling Ept02<P>::filling(bool accessed_dirty) const {
    namespace bit = vmx::ept_entry;
    const bool write_back = block_.memory_type == x86::MemoryType::write_back;
    const std::uint64_t permissions = recent_.permissions & block_.permissions;
    return {.table12 = recent_.table12,
            .start = block_.start,
            .size = block_.size,
            .host = block_.host | (write_back ? 0 : bit::memory_type(block_.memory_type)),
            .permissions = permissions,
            .kept = permissions | (write_back ? l1s_memory_type : 0) |
                    (accessed_dirty ? bit::accessed | bit::dirty : 0)};
}

template <Port P>
template <bool AccessedDirty>
[[gnu::always_inline]] inline void Ept02<P>::fill_neighbours(const Filling& filling, unsigned index) {
    std::uint64_t* const table02 = recent_.table02;
    std::uint64_t filled = 0;
    const unsigned first = index & ~(neighbours - 1);
    for (unsigned i = first; i < first + neighbours; ++i) {
        if (vmx::ept_entry::is_present(table02[i])) continue;
        if (const std::uint64_t entry = filling.template entry<AccessedDirty>(i, 0)) {
            table02[i] = entry;
            ++filled;
        }
    }
    static_assert(TableEntries::group % neighbours == 0);
    TableEntries{table02}.note_written(first);
    leaves_filled_ += filled;
}

// By the recent tables. False: not the plain case.
template <Port P>
template <bool AccessedDirty>
bool Ept02<P>::fill_recent(unsigned index, std::uint8_t access) {
    const Filling by = filling(AccessedDirty);
    if (access != 0) {
        const std::uint64_t entry = by.template entry<AccessedDirty>(index, access);
        if (entry == 0) return false;
        recent_.table02[index] = entry;
        ++leaves_filled_;
    }
    fill_neighbours<AccessedDirty>(by, index);
    return true;
}

template <Port P>
typename Ept02<P>::Reached Ept02<P>::reach(vmx::Eptp eptp12, x86::Gpa<x86::L2> guest_physical,
                                           std::uint8_t access, PageModificationLog<P>* log) {
    for (unsigned n = 0; n < most_walks; ++n) {
        const Walk12 walk = eptp12.enables_accessed_dirty()
                                ? walk_ept12<true>(eptp12, guest_physical, access, log)
                                : walk_ept12<false>(eptp12, guest_physical, access, log);
        if (walk.kind != EptOutcome::Kind::overtaken)
            return {walk.kind, walk.permissions, walk.page_shift, walk.address};
    }
    return {EptOutcome::Kind::overtaken};
}

template <Port P>
EptOutcome Ept02<P>::resolve(vmx::Eptp eptp12, x86::Gpa<x86::L2> guest_physical, std::uint8_t access,
                             PageModificationLog<P>* log) {
    const bool accessed_dirty = eptp12.enables_accessed_dirty();
    const unsigned index1 = x86::table_index(guest_physical, 1);
    const auto fill = [&](std::uint8_t accessed) {
        return accessed_dirty ? fill_recent<true>(index1, accessed) : fill_recent<false>(index1, accessed);
    };
    if (recent_.context == current_ && recent_.region == guest_physical.value() >> 21 && fill(access))
        [[likely]]
        return {EptOutcome::Kind::filled};

    recent_.context = nullptr;
    const auto walk_once = [&] {
        return accessed_dirty ? walk_ept12<true>(eptp12, guest_physical, access, log)
                              : walk_ept12<false>(eptp12, guest_physical, access, log);
    };
    Walk12 walk = walk_once();
    bool wrote_flags = walk.wrote_flags;
    // Each time somebody else got further; but L0's time is not theirs to spend.
    for (unsigned n = 1; walk.kind == EptOutcome::Kind::overtaken && n < most_walks; ++n) [[unlikely]] {
            walk = walk_once();
            wrote_flags = true;
        }
    if (walk.kind != EptOutcome::Kind::filled)
        return {walk.kind, walk.permissions, walk.page_shift, wrote_flags};
    const HostBlock& block = host_block(walk.address);
    unsigned shift = std::min<unsigned>(block.page_shift, walk.page_shift);

    const std::uint64_t host = block.host + (walk.address.value() - block.start);
    std::uint64_t leaf = host & ~((std::uint64_t{1} << shift) - 1);
    const bool vanishes = (access & ~block.permissions) != 0;
    // What may be written must be readable (SDM 3C 29.3.3.1).
    leaf |= walk.permissions & (walk.writable_now ? 7U : 5U) &
            (block.permissions | access | (vanishes ? vmx::ept_entry::read : 0));
    if (vanishes) {
        if (unwritable_used_ == most_unwritable) close_unwritable();
        unwritable_[unwritable_used_++] = guest_physical;
    }
    leaf |= leaf_type(block, walk.memory_type_bits);
    if constexpr (requires { port_.page_for_write(walk.address); }) {
        if (vanishes) {
            const HostMapping page = port_.page_for_write(walk.address);
            leaf = (leaf & ~(vmx::ept_entry::address_mask | l1s_memory_type)) |
                   (page.address.value() & ~(x86::page_size_4k - 1)) |
                   vmx::ept_entry::memory_type(page.memory_type) | vmx::ept_entry::ignore_pat;
            shift = 12;
        }
    }
    if (shift != 12) leaf |= vmx::ept_entry::page_size;
    if (accessed_dirty) leaf |= vmx::ept_entry::accessed | ((access & 2) != 0 ? vmx::ept_entry::dirty : 0);

    const unsigned leaf_level = (shift - 12) / 9 + 1;
    // Where all memory is in this very context, it is emptied and tried once more.
    for (unsigned attempt = 0; attempt < 2; ++attempt) {
        TableEntries table{port_.page(current_->root)};
        for (unsigned level = 4;; --level) {
            const unsigned index = x86::table_index(guest_physical, level);
            if (level == 4) {
                filled_ |= bit_of(*current_);
                current_->first_used = std::min(current_->first_used, index);
                current_->end_used = std::max(current_->end_used, index + 1);
            }
            if (level == leaf_level) {
                table.set(index, leaf);
                ++leaves_filled_;
                if (level == 1 && walk.table1 != nullptr) {
                    recent_ = {current_, guest_physical.value() >> 21, walk.table1, table.words(),
                               walk.permissions_above};
                    (void)fill(0);
                }
                return {vanishes ? EptOutcome::Kind::unwritable : EptOutcome::Kind::filled, walk.permissions,
                        shift, wrote_flags};
            }
            if ((table[index] & vmx::ept_entry::permissions) == 0 ||
                (table[index] & vmx::ept_entry::page_size) != 0) {
                const auto next = take_table();
                if (!next) {
                    empty(*current_, tag::FlushCause::ept_memory_out);
                    break;
                }
                table.set(index, next->value() | vmx::ept_entry::permissions |
                                     (accessed_dirty ? vmx::ept_entry::accessed : 0));
            }
            table = TableEntries{port_.page(x86::Hpa{table[index] & vmx::ept_entry::address_mask})};
        }
    }
    return {EptOutcome::Kind::out_of_memory, walk.permissions};
}

}  // namespace flatback::nested
