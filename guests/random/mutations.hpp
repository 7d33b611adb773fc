// A VMCS near a legal one: a field or two with something in them that the SDM forbids, or only permits.
#pragma once

#include <cstdint>

#include "guests/bare/l1/report.hpp"
#include "guests/random/random.hpp"

namespace flatback::guests {

class Mutations final {
public:
    // Changes one more field of the current VMCS and says so on the line. `alone`: nothing else of this entry
    // is drawn that the SDM may forbid.
    void add(Random& random, bool alone, Line& line);
    // Changes a field of guest state that may hold anything.
    void add_to_guest_state(Random& random, Line& line);
    // Something that the processor reads or writes by itself lies where there is no memory, or in the
    // display's.
    void place_elsewhere(Random& random, Line& line);
    // Every changed field gets back what it had.
    void undo();
    // The next entries must not find it.
    bool must_be_undone() const { return must_be_undone_; }

private:
    void add_to_segment(Random& random, Line& line);
    void set(std::uint32_t encoding, std::uint64_t value, Line& line);

    struct Change {
        std::uint32_t encoding;
        std::uint64_t before;
    };
    static constexpr unsigned most = 4;
    Change changes_[most] = {};
    unsigned count_ = 0;
    bool must_be_undone_ = false;
    bool is_complete_ = false;  // nothing is added
};

}  // namespace flatback::guests
