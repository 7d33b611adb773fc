// Who gets which bytes of L1's memory while it is loaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "metal/ground/boot_error.hpp"
#include "metal/ground/inline_vector.hpp"
#include "metal/load/load_request.hpp"

namespace flatback::metal {

// The plan: claims are made first (the places of the kernel's segments, of tables), then evacuate() moves
// every module whose bytes lie where something is to be written; only then may the claimed memory be written.
// Modules stay where the boot loader put them otherwise.
class Placement {
public:
    explicit Placement(const LoadRequest& request) : request_(request) {}

    // Checks that the modules lie in usable memory, apart from each other. Before everything else.
    [[nodiscard]] std::expected<void, BootError> adopt_modules();

    // Claims this very range: all of it must be usable memory and free of earlier claims.
    [[nodiscard]] std::expected<void, BootError> claim(PhysicalRange range);
    // Claims the highest place inside `limits` that is free of claims and of modules.
    [[nodiscard]] std::expected<PhysicalRange, BootError> claim_highest(std::uint64_t size,
                                                                        std::uint64_t alignment,
                                                                        PhysicalRange limits);
    // Moves modules that overlap a claim, or do not start on a page, to free memory below 4 GB.
    [[nodiscard]] std::expected<void, BootError> evacuate();

    // Where module `index` is now, and its bytes.
    [[nodiscard]] PhysicalRange module_range(std::size_t index) const { return modules_[index]; }
    [[nodiscard]] Bytes module_bytes(std::size_t index) const { return bytes(modules_[index]); }
    // Memory to write: a range that was claimed.
    [[nodiscard]] std::span<std::byte> bytes(PhysicalRange range) const {
        return {request_.physical + range.start, range.size()};
    }

private:
    static constexpr std::size_t most_claims = 96;  // segments of the kernel, plus a few tables

    [[nodiscard]] bool is_claimed(PhysicalRange range) const;
    [[nodiscard]] std::expected<PhysicalRange, BootError> find(std::uint64_t size, std::uint64_t alignment,
                                                               PhysicalRange limits) const;

    const LoadRequest& request_;
    InlineVector<PhysicalRange, Multiboot2Information::most_modules> modules_;
    InlineVector<PhysicalRange, most_claims> claims_;
};

// Physical addresses that L1's loaders may use for what has a 32-bit address, above and below the first
// megabyte.
inline constexpr PhysicalRange low_memory{0x1000, 0xA0000};
inline constexpr PhysicalRange memory_below_4g{0x100000, 0x1'0000'0000};

}  // namespace flatback::metal
