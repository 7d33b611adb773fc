// L1's page-modification log (SDM 3C 29.3.6): where its guest's writes are noted that set a dirty flag in
// EPT12.
//
// The flags of EPT12 are set by L0 alone, since EPT02 allows no write to a page before
// (nested/ept/ept02.hpp). So the log is L0's too, on any processor, and costs nothing where L1 keeps none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../x86/address.hpp"
#include "../../x86/words.hpp"
#include "../port.hpp"

namespace flatback::nested {

// Of one VMCS, for the time of one exit. Not shared between virtual CPUs.
template <Port P>
class PageModificationLog final {
public:
    // page: the VMCS's PML address, which has been checked. index: its PML index, of any value.
    PageModificationLog(P& port, x86::Gpa<x86::L1> page, std::uint16_t index)
        : port_(port), page_(page), index_(index) {}

    // Then no flag may be set, and L1 is to see the exit.
    [[nodiscard]] bool is_full() const { return index_ >= entries; }
    // Not where it is full. L1's page may be none of memory: what is written there is gone.
    void note(x86::Gpa<x86::L2> guest_physical) {
        if (auto* page = port_.l1_page(page_)) {
            x86::write_word(reinterpret_cast<std::uint64_t*>(page) + index_,
                            guest_physical.value() & ~(x86::page_size - 1));
        }
        --index_;  // from 0 to FFFFH
    }
    [[nodiscard]] std::uint16_t index() const { return index_; }

private:
    static constexpr std::uint16_t entries = 512;

    P& port_;
    x86::Gpa<x86::L1> page_;
    std::uint16_t index_;
};

}  // namespace flatback::nested
