#include "machine/trial/mutants.hpp"

#include <cstdio>
#include <ostream>
#include <random>
#include <utility>

#include "machine/trial/random_program.hpp"
#include "machine/trial/trial.hpp"
#include "vmx/field.hpp"
#include "x86/address.hpp"

namespace flatback::machine {

namespace {

using Run = Defect::Run;
using Handling = Defect::Handling;

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

std::uint64_t& type_of(const Defect::Handled& handled) {
    return handled.registers.general[3];
}

class Table {
public:
    Table() {
        dropped();
        misdirected();
        widened();
        tags();
        handlers();
    }
    std::vector<Mutant> all;

private:
    void add(const char* name, std::optional<unsigned> row, DefectMaker make) {
        all.push_back({name, row, std::move(make)});
    }
    void flush(const char* name, std::optional<unsigned> row, FlushDefect::Change change) {
        add(name, row, [change] { return std::make_unique<FlushDefect>(change); });
    }
    void handler(const char* name, std::optional<unsigned> row, HandlerDefect::Handle handle,
                 Opcode opcode = Opcode::invvpid) {
        add(name, row, [handle, opcode] { return std::make_unique<HandlerDefect>(opcode, handle); });
    }

    void dropped() {
        const auto drops = [this](const char* name, std::optional<unsigned> row, auto&& which) {
            flush(name, row, [which](const HardwareFlush& it, std::uint16_t, const Run& run) {
                if (!which(it)) run(it);
            });
        };
        drops("drops every INVVPID", 3, [](const HardwareFlush& it) { return !it.invept; });
        drops("drops every INVEPT", 18, [](const HardwareFlush& it) { return it.invept; });
        drops("drops INVVPID of an address", std::nullopt,
              [](const HardwareFlush& it) { return !it.invept && it.type == 0; });
        drops("drops INVVPID of a context", 27,
              [](const HardwareFlush& it) { return !it.invept && it.type == 1; });
        drops("drops INVVPID that retains globals", 31,
              [](const HardwareFlush& it) { return !it.invept && it.type == 3; });
        drops("drops flushes of vpid01", 14,
              [](const HardwareFlush& it) { return !it.invept && it.vpid == 1; });
        drops("drops flushes on processor 1", 28, [](const HardwareFlush& it) { return it.processor == 1; });
        drops("drops flushes of high-half addresses", 32,
              [](const HardwareFlush& it) { return !it.invept && it.type == 0 && it.operand >> 63 != 0; });
        add("drops every second INVVPID", std::nullopt, [] {
            return std::make_unique<FlushDefect>(
                [odd = false](const HardwareFlush& it, std::uint16_t, const Run& run) mutable {
                    if (it.invept || (odd = !odd)) run(it);
                });
        });
        add("drops every second INVEPT", std::nullopt, [] {
            return std::make_unique<FlushDefect>(
                [odd = false](const HardwareFlush& it, std::uint16_t, const Run& run) mutable {
                    if (!it.invept || (odd = !odd)) run(it);
                });
        });
        flush("takes a flush that was raised elsewhere for done", 23,
              [](const HardwareFlush& it, std::uint16_t current, const Run& run) {
                  if (it.invept || it.vpid == current) run(it);
              });
        add("loses the flushes of a failed entry", 29,
            [] { return std::make_unique<LostWithAFailedEntry>(); });
        add("marks a tag valid and flushes it after the entry", std::nullopt,
            [] { return std::make_unique<LateFlush>(false); });
        add("runs INVEPT after the entry", std::nullopt, [] { return std::make_unique<LateFlush>(true); });
    }

