#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "judge/ledger/log_program.hpp"
#include "judge/trial/defect.hpp"
#include "judge/trial/random_host.hpp"
#include "vmx/field.hpp"

// Defects in the page-modification log of L1 and in the rate of its guests' time-stamp counter. Those of the
// log are of the one that log_program::guest() makes.
namespace flatback::machine::defects {

/// L0 tells L1 something else of one field.
class ToldDefect final : public Defect {
public:
    using Change = std::function<std::uint64_t(std::uint64_t)>;
    template <vmx::AnyField Field>
    ToldDefect(Field field, Change change) : encoding_(field.encoding), change_(std::move(change)) {}
    std::uint64_t read_by_l1(std::uint64_t encoding, std::uint64_t value) override {
        return encoding == encoding_ ? change_(value) : value;
    }

private:
    std::uint64_t encoding_;
    Change change_;
};

/// The index stays what L1 wrote last.
class KeepsTheIndex final : public Defect {
public:
    std::uint64_t written_by_l1(std::uint64_t encoding, std::uint64_t value) override {
        if (encoding == vmx::field::pml_index.encoding) written_ = value & 0xFFFF;
        return value;
    }
    std::uint64_t read_by_l1(std::uint64_t encoding, std::uint64_t value) override {
        return encoding == vmx::field::pml_index.encoding ? written_.value_or(value) : value;
    }

private:
    std::optional<std::uint64_t> written_{};
};

/// What L0 does with the entry that it has noted, or where it has noted none.
class LogDefect : public Defect {
public:
    static constexpr std::size_t entries = 512;
    void before_violation(const Violation& violation) override {
        for (std::size_t index = 0; index < entries; ++index) before_[index] = load(violation, index);
    }
    void behind_violation(const Violation& violation) override {
        bool noted = false;
        for (std::size_t index = 0; index < entries; ++index) {
            const std::uint64_t now = load(violation, index);
            if (now == before_[index]) continue;
            noted = true;
            change(violation, index, now);
        }
        if (!noted) note_more(violation);
    }

protected:
    static std::uint64_t place(std::size_t index) { return log_program::log_page(0) + 8 * index; }
    static std::uint64_t load(const Violation& violation, std::size_t index) {
        return violation.load(place(index));
    }
    virtual void change(const Violation& violation, std::size_t index, std::uint64_t entry) {
        static_cast<void>(violation);
        static_cast<void>(index);
        static_cast<void>(entry);
    }
    virtual void note_more(const Violation& violation) { static_cast<void>(violation); }

private:
    std::array<std::uint64_t, entries> before_{};
};

/// Bits 11:0 of the address are noted too.
class NotesTheWholeAddress final : public LogDefect {
    void change(const Violation& violation, std::size_t index, std::uint64_t entry) override {
        violation.store(place(index), entry | (violation.guest_physical & 0xFFF));
    }
};

/// The log grows from its beginning.
class FillsFromTheBeginning final : public LogDefect {
    void change(const Violation& violation, std::size_t index, std::uint64_t entry) override {
        violation.store(place(index), 0);
        violation.store(place(entries - 1 - index), entry);
    }
};

/// Where no dirty flag was to be set: a write, or a read, is noted all the same.
class NotesWithoutAFlag final : public LogDefect {
public:
    explicit NotesWithoutAFlag(bool writes) : writes_(writes) {}
    std::uint64_t read_by_l1(std::uint64_t encoding, std::uint64_t value) override {
        return encoding == vmx::field::pml_index.encoding ? (value - more_) & 0xFFFF : value;
    }

private:
    void note_more(const Violation& violation) override {
        if (violation.write != writes_) return;
        std::size_t next = entries - 1;
        while (next > 0 && load(violation, next) != 0) --next;
        violation.store(place(next), violation.guest_physical & ~std::uint64_t{0xFFF});
        ++more_;
    }

    bool writes_;
    std::uint64_t more_ = 0;
};

/// With the log full L2 writes on: the flags are set, and L1 learns nothing.
class WritesPastAFullLog final : public Defect {
public:
    std::uint64_t written_by_l1(std::uint64_t encoding, std::uint64_t value) override {
        if (encoding == vmx::field::pml_index.encoding) full_ = (value & 0xFFFF) >= LogDefect::entries;
        return value;
    }
    void before_violation(const Violation& violation) override {
        if (!full_) return;
        std::uint64_t table = layout::ept_root(0);
        for (unsigned level = 4; level > 0; --level) {
            const std::uint64_t place = table + 8 * (violation.guest_physical >> (3 + 9 * level) & 0x1FF);
            const std::uint64_t entry = violation.load(place);
            if ((entry & 7) == 0) return;
            const bool is_leaf = level == 1 || (entry & 0x80) != 0;
            violation.store(
                place, entry | log_program::accessed | (is_leaf && violation.write ? log_program::dirty : 0));
            if (is_leaf) return;
            table = entry & 0x000F'FFFF'FFFF'F000;
        }
    }

private:
    bool full_ = false;
};

/// Where the host scales L1's counter, L0 leaves that out for L2s.
class LeavesOutTheHostsMultiplier final : public Defect {
public:
    std::uint64_t written(std::uint32_t encoding, std::uint64_t value) override {
        // vmcs01 has its host's.
        if (std::exchange(is_of_vmcs01_, false)) scales_ = true;
        is_of_vmcs01_ =
            encoding == vmx::field::tsc_multiplier.encoding && value == RandomHost::tsc_multiplier;
        return value;
    }
    std::uint64_t written_for_l2(std::uint32_t encoding, std::uint64_t value) override {
        is_of_vmcs01_ = false;
        return encoding == vmx::field::tsc_multiplier.encoding && scales_ ? value / RandomHost::tsc_rate
                                                                          : value;
    }

private:
    bool is_of_vmcs01_ = false;
    bool scales_ = false;
};

/// The host's offset is added behind L1's multiplier, as if L1 had none; or L1's own is multiplied too.
class AddsOffsetsInAnotherOrder final : public Defect {
public:
    explicit AddsOffsetsInAnotherOrder(bool multiplies_l1s) : multiplies_l1s_(multiplies_l1s) {}
    std::uint64_t written_by_l1(std::uint64_t encoding, std::uint64_t value) override {
        if (encoding == vmx::field::tsc_offset.encoding) l1s_ = value;
        if (encoding == vmx::field::tsc_multiplier.encoding) multiplier_ = value >> 48;
        return value;
    }
    std::uint64_t written_for_l2(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding != vmx::field::tsc_offset.encoding) return value;
        if (multiplies_l1s_) return value - l1s_ + l1s_ * multiplier_;
        const std::uint64_t hosts = value - l1s_;
        return hosts == RandomHost::tsc_offset * multiplier_ ? RandomHost::tsc_offset + l1s_ : value;
    }

private:
    bool multiplies_l1s_;
    std::uint64_t l1s_ = 0;
    std::uint64_t multiplier_ = 1;
};

}  // namespace flatback::machine::defects
