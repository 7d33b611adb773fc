// A flush that is owed, as a value: it names its target, and it is paid or kept, never dropped.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "../x86/address.hpp"
#include "content_mark.hpp"
#include "cpu.hpp"
#include "ept_mark.hpp"
#include "flush_cause.hpp"
#include "numbers.hpp"

namespace flatback::tag {

struct FlushTarget {
    TagNumber tag = TagNumber::none;    // none only where extent is nothing
    Cpu cpu = Cpu::none;                // where it has to run
    Extent extent = Extent::nothing;    // INVVPID of `tag`
    x86::LinearAddress linear_address;  // of Extent::address
    bool ept_contexts = false;  // INVEPT too: of every context that the mark stands for (rule: see EptMark)
    FlushCause cause = FlushCause::unknown;      // of the INVVPID
    FlushCause ept_cause = FlushCause::unknown;  // of the INVEPT
    Vpid12 vpid12 =
        Vpid12::none;  // whose translations the INVVPID is for; none: not those of one VPID of L1's
};

// Called where an owed flush is destroyed neither paid nor kept: a bug of the caller's. The default, in
// unpaid_flush.cpp, stops the program; it is weak, so a host defines its own (a panic) and a test records it.
void unpaid_flush(const FlushTarget& target) noexcept;

// The caller runs what target() says, on target().cpu, and then says paid(): only that marks the content
// valid. Or it says keep(), and the flush is owed as before. A flush that was taken later, for the same tag,
// or any new use of the tag makes paid() of an earlier one mark nothing. The map or Vpid01 it came from must
// outlive it. Sharing: none; as the marks.
class [[nodiscard]] OwedFlush final {
public:
    OwedFlush(const FlushTarget& target, ContentMark* content, EptMark* ept) : target_(target) {
        if (target.extent != Extent::nothing) {
            content_ = content;
            content_receipt_ = content->take();
        }
        if (target.ept_contexts) {
            ept_ = ept;
            ept_receipt_ = ept->take();
        }
        owed_ = true;
    }
    OwedFlush(const OwedFlush&) = delete;
    OwedFlush& operator=(const OwedFlush&) = delete;
    OwedFlush& operator=(OwedFlush&&) = delete;
    OwedFlush(OwedFlush&& other) noexcept
        : target_(other.target_),
          content_(other.content_),
          ept_(other.ept_),
          content_receipt_(other.content_receipt_),
          ept_receipt_(other.ept_receipt_),
          owed_(std::exchange(other.owed_, false)) {}
    ~OwedFlush() {
        if (owed_) [[unlikely]]
            dropped(target_);
    }

    [[nodiscard]] const FlushTarget& target() const { return target_; }

    void paid() && {
        if (!std::exchange(owed_, false)) return;
        if (content_ != nullptr) content_->commit(content_receipt_, target_.cpu);
        if (ept_ != nullptr) ept_->commit(ept_receipt_, target_.cpu);
    }
    void keep() && { owed_ = false; }

private:
    // By value: an object whose address is given away cannot live in registers.
    [[gnu::cold, gnu::noinline]] static void dropped(FlushTarget target) { unpaid_flush(target); }

    FlushTarget target_;
    ContentMark* content_ = nullptr;
    EptMark* ept_ = nullptr;
    ContentMark::Receipt content_receipt_{};
    EptMark::Receipt ept_receipt_{};
    bool owed_ = false;
};

// What a guest is to be entered with. The constructors are written out because GCC clears the whole of an
// aggregate, room for the flush included, and most entries have none.
struct [[nodiscard]] Entry {
    Entry(TagNumber entry_tag, bool shares) : tag(entry_tag), shares_vpid01(shares) {}
    Entry(TagNumber entry_tag, bool shares, std::optional<OwedFlush> owed)
        : tag(entry_tag), shares_vpid01(shares), flush(std::move(owed)) {}

    TagNumber tag;                   // none: clear "enable VPID" in the hardware VMCS
    bool shares_vpid01;              // an L2 that runs under L1's tag
    std::optional<OwedFlush> flush;  // to be run and paid before the entry
};

// What must be flushed before a guest runs under the tag on the CPU. Without a tag the processor flushes
// linear and combined mappings itself at each VM entry and VM exit (SDM 3C 29.4.3.1).
[[nodiscard]] inline std::optional<OwedFlush> owed_before_entry(TagNumber tag, Cpu cpu, ContentMark& content,
                                                                EptMark& ept, Vpid12 vpid12 = Vpid12::none) {
    ContentMark::Debt debt;
    if (tag != TagNumber::none) debt = content.debt_on(cpu);
    const bool ept_contexts = !ept.valid_on(cpu);
    if (debt.extent == Extent::nothing && !ept_contexts) return std::nullopt;
    return std::optional<OwedFlush>{std::in_place,
                                    FlushTarget{tag, cpu, debt.extent, debt.linear_address, ept_contexts,
                                                debt.cause, ept.cause_on(cpu), vpid12},
                                    &content, &ept};
}

}  // namespace flatback::tag
