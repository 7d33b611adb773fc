// Pages of registers that a guest reads by itself and of which L0 carries out each write
// (metal/firmware/kept_registers.hpp): read-only in this processor's EPT01, and in every EPT02.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "metal/boot/boot_result.hpp"
#include "nested/port.hpp"

namespace flatback::metal {

class KeptPages final {
public:
    explicit KeptPages(BootResult& boot);

    [[nodiscard]] bool is_kept(std::uint64_t guest_physical) const {
        return pages_used_ != 0 && leaf_of(guest_physical) != nullptr;
    }
    // A register, as the device has it.
    [[nodiscard]] static std::uint64_t read(std::uint64_t address, unsigned size);
    static void write(const RegisterWrite& write);

    // An EPT violation, whose guest's VMCS is current, is a write there by an instruction that L0 does not
    // read: where it is to write meanwhile, until take_writes(). It finds the registers around the address
    // in that page, and zeros elsewhere.
    [[nodiscard]] nested::HostMapping let_write(std::uint64_t address);
    // The same where the guest is under EPT01, which leads there. Without INVEPT: the violation has dropped
    // what the processor had of it (SDM 3C 29.4.3.1).
    void let_write_in_ept01(std::uint64_t address);
    [[nodiscard]] bool is_letting_write() const { return letting_; }
    // EPT01 is again what it was. done: the instruction is; calls each(RegisterWrite) for what it changed.
    template <typename Each>
    void take_writes(bool done, Each&& each) {
        if (open_leaf_ != nullptr) *open_leaf_ = closed_;
        open_leaf_ = nullptr;
        letting_ = false;
        if (!done || length_ == 0) return;
        for_each_change(start_, std::span{before_}.first(length_), written(), each);
    }
    // For the pages in L0's own direct map.
    [[nodiscard]] std::span<const std::uint64_t> pages() const {
        return std::span{pages_}.first(pages_used_);
    }

private:
    static constexpr std::size_t most_around = 32;

    [[nodiscard]] std::uint64_t* leaf_of(std::uint64_t guest_physical) const;
    [[nodiscard]] std::span<const std::uint8_t> written() const;

    std::array<std::uint64_t, KeptRegisters::most_pages> pages_{};
    std::array<std::uint64_t*, KeptRegisters::most_pages> leaves_{};
    std::size_t pages_used_ = 0;
    x86::Hpa scratch_{};
    bool letting_ = false;  // from let_write() to take_writes(), and what it is about:
    std::uint64_t* open_leaf_ = nullptr;
    std::uint64_t closed_ = 0;  // *open_leaf_ before
    std::uint64_t start_ = 0;
    std::size_t length_ = 0;  // 0: no access of an instruction's own
    std::array<std::uint8_t, most_around> before_{};
};

}  // namespace flatback::metal
