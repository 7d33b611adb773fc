#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "guests/linux/failure.hpp"

namespace flatback::guests {

/// A range of addresses that one thread maps, writes, protects and unmaps again and again, checking every
/// value, while another thread reads of it: no value of what was there before may be seen once the newer one
/// is known to be there.
class Window final {
public:
    [[nodiscard]] static Expected<Window> create(std::size_t pages);
    Window(Window&& other) noexcept;
    Window& operator=(Window&&) = delete;
    ~Window();

    /// The owner's: one round. The error says which value was wrong, or which system call failed.
    [[nodiscard]] Expected<void> turn();
    /// The owner's: the same with a child process, which finds what was there when it was forked.
    [[nodiscard]] Expected<void> fork_turn();
    /// Any other thread's.
    [[nodiscard]] Expected<void> look() const;

private:
    Window(std::byte* start, std::size_t pages) : start_(start), pages_(pages) {}
    [[nodiscard]] volatile std::uint64_t* word(std::size_t page) const;
    [[nodiscard]] std::uint64_t value_of(std::size_t page) const { return generation_ + page * page_step; }
    [[nodiscard]] Expected<void> map_anew();
    [[nodiscard]] Expected<void> check(std::string_view when) const;

    /// Generations count from 1; a page's values are apart from every other's of the window by this.
    static constexpr std::uint64_t page_step = std::uint64_t{1} << 40;

    std::byte* start_;
    std::size_t pages_;
    std::uint64_t generation_ = 0;
    /// Of which all values are in memory.
    std::atomic<std::uint64_t> published_{0};
};

}  // namespace flatback::guests
