#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace flatback::machine {

/// The bytes of one 4-KByte page frame, as 512 little-endian quadwords.
struct PageFrame {
    std::array<std::uint64_t, 512> words{};
    /// A page walk has read this page as a paging structure; writes to it are counted, see
    /// `structure_version`.
    bool holds_structures = false;
};

/// Sparse host-physical memory. Every address below 2^address_bits can be read (zero where nothing was ever
/// written) and written; what was written is bounded by `limit_bytes`.
class PhysicalMemory {
public:
    struct Options {
        std::uint64_t limit_bytes = std::uint64_t{256} << 20;
        /// The width of physical addresses (MAXPHYADDR), 36 to 48 (4-level EPT translates 48 bits).
        unsigned address_bits = 46;
    };

    PhysicalMemory() : PhysicalMemory(Options{}) {}
    explicit PhysicalMemory(const Options& options);
    PhysicalMemory(const PhysicalMemory& other);
    PhysicalMemory(PhysicalMemory&& other) noexcept = default;
    PhysicalMemory& operator=(const PhysicalMemory& other);
    PhysicalMemory& operator=(PhysicalMemory&& other) noexcept = default;
    ~PhysicalMemory() = default;

    [[nodiscard]] unsigned address_bits() const noexcept { return options_.address_bits; }
    [[nodiscard]] std::size_t bytes_in_use() const noexcept { return frames_.size() * 4096; }

    /// Reads the quadword that contains `address` (bits 2:0 are ignored).
    [[nodiscard]] std::uint64_t read(std::uint64_t address) const noexcept {
        const PageFrame* frame = find(address >> 12);
        return frame == nullptr ? 0 : frame->words[(address >> 3) & 511];
    }

    /// Writes the quadword that contains `address` (bits 2:0 are ignored). Throws `LimitReached` at the
    /// bound.
    void write(std::uint64_t address, std::uint64_t value) {
        PageFrame* frame = find(address >> 12);
        if (frame == nullptr) {
            if (value == 0) return;
            frame = allocate(address >> 12);
        }
        std::uint64_t& word = frame->words[(address >> 3) & 511];
        if (word == value) return;
        word = value;
        if (frame->holds_structures) ++structure_version_;
    }

    /// Reads or writes bytes at any alignment; the range must not cross the end of physical memory.
    void read_bytes(std::uint64_t address, std::span<std::byte> bytes) const noexcept;
    void write_bytes(std::uint64_t address, std::span<const std::byte> bytes);

    /// As `read`, for a page walk: marks the page, so that later writes to it change `structure_version`.
    [[nodiscard]] std::uint64_t read_structure(std::uint64_t address) const noexcept {
        PageFrame* frame = find(address >> 12);
        if (frame == nullptr) return 0;
        frame->holds_structures = true;
        return frame->words[(address >> 3) & 511];
    }

    /// Changes whenever a page that a walk has read changes, or a page comes into being: while it stays the
    /// same, every walk gives the result that it gave before.
    [[nodiscard]] std::uint64_t structure_version() const noexcept { return structure_version_; }

    /// The 512 quadwords of a page, for software that is a C++ program. After it may have written there, it
    /// must call `note_direct_writes`. The pointer holds as long as this memory.
    [[nodiscard]] std::uint64_t* direct_page(std::uint64_t address) {
        PageFrame* frame = find(address >> 12);
        if (frame == nullptr) frame = allocate(address >> 12);
        return frame->words.data();
    }
    void note_direct_writes() noexcept { ++structure_version_; }

    /// The page frame numbers in use, in ascending order.
    [[nodiscard]] std::vector<std::uint64_t> frames_in_use() const;

private:
    struct Recent {
        std::uint64_t number = ~std::uint64_t{0};
        PageFrame* frame = nullptr;
    };

    [[nodiscard]] PageFrame* find(std::uint64_t number) const noexcept {
        Recent& recent = recent_[number % recent_.size()];
        if (recent.number == number) return recent.frame;
        return find_slowly(number, recent);
    }
    PageFrame* find_slowly(std::uint64_t number, Recent& recent) const noexcept;
    PageFrame* allocate(std::uint64_t number);

    Options options_;
    std::unordered_map<std::uint64_t, std::unique_ptr<PageFrame>> frames_;
    std::uint64_t structure_version_ = 0;
    mutable std::array<Recent, 512> recent_{};
};

}  // namespace flatback::machine
