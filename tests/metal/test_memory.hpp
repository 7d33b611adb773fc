// 48 MB of physical memory with modules in it, for tests of the loaders.
#pragma once

#include <cstring>
#include <list>
#include <string>
#include <vector>

#include "metal/load/loader.hpp"
#include "test_bytes.hpp"

namespace flatback::metal {

class TestMemory {
public:
    static constexpr std::uint64_t size = 48ULL << 20;
    // As of a PC: low memory, the hole, the rest; the last 4 MB stand for L0's region.
    static constexpr PhysicalRange low{0, 0x9F000};
    static constexpr PhysicalRange high{0x100000, size - (4 << 20)};
    static constexpr PhysicalRange region{size - (4 << 20), size};

    TestMemory() {
        EXPECT_TRUE(memory_.add(low, MemoryKind::usable));
        EXPECT_TRUE(memory_.add({high.start, region.end}, MemoryKind::usable));
        EXPECT_TRUE(memory_.add(region, MemoryKind::reserved));
    }

    void place_module(std::uint64_t address, Bytes bytes, std::string_view command_line = {}) {
        copy_bytes(physical_.data() + address, bytes.data(), bytes.size());
        modules_.push_back({{address, address + bytes.size()}, command_line});
    }
    [[nodiscard]] std::expected<L1Start, BootError> load() {
        LoadRequest request = said_;
        request.physical = physical_.data();
        request.physical_size = size;
        request.memory = memory_;
        request.modules = modules_;
        request.rsdp = rsdp_;
        request.has_text_screen = text_screen_;
        return load_l1(request);
    }
    template <typename T>
    [[nodiscard]] T get(std::uint64_t address) const {
        T value{};
        std::memcpy(&value, physical_.data() + address, sizeof value);
        return value;
    }
    [[nodiscard]] std::string text(std::uint64_t address) const {
        return reinterpret_cast<const char*>(physical_.data() + address);
    }
    [[nodiscard]] bool holds(std::uint64_t address, Bytes bytes) const {
        return std::memcmp(physical_.data() + address, bytes.data(), bytes.size()) == 0;
    }
    void fill(std::byte value) { std::ranges::fill(physical_, value); }

    std::vector<Module>& modules() { return modules_; }
    MemoryMap& memory() { return memory_; }
    void set_rsdp(Bytes rsdp) { rsdp_ = rsdp; }
    // What the boot loader said beyond memory and modules.
    LoadRequest& said() { return said_; }
    void set_text_screen() { text_screen_ = true; }

private:
    std::vector<std::byte> physical_ = std::vector<std::byte>(size);
    MemoryMap memory_;
    std::vector<Module> modules_;
    Bytes rsdp_;
    bool text_screen_ = false;
    LoadRequest said_;
};

// Bytes that differ from place to place, so that a wrong copy shows.
inline TestBytes patterned(std::size_t size, std::uint32_t seed) {
    TestBytes bytes(size);
    std::uint32_t state = seed;
    for (std::size_t at = 0; at + 4 <= size; at += 4) {
        state = state * 1664525 + 1013904223;
        bytes.put(at, state);
    }
    return bytes;
}

}  // namespace flatback::metal
