#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "judge/trial/defect.hpp"

// Defects in what L0 saves of a virtual CPU's nested state, and does to restore it. Where things are in the
// bytes is docs/state.md's, written a second time.
namespace flatback::machine::defects {

/// One word of a state, and how to go through its lists.
class StateWords final {
public:
    using State = std::vector<std::byte>;
    explicit StateWords(State& state) : state_(state) {}

    static constexpr std::size_t size_at = 8;
    static constexpr std::size_t flags_at = 12;
    static constexpr std::size_t current_at = 24;
    static constexpr std::size_t count_at = 32;
    static constexpr std::size_t first_vmcs_at = 180;
    static constexpr std::size_t vmcs_header = 16;
    static constexpr std::size_t field = 12;

    template <typename Word>
    [[nodiscard]] Word get(std::size_t at) const {
        Word word{};
        std::memcpy(&word, &state_.at(at), sizeof word);
        return word;
    }
    template <typename Word>
    void set(std::size_t at, Word word) {
        std::memcpy(&state_.at(at), &word, sizeof word);
    }
    [[nodiscard]] bool has_l2() const { return (get<std::uint32_t>(flags_at) & 2) != 0; }
    /// visit(where the VMCS begins, behind which its fields are, how many these are)
    void for_each_vmcs(const std::function<void(std::size_t, std::uint32_t)>& visit) {
        std::size_t at = first_vmcs_at;
        for (auto left = get<std::uint32_t>(count_at); left > 0; --left) {
            const auto fields = get<std::uint32_t>(at + 12);
            visit(at, fields);
            at += vmcs_header + field * fields;
        }
        end_of_vmcss_ = at;
    }
    /// Where the running L2's list begins.
    [[nodiscard]] std::size_t l2_at() {
        for_each_vmcs([](std::size_t, std::uint32_t) {});
        return end_of_vmcss_;
    }
    /// Of a list of so many fields: where this field's value is; 0 where it is not there.
    [[nodiscard]] std::size_t value_at(std::size_t list, std::uint32_t fields, std::uint32_t encoding) const {
        for (std::uint32_t i = 0; i < fields; ++i) {
            if (get<std::uint32_t>(list + field * i) == encoding) return list + field * i + 4;
        }
        return 0;
    }

    /// The other VMCSs are left out.
    void keep_current() {
        const auto current = get<std::uint64_t>(current_at);
        State kept(state_.begin(), state_.begin() + static_cast<std::ptrdiff_t>(first_vmcs_at));
        std::uint32_t count = 0;
        for_each_vmcs([&](std::size_t vmcs, std::uint32_t fields) {
            if (get<std::uint64_t>(vmcs) != current) return;
            const auto begin = state_.begin() + static_cast<std::ptrdiff_t>(vmcs);
            kept.insert(kept.end(), begin, begin + static_cast<std::ptrdiff_t>(vmcs_header + field * fields));
            ++count;
        });
        kept.insert(kept.end(), state_.begin() + static_cast<std::ptrdiff_t>(end_of_vmcss_), state_.end());
        state_ = std::move(kept);
        set(count_at, count);
        set(size_at, static_cast<std::uint32_t>(state_.size()));
    }

private:
    State& state_;
    std::size_t end_of_vmcss_ = first_vmcs_at;
};

/// What is restored is not what was saved.
class StateDefect final : public Defect {
public:
    using Change = std::function<void(StateWords&)>;
    explicit StateDefect(Change change) : change_(std::move(change)) {}
    void saved(std::vector<std::byte>& state) override {
        StateWords words{state};
        change_(words);
    }

    /// A field of the L2 that runs is lost.
    [[nodiscard]] static Change drops_of_l2(std::uint32_t encoding) {
        return [encoding](StateWords& words) {
            if (!words.has_l2()) return;
            const std::size_t list = words.l2_at();
            if (const auto at = words.value_at(list + 4, words.get<std::uint32_t>(list), encoding); at != 0)
                words.set(at, std::uint64_t{0});
        };
    }
    /// A field of every VMCS is lost.
    [[nodiscard]] static Change drops_of_vmcs(std::uint32_t encoding) {
        return [encoding](StateWords& words) {
            words.for_each_vmcs([&](std::size_t vmcs, std::uint32_t fields) {
                if (const auto at = words.value_at(vmcs + StateWords::vmcs_header, fields, encoding); at != 0)
                    words.set(at, std::uint64_t{0});
            });
        };
    }

private:
    Change change_;
};

/// What was launched before is taken for launched still: behind a state that was restored, L1 or L2 is first
/// entered by VMRESUME.
class ResumesBehindAState final : public Defect {
public:
    explicit ResumesBehindAState(bool l2) : l2_(l2) {}
    void restores(bool now) override { owed_ = owed_ || now; }
    bool enters_by_vmlaunch(bool into_l2, bool engine_says) override {
        if (!owed_ || into_l2 != l2_) return engine_says;
        owed_ = false;
        return false;
    }

private:
    bool l2_;
    bool owed_ = false;
};

/// The receiver takes what its tags and EPTs have for right: no flush is executed while it restores a state
/// and first enters what was restored.
class OwesNothingForAState final : public Defect {
public:
    void restores(bool now) override { now_ = now; }
    void flush(const HardwareFlush& flush, std::uint16_t current_vpid, const Run& run) override {
        static_cast<void>(current_vpid);
        if (!now_) run(flush);
    }

private:
    bool now_ = false;
};

}  // namespace flatback::machine::defects
