#include "judge/explore/manager.hpp"

#include <span>
#include <utility>

namespace flatback::machine::explore {

namespace {

using tag::Snapshot;
using tag::TagNumber;
using tag::Vpid12;

constexpr std::uint8_t nowhere = 2;

constexpr x86::LinearAddress address_of(unsigned page) {
    return x86::LinearAddress{page * x86::page_size};
}
constexpr std::uint8_t pack(tag::Cpu cpu) {
    return cpu == tag::Cpu::none ? nowhere : static_cast<std::uint8_t>(static_cast<std::uint32_t>(cpu) & 1);
}
constexpr tag::Cpu unpack_cpu(Mark mark) {
    return mark.cpu == nowhere ? tag::Cpu::none : tag::Cpu{mark.cpu};
}

Mark pack(const Snapshot::Content& content) {
    const bool nothing = content.owed == tag::Extent::nothing;
    Mark mark{};
    mark.cpu = pack(content.cpu) & 3;
    mark.owes = content.owes ? 1 : 0;
    mark.extent = (nothing ? no_flush : static_cast<std::uint8_t>(content.owed)) & 7;
    mark.page = content.owed_address.page_number() & 1;
    return mark;
}
Snapshot::Content unpack_content(Mark mark) {
    return {unpack_cpu(mark), mark.owes != 0,
            mark.extent == no_flush ? tag::Extent::nothing : static_cast<tag::Extent>(mark.extent),
            address_of(mark.page)};
}
Mark pack(const Snapshot::Ept& ept) {
    Mark mark{};
    mark.cpu = pack(ept.cpu) & 3;
    mark.owes = ept.stale ? 1 : 0;
    return mark;
}
Snapshot::Ept unpack_ept(Mark mark) {
    return {unpack_cpu(mark), mark.owes != 0};
}

constexpr Vpid12 vpid12_of(std::uint8_t guest) {
    return Vpid12{guest};
}
static_assert(static_cast<int>(Guest::vpid_1) == 1 && static_cast<int>(Guest::vpid_2) == 2);

constexpr std::uint8_t guest_of(const Snapshot::Occupant& occupant) {
    if (occupant.kind == 0) return static_cast<std::uint8_t>(Guest::l1);
    if (occupant.kind == 1) return static_cast<std::uint8_t>(Guest::without_vpid);
    return static_cast<std::uint8_t>(occupant.vpid12);
}
constexpr Snapshot::Occupant occupant_of(std::uint8_t guest) {
    if (guest == static_cast<std::uint8_t>(Guest::l1)) return {0, Vpid12{0}};
    if (guest == static_cast<std::uint8_t>(Guest::without_vpid)) return {1, Vpid12{0}};
    return {2, vpid12_of(guest)};
}

constexpr TagNumber number(unsigned tag) {
    return TagNumber{static_cast<std::uint16_t>(tag + 1)};
}

}  // namespace

LoadedManager::LoadedManager(const Alphabet& alphabet)
    : pool_(static_cast<std::uint16_t>(alphabet.tags)),
      vpid01_(pool_),
      map_(pool_, vpid01_, alphabet.policy) {}

LoadedManager::~LoadedManager() = default;

void LoadedManager::load(const State& state) {
    const Manager& manager = state.manager;
    if (manager.other != 0 && !other_) other_.emplace(pool_);
    if (manager.other == 0 && other_) other_.reset();
    first_foreign_ = 1U + manager.used + manager.other;
    foreign_ = state.foreign;
    const unsigned owned = first_foreign_ + foreign_;
    std::array<TagNumber, most_tags> released{};
    for (unsigned tag = owned; tag < manager.tags_used; ++tag) released[tag - owned] = number(tag);
    Snapshot::put(pool_, manager.tags_used, std::span(released).first(manager.tags_used - owned));
    Snapshot::put(
        vpid01_,
        {occupant_of(manager.occupant), number(0), unpack_content(manager.vpid01), unpack_ept(manager.ept01)},
        pool_);
    Snapshot::OfMap<2> map{manager.used, manager.shares != 0, unpack_ept(manager.ept02), {}};
    for (unsigned slot = 0; slot < manager.used; ++slot) {
        const std::size_t before = manager.used == 2 && slot == manager.newest ? 1 : 0;
        map.slots[slot] = {vpid12_of(manager.slot_guests[slot]), number(1 + slot),
                           unpack_content(manager.slots[slot]), before};
    }
    Snapshot::put(map_, map, pool_);
    Snapshot::set_hint(map_, Vpid12{1}, manager.hint_1);
    Snapshot::set_hint(map_, Vpid12{2}, manager.hint_2);
    if (other_) {
        Snapshot::put(*other_,
                      {{},
                       number(1U + manager.used),
                       unpack_content(manager.other_vpid01),
                       unpack_ept(manager.other_ept01)},
                      pool_);
    }
}

void LoadedManager::store(State& state) {
    const Snapshot::OfVpid01 vpid01 = Snapshot::take(vpid01_);
    const Snapshot::OfMap<2> map = Snapshot::take(map_);
    Manager manager{};
    manager.occupant = guest_of(vpid01.occupant);
    manager.vpid01 = pack(vpid01.content);
    manager.ept01 = pack(vpid01.ept01);
    manager.ept02 = pack(map.ept02);
    manager.used = map.used & 3;
    manager.shares = map.shares ? 1 : 0;
    manager.hint_1 = Snapshot::hint(map_, Vpid12{1}) & 1;
    manager.hint_2 = Snapshot::hint(map_, Vpid12{2}) & 1;
    manager.tags_used = static_cast<std::uint8_t>(Snapshot::tags_used(pool_));

    std::array<TagNumber, most_tags> by_use{vpid01.tag};
    std::size_t count = 1;
    for (std::size_t slot = 0; slot < map.used; ++slot) {
        manager.slots[slot] = pack(map.slots[slot].content);
        manager.slot_guests[slot] = static_cast<std::uint8_t>(map.slots[slot].vpid12);
        if (map.slots[slot].uses_before == 1) manager.newest = slot & 1;
        by_use[count++] = map.slots[slot].tag;
    }
    if (other_) {
        const Snapshot::OfVpid01 other = Snapshot::take(*other_);
        manager.other = 1;
        manager.other_vpid01 = pack(other.content);
        manager.other_ept01 = pack(other.ept01);
        by_use[count++] = other.tag;
    }
    for (unsigned tag = 0; tag < foreign_; ++tag) by_use[count++] = number(first_foreign_ + tag);
    count += Snapshot::take_released(pool_, std::span(by_use).subspan(count));
    state.manager = manager;

    // Tags that were never used have no entries.
    bool as_before = true;
    for (std::size_t tag = 0; tag < most_tags; ++tag) {
        renamed_[tag] = static_cast<std::uint8_t>(tag < count ? tag::raw(by_use[tag]) - 1U : tag);
        as_before = as_before && renamed_[tag] == tag;
    }
    if (as_before) return;
    for (auto& of_cpu : state.entries) {
        const auto before = of_cpu;
        for (std::size_t tag = 0; tag < most_tags; ++tag) of_cpu[tag] = before[renamed_[tag]];
    }
}

unsigned tag_of(const State& state, Guest guest) {
    for (unsigned slot = 0; slot < state.manager.used; ++slot) {
        if (state.manager.slot_guests[slot] == static_cast<std::uint8_t>(guest)) return 1 + slot;
    }
    return 0;
}

void exchange_processors(VirtualCpu& cpu, bool marks_too) {
    std::swap(cpu.guest_physical[0], cpu.guest_physical[1]);
    if (!marks_too) return;
    Manager& manager = cpu.manager;
    const auto exchange = [](Mark& mark) {
        if (mark.cpu != nowhere) mark.cpu = (mark.cpu ^ 1) & 3;
    };
    exchange(manager.vpid01);
    exchange(manager.ept01);
    exchange(manager.ept02);
    for (unsigned slot = 0; slot < manager.used; ++slot) exchange(manager.slots[slot]);
    if (manager.other != 0) {
        exchange(manager.other_vpid01);
        exchange(manager.other_ept01);
    }
}

}  // namespace flatback::machine::explore
