// A VMCS near a legal one: a field or two with something in them that the SDM forbids, or only permits.
#pragma once

#include <cstdint>

#include "guests/bare/report.hpp"
#include "guests/random/random.hpp"

namespace flatback::guests {

class Mutations final {
public:
    // Changes one more field of the current VMCS and says so on the line.
    void add(Random& random, Line& line);
    // Every changed field gets back what it had.
    void undo();

private:
    void set(std::uint32_t encoding, std::uint64_t value, Line& line);

    struct Change {
        std::uint32_t encoding;
        std::uint64_t before;
    };
    static constexpr unsigned most = 4;
    Change changes_[most] = {};
    unsigned count_ = 0;
};

}  // namespace flatback::guests
