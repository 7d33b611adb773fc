#include "metal/processors/smm_base.hpp"

#include <array>
#include <cstddef>
#include <cstring>

#include "metal/ground/log.hpp"
#include "metal/memory/address_space.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/processors/boot_apic.hpp"
#include "x86/paging.hpp"

// metal/processors/smm_base.S
extern "C" const std::byte smm_mover_start[], smm_mover_words[], smm_mover_end[];

namespace flatback::metal {
namespace {

constexpr std::uint64_t page_size = x86::page_size_4k;
// SDM 3C 32.4: the handler begins at the base + 8000H; the state is saved below the base + 10000H.
constexpr std::uint64_t first_base = 0x30000;
constexpr std::uint64_t handler_offset = 0x8000;
constexpr std::uint64_t state_offset = 0xF000;

constexpr std::uint32_t command_smi = 0x4200;  // assert (SDM 3A 11.6.1)
constexpr unsigned longest_wait = 10;          // ms, of which the firmware's handler takes its part

// The words at the mover's end.
struct MoverWords {
    std::uint32_t base;
    std::uint32_t moved;
};

// The handlers of seven bases that are a page apart, and behind them where their states are saved.
constexpr std::size_t bases_of_a_piece = (state_offset - handler_offset) / page_size;

class Bases {
public:
    explicit Bases(PagePool& pages) : pages_(pages) {}
    // 0: no memory is left.
    std::uint32_t next() {
        if (used_ == bases_of_a_piece) {
            piece_ = static_cast<std::byte*>(pages_.allocate_contiguous(2 * bases_of_a_piece));
            if (piece_ == nullptr) return 0;
            used_ = 0;
        }
        std::byte* const handler = piece_ + used_++ * page_size;
        constexpr std::array<std::uint8_t, 2> rsm{0x0F, 0xAA};
        std::memcpy(handler, rsm.data(), rsm.size());
        return static_cast<std::uint32_t>(physical_of(handler).value() - handler_offset);
    }
    void take_back() { --used_; }

private:
    PagePool& pages_;
    std::byte* piece_ = nullptr;
    std::size_t used_ = bases_of_a_piece;
};

}  // namespace

unsigned move_system_management_bases(const BootApic& apic, std::span<const std::uint32_t> apic_ids,
                                      PagePool& pages) {
    auto* const handler = direct_map_as<std::byte>(x86::Hpa{first_base + handler_offset});
    auto* const state = direct_map_as<std::byte>(x86::Hpa{first_base + state_offset});
    auto* const kept = static_cast<std::byte*>(pages.allocate_contiguous(2));
    if (kept == nullptr) return 0;
    std::memcpy(kept, handler, page_size);
    std::memcpy(kept + page_size, state, page_size);
    std::memcpy(handler, smm_mover_start, static_cast<std::size_t>(smm_mover_end - smm_mover_start));
    auto* const words = reinterpret_cast<volatile MoverWords*>(handler + (smm_mover_words - smm_mover_start));

    Bases bases{pages};
    unsigned moved = 0;
    // One after the other: all that come there save their states at the same place.
    for (const std::uint32_t apic_id : apic_ids) {
        const std::uint32_t base = bases.next();
        if (base == 0) {
            log::info("warning: there is no memory for the handlers of system-management interrupts");
            break;
        }
        words->base = base;
        words->moved = 0;
        apic.send_to(apic_id, command_smi);
        for (unsigned waited = 0; waited < longest_wait && words->moved == 0; ++waited)
            wait_microseconds(1000);
        if (words->moved != 0) {
            ++moved;
        } else {
            bases.take_back();
        }
    }
    std::memcpy(handler, kept, page_size);
    std::memcpy(state, kept + page_size, page_size);
    return moved;
}

}  // namespace flatback::metal
