#include "judge/explore/search.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "judge/explore/pair.hpp"
#include "judge/explore/pair_stepper.hpp"
#include "judge/explore/state.hpp"
#include "judge/explore/state_set.hpp"
#include "judge/explore/translations.hpp"
#include "judge/explore/worst.hpp"

namespace flatback::machine::explore {

namespace {

template <typename StepperOf, typename StateOf>
std::optional<Broken> take_assuming(StepperOf& stepper, bool worst, StateOf& state, const Action& action) {
    std::optional<Broken> broken = stepper.take(state, action);
    if (!broken && worst) assume_the_worst(state);
    return broken;
}

/// What is searched: the states of a virtual CPU, or of two, of one L1 or of two VMs.
class OfOneCpu {
public:
    using State = explore::State;
    using Kept = KeptState;

    explicit OfOneCpu(const Options& options)
        : alphabet_(options.alphabet),
          worst_(options.worst),
          actions_(alphabet_),
          stepper_(alphabet_, options.defect) {}

    [[nodiscard]] const State& initial() const { return stepper_.initial(); }
    [[nodiscard]] const std::vector<Action>& actions_of(const State& state) const {
        return is_l2(state.running()) ? actions_.of_l2 : actions_.of_l1;
    }
    [[nodiscard]] bool can_take(const State& state, const Action& action) const {
        return stepper_.can_take(state, action);
    }
    std::optional<Broken> take(State& state, const Action& action) {
        return take_assuming(stepper_, worst_, state, action);
    }
    [[nodiscard]] Kept merged(State state) const {
        forget_the_irrelevant(state);
        return keep(canonical(state, alphabet_));
    }
    static State restore(const Kept& kept) { return restored(kept); }

private:
    const Alphabet& alphabet_;
    bool worst_;
    Actions actions_;
    Stepper stepper_;
};

class OfTwoCpus {
public:
    using State = PairState;
    using Kept = PairState;

    explicit OfTwoCpus(const Options& options)
        : alphabet_(options.alphabet),
          worst_(options.worst),
          actions_(actions_of_two(alphabet_)),
          stepper_(alphabet_, options.defect) {}

    [[nodiscard]] const State& initial() const { return stepper_.initial(); }
    [[nodiscard]] const std::vector<Action>& actions_of(const State&) const { return actions_; }
    [[nodiscard]] bool can_take(const State& state, const Action& action) const {
        return stepper_.can_take(state, action);
    }
    std::optional<Broken> take(State& state, const Action& action) {
        return take_assuming(stepper_, worst_, state, action);
    }
    [[nodiscard]] Kept merged(State state) const {
        forget_the_irrelevant(state);
        return canonical(state, alphabet_);
    }
    static const State& restore(const Kept& kept) { return kept; }

private:
    const Alphabet& alphabet_;
    bool worst_;
    std::vector<Action> actions_;
    PairStepper stepper_;
};

template <typename Model>
class Search {
public:
    using State = typename Model::State;
    using Kept = typename Model::Kept;

    explicit Search(const Options& options)
        : options_(options), model_(options), states_(options.memory_bytes) {}

    Result run() {
        states_.insert(model_.merged(model_.initial()), {});
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
    /// Takes every step from this state; what was broken, with the program that led there.
    std::optional<Broken> visit(std::size_t number, std::vector<Action>& program) {
        const State state = Model::restore(states_.state(number));
        const std::vector<Action>& actions = model_.actions_of(state);
        for (std::size_t index = 0; index < actions.size(); ++index) {
            if (!model_.can_take(state, actions[index])) continue;
            State next = state;
            if (model_.take(next, actions[index])) {
                program = program_to(number);
                return last_step(program);
            }
            states_.insert(model_.merged(next),
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
        state_ = model_.initial();
        for (const std::size_t next : way) {
            for (const Action& action : model_.actions_of(state_)) {
                State reached = state_;
                if (!model_.can_take(state_, action) || model_.take(reached, action)) continue;
                if (compare_bytes(model_.merged(reached), states_.state(next)) != 0) continue;
                state_ = reached;
                program.push_back(action);
                break;
            }
        }
        return program;
    }

    /// The step after `program` that breaks something: there is one.
    std::optional<Broken> last_step(std::vector<Action>& program) {
        for (const Action& action : model_.actions_of(state_)) {
            State reached = state_;
            if (!model_.can_take(state_, action)) continue;
            if (const std::optional<Broken> broken = model_.take(reached, action)) {
                program.push_back(action);
                return broken;
            }
        }
        return std::nullopt;
    }

    const Options& options_;
    Model model_;
    StateSet<Kept> states_;
    State state_{};
};

}  // namespace

Result explore(const Options& options) {
    return options.alphabet.virtual_cpus() > 1 ? Search<OfTwoCpus>(options).run()
                                               : Search<OfOneCpu>(options).run();
}

}  // namespace flatback::machine::explore