    void misdirected() {
        const auto changes = [this](const char* name, std::optional<unsigned> row, auto&& change) {
            flush(name, row, [change](HardwareFlush it, std::uint16_t current, const Run& run) {
                change(it, current);
                run(it);
            });
        };
        changes("flushes the tag that is current", 15, [](HardwareFlush& it, std::uint16_t current) {
            if (!it.invept && current != 0) it.vpid = current;
        });
        changes("flushes vpid01 always", 22, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept) it.vpid = 1;
        });
        changes("flushes the next tag", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept) ++it.vpid;
        });
        changes("runs INVVPID on processor 0", 28, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept) it.processor = 0;
        });
        changes("runs INVEPT on processor 0", 28, [](HardwareFlush& it, std::uint16_t) {
            if (it.invept) it.processor = 0;
        });
        changes("flushes an address instead of a context", std::nullopt,
                [](HardwareFlush& it, std::uint16_t) {
                    if (!it.invept && it.type == 1) it.type = 0;
                });
        changes("retains globals always", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept && it.type == 1) it.type = 3;
        });
        changes("flushes the neighbour of an address", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept && it.type == 0) it.operand ^= 0x1000;
        });
        changes("runs INVEPT of the next table", 13, [](HardwareFlush& it, std::uint16_t) {
            if (it.invept && it.type == 1) it.operand += 0x1000;
        });
        flush("runs INVEPT where INVVPID is due", 13, [](HardwareFlush it, std::uint16_t, const Run& run) {
            if (!it.invept) it = {true, 2, 0, 0, it.processor};
            run(it);
        });
    }

    void widened() {
        const auto widens = [this](const char* name, std::optional<unsigned> row, auto&& change) {
            flush(name, row, [change](HardwareFlush it, std::uint16_t, const Run& run) {
                change(it);
                run(it);
            });
        };
        widens("widens an address to its context", 11, [](HardwareFlush& it) {
            if (!it.invept && it.type == 0) it.type = 1;
        });
        widens("runs raw INVVPID of all contexts", 33, [](HardwareFlush& it) {
            if (!it.invept) it.type = 2;
        });
        widens("runs raw INVEPT of all contexts", std::nullopt, [](HardwareFlush& it) {
            if (it.invept) it.type = 2;
        });
        flush("flushes twice", 20, [](const HardwareFlush& it, std::uint16_t, const Run& run) {
            run(it);
            run(it);
        });
        flush("runs INVEPT beside each INVVPID", 13,
              [](const HardwareFlush& it, std::uint16_t, const Run& run) {
                  run(it);
                  if (!it.invept) run({true, 2, 0, 0, it.processor});
              });
        using When = FlushAtTransition::When;
        const auto at = [this](const char* name, std::optional<unsigned> row, When when, bool invept) {
            add(name, row, [when, invept] {
                return std::make_unique<FlushAtTransition>(when,
                                                           HardwareFlush{invept, invept ? 2U : 1U, 0, 0, 0});
            });
        };
        at("flushes at every entry of L2", 20, When::entry_of_l2, false);
        at("flushes at every exit of L2", 16, When::exit_of_l2, false);
        at("flushes vpid01 at every entry of L1", 20, When::entry_of_l1, false);
        at("runs INVEPT at every entry of L2", 20, When::entry_of_l2, true);
        at("runs INVEPT at every exit of L2", std::nullopt, When::exit_of_l2, true);
    }

    void tags() {
        const auto same = [](std::uint16_t tag) { return tag; };
        const auto tag = [this](const char* name, std::optional<unsigned> row, TagDefect::Change written,
                                TagDefect::Change flushed) {
            add(name, row, [written, flushed] { return std::make_unique<TagDefect>(written, flushed); });
        };
        const auto one_for_all = [](std::uint16_t it) { return static_cast<std::uint16_t>(it == 0 ? 0 : 1); };
        const auto two = [](std::uint16_t it) { return static_cast<std::uint16_t>(it > 2 ? 2 : it); };
        tag("gives every guest one tag", 2, one_for_all, one_for_all);
        tag("gives every second owner the tag of the first", 2, two, two);
        tag("runs L2 under vpid01 and flushes its own tag", 25, one_for_all, same);
        tag(
            "reuses a tag at once", 27,
            [](std::uint16_t it) { return static_cast<std::uint16_t>(it > 3 ? 3 : it); }, same);
        add("believes to be on processor 0", 37, [] { return std::make_unique<BelievesProcessor0>(); });
        add("does not tell of a taken page", 17, [] { return std::make_unique<KeepsTakenPages>(); });
    }

    void handlers() {
        handler("does not advance RIP at a bad type", 4, [](const Defect::Handled& it) {
            return type_of(it) > 3 ? Handling::stay : Handling::engine;
        });
        handler("offers type 2 only", 5, [](const Defect::Handled& it) {
            return type_of(it) == 2 ? Handling::engine : Handling::fail_28;
        });
        handler("looks at some bits of the type", 6, [](const Defect::Handled& it) {
            type_of(it) &= 0xFFFF'FFFF;
            return Handling::engine;
        });
        handler("takes the type modulo 64", 6, [](const Defect::Handled& it) {
            type_of(it) &= 63;
            return Handling::engine;
        });
        handler("accepts VPID 0", 7, [](const Defect::Handled& it) {
            return it.operand[0] == 0 && type_of(it) < 4 ? Handling::succeed : Handling::engine;
        });
        handler("ignores the descriptor's reserved bits", 9, [](const Defect::Handled& it) {
            it.operand[0] &= 0xFFFF;
            return Handling::engine;
        });
        handler("reads four bytes of the descriptor", 9, [](const Defect::Handled& it) {
            it.operand[0] &= 0xFFFF'FFFF;
            return Handling::engine;
        });
        handler("succeeds where INVVPID is not offered", 1,
                [](const Defect::Handled&) { return Handling::succeed; });
        handler("refuses type 3", 31, [](const Defect::Handled& it) {
            return type_of(it) == 3 ? Handling::fail_28 : Handling::engine;
        });
        handler("flushes nothing for type 2 with VPID 0", 34, [](const Defect::Handled& it) {
            return type_of(it) == 2 && it.operand[0] == 0 ? Handling::succeed : Handling::engine;
        });
        handler("takes type 2 for the named VPID", 34, [](const Defect::Handled& it) {
            if (type_of(it) == 2 && it.operand[0] != 0) type_of(it) = 1;
            return Handling::engine;
        });
        handler("untags LAM addresses", 26, [](const Defect::Handled& it) {
            constexpr std::uint64_t lam = 0x7E00'0000'0000'0000;
            it.operand[1] = it.operand[1] >> 63 != 0 ? it.operand[1] | lam : it.operand[1] & ~lam;
            return Handling::engine;
        });
        handler("refuses high-half addresses", 32, [](const Defect::Handled& it) {
            return type_of(it) == 0 && it.operand[1] >> 63 != 0 ? Handling::fail_28 : Handling::engine;
        });
        handler("does not look at bit 47", 33, [](const Defect::Handled& it) {
            const std::uint64_t above = it.operand[1] >> 48;
            if (type_of(it) == 0 && (above == 0 || above == 0xFFFF)) it.operand[1] = 0x4000'0000;
            return Handling::engine;
        });
        add("wants a current VMCS", 3, [] { return std::make_unique<WantsCurrentVmcs>(); });
        handler(
            "ignores INVEPT of one context", 18,
            [](const Defect::Handled& it) { return type_of(it) == 1 ? Handling::succeed : Handling::engine; },
            Opcode::invept);
        handler(
            "ignores INVEPT of all contexts", std::nullopt,
            [](const Defect::Handled& it) { return type_of(it) == 2 ? Handling::succeed : Handling::engine; },
            Opcode::invept);
        add("compares EPTP, not EP4TA", 21, [] { return std::make_unique<ComparesWholeEptp>(); });
    }
};

