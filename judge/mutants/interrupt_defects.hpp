#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "judge/trial/defect.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

// Defects in what L0 does with external interrupts, where it has them all.
namespace flatback::machine::defects {

/// One of the questions that L0 answers about an interrupt is answered wrongly.
class InterruptDefect final : public Defect {
public:
    struct Answers {
        bool shown_is_acknowledged = false;
        bool given_is_acknowledged = true;
        bool takes_back = true;
        bool knows_its_own = true;
        bool nmis_first = true;
        bool hands_on = true;
    };
    explicit InterruptDefect(Answers answers) : answers_(answers) {}
    bool acknowledges(bool shown) override {
        return shown ? answers_.shown_is_acknowledged : answers_.given_is_acknowledged;
    }
    bool takes_interrupt_back() override { return answers_.takes_back; }
    bool knows_its_own_interrupts() override { return answers_.knows_its_own; }
    bool offers_nmis_first() override { return answers_.nmis_first; }
    bool hands_on_what_waits() override { return answers_.hands_on; }

private:
    Answers answers_;
};

/// L0 takes another vector for pending, or none.
class OffersAnother final : public Defect {
public:
    using Vector = std::optional<std::uint8_t>;
    using Change = std::function<Vector(Vector)>;
    explicit OffersAnother(Change change) : change_(std::move(change)) {}
    Vector offered(Vector pending) override { return change_(pending); }

private:
    Change change_;
};

/// L0 injects an interrupt by itself where it should have asked what keeps it out.
class InjectsItself final : public Defect {
public:
    using When = std::function<bool(const Gate&)>;
    explicit InjectsItself(When when) : when_(std::move(when)) {}
    bool injects_itself(const Gate& gate) override { return when_(gate); }

private:
    When when_;
};

/// The window that L0 once opened in an L2 stays open.
class LeavesWindowOpen final : public Defect {
public:
    std::uint64_t written_for_l2(std::uint32_t encoding, std::uint64_t value) override {
        constexpr std::uint64_t window = vmx::primary::interrupt_window_exiting;
        if (encoding != vmx::field::primary_processor_based_vm_execution_controls.encoding) return value;
        open_ = open_ || (value & window) != 0;
        return open_ ? value | window : value;
    }

private:
    bool open_ = false;
};

}  // namespace flatback::machine::defects
