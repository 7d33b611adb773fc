// The VMREAD and VMWRITE bitmaps that the hardware uses where L1 shows its guest a shadow VMCS: L1's, with a
// bit set for whatever is no field of L1's (SDM 3C 25.6.15).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../../vmx/field.hpp"
#include "../../vmx/field_table.hpp"
#include "../../x86/address.hpp"
#include "../../x86/paging.hpp"
#include "../../x86/words.hpp"
#include "../vmcs/vmcs12.hpp"
#include "page_copies.hpp"

namespace flatback::nested {

// Whether the bitmap makes an access to this field exit. A value that is longer than an encoding always does.
[[nodiscard]] inline bool vmcs_bitmap_has(const std::byte* bitmap, std::uint64_t encoding) {
    if (encoding > 0x7fff) return true;
    const auto byte = x86::read_word<std::uint8_t>(bitmap + encoding / 8);
    return (byte >> (encoding % 8) & 1) != 0;
}

// Two pages of L0's, for VMREAD and for VMWRITE, and what they were made of.
struct MergedVmcsBitmaps {
    std::array<x86::Hpa, 2> pages{};
    std::array<std::uint64_t, 2> from{};  // L1's
    CopiedAt copied;
};

// Encodings lie close to each other, so that of a bitmap's 512 words only those few matter in which a field
// of L1's has a bit. All the others are ones, from the beginning.
template <MsrBitmapHost H>
class VmcsBitmaps final {
public:
    VmcsBitmaps(H& host, const FieldSet& fields_of_l1) : host_(host), copies_(host) {
        fields_of_l1.for_each([this](std::size_t index) {
            const std::uint32_t encoding = vmx::all_fields[index].encoding;
            allow(encoding);
            if (vmx::width(encoding) == vmx::FieldWidth::bits64) allow(encoding | 1);
        });
    }
    VmcsBitmaps(const VmcsBitmaps&) = delete;
    VmcsBitmaps& operator=(const VmcsBitmaps&) = delete;

    // A bitmap by which each access to what is no field of L1's exits, and no other.
    void fill(x86::Hpa page) {
        std::uint64_t* const words = all_exit(page);
        for (unsigned i = 0; i < words_used_; ++i) words[words_[i].index] = words_[i].others;
    }
    // The page's words that merge() leaves as they are.
    std::uint64_t* all_exit(x86::Hpa page) {
        std::uint64_t* const words = host_.page(page);
        std::memset(words, 0xff, x86::page_size);
        return words;
    }
    [[nodiscard]] bool is_field_of_l1(std::uint64_t encoding) const {
        if (encoding > 0x7fff) return false;
        for (unsigned i = 0; i < words_used_; ++i) {
            if (words_[i].index == encoding / 64) return (words_[i].others >> (encoding % 64) & 1) == 0;
        }
        return false;
    }

    [[nodiscard]] bool is_current(const MergedVmcsBitmaps& merged, const MsrBitmaps<H>& writes) {
        return copies_.is_current(merged.copied, writes);
    }
    [[gnu::noinline]] void merge(MergedVmcsBitmaps& merged, MsrBitmaps<H>& writes) {
        typename PageCopies<H>::Copying copying{copies_, writes};
        for (unsigned half = 0; half < 2; ++half) {
            std::uint64_t* const words = host_.page(merged.pages[half]);
            const std::byte* const l1s = copying.page(x86::Gpa<x86::L1>{merged.from[half]});
            const auto* const l1s_words = reinterpret_cast<const std::uint64_t*>(l1s);
            for (unsigned i = 0; i < words_used_; ++i) {
                const Word& word = words_[i];
                words[word.index] =
                    l1s != nullptr ? x86::read_word(&l1s_words[word.index]) | word.others : ~std::uint64_t{0};
            }
        }
        // Where the host cannot tell, each entry compares and finds that they are not current.
        static_cast<void>(copying.end(merged.copied));
    }

private:
    struct Word {
        std::uint16_t index;
        std::uint64_t others;  // bits that are no field's
    };
    void allow(std::uint32_t encoding) {
        const auto index = static_cast<std::uint16_t>(encoding / 64);
        unsigned at = 0;
        while (at < words_used_ && words_[at].index != index) ++at;
        if (at == words_used_) {
            if (words_used_ == words_.size()) host_.fatal("VMCS fields in too many places");
            words_[words_used_++] = {index, ~std::uint64_t{0}};
        }
        words_[at].others &= ~(std::uint64_t{1} << (encoding % 64));
    }

    H& host_;
    PageCopies<H> copies_;
    std::array<Word, 32> words_{};
    unsigned words_used_ = 0;
};

}  // namespace flatback::nested
