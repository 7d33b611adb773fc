// Pages for tables of EPT entries: kept in lists that are joined in a few instructions, whatever is in them,
// and made zero only where something was written, and only when they are used again.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

#include "../../x86/address.hpp"
#include "../../x86/paging.hpp"
#include "../port.hpp"

namespace flatback::nested {

// The entries of a table of L0's own, that know what of them was ever written. The first entry of each group
// has a bit for it, which the processor ignores in entries of every kind (SDM 3C tables 29-1 to 29-7).
class TableEntries final {
public:
    explicit TableEntries(std::uint64_t* words) : words_(words) {}

    static constexpr std::uint64_t written_bit = 1ULL << 52;
    static constexpr unsigned group = 64;

    [[nodiscard]] std::uint64_t* words() const { return words_; }
    [[nodiscard]] std::uint64_t operator[](unsigned index) const { return words_[index]; }
    void set(unsigned index, std::uint64_t entry) {
        words_[index] = entry;
        note_written(index);
    }
    // Not present. What says that something was written stays.
    void erase(unsigned index) { words_[index] &= written_bit; }
    // For who writes many of one group by themselves.
    void note_written(unsigned index) { words_[index & ~(group - 1)] |= written_bit; }

    // Makes a table, all of which was written by set(), zero.
    void clear() {
        for (unsigned first = 0; first < x86::entries_per_table; first += group) {
            if (words_[first] != 0) std::memset(words_ + first, 0, group * sizeof words_[0]);
        }
    }

private:
    std::uint64_t* words_;
};

// Tables in a chain of list pages. What is in the list is not zero; what pop() gives is.
template <Port P>
class TablePages final {
public:
    explicit TablePages(P& port) : port_(port) {}

    // new_page() gives a page to keep the list in, where one is needed. False: it had none; `table` is not in
    // the list.
    template <typename NewPage>
    bool push(x86::Hpa table, NewPage&& new_page) {
        if (head_ == 0 || list(head_)[1] == capacity) {
            const std::optional<x86::Hpa> page = new_page();
            if (!page) return false;
            auto* fresh = list(page->value());
            fresh[0] = head_;
            fresh[1] = 0;
            head_ = page->value();
            if (tail_ == 0) tail_ = head_;
        }
        auto* entries = list(head_);
        entries[2 + entries[1]++] = table.value();
        ++count_;
        return true;
    }
    std::optional<x86::Hpa> pop() {
        if (head_ == 0) return std::nullopt;
        auto* entries = list(head_);
        if (entries[1] == 0) {  // the list page itself is the last thing it can give
            const x86::Hpa page{head_};
            head_ = entries[0];
            if (head_ == 0) tail_ = 0;
            std::memset(entries, 0, x86::page_size);
            return page;
        }
        --count_;
        const x86::Hpa table{entries[2 + --entries[1]]};
        TableEntries{port_.page(table)}.clear();
        return table;
    }
    // Takes all that `other` has.
    void join(TablePages& other) {
        if (other.head_ == 0) return;
        list(other.tail_)[0] = head_;
        head_ = other.head_;
        if (tail_ == 0) tail_ = other.tail_;
        count_ += other.count_;
        other.head_ = other.tail_ = 0;
        other.count_ = 0;
    }
    [[nodiscard]] std::uint64_t count() const { return count_; }

private:
    static constexpr std::uint64_t capacity = 510;
    std::uint64_t* list(std::uint64_t page) { return port_.page(x86::Hpa{page}); }

    P& port_;
    std::uint64_t head_ = 0;
    std::uint64_t tail_ = 0;
    std::uint64_t count_ = 0;
};

}  // namespace flatback::nested
