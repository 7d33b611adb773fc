#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "judge/trial/defect.hpp"

// Defects of an L0 whose L1 has several processors.
namespace flatback::machine::defects {

/// What a processor is asked for it does at another time, or not.
class AnswersOtherwise final : public Defect {
public:
    AnswersOtherwise(Request request, Answer answer) : request_(request), answer_(answer) {}
    Answer answers(Request request) override {
        return request == request_ ? answer_ : Answer::before_next_entry;
    }

private:
    Request request_;
    Answer answer_;
};

/// One for all, where each processor has its own.
class AsksItselfAlone final : public Defect {
public:
    std::uint64_t asked_of(std::uint64_t running, unsigned here) override {
        return running & std::uint64_t{1} << here;
    }
};

class NotesTheWrongProcessor final : public Defect {
public:
    unsigned noted_beside(unsigned processor) override { return processor ^ 1; }
};

class NoticesNoWrite final : public Defect {
public:
    bool notices_write() override { return false; }
};

/// A mark that was to be a processor's is everybody's: a flush like the last one of that tag is taken for
/// done, on whichever processor that was.
class OneMarkForAllProcessors final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        if (flush.invept) return run(flush);
        const auto last = last_on_.find(flush.vpid);
        const bool elsewhere = last != last_on_.end() && last->second != flush.processor;
        if (!elsewhere) run(flush);
        last_on_[flush.vpid] = flush.processor;
    }

private:
    std::map<std::uint16_t, unsigned> last_on_;
};

class TellsProcessorsApartByOneBit final : public Defect {
public:
    unsigned processor(unsigned number) override { return number & 1; }
};

/// A flush is sent to the processor on which one was run last.
class FlushesWhereOneRanLast final : public Defect {
public:
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        HardwareFlush changed = flush;
        changed.processor = std::exchange(last_, flush.processor);
        run(changed);
    }

private:
    unsigned last_ = 0;
};

/// Of the first INVVPID behind a VMPTRLD by which L1 takes an L2 from another of its processors: as many.
class FlushesOfAComing final : public Defect {
public:
    explicit FlushesOfAComing(unsigned times) : times_(times) {}
    Handling handle(const Handled& handled) override {
        if (handled.opcode == Opcode::vmptrld && handled.operand != nullptr) {
            const auto [place, is_new] = last_by_.try_emplace(handled.operand[0], &handled.registers);
            comes_ = comes_ || (!is_new && place->second != &handled.registers);
            place->second = &handled.registers;
        }
        return Handling::engine;
    }
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        const bool changed = !flush.invept && std::exchange(comes_, comes_ && flush.invept);
        for (unsigned time = 0; time < (changed ? times_ : 1); ++time) run(flush);
    }

private:
    unsigned times_;
    bool comes_ = false;
    std::map<std::uint64_t, const Registers*> last_by_;  // by the VMCS's address: the processor's
};

/// The first VMCS for L2s of each processor is the same one, and so on: one for all, where each processor has
/// its own.
class OneVmcsForL2sOfAll final : public Defect {
public:
    std::uint64_t vmcs_of_l2(std::uint64_t page, unsigned processor) override {
        std::vector<std::uint64_t>& of_this = seen_[processor];
        auto place = std::ranges::find(of_this, page);
        if (place == of_this.end()) place = of_this.insert(place, page);
        const auto number = static_cast<std::size_t>(place - of_this.begin());
        const std::vector<std::uint64_t>& of_the_first = seen_.begin()->second;
        return number < of_the_first.size() ? of_the_first[number] : page;
    }

private:
    std::map<unsigned, std::vector<std::uint64_t>> seen_;
};

/// L1's VMCLEAR of an L2's VMCS is not heard: it stays as it is on the processor that L1 takes it from.
class LeavesItWhereItWas final : public Defect {
public:
    Handling handle(const Handled& handled) override {
        return handled.opcode == Opcode::vmclear && handled.in_vmx_operation ? Handling::succeed
                                                                             : Handling::engine;
    }
};

}  // namespace flatback::machine::defects
