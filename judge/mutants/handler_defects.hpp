#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "judge/trial/defect.hpp"
#include "vmx/field.hpp"

// Defects in how L0 deals with what L1 executes, reads and is.
namespace flatback::machine::defects {

using Handling = Defect::Handling;

class KeepsTakenPages final : public Defect {
public:
    bool tells_of_taken_page() override { return false; }
};

/// L1's INVVPID or INVEPT is handled otherwise.
class HandlerDefect final : public Defect {
public:
    using Handle = std::function<Handling(const Handled& handled)>;
    HandlerDefect(Opcode opcode, Handle handle) : opcode_(opcode), handle_(std::move(handle)) {}
    Handling handle(const Handled& handled) override {
        if (handled.opcode != opcode_ || handled.operand == nullptr) return Handling::engine;
        return handle_(handled);
    }

private:
    Opcode opcode_;
    Handle handle_;
};

/// INVVPID is refused where no VMCS was made current since VMXON.
class WantsCurrentVmcs final : public Defect {
public:
    Handling handle(const Handled& handled) override {
        if (handled.opcode == Opcode::vmxon) has_one_ = false;
        if (handled.opcode == Opcode::vmptrld) has_one_ = true;
        return handled.opcode == Opcode::invvpid && !has_one_ ? Handling::fail_28 : Handling::engine;
    }

private:
    bool has_one_ = false;
};

/// INVEPT of an EPTP that is not, bit for bit, one that L1 wrote to a VMCS has no effect.
class ComparesWholeEptp final : public Defect {
public:
    Handling handle(const Handled& handled) override {
        constexpr unsigned rax = 0;
        constexpr unsigned rbx = 3;
        const auto& general = handled.registers.general;
        if (handled.opcode == Opcode::vmwrite && general[rbx] == vmx::field::ept_pointer.encoding)
            last_ = general[rax];
        const bool other = handled.opcode == Opcode::invept && general[rbx] == 1 &&
                           handled.operand != nullptr && handled.operand[0] != last_;
        return other ? Handling::succeed : Handling::engine;
    }

private:
    std::uint64_t last_ = 0;
};

/// Capabilities are changed before L1 is told.
class Tells final : public Defect {
public:
    Tells(std::uint32_t msr, std::uint64_t set, std::uint64_t clear) : msr_(msr), set_(set), clear_(clear) {}
    std::uint64_t told(std::uint32_t msr, std::uint64_t value) override {
        return msr == msr_ ? (value | set_) & ~clear_ : value;
    }

private:
    std::uint32_t msr_;
    std::uint64_t set_;
    std::uint64_t clear_;
};

/// vpid12 is changed as L1 writes it to its VMCS.
class MisreadsVpid12 final : public Defect {
public:
    using Change = std::function<std::uint64_t(std::uint64_t)>;
    explicit MisreadsVpid12(Change change) : change_(std::move(change)) {}
    std::uint64_t written_by_l1(std::uint64_t encoding, std::uint64_t value) override {
        return encoding == vmx::field::virtual_processor_identifier.encoding ? change_(value) : value;
    }

private:
    Change change_;
};

/// INVVPID of all contexts takes that of the last vpid12 only.
class AllContextsAreTheLast final : public Defect {
public:
    std::uint64_t written_by_l1(std::uint64_t encoding, std::uint64_t value) override {
        if (encoding == vmx::field::virtual_processor_identifier.encoding) last_ = value;
        return value;
    }
    Handling handle(const Handled& handled) override {
        std::uint64_t& type = handled.registers.general[3];
        if (handled.opcode == Opcode::invvpid && handled.operand != nullptr && type == 2 && last_ != 0) {
            type = 1;
            handled.operand[0] = last_;
        }
        return Handling::engine;
    }

private:
    std::uint64_t last_ = 0;
};

/// What a VM owned is kept where it is destroyed.
class KeepsWhatWasDestroyed final : public Defect {
public:
    explicit KeepsWhatWasDestroyed(bool only_in_l2) : only_in_l2_(only_in_l2) {}
    bool gives_back(bool in_l2) override { return only_in_l2_ && !in_l2; }

private:
    bool only_in_l2_;
};

}  // namespace flatback::machine::defects
