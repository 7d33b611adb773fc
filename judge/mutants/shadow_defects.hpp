#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "judge/trial/defect.hpp"

// Defects in what L1 reaches without an exit, in a shadow VMCS of L0's.
namespace flatback::machine::defects {

/// Where L0 writes or reads one field of its shadow VMCSs, it goes wrong.
class ShadowDefect final : public Defect {
public:
    /// What L0 writes; nullopt: nothing. count: how often it wrote the field of this shadow VMCS before.
    using Write = std::function<std::optional<std::uint64_t>(std::uint64_t value, unsigned count)>;
    /// What L0 finds. written: what it last wrote there.
    using Read = std::function<std::uint64_t(std::uint64_t value, std::uint64_t written)>;
    template <vmx::AnyField Field>
    ShadowDefect(Field field, Write write, Read read)
        : encoding_(field.encoding), write_(std::move(write)), read_(std::move(read)) {}

    std::optional<std::uint64_t> written_to_shadow(std::uint64_t vmcs, std::uint32_t encoding,
                                                   std::uint64_t value) override {
        if (encoding != encoding_) return value;
        Known& known = known_[vmcs];
        known.written = value;
        return write_(value, known.count++);
    }
    std::uint64_t found_in_shadow(std::uint64_t vmcs, std::uint32_t encoding, std::uint64_t value) override {
        return encoding == encoding_ ? read_(value, known_[vmcs].written) : value;
    }

private:
    struct Known {
        std::uint64_t written = 0;
        unsigned count = 0;
    };
    std::uint32_t encoding_;
    Write write_;
    Read read_;
    std::map<std::uint64_t, Known> known_;
};

/// Of a field of vmcs01 that L0 changes with L1's current VMCS, it keeps the second value that it ever had:
/// what is of one VMCS is taken for all.
class KeepsSecond final : public Defect {
public:
    template <vmx::AnyField Field>
    explicit KeepsSecond(Field field) : encoding_(field.encoding) {}
    std::uint64_t written(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding != encoding_) return value;
        if (!first_) first_ = value;
        if (!second_ && value != *first_) second_ = value;
        return second_.value_or(value);
    }

private:
    std::uint32_t encoding_;
    std::optional<std::uint64_t> first_;
    std::optional<std::uint64_t> second_;
};

}  // namespace flatback::machine::defects
