// A virtual CPU as the tag manager sees it, with a caller that pays what it is told to.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "tag/vpid01.hpp"
#include "tag/vpid12_map.hpp"
#include "tag/vpid_pool.hpp"

namespace flatback::tag_test {

inline constexpr tag::Cpu cpu_a{0};
inline constexpr tag::Cpu cpu_b{1};
inline constexpr tag::Cpu cpu_c{2};

// What one entry was made with, once everything owed was paid.
struct Entered {
    tag::TagNumber tag;
    bool shares_vpid01;
    std::optional<tag::FlushTarget> flush;

    [[nodiscard]] bool flushed_tag() const { return flush && flush->extent != tag::Extent::nothing; }
    [[nodiscard]] bool flushed_ept() const { return flush && flush->ept_contexts; }
};

inline Entered pay(tag::Entry entry) {
    Entered entered{entry.tag, entry.shares_vpid01, std::nullopt};
    if (entry.flush) {
        entered.flush = entry.flush->target();
        std::move(*entry.flush).paid();
    }
    return entered;
}

inline std::optional<tag::FlushTarget> pay(std::optional<tag::OwedFlush> flush) {
    if (!flush) return std::nullopt;
    const tag::FlushTarget target = flush->target();
    std::move(*flush).paid();
    return target;
}

inline std::optional<tag::FlushTarget> keep(std::optional<tag::OwedFlush> flush) {
    if (!flush) return std::nullopt;
    const tag::FlushTarget target = flush->target();
    std::move(*flush).keep();
    return target;
}

template <std::size_t SlotCount = 4>
struct VirtualCpu {
    explicit VirtualCpu(tag::VpidPool& pool, tag::Policy policy = tag::Policy::mapped)
        : vpid01(pool), map(pool, vpid01, policy) {}

    Entered l1(tag::Cpu cpu) { return pay(vpid01.enter_l1(cpu)); }
    Entered l2(std::uint16_t vpid12, tag::Cpu cpu) { return pay(map.enter(tag::Vpid12{vpid12}, cpu)); }
    Entered l2_without_vpid(tag::Cpu cpu) { return pay(map.enter_without_vpid(cpu)); }

    tag::Vpid01 vpid01;
    tag::Vpid12Map<SlotCount> map;
};

}  // namespace flatback::tag_test
