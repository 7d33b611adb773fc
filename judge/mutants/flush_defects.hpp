#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "judge/trial/defect.hpp"
#include "vmx/controls.hpp"
#include "vmx/ept.hpp"
#include "vmx/field.hpp"

// Defects in what L0 executes: its flushes, and the tags under which it runs guests.
namespace flatback::machine::defects {

using Run = Defect::Run;

/// Each flush that L0 executes is given to a function, which may run it, or another, or none.
class FlushDefect final : public Defect {
public:
    using Change = std::function<void(HardwareFlush flush, std::uint16_t current_vpid, const Run& run)>;
    explicit FlushDefect(Change change) : change_(std::move(change)) {}
    void flush(const HardwareFlush& flush, std::uint16_t current_vpid, const Run& run) override {
        change_(flush, current_vpid, run);
    }

private:
    Change change_;
};

/// Flushes wait until a guest has run.
class LateFlush final : public Defect {
public:
    explicit LateFlush(bool invept) : invept_(invept) {}
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        if (flush.invept == invept_) {
            waiting_.push_back(flush);
        } else {
            run(flush);
        }
    }
    void after_exit(bool, std::uint16_t, const Run& run) override {
        for (const HardwareFlush& flush : std::exchange(waiting_, {})) run(flush);
    }

private:
    bool invept_;
    std::vector<HardwareFlush> waiting_;
};

/// A VM entry that fails takes the flushes before it along.
class LostWithAFailedEntry final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run&) override { waiting_.push_back(flush); }
    void after_entry(bool succeeded, const Run& run) override {
        for (const HardwareFlush& flush : std::exchange(waiting_, {})) {
            if (succeeded) run(flush);
        }
    }

private:
    std::vector<HardwareFlush> waiting_;
};

/// A flush at every VM entry or exit of a kind.
class FlushAtTransition final : public Defect {
public:
    enum class When : std::uint8_t { entry_of_l2, exit_of_l2, entry_of_l1 };
    FlushAtTransition(When when, HardwareFlush flush) : when_(when), flush_(flush) {}
    void before_entry(bool into_l2, std::uint16_t vpid, const Run& run) override {
        if (when_ == When::entry_of_l2 && into_l2) go(vpid, run);
        if (when_ == When::entry_of_l1 && !into_l2) go(vpid, run);
    }
    void after_exit(bool from_l2, std::uint16_t vpid, const Run& run) override {
        if (when_ == When::exit_of_l2 && from_l2) go(vpid, run);
    }

private:
    void go(std::uint16_t vpid, const Run& run) {
        if (vpid == 0 && !flush_.invept) return;
        HardwareFlush flush = flush_;
        flush.vpid = vpid;
        run(flush);
    }
    When when_;
    HardwareFlush flush_;
};

/// Tags, and flushes of them, are changed alike or not.
class TagDefect final : public Defect {
public:
    using Change = std::function<std::uint16_t(std::uint16_t)>;
    TagDefect(Change written, Change flushed) : written_(std::move(written)), flushed_(std::move(flushed)) {}
    std::uint64_t written(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding != vmx::field::virtual_processor_identifier.encoding) return value;
        return written_(static_cast<std::uint16_t>(value));
    }
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        HardwareFlush changed = flush;
        if (!flush.invept) changed.vpid = flushed_(flush.vpid);
        run(changed);
    }

private:
    Change written_;
    Change flushed_;
};

class BelievesProcessor0 final : public Defect {
public:
    unsigned processor(unsigned) override { return 0; }
};

/// A flush comes one flush, or one VM entry, too late.
class OneFlushLate final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        if (flush.invept) return run(flush);
        if (const auto before = std::exchange(waiting_, flush)) run(*before);
    }

private:
    std::optional<HardwareFlush> waiting_;
};

/// The first INVVPID after a VM entry on another processor than the last is taken for done.
class LosesFlushOfAMove final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        if (std::exchange(last_, flush.processor) == flush.processor || flush.invept) run(flush);
    }

private:
    unsigned last_ = 0;
};

/// A tag that comes back after VMXOFF is taken for what it was before.
class KeepsMarksAcrossVmxoff final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        if (flush.invept) return run(flush);
        const bool known = !flushed_.insert(flush.vpid).second;
        if (!std::exchange(after_vmxoff_, after_vmxoff_ && !known) || !known) run(flush);
    }
    Handling handle(const Handled& handled) override {
        after_vmxoff_ = after_vmxoff_ || handled.opcode == Opcode::vmxoff;
        return Handling::engine;
    }

private:
    std::set<std::uint16_t> flushed_;
    bool after_vmxoff_ = false;
};

/// A move is paid for by the virtual CPU's first flush on the other processor, whichever tag that is of.
class CountsMovesPerVirtualCpu final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        if (flush.invept) return run(flush);
        const auto last = last_.find(flush.vpid);
        const bool moved = last != last_.end() && last->second != flush.processor;
        if (!moved || flush.vpid == vpid01_) run(flush);
        last_[flush.vpid] = flush.processor;
    }

private:
    static constexpr std::uint16_t vpid01_ = 1;
    std::map<std::uint16_t, unsigned> last_;
};

/// An INVVPID like the last one is taken for done.
class RunsNoFlushAgain final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        if (flush.invept) return run(flush);
        if (std::exchange(last_, flush) != flush) run(flush);
    }

private:
    std::optional<HardwareFlush> last_;
};

/// INVVPID takes what was cached under one EPT only, that which L2 is to run under.
class OneEptContext final : public Defect {
public:
    std::uint64_t written(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding == vmx::field::ept_pointer.encoding) ep4ta_ = vmx::Eptp{value}.root();
        return value;
    }
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        HardwareFlush changed = flush;
        if (!flush.invept && flush.type == 1) changed.only_ep4ta = ep4ta_;
        run(changed);
    }

private:
    std::uint64_t ep4ta_ = 0;
};

/// L2's VMCS has "enable VPID" = 1, whatever L0 has.
class AlwaysEnablesVpid final : public Defect {
public:
    std::uint64_t written(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding != vmx::field::secondary_processor_based_vm_execution_controls.encoding) return value;
        // The first VMCS is L1's own.
        return std::exchange(first_, false) ? value : value | vmx::secondary::enable_vpid;
    }

private:
    bool first_ = true;
};

/// A flush is run before the guest that it is for is loaded, and reaches the one that ran last.
class FlushesWhatRanLast final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        HardwareFlush changed = flush;
        if (!flush.invept && ran_last_ != 0) changed.vpid = ran_last_;
        run(changed);
    }
    void before_entry(bool, std::uint16_t vpid, const Run&) override { ran_last_ = vpid; }

private:
    std::uint16_t ran_last_ = 0;
};

/// What L1's context is owed is given to an L2's.
class ConsumedInL2 final : public Defect {
public:
    std::uint64_t written(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding != vmx::field::ept_pointer.encoding) return value;
        if (ept01_ == 0) ept01_ = value;
        if (value != ept01_) ept02_ = value;
        return value;
    }
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        HardwareFlush changed = flush;
        if (flush.invept && flush.operand == ept01_ && ept02_ != 0) changed.operand = ept02_;
        run(changed);
    }

private:
    std::uint64_t ept01_ = 0;
    std::uint64_t ept02_ = 0;
};

/// Takes itself to be on another processor at every look.
class BelievesToHaveMoved final : public Defect {
public:
    unsigned processor(unsigned) override { return ++looks_ % 2; }

private:
    unsigned looks_ = 0;
};

}  // namespace flatback::machine::defects
