// The MSR bitmaps that the hardware uses for L2: L1's, with L0's own bits (SDM 3C 25.6.9).
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../../vmx/controls.hpp"
#include "../../x86/address.hpp"
#include "../../x86/paging.hpp"
#include "../../x86/words.hpp"

namespace flatback::nested {

// Whether the bitmap has the bit of this MSR set: it exits. Reads of low MSRs, reads of high ones, writes of
// low, writes of high: a kilobyte each. Others always exit.
[[nodiscard]] inline bool msr_bitmap_has(const std::byte* bitmap, std::uint32_t msr, bool write) {
    std::uint32_t first = write ? 2048 : 0;
    std::uint32_t bit = msr;
    if (msr >= 0xc0000000) {
        first += 1024;
        bit -= 0xc0000000;
    }
    if (bit > 0x1fff) return true;
    const auto byte = x86::read_word<std::uint8_t>(bitmap + first + bit / 8);
    return ((byte >> (bit % 8)) & 1) != 0;
}

// What the bitmaps need of their host (nested/port.hpp, of which this is a part).
template <typename H>
concept MsrBitmapHost = requires(H& host, x86::Hpa page, x86::Gpa<x86::L1> l1_physical, const char* why) {
    { host.page(page) } -> std::same_as<std::uint64_t*>;
    { host.l1_page(l1_physical) } -> std::convertible_to<const std::byte*>;
    { host.l0_msr_bitmap() } -> std::same_as<x86::Hpa>;
    {host.fatal(why)};
};

// A page of L0's, and what it was made of.
struct MergedMsrBitmap {
    x86::Hpa page{};
    std::uint64_t from = nothing;  // L1's bitmap that it was made of ...
    std::uint64_t at = 0;          // ... and how many writes to such had been noticed then

    static constexpr std::uint64_t nothing = ~std::uint64_t{0};
    void merge_anew() { from = nothing; }
};

// L1's bitmap is copied because the processor must not see what L1 writes after L0's bits went in, and anew
// only where somebody may have written to it: L1, as the host knows (unwritten_since_last_asked, where it has
// that), or L0 for L1, as is noted here.
template <MsrBitmapHost H>
class MsrBitmaps final {
public:
    explicit MsrBitmaps(H& host) : host_(host) {
        const std::uint64_t* bitmap = host_.page(host_.l0_msr_bitmap());
        for (std::uint16_t word = 0; word < 512; ++word) {
            if (bitmap[word] == 0) continue;
            if (l0_words_used_ == l0_words_.size()) host_.fatal("L0 intercepts MSRs in too many places");
            l0_words_[l0_words_used_++] = {word, bitmap[word]};
        }
    }
    MsrBitmaps(const MsrBitmaps&) = delete;
    MsrBitmaps& operator=(const MsrBitmaps&) = delete;

    // L0 itself wrote to L1's memory, here or somewhere. A bit of the filter may stand for other pages too:
    // then bitmaps are merged once more than needed.
    void note_written(const std::byte* where) {
        if ((merged_pages_ & filter_bit(where)) != 0) [[unlikely]]
            ++writes_;
    }
    void note_written_somewhere() { ++writes_; }
    // Where pages of L1's lie has changed. Those where writes are noticed stay as many.
    void forget() { ++writes_; }

    // For what else is copied of L1's memory: how often a write was noticed by now, and a page where writes
    // are to be noticed.
    [[nodiscard]] std::uint64_t noticed() const { return writes_; }
    void notice_writes_to(const std::byte* page) { merged_pages_ |= filter_bit(page); }
    // For other processors, of which some may use copies of those pages: the writes by L0 alone, or by L1
    // where the host told of them.
    [[nodiscard]] std::uint64_t written_by_l0() const {
        return __atomic_load_n(&writes_, __ATOMIC_RELAXED) -
               __atomic_load_n(&found_written_, __ATOMIC_RELAXED);
    }

    // Whether what was merged of L1's bitmap at this address is still right; if not, merge() is due.
    [[nodiscard, gnu::always_inline]] inline bool is_current(const MergedMsrBitmap& merged,
                                                             std::uint64_t address) {
        if constexpr (requires(x86::Gpa<x86::L1> page) { host_.unwritten_since_last_asked(page); }) {
            if (host_.unwritten_since_last_asked(x86::Gpa<x86::L1>{address})) [[likely]]
                return merged.from == address && merged.at == writes_;
            // A write that this VMCS's merge is to take in is news to every other VMCS with the same page.
            ++writes_;
            ++found_written_;
        }
        return false;
    }

    // address: of L1's bitmap. secondary: the controls that L2 runs with.
    [[gnu::noinline]] void merge(MergedMsrBitmap& merged, std::uint64_t address, std::uint32_t secondary) {
        const x86::Gpa<x86::L1> l1_physical{address};
        merged.at = writes_;
        std::uint64_t* const words = host_.page(merged.page);
        const std::byte* const l1s = host_.l1_page(l1_physical);
        if (l1s != nullptr) {
            merged.from = address;
            merged_pages_ |= filter_bit(l1s);
            x86::copy_once(words, l1s, x86::page_size);
        } else {
            std::memset(words, 0xff, x86::page_size);
            merged.from = MergedMsrBitmap::nothing;
        }
        for (unsigned i = 0; i < l0_words_used_; ++i) words[l0_words_[i].word] |= l0_words_[i].bits;
        if ((secondary & vmx::secondary::virtualize_x2apic_mode) != 0)
            allow_virtualized(words, l1s, secondary);
    }

private:
    struct Word {
        std::uint16_t word;
        std::uint64_t bits;
    };
    static std::uint64_t filter_bit(const std::byte* where) {
        return std::uint64_t{1} << ((reinterpret_cast<std::uintptr_t>(where) >> 12) % 64);
    }
    // What the processor finds in the virtual-APIC page or does there is not L0's (SDM 3C 30.5): L2 has it,
    // unless L1 itself asked for the exit. All other accesses in this range are to the real local APIC, which
    // is L0's or, as it gave it, L1's.
    static void allow_virtualized(std::uint64_t* words, const std::byte* l1s, std::uint32_t secondary) {
        constexpr std::uint32_t first = 0x800;
        constexpr std::uint32_t task_priority = 0x808;
        constexpr std::uint32_t end_of_interrupt = 0x80b;
        constexpr std::uint32_t self_interrupt = 0x83f;
        constexpr std::uint32_t last = 0x8ff;
        constexpr std::uint32_t writes = 256;  // the word where they begin
        const auto allow = [&](std::uint32_t msr, bool write) {
            if (l1s != nullptr && !msr_bitmap_has(l1s, msr, write))
                words[(write ? writes : 0) + msr / 64] &= ~(std::uint64_t{1} << (msr % 64));
        };
        allow(task_priority, false);
        allow(task_priority, true);
        if ((secondary & vmx::secondary::apic_register_virtualization) != 0) {
            for (std::uint32_t msr = first; msr <= last; ++msr) allow(msr, false);
        }
        if ((secondary & vmx::secondary::virtual_interrupt_delivery) != 0) {
            allow(end_of_interrupt, true);
            allow(self_interrupt, true);
        }
    }

    H& host_;
    std::uint64_t writes_ = 0;         // how often a write to one of L1's bitmaps was noticed
    std::uint64_t merged_pages_ = 0;   // where they lie, as a filter
    std::array<Word, 64> l0_words_{};  // L0's own bitmap, where it is not zero
    unsigned l0_words_used_ = 0;
    std::uint64_t found_written_ = 0;  // how often of writes_ because the host had noticed it
};

}  // namespace flatback::nested
