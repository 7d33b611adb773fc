#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "judge/explore/pair.hpp"
#include "judge/explore/state.hpp"

namespace flatback::machine::explore {

/// The states that were visited, in the order in which they were found, each with the step that led to it.
/// Takes no more than `limit_bytes`. Kept: a state, of which two are equal where their bytes are.
template <typename Kept>
class StateSet {
public:
    struct Step {
        std::uint32_t from = 0;
        std::uint8_t action = 0;
    };

    explicit StateSet(std::size_t limit_bytes);

    /// False: it is known. Throws `LimitReached` at the bound.
    bool insert(const Kept& state, Step step);
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] const Kept& state(std::size_t number) const {
        return blocks_[number / block_size]->states[number % block_size];
    }
    [[nodiscard]] Step step(std::size_t number) const {
        const Block& block = *blocks_[number / block_size];
        return {block.from[number % block_size], block.actions[number % block_size]};
    }
    [[nodiscard]] std::size_t bytes() const {
        return blocks_.size() * sizeof(Block) + table_.size() * sizeof(Place);
    }

private:
    static constexpr std::size_t block_size = std::size_t{1} << 12;
    struct Block {
        Kept states[block_size];
        std::uint32_t from[block_size];
        std::uint8_t actions[block_size];
    };
    /// A place of the hash table: 0 is empty, else the number of a state, plus one; beside it the upper half
    /// of the state's hash, so that few others are looked at.
    struct Place {
        std::uint32_t number = 0;
        std::uint32_t hash = 0;
    };

    void grow();
    void check_limit(std::size_t more) const;

    std::size_t limit_bytes_;
    std::size_t size_ = 0;
    std::vector<std::unique_ptr<Block>> blocks_;
    std::vector<Place> table_;
};

extern template class StateSet<KeptState>;
extern template class StateSet<PairState>;

}  // namespace flatback::machine::explore
