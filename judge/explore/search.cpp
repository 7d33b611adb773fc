#include "judge/explore/search.hpp"

#include <algorithm>
#include <utility>

#include "judge/explore/state_set.hpp"
#include "judge/explore/translations.hpp"

namespace flatback::machine::explore {

namespace {

class Search {
public:
    explicit Search(const Options& options)
        : options_(options),
          actions_(options.alphabet),
          stepper_(options.alphabet, options.defect),
          states_(options.memory_bytes) {}

    Result run() {
        states_.insert(merged(stepper_.initial()), {});
        Result result;
        std::size_t first = 0;
        while (result.depth < options_.depth && !result.broken && !result.closed) {
            const std::size_t end = states_.size();
            for (std::size_t number = first; number < end && !result.broken; ++number) {
                result.broken = visit(number, result.program);
            }
            first = end;
            ++result.depth;
            result.closed = !result.broken && states_.size() == end;
            if (options_.progress) options_.progress(result.depth, states_.size(), states_.size() - end);
        }
        result.states = states_.size();
        result.memory_bytes = states_.bytes();
        return result;
    }

private:
    [[nodiscard]] const std::vector<Action>& actions_of(const State& state) const {
        return is_l2(state.running()) ? actions_.of_l2 : actions_.of_l1;
    }
    [[nodiscard]] State merged(State state) const {
        forget_the_irrelevant(state);
        return canonical(state, options_.alphabet);
    }

    /// Takes every step from this state; what was broken, with the program that led there.
    std::optional<Broken> visit(std::size_t number, std::vector<Action>& program) {
        const State state = states_.state(number);
        const std::vector<Action>& actions = actions_of(state);
        for (std::size_t index = 0; index < actions.size(); ++index) {
            if (!stepper_.can_take(state, actions[index])) continue;
            State next = state;
            if (stepper_.take(next, actions[index])) {
                program = program_to(number);
                return last_step(program);
            }
            states_.insert(merged(next),
                           {static_cast<std::uint32_t>(number), static_cast<std::uint8_t>(index)});
        }
        return std::nullopt;
    }

    /// The states on the way are known under names of their own: finds steps that lead from each to the next
    /// under the names that the program begins with.
    std::vector<Action> program_to(std::size_t number) {
        std::vector<std::size_t> way;
        for (; number != 0; number = states_.step(number).from) way.push_back(number);
        std::ranges::reverse(way);
        std::vector<Action> program;
        state_ = stepper_.initial();
        for (const std::size_t next : way) {
            for (const Action& action : actions_of(state_)) {
                State reached = state_;
                if (!stepper_.can_take(state_, action) || stepper_.take(reached, action)) continue;
                if (!(merged(reached) == states_.state(next))) continue;
                state_ = reached;
                program.push_back(action);
                break;
            }
        }
        return program;
    }

    /// The step after `program` that breaks something: there is one.
    std::optional<Broken> last_step(std::vector<Action>& program) {
        for (const Action& action : actions_of(state_)) {
            State reached = state_;
            if (!stepper_.can_take(state_, action)) continue;
            if (const std::optional<Broken> broken = stepper_.take(reached, action)) {
                program.push_back(action);
                return broken;
            }
        }
        return std::nullopt;
    }

    const Options& options_;
    Actions actions_;
    Stepper stepper_;
    StateSet states_;
    State state_{};
};

}  // namespace

Result explore(const Options& options) {
    return Search(options).run();
}

}  // namespace flatback::machine::explore
