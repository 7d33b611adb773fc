#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "judge/explore/alphabet.hpp"
#include "judge/explore/state.hpp"
#include "tag/snapshot.hpp"
#include "tag/vpid01.hpp"
#include "tag/vpid12_map.hpp"
#include "tag/vpid_pool.hpp"

namespace flatback::machine::explore {

inline constexpr tag::Cpu tag_cpu_here{here};

/// The tag manager itself, from tag/, put into the state that a `State` describes and read back from there.
/// Between `load` and `store` the tag numbered N is tag N - 1 of the State's entries.
class LoadedManager {
public:
    using Map = tag::Vpid12Map<2>;

    explicit LoadedManager(const Alphabet& alphabet);
    ~LoadedManager();
    LoadedManager(const LoadedManager&) = delete;
    LoadedManager& operator=(const LoadedManager&) = delete;

    void load(const State& state);
    /// Also names the tags anew by their use, in all of `state`.
    void store(State& state);
    /// By the last `store` or `keep_names`: which tag each has been before.
    [[nodiscard]] const std::array<std::uint8_t, most_tags>& renamed() const { return renamed_; }

    void keep_names() { renamed_ = {0, 1, 2, 3, 4, 5}; }

    [[nodiscard]] tag::VpidPool& pool() { return pool_; }
    [[nodiscard]] tag::Vpid01& vpid01() { return vpid01_; }
    [[nodiscard]] Map& map() { return map_; }
    /// The other VM's, while it is there.
    [[nodiscard]] std::optional<tag::Vpid01>& other() { return other_; }

private:
    tag::VpidPool pool_;
    tag::Vpid01 vpid01_;
    Map map_;
    std::optional<tag::Vpid01> other_;
    unsigned first_foreign_ = 0;
    unsigned foreign_ = 0;  // tags of L1's other virtual CPU
    std::array<std::uint8_t, most_tags> renamed_{};
};

/// The tag under which `guest` runs or last ran, as tag/ has it.
[[nodiscard]] unsigned tag_of(const State& state, Guest guest);

/// The virtual CPU goes to the other processor. `marks_too`: the tag manager hears of it.
void exchange_processors(VirtualCpu& cpu, bool marks_too);

}  // namespace flatback::machine::explore
