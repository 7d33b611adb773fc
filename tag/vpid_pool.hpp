// The hardware's VPIDs as owned things: one allocation, one release, none reused at once.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "numbers.hpp"

namespace flatback::tag {

class Snapshot;
class VpidPool;

// One tag, owned. The destructor gives it back; it can be moved but not copied, so a tag has one owner and is
// released once. Says nothing of what the processors still cache under it: see ContentMark.
// Sharing: a handle belongs to one CPU at a time; it may be destroyed on another one than it was made on.
class Vpid final {
public:
    Vpid() = default;
    Vpid(const Vpid&) = delete;
    Vpid& operator=(const Vpid&) = delete;
    Vpid(Vpid&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)),
          number_(std::exchange(other.number_, TagNumber::none)) {}
    Vpid& operator=(Vpid&& other) noexcept {
        if (this != &other) {
            release();
            pool_ = std::exchange(other.pool_, nullptr);
            number_ = std::exchange(other.number_, TagNumber::none);
        }
        return *this;
    }
    ~Vpid() { release(); }

    // none: an empty or moved-from handle.
    [[nodiscard]] TagNumber number() const { return number_; }
    void release();

private:
    friend class VpidPool;
    friend class Snapshot;
    Vpid(VpidPool& pool, TagNumber number) : pool_(&pool), number_(number) {}

    VpidPool* pool_ = nullptr;
    TagNumber number_ = TagNumber::none;
};

// Every tag of the machine: 1..65535.
//
// Order: tags that were never used first, in rising order; then the released ones, first released first. So
// between the release of a tag and its next allocation, every tag that was free when its release ended is
// handed out: with f other tags free, at least f other allocations. A tag is reused at once only where
// it is the last free one.
//
// Sharing: allocate and release may be called by any CPU at any time. Lock-free: a CPU that stops in the
// midst of either delays nobody, as the others finish its step. The pool must outlive its handles.
//
// The queue is a ring of 2^16 cells. A cell holds its lap (how often the ring went round, mod 2^16) and a
// tag, or 0 where it is empty; a value is first written to the cell by compare-and-exchange, then `head_` or
// `tail_` is advanced by whoever sees that it lags. A full ring cannot be: 65,535 tags, 65,536 cells. An
// all-zero pool is the full pool of all the tags, so a static one costs no space in an image (256 KB of
// .bss).
class VpidPool final {
public:
    static constexpr std::uint16_t most_tags = 65535;

    // tags: how many of 1..65535 there are to give, from 1 upward. Fewer are for tests and exhaustion trials.
    constexpr explicit VpidPool(std::uint16_t tags = most_tags)
        : withheld_(static_cast<std::uint16_t>(most_tags - tags)) {}
    VpidPool(const VpidPool&) = delete;
    VpidPool& operator=(const VpidPool&) = delete;

    // nullopt: every tag has an owner.
    [[nodiscard]] std::optional<Vpid> allocate() {
        std::uint32_t fresh = fresh_.load(std::memory_order_relaxed);
        while (fresh < size()) {
            if (fresh_.compare_exchange_weak(fresh, fresh + 1, std::memory_order_relaxed)) {
                return hand_out(static_cast<std::uint16_t>(fresh + 1));
            }
        }
        const std::uint16_t released = pop();
        if (released == 0) return std::nullopt;
        return hand_out(released);
    }

    [[nodiscard]] std::uint32_t size() const { return std::uint32_t{most_tags} - withheld_; }
    // Tags that have an owner. Exact while no call is under way.
    [[nodiscard]] std::uint32_t owned() const { return owned_.load(std::memory_order_relaxed); }

private:
    friend class Vpid;
    friend class Snapshot;

    static constexpr std::uint64_t cells = 65536;

    // The state of the cell for the n-th value ever queued: empty, and with a tag in it.
    static constexpr std::uint32_t empty_at(std::uint64_t position) {
        return static_cast<std::uint32_t>((position / cells) & 0xffff) << 16;
    }
    static constexpr std::uint32_t lap_of(std::uint32_t cell) { return cell & 0xffff'0000; }
    static constexpr std::uint16_t tag_of(std::uint32_t cell) {
        return static_cast<std::uint16_t>(cell & 0xffff);
    }

    std::atomic<std::uint32_t>& cell(std::uint64_t position) { return ring_[position % cells]; }

    Vpid hand_out(std::uint16_t number) {
        owned_.fetch_add(1, std::memory_order_relaxed);
        return Vpid{*this, TagNumber{number}};
    }

    void take_back(TagNumber number) {
        owned_.fetch_sub(1, std::memory_order_relaxed);
        push(raw(number));
    }

    void push(std::uint16_t number) {
        for (;;) {
            std::uint64_t tail = tail_.load(std::memory_order_acquire);
            std::uint32_t expected = empty_at(tail);
            const bool pushed = cell(tail).compare_exchange_strong(expected, expected | number);
            // Filled, by this call or by one that has not yet advanced the tail: advance it either way.
            tail_.compare_exchange_strong(tail, tail + 1);
            if (pushed) return;
        }
    }

    // 0: nothing is queued.
    std::uint16_t pop() {
        for (;;) {
            std::uint64_t head = head_.load(std::memory_order_acquire);
            std::uint32_t seen = cell(head).load(std::memory_order_acquire);
            // Still empty in this lap: nobody has filled it, so nothing is queued at this moment.
            if (seen == empty_at(head)) return 0;
            const bool popped = lap_of(seen) == empty_at(head) &&
                                cell(head).compare_exchange_strong(seen, empty_at(head + cells));
            head_.compare_exchange_strong(head, head + 1);
            if (popped) return tag_of(seen);
        }
    }

    const std::uint16_t withheld_;
    std::atomic<std::uint32_t> fresh_{0};
    std::atomic<std::uint32_t> owned_{0};
    alignas(64) std::atomic<std::uint64_t> head_{0};
    alignas(64) std::atomic<std::uint64_t> tail_{0};
    alignas(64) std::array<std::atomic<std::uint32_t>, cells> ring_{};
};

inline void Vpid::release() {
    if (number_ == TagNumber::none) return;
    std::exchange(pool_, nullptr)->take_back(std::exchange(number_, TagNumber::none));
}

}  // namespace flatback::tag
