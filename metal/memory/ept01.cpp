#include "metal/memory/ept01.hpp"

#include <algorithm>
#include <cstring>

#include "metal/ground/panic.hpp"
#include "metal/memory/address_space.hpp"
#include "metal/memory/page_pool.hpp"
#include "vmx/ept.hpp"
#include "x86/paging.hpp"

namespace flatback::metal {

namespace bits = vmx::ept_entry;
using x86::bytes_per_entry;

namespace {

std::uint64_t leaf(std::uint64_t address, unsigned level, x86::MemoryType type) {
    return address | bits::permissions | bits::memory_type(type) | (level > 1 ? bits::page_size : 0);
}

}  // namespace

Ept01::Ept01(PagePool& pages, const MemoryTypes& types, PhysicalRange l0_region, const Processor& processor)
    : pages_(pages),
      types_(types),
      l0_region_(l0_region),
      levels_(processor.physical_address_width > 48 &&
                      processor.capabilities.ept_vpid.has(vmx::EptVpidCapability::walk_length_5)
                  ? 5
                  : 4),
      largest_leaf_(processor.capabilities.ept_vpid.has(vmx::EptVpidCapability::page_1g) ? 3 : 2),
      accessed_dirty_(processor.capabilities.ept_vpid.has(vmx::EptVpidCapability::accessed_dirty)),
      size_(std::uint64_t{1} << std::min(processor.physical_address_width, 12 + 9 * levels_)),
      root_(new_table()),
      pml4_(levels_ == 5 ? child_table(root_[0]) : root_) {
    scratch_ = physical_of(pages_.allocate_page_or_panic("the page that stands for L0's memory"));
    other_hole_page_ = physical_of(pages_.allocate_page_or_panic("the page that stands for one of L1's"));
    refill_holes();
    hole_table_ = new_table();
    std::fill_n(hole_table_, x86::entries_per_table, leaf(scratch_.value(), 1, x86::MemoryType::write_back));
    fill(child_table(pml4_[0]), 3, 0);
    if (size_ > permanent_size) {
        for (std::uint64_t*& table : touched_tables_) table = new_table();
    }
}

std::uint64_t* Ept01::new_table() {
    return static_cast<std::uint64_t*>(pages_.allocate_page_or_panic("the EPT of L1"));
}

std::uint64_t* Ept01::child_table(std::uint64_t& entry) {
    if (!bits::is_present(entry)) entry = physical_of(new_table()).value() | bits::permissions;
    return direct_map_as<std::uint64_t>(x86::Hpa{bits::table_address(entry)});
}

// The table of this level maps the guest-physical addresses from `start` on.
void Ept01::fill(std::uint64_t* table, unsigned level, std::uint64_t start) {
    const std::uint64_t step = bytes_per_entry(level);
    for (unsigned index = 0; index < x86::entries_per_table; ++index) {
        const std::uint64_t address = start + index * step;
        if (address >= size_) return;
        const PhysicalRange range{address, address + step};
        if (level == 2 && l0_region_.contains(range)) {
            table[index] = physical_of(hole_table_).value() | bits::read | bits::execute;
            continue;
        }
        const auto type = types_.type_of(address, step);
        if (type && level <= largest_leaf_ && !l0_region_.overlaps(range)) {
            table[index] = leaf(address, level, *type);
        } else if (level > 1) {
            fill(child_table(table[index]), level - 1, address);
        } else {
            panic("no memory type, or a part of L0's memory, at ", log::hex(address),
                  " while the EPT of L1 is built");
        }
    }
}

std::uint64_t* Ept01::spare_table(std::uint64_t& entry) {
    if (!bits::is_present(entry)) {
        if (touched_tables_used_ == touched_tables_.size()) return nullptr;
        std::uint64_t* table = touched_tables_[touched_tables_used_++];
        std::memset(table, 0, x86::page_size_4k);
        entry = physical_of(table).value() | bits::permissions;
    }
    return direct_map_as<std::uint64_t>(x86::Hpa{bits::table_address(entry)});
}

Ept01::Touched Ept01::touch(std::uint64_t address) {
    if (address < permanent_size || address >= size_) return Touched::outside;
    if (fill_touched(address)) return Touched::filled;
    give_up_touched();
    static_cast<void>(fill_touched(address));  // it fits where nothing else is
    return Touched::filled_instead;
}

bool Ept01::fill_touched(std::uint64_t address) {
    constexpr unsigned gigabyte_level = 3;
    std::uint64_t* table = root_;
    for (unsigned level = levels_; level > gigabyte_level; --level) {
        table = spare_table(table[x86::table_index(address, level)]);
        if (table == nullptr) return false;
    }
    std::uint64_t& entry = table[x86::table_index(address, gigabyte_level)];
    if (bits::is_present(entry)) return true;
    const std::uint64_t start = address & ~(x86::page_size_1g - 1);
    const auto type = types_.type_of(start, x86::page_size_1g);
    if (type && largest_leaf_ == gigabyte_level) {
        entry = leaf(start, gigabyte_level, *type);
        return true;
    }
    table = spare_table(entry);
    if (table == nullptr) return false;
    fill_touched_table(table, gigabyte_level - 1, start);
    return true;
}

// Where the MTRRs are so mixed that no table is left, the piece is uncacheable: always right, only slow.
void Ept01::fill_touched_table(std::uint64_t* table, unsigned level, std::uint64_t start) {
    const std::uint64_t step = bytes_per_entry(level);
    for (unsigned index = 0; index < x86::entries_per_table; ++index) {
        const std::uint64_t address = start + index * step;
        const auto type = types_.type_of(address, step);
        if (!type && level > 1) {
            if (std::uint64_t* below = spare_table(table[index])) {
                fill_touched_table(below, level - 1, address);
                continue;
            }
        }
        table[index] = leaf(address, level, type.value_or(x86::MemoryType::uncacheable));
    }
}

void Ept01::give_up_touched() {
    std::fill_n(root_ + 1, x86::entries_per_table - 1, 0);
    std::fill_n(pml4_ + 1, x86::entries_per_table - 1, 0);
    touched_tables_used_ = 0;
}

// What touch() would make of it.
HostMapping Ept01::untouched(std::uint64_t address) const {
    for (unsigned level = largest_leaf_;; --level) {
        const std::uint64_t size = bytes_per_entry(level);
        const auto type = types_.type_of(address & ~(size - 1), size);
        if (!type && level > 1) continue;
        return HostMapping{.address = x86::Hpa{address},
                           .page_shift = 12 + 9 * (level - 1),
                           .memory_type = type.value_or(x86::MemoryType::uncacheable),
                           .is_hole = false};
    }
}

void Ept01::open_holes(bool open) {
    for (std::uint64_t address = l0_region_.start; address < l0_region_.end; address += x86::page_size_2m) {
        std::uint64_t* table = pml4_;
        for (unsigned level = x86::paging_levels; level > 2; --level) {
            table = direct_map_as<std::uint64_t>(
                x86::Hpa{bits::table_address(table[x86::table_index(address, level)])});
        }
        std::uint64_t& entry = table[x86::table_index(address, 2)];
        entry = open ? entry | bits::write : entry & ~bits::write;
    }
    if (other_hole_ != nullptr && bits::page_address(*other_hole_, 1) == other_hole_page_.value())
        *other_hole_ = open ? *other_hole_ | bits::write : *other_hole_ & ~bits::write;
    if (!open) refill_holes();
}

void Ept01::refill_holes() {
    std::memset(direct_map(scratch_), 0xFF, x86::page_size_4k);
    std::memset(direct_map(other_hole_page_), 0xFF, x86::page_size_4k);
}

void Ept01::make_hole(std::uint64_t& leaf) {
    leaf = other_hole_page_.value() | bits::read | bits::execute |
           bits::memory_type(x86::MemoryType::write_back);
    other_hole_ = &leaf;
}

vmx::Eptp Ept01::pointer() const {
    return vmx::Eptp::make(physical_of(root_).value(), x86::MemoryType::write_back, accessed_dirty_, levels_);
}

std::optional<HostMapping> Ept01::lookup(x86::Gpa<x86::L1> address) const {
    if (address.value() >= size_) return std::nullopt;
    if (address.value() >= permanent_size) return untouched(address.value());
    const std::uint64_t* table = pml4_;
    for (unsigned level = x86::paging_levels;; --level) {
        const std::uint64_t entry = table[x86::table_index(address, level)];
        if (!bits::is_present(entry)) return std::nullopt;
        if (bits::is_leaf(entry, level)) {
            const std::uint64_t offset = address.offset_in(bytes_per_entry(level));
            return HostMapping{.address = x86::Hpa{bits::page_address(entry, level) + offset},
                               .page_shift = 12 + 9 * (level - 1),
                               .memory_type = bits::memory_type_of(entry),
                               .is_hole = l0_region_.contains(address.value()) ||
                                          bits::page_address(entry, level) == other_hole_page_.value()};
        }
        table = direct_map_as<const std::uint64_t>(x86::Hpa{bits::table_address(entry)});
        if ((entry & split_mark) != 0) {
            // A large page in pieces: what its first piece says holds for all of it.
            std::uint64_t first = table[0];
            unsigned at = level - 1;
            for (; !bits::is_leaf(first, at); --at) {
                first = *direct_map_as<const std::uint64_t>(x86::Hpa{bits::table_address(first)});
            }
            return HostMapping{.address = x86::Hpa{bits::page_address(first, at) +
                                                   address.offset_in(bytes_per_entry(level))},
                               .page_shift = 12 + 9 * (level - 1),
                               .memory_type = bits::memory_type_of(first),
                               .is_hole = false};
        }
    }
}

std::uint64_t* Ept01::leaf_of_4k(x86::Gpa<x86::L1> address, Use use) {
    if (address.value() >= std::min(size_, permanent_size) || l0_region_.contains(address.value()))
        return nullptr;
    std::uint64_t* table = pml4_;
    for (unsigned level = x86::paging_levels; level > 1; --level) {
        std::uint64_t& entry = table[x86::table_index(address, level)];
        if (!bits::is_present(entry)) return nullptr;
        if (bits::is_leaf(entry, level) && !split(entry, level)) return nullptr;
        if (use == Use::to_change) entry &= ~split_mark;
        table = direct_map_as<std::uint64_t>(x86::Hpa{bits::table_address(entry)});
    }
    return &table[x86::table_index(address, 1)];
}

std::uint64_t* Ept01::found_leaf_of_4k(x86::Gpa<x86::L1> address) const {
    if (address.value() >= std::min(size_, permanent_size) || l0_region_.contains(address.value()))
        return nullptr;
    std::uint64_t* table = pml4_;
    for (unsigned level = x86::paging_levels; level > 1; --level) {
        const std::uint64_t entry = table[x86::table_index(address, level)];
        if (!bits::is_present(entry) || bits::is_leaf(entry, level)) return nullptr;
        table = direct_map_as<std::uint64_t>(x86::Hpa{bits::table_address(entry)});
    }
    return &table[x86::table_index(address, 1)];
}

// The same mapping by a table of the level below.
bool Ept01::split(std::uint64_t& entry, unsigned level) {
    auto* table = static_cast<std::uint64_t*>(pages_.allocate_page());
    if (table == nullptr) return false;
    const std::uint64_t attributes = entry & (bits::permissions | bits::memory_type_mask | bits::ignore_pat);
    const std::uint64_t size_bit = level - 1 > 1 ? bits::page_size : 0;
    for (unsigned index = 0; index < x86::entries_per_table; ++index) {
        table[index] =
            (bits::page_address(entry, level) + index * bytes_per_entry(level - 1)) | attributes | size_bit;
    }
    entry = physical_of(table).value() | bits::permissions | split_mark;
    return true;
}

}  // namespace flatback::metal
