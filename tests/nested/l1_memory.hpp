// L1's memory in the simulation: sparse, with a hole beyond it and a region of L0's inside it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "x86/address.hpp"
#include "x86/words.hpp"

namespace flatback::nested_test {

// A part of L1's memory that several of its processors see, each with threads of its own.
class SharedL1Pages {
public:
    static constexpr std::uint64_t start = 0x20'0000;
    static constexpr std::uint64_t size = 0x20'0000;

    [[nodiscard]] static bool has(std::uint64_t address) { return address - start < size; }
    [[nodiscard]] std::byte* page(std::uint64_t address) {
        return pages_.at((address - start) / x86::page_size).data();
    }
    // Of any thread's.
    template <typename T>
    [[nodiscard]] T read(std::uint64_t address) {
        return x86::read_word(word<T>(address));
    }
    template <typename T>
    void write(std::uint64_t address, T value) {
        x86::write_word(word<T>(address), value);
    }
    // What was there before.
    template <typename T>
    T exchange(std::uint64_t address, T value) {
        return __atomic_exchange_n(word<T>(address), value, __ATOMIC_RELAXED);
    }

private:
    template <typename T>
    T* word(std::uint64_t address) {
        return reinterpret_cast<T*>(page(address) + address % x86::page_size);
    }
    struct alignas(x86::page_size) Page : std::array<std::byte, x86::page_size> {};
    std::vector<Page> pages_{size / x86::page_size};
};

class L1Memory {
public:
    static constexpr std::uint64_t size = 4ULL << 30;
    // L0's own memory, as L1 would address it.
    static constexpr std::uint64_t l0_start = 0x3020'0000;
    static constexpr std::uint64_t l0_end = 0x3040'3000;

    [[nodiscard]] static bool has(std::uint64_t address) {
        return address < size && (address < l0_start || address >= l0_end);
    }
    // nullptr: a hole, or L0's.
    [[nodiscard]] std::byte* page(std::uint64_t address) {
        if (!has(address)) return nullptr;
        if (is_shared(address)) return shared_->page(address);
        auto& found = pages_[address / x86::page_size];
        if (!found) found = std::make_unique<Page>();
        return found->data();
    }

    template <typename T>
    [[nodiscard]] T read(std::uint64_t address) {
        if (is_shared(address)) return shared_->read<T>(address);
        T value{};
        std::memcpy(&value, page(address) + address % x86::page_size, sizeof value);
        return value;
    }
    // A write of L1's.
    template <typename T>
    void write(std::uint64_t address, T value) {
        if (is_shared(address)) return shared_->write<T>(address, value);
        if (kept_unwritten_.erase(address / x86::page_size) != 0) before_noticed_write();
        std::memcpy(page(address) + address % x86::page_size, &value, sizeof value);
        written_.insert(address / x86::page_size);
    }
    // The next write of L1's there is noticed before it is done.
    void keep_unwritten(std::uint64_t address) { kept_unwritten_.insert(address / x86::page_size); }
    std::function<void()> before_noticed_write = [] {};
    // What another processor does at the moment at which the engine asks where a page is.
    std::function<void(std::uint64_t address)> before_read;
    // Since it was last asked about, as EPT01's dirty flags would tell.
    [[nodiscard]] bool take_written(std::uint64_t address) {
        if (is_shared(address)) return true;  // another processor may have
        const bool first = watched_.insert(address / x86::page_size).second;
        return written_.erase(address / x86::page_size) != 0 || first;
    }

    void share(SharedL1Pages* with) { shared_ = with; }

private:
    [[nodiscard]] bool is_shared(std::uint64_t address) const {
        return shared_ != nullptr && SharedL1Pages::has(address);
    }
    struct alignas(x86::page_size) Page : std::array<std::byte, x86::page_size> {};
    SharedL1Pages* shared_ = nullptr;
    std::map<std::uint64_t, std::unique_ptr<Page>> pages_;
    std::set<std::uint64_t> written_;
    std::set<std::uint64_t> watched_;
    std::set<std::uint64_t> kept_unwritten_;
};

}  // namespace flatback::nested_test