std::string test_name(const LedgerCase& which) {
    char suite[24] = "LedgerOwnRules";
    if (which.row != 0) std::snprintf(suite, sizeof suite, "LedgerRow%02u", which.row);
    return std::string(suite) + "." + which.name;
}

}  // namespace

const std::vector<Mutant>& mutants() {
    static const Table table;
    return table.all;
}

MutantResult try_mutant(const Mutant& mutant, std::size_t random_programs, const TrialLimits& limits) {
    MutantResult result{mutant.name, mutant.ledger_row, {}};
    // The case of its own row first: that one should do.
    for (const bool of_its_row : {true, false}) {
        for (const LedgerCase& each : ledger()) {
            if ((mutant.ledger_row == each.row) != of_its_row || !judge(each, mutant.make, limits)) continue;
            result.caught_by = test_name(each);
            return result;
        }
    }
    std::mt19937_64 random(1);
    std::vector<std::uint8_t> bytes(400);
    for (std::size_t number = 0; number < random_programs; ++number) {
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
        const std::unique_ptr<Defect> defect = mutant.make();
        const NestedWorld::Options options = limits.applied_to({.vcpus = 2, .defect = defect.get()});
        if (!compare(random_program(bytes), options)) continue;
        result.caught_by = "RandomPrograms.AreTheSameBareAndNested, program " + std::to_string(number);
        return result;
    }
    return result;
}

void write_json(std::ostream& out, const std::vector<MutantResult>& results) {
    out << "{\n  \"mutants\": [\n";
    for (std::size_t index = 0; index < results.size(); ++index) {
        const MutantResult& each = results[index];
        out << "    {\"name\": \"" << each.name << "\", \"ledger_row\": ";
        if (each.ledger_row) {
            out << *each.ledger_row;
        } else {
            out << "null";
        }
        out << ", \"caught_by\": ";
        if (each.caught_by.empty()) {
            out << "null";
        } else {
            out << "\"" << each.caught_by << "\"";
        }
        out << "}" << (index + 1 < results.size() ? "," : "") << "\n";
    }
    out << "  ]\n}\n";
}

}  // namespace flatback::machine
