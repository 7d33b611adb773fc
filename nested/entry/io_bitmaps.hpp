// The I/O bitmaps that the hardware uses for L2 where the host keeps ports for itself: L1's, with the host's
// own bits (SDM 3C 25.6.4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../../vmx/exit_qualification.hpp"
#include "../../x86/address.hpp"
#include "../../x86/paging.hpp"
#include "../../x86/words.hpp"
#include "msr_bitmap.hpp"
#include "page_copies.hpp"

namespace flatback::nested {

// Bitmap A has ports 0 to 7FFFH, bitmap B the others.
inline constexpr std::uint32_t ports_per_io_bitmap = 0x8000;

// Whether the two bitmaps make an access exit. half(n): bitmap A (0) or B, null where L1 has no memory for
// it. One that wraps around the end of the ports exits whatever they have (SDM 3C 26.1.3).
template <typename Half>
[[nodiscard]] bool io_bitmaps_have(Half&& half, vmx::IoAccess access) {
    const std::uint32_t end = std::uint32_t{access.port} + access.size;
    if (end > 2 * ports_per_io_bitmap) return true;
    for (std::uint32_t port = access.port; port < end; ++port) {
        const std::byte* const bitmap = half(port / ports_per_io_bitmap);
        if (bitmap == nullptr) return true;
        const std::uint32_t bit = port % ports_per_io_bitmap;
        const auto byte = x86::read_word<std::uint8_t>(bitmap + bit / 8);
        if ((byte >> (bit % 8) & 1) != 0) return true;
    }
    return false;
}

// A copy of each half in which the host keeps a port; of the other one L1's page itself is used.
struct MergedIoBitmaps {
    std::array<x86::Hpa, 2> pages{};
    std::array<std::uint64_t, 2> from{};  // L1's
    CopiedAt copied;
    bool in_use = false;
    bool in_vmcs02 = false;  // its addresses are these, or L1's own, and not the host's
};

template <MsrBitmapHost H>
class IoBitmaps final {
public:
    explicit IoBitmaps(H& host) : host_(host), copies_(host) {
        if constexpr (requires { host_.l0_io_bitmap(0U); }) {
            for (unsigned half = 0; half < 2; ++half) {
                const std::uint64_t* bitmap = host_.page(host_.l0_io_bitmap(half));
                for (std::uint16_t word = 0; word < 512; ++word) {
                    if (bitmap[word] == 0) continue;
                    if (words_used_ == words_.size()) host_.fatal("L0 keeps I/O ports in too many places");
                    words_[words_used_++] = {static_cast<std::uint16_t>(half), word, bitmap[word]};
                    halves_ |= 1U << half;
                }
            }
        }
    }
    IoBitmaps(const IoBitmaps&) = delete;
    IoBitmaps& operator=(const IoBitmaps&) = delete;

    [[nodiscard]] bool keeps_ports() const { return halves_ != 0; }
    [[nodiscard]] bool keeps_ports(unsigned half) const { return (halves_ >> half & 1) != 0; }
    // Whether the host keeps one of the ports of an access.
    [[nodiscard]] bool keeps(vmx::IoAccess access) const {
        for (unsigned i = 0; i < words_used_; ++i) {
            const Word& word = words_[i];
            const std::uint32_t first = word.half * ports_per_io_bitmap + word.word * 64U;
            for (unsigned n = 0; n < access.size; ++n) {
                const std::uint32_t bit = access.port + n - first;
                if (bit < 64 && (word.bits >> bit & 1) != 0) return true;
            }
        }
        return false;
    }
    // The host's own, for a guest whose hypervisor uses no I/O bitmaps.
    [[nodiscard]] x86::Hpa own(unsigned half) {
        if constexpr (requires { host_.l0_io_bitmap(half); }) {
            return host_.l0_io_bitmap(half);
        } else {
            return {};
        }
    }

    [[nodiscard]] bool is_current(const MergedIoBitmaps& merged, const MsrBitmaps<H>& writes) {
        return copies_.is_current(merged.copied, writes);
    }
    // False: the host cannot tell when L1 writes to one of the pages, and merge() is due at each entry.
    [[gnu::noinline]] bool merge(MergedIoBitmaps& merged, MsrBitmaps<H>& writes) {
        typename PageCopies<H>::Copying copying{copies_, writes};
        for (unsigned half = 0; half < 2; ++half) {
            if (!keeps_ports(half)) continue;
            std::uint64_t* const words = host_.page(merged.pages[half]);
            if (const std::byte* const l1s = copying.page(x86::Gpa<x86::L1>{merged.from[half]})) {
                x86::copy_once(words, l1s, x86::page_size);
            } else {
                std::memset(words, 0xff, x86::page_size);
            }
            for (unsigned i = 0; i < words_used_; ++i) {
                if (words_[i].half == half) words[words_[i].word] |= words_[i].bits;
            }
        }
        return copying.end(merged.copied);
    }

private:
    struct Word {
        std::uint16_t half;
        std::uint16_t word;
        std::uint64_t bits;
    };

    H& host_;
    PageCopies<H> copies_;
    std::array<Word, 8> words_{};  // the host's own bitmaps, where they are not zero
    unsigned words_used_ = 0;
    unsigned halves_ = 0;  // a bit for each half that has any
};

}  // namespace flatback::nested
