#include "judge/explore/state_set.hpp"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <limits>

#include "machine/error.hpp"

namespace flatback::machine::explore {

namespace {

template <typename Kept>
std::uint64_t hash(const Kept& state) {
    std::array<std::uint64_t, (sizeof(Kept) + 7) / 8> words{};
    std::memcpy(words.data(), &state, sizeof state);
    std::uint64_t mixed = 0;
    for (const std::uint64_t word : words) {
        mixed = (mixed ^ word) * 0x9E37'79B9'7F4A'7C15ULL;
        mixed ^= mixed >> 29;
    }
    mixed *= 0xBF58'476D'1CE4'E5B9ULL;
    return mixed ^ mixed >> 32;
}

}  // namespace

template <typename Kept>
StateSet<Kept>::StateSet(std::size_t limit_bytes) : limit_bytes_(limit_bytes), table_(std::size_t{1} << 12) {}

template <typename Kept>
void StateSet<Kept>::check_limit(std::size_t more) const {
    const bool many = size_ >= std::numeric_limits<std::uint32_t>::max() - 1;
    if (!many && bytes() + more <= limit_bytes_) return;
    throw LimitReached(fmt::format(
        "explore: the limit of {} bytes is reached with {} states: allow more by --memory, or ask "
        "for a smaller --depth",
        limit_bytes_, size_));
}

template <typename Kept>
bool StateSet<Kept>::insert(const Kept& state, Step step) {
    // At most two thirds full.
    if (3 * (size_ + 1) > 2 * table_.size()) grow();
    const std::uint64_t hashed = hash(state);
    const auto upper = static_cast<std::uint32_t>(hashed >> 32);
    std::size_t place = hashed & (table_.size() - 1);
    for (; table_[place].number != 0; place = (place + 1) & (table_.size() - 1)) {
        if (table_[place].hash == upper && compare_bytes(this->state(table_[place].number - 1), state) == 0)
            return false;
    }
    if (size_ == blocks_.size() * block_size) {
        check_limit(sizeof(Block));
        blocks_.push_back(std::make_unique_for_overwrite<Block>());
    }
    Block& block = *blocks_.back();
    block.states[size_ % block_size] = state;
    block.from[size_ % block_size] = step.from;
    block.actions[size_ % block_size] = step.action;
    ++size_;
    table_[place] = {static_cast<std::uint32_t>(size_), upper};
    return true;
}

template <typename Kept>
void StateSet<Kept>::grow() {
    check_limit(2 * table_.size() * sizeof(Place));
    table_ = {};
    std::size_t places = std::size_t{1} << 13;
    while (3 * (size_ + 1) > places) places *= 2;
    table_.resize(places);
    for (std::size_t number = 0; number < size_; ++number) {
        const std::uint64_t hashed = hash(state(number));
        std::size_t place = hashed & (places - 1);
        while (table_[place].number != 0) place = (place + 1) & (places - 1);
        table_[place] = {static_cast<std::uint32_t>(number + 1), static_cast<std::uint32_t>(hashed >> 32)};
    }
}

template class StateSet<KeptState>;
template class StateSet<PairState>;

}  // namespace flatback::machine::explore
