// The MSR lists of VM entries and VM exits (SDM 3C 25.7.2, 25.8.2, 27.4, 28.4, 28.6), which L0 processes in
// the processor's place: it knows where each MSR of the guest is.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "../../x86/address.hpp"
#include "../../x86/expected.hpp"
#include "../../x86/msr.hpp"
#include "../../x86/words.hpp"

namespace flatback::nested {

// An entry as it lies in memory (SDM 3C table 25-15).
struct MsrListEntry {
    std::uint32_t index;
    std::uint32_t reserved;
    std::uint64_t value;
};
static_assert(sizeof(MsrListEntry) == 16);

// The entry that could not be processed: its number, from 1, and what it says. All before it have been.
struct RefusedMsr {
    std::uint32_t number;
    MsrListEntry entry{};  // zero where there are too many entries, or no memory
};

// What a list needs: L1's memory, and the MSRs of the guest whose VMCS is current. nullopt, false: #GP(0).
template <typename H>
concept MsrListHost = requires(H& host, x86::Gpa<x86::L1> address, std::uint32_t msr, std::uint64_t value,
                               const std::byte* written) {
    { host.l1_page(address) } -> std::convertible_to<std::byte*>;
    { host.read_msr(msr) } -> std::convertible_to<std::optional<std::uint64_t>>;
    { host.write_msr(msr, value) } -> std::convertible_to<bool>;
    {host.note_written(written)};
};

template <MsrListHost H>
class MsrList final {
public:
    // address: physical, a multiple of 16. most: the entries that L1 was promised (SDM 3D A.6).
    MsrList(H& host, std::uint64_t address, std::uint32_t count, std::uint32_t most)
        : host_(host), address_(address), count_(count), most_(most) {}

    [[nodiscard]] Expected<void, RefusedMsr> load() {
        return for_each([this](std::byte*, const MsrListEntry& entry) {
            return may_be_loaded(entry.index) && host_.write_msr(entry.index, entry.value);
        });
    }
    [[nodiscard]] Expected<void, RefusedMsr> store() {
        return for_each([this](std::byte* where, const MsrListEntry& entry) {
            if (is_x2apic(entry.index) || entry.index == x86::msr::ia32_smbase) return false;
            const std::optional<std::uint64_t> value = host_.read_msr(entry.index);
            if (!value) return false;
            x86::write_word(reinterpret_cast<std::uint64_t*>(where + offsetof(MsrListEntry, value)), *value);
            host_.note_written(where);
            return true;
        });
    }

private:
    static constexpr bool is_x2apic(std::uint32_t msr) { return (msr >> 8) == 8; }
    // Neither x2APIC registers, nor SMM's, nor the bases that the VMCS holds; nor a microcode update. And
    // "for model-specific reasons" (SDM 3C 27.4) none that is more than a register: 512 moves of the APIC's
    // page would keep L0 for long.
    static constexpr bool may_be_loaded(std::uint32_t msr) {
        switch (msr) {
            case x86::msr::ia32_smm_monitor_ctl:
            case x86::msr::ia32_fs_base:
            case x86::msr::ia32_gs_base:
            case x86::msr::ia32_bios_updt_trig:
            case x86::msr::ia32_bios_sign_id:
            case x86::msr::ia32_apic_base:
                return false;
            default:
                return !is_x2apic(msr);
        }
    }

    template <typename Process>
    [[gnu::always_inline]] Expected<void, RefusedMsr> for_each(Process&& process) {
        if (count_ > most_) return Unexpected{RefusedMsr{.number = most_ + 1}};
        std::byte* page = nullptr;
        for (std::uint32_t i = 0; i < count_; ++i) {
            const x86::Gpa<x86::L1> address{address_ + i * sizeof(MsrListEntry)};
            if (i == 0 || address.page_offset() == 0) page = host_.l1_page(address);
            if (page == nullptr) return Unexpected{RefusedMsr{.number = i + 1}};
            std::byte* const where = page + address.page_offset();
            const auto first = x86::read_word<std::uint64_t>(where);
            const MsrListEntry entry{
                .index = static_cast<std::uint32_t>(first),
                .reserved = static_cast<std::uint32_t>(first >> 32),
                .value = x86::read_word<std::uint64_t>(where + offsetof(MsrListEntry, value))};
            if (entry.reserved != 0 || !process(where, entry))
                return Unexpected{RefusedMsr{.number = i + 1, .entry = entry}};
        }
        return {};
    }

    H& host_;
    std::uint64_t address_;
    std::uint32_t count_;
    std::uint32_t most_;
};

}  // namespace flatback::nested
