#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "judge/trial/defect.hpp"

// Defects in what L0 does with what its host wants of L2 for itself.
namespace flatback::machine::defects {

/// L0 writes something else to one field of its VMCSs for L2s.
class L2FieldDefect final : public Defect {
public:
    using Change = std::function<std::uint64_t(std::uint64_t)>;
    template <vmx::AnyField Field>
    L2FieldDefect(Field field, Change change) : encoding_(field.encoding), change_(std::move(change)) {}
    std::uint64_t written_for_l2(std::uint32_t encoding, std::uint64_t value) override {
        return encoding == encoding_ ? change_(value) : value;
    }

private:
    std::uint32_t encoding_;
    Change change_;
};

/// Where an entry brings what L1 wrote to a field, L0 leaves that in the place of what the host demands.
class LeavesL1sWord final : public Defect {
public:
    template <vmx::AnyField Field>
    explicit LeavesL1sWord(Field field) : encoding_(field.encoding) {}
    std::uint64_t written_for_l2(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding != encoding_) return value;
        if (!l1s_) l1s_ = value;
        return *l1s_;
    }
    void after_entry(bool, const Run&) override { l1s_.reset(); }

private:
    std::uint32_t encoding_;
    std::optional<std::uint64_t> l1s_{};
};

/// L0 keeps what a field for L2s had first.
template <vmx::AnyField Field>
class KeepsFirst final : public Defect {
public:
    explicit KeepsFirst(Field field) : encoding_(field.encoding) {}
    std::uint64_t written_for_l2(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding != encoding_) return value;
        if (!std::exchange(has_one_, true)) first_ = value;
        return first_;
    }

private:
    std::uint32_t encoding_;
    std::uint64_t first_ = 0;
    bool has_one_ = false;
};

/// L0 writes to one field for L2s what it has written to another.
template <vmx::AnyField Field>
class TakesAnotherFields final : public Defect {
public:
    TakesAnotherFields(Field field, Field other) : encoding_(field.encoding), other_(other.encoding) {}
    std::uint64_t written_for_l2(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding == other_) others_ = value;
        return encoding == encoding_ ? others_ : value;
    }

private:
    std::uint32_t encoding_;
    std::uint32_t other_;
    std::uint64_t others_ = 0;
};

/// L0 writes some bits of one field for L2s as it has written them to another.
class TakesBitsOfAnother final : public Defect {
public:
    template <vmx::AnyField Field, vmx::AnyField Other>
    TakesBitsOfAnother(Field field, Other other, std::uint64_t bits)
        : encoding_(field.encoding), other_(other.encoding), bits_(bits) {}
    std::uint64_t written_for_l2(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding == other_) others_ = value;
        return encoding == encoding_ ? (value & ~bits_) | (others_ & bits_) : value;
    }

private:
    std::uint32_t encoding_;
    std::uint32_t other_;
    std::uint64_t bits_;
    std::uint64_t others_ = 0;
};

/// L0 takes the processor's time-stamp counter for something else.
class ReadsAnotherClock final : public Defect {
public:
    using Change = std::function<std::uint64_t(std::uint64_t)>;
    explicit ReadsAnotherClock(Change change) : change_(std::move(change)) {}
    std::uint64_t time_stamp_counter(std::uint64_t now) override { return change_(now); }

private:
    Change change_;
};

/// L0 shows L1 the ends of its own turns.
class ShowsItsTurns final : public Defect {
public:
    bool knows_its_own_turns() override { return false; }
};

/// One of the host's own actions goes wrong.
class HostDefect final : public Defect {
public:
    struct Answers {
        bool pays_on_entry = true;
        HostsAct act = HostsAct::right;
    };
    explicit HostDefect(Answers answers) : answers_(answers) {}
    bool enters_processor() override { return answers_.pays_on_entry; }
    HostsAct hosts_act() override { return answers_.act; }

private:
    Answers answers_;
};

}  // namespace flatback::machine::defects
