#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "judge/trial/defect.hpp"
#include "vmx/field.hpp"
#include "vmx/interruption_bits.hpp"

// Defects in what L0 does with NMIs.
namespace flatback::machine::defects {

/// One of the questions that L0 answers about an NMI is answered wrongly.
class NmiDefect final : public Defect {
public:
    struct Answers {
        bool keeps = true;
        bool gave = true;
        bool takes_back = true;
        bool asks_the_engine = true;
    };
    explicit NmiDefect(Answers answers) : answers_(answers) {}
    bool keeps_nmi() override { return answers_.keeps; }
    bool gave_nmi() override { return answers_.gave; }
    bool takes_nmi_back() override { return answers_.takes_back; }
    bool asks_the_engine_about_nmis() override { return answers_.asks_the_engine; }

private:
    Answers answers_;
};

/// L0 writes something else to one field of its VMCSs.
class FieldDefect final : public Defect {
public:
    using Change = std::function<std::uint64_t(std::uint64_t)>;
    template <vmx::AnyField Field>
    FieldDefect(Field field, Change change) : encoding_(field.encoding), change_(std::move(change)) {}
    std::uint64_t written(std::uint32_t encoding, std::uint64_t value) override {
        return encoding == encoding_ ? change_(value) : value;
    }

private:
    std::uint32_t encoding_;
    Change change_;
};

/// An NMI that was written to the entry field stays there: what is to take it away is not written.
class LeavesNmiInTheEntryField final : public Defect {
public:
    std::uint64_t written(std::uint32_t encoding, std::uint64_t value) override {
        constexpr std::uint64_t nmi = 0x8000'0202;
        if (encoding != vmx::field::vm_entry_interruption_information.encoding) return value;
        if (std::exchange(has_one_, value == nmi) && value >> 31 == 0) return nmi;
        return value;
    }

private:
    bool has_one_ = false;
};

}  // namespace flatback::machine::defects
