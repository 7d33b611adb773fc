#include "machine/memory/physical_memory.hpp"

#include <algorithm>
#include <string>

#include "machine/error.hpp"

namespace flatback::machine {

PhysicalMemory::PhysicalMemory(const Options& options) : options_(options) {}

PhysicalMemory::PhysicalMemory(const PhysicalMemory& other)
    : options_(other.options_), structure_version_(other.structure_version_) {
    frames_.reserve(other.frames_.size());
    for (const auto& [number, frame] : other.frames_)
        frames_.emplace(number, std::make_unique<PageFrame>(*frame));
}

PhysicalMemory& PhysicalMemory::operator=(const PhysicalMemory& other) {
    if (this != &other) *this = PhysicalMemory(other);
    return *this;
}

PageFrame* PhysicalMemory::find_slowly(std::uint64_t number, Recent& recent) const noexcept {
    const auto found = frames_.find(number);
    if (found == frames_.end()) return nullptr;
    recent = {number, found->second.get()};
    return recent.frame;
}

PageFrame* PhysicalMemory::allocate(std::uint64_t number) {
    if ((frames_.size() + 1) * sizeof(PageFrame::words) > options_.limit_bytes) {
        throw LimitReached("physical memory: the limit of " + std::to_string(options_.limit_bytes) +
                           " bytes is reached");
    }
    PageFrame* frame = frames_.emplace(number, std::make_unique<PageFrame>()).first->second.get();
    recent_[number % recent_.size()] = {number, frame};
    // A walk may have read the absent page as zeros, and left no mark on it.
    ++structure_version_;
    return frame;
}

void PhysicalMemory::read_bytes(std::uint64_t address, std::span<std::byte> bytes) const noexcept {
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(read(address) >> (8 * (address & 7)));
        ++address;
    }
}

void PhysicalMemory::write_bytes(std::uint64_t address, std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) {
        const auto shift = static_cast<unsigned>(8 * (address & 7));
        const std::uint64_t kept = read(address) & ~(std::uint64_t{0xFF} << shift);
        write(address, kept | (std::to_integer<std::uint64_t>(byte) << shift));
        ++address;
    }
}

std::vector<std::uint64_t> PhysicalMemory::frames_in_use() const {
    std::vector<std::uint64_t> numbers;
    numbers.reserve(frames_.size());
    for (const auto& [number, frame] : frames_) numbers.push_back(number);
    std::ranges::sort(numbers);
    return numbers;
}

}  // namespace flatback::machine
