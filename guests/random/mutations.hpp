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
    // Two things at once, each of a kind that is drawn: which is found first shows the order of the checks.
    void add_pair(Random& random, bool alone, Line& line);
    // Changes one of the PDPTEs, for the next entry.
    void add_pdpte(Random& random, Line& line);
    // Changes a field of guest state that may hold anything.
    void add_to_guest_state(Random& random, Line& line);
    // Something that the processor reads or writes by itself lies where there is no memory, or in the
    // display's.
    void place_elsewhere(Random& random, Line& line);
    // Every changed field gets back what it had.
    void undo();
    // The next entries must not find it.
    bool must_be_undone() const { return must_be_undone_; }
    // VMLAUNCH where VMRESUME is right, or the other way.
    bool has_other_launch_state() const { return has_other_launch_state_; }
    // An entry right behind a MOV to SS comes first.
    bool is_behind_mov_ss() const { return is_behind_mov_ss_; }
    // Controls and host state are checked in any order (SDM 3C 27.2): error 7 or 8.
    bool is_error_number_free() const { return is_error_number_free_; }
    // So is guest state (SDM 3C 27.3), some of whose rules have an exit qualification.
    bool is_qualification_free() const { return is_qualification_free_; }

private:
    enum class Kind : std::uint8_t { control, host, guest, segment, pointer, list, launch_state };

    void add(Kind kind, Random& random, Line& line);
    void add_control(Random& random, Line& line);
    void add_host(Random& random, Line& line);
    void add_link_pointer(Random& random, Line& line);
    void add_activity(Random& random, Line& line);
    void add_to_list(Random& random, Line& line);
    void add_to_segment(Random& random, Line& line);
    void set(std::uint32_t encoding, std::uint64_t value, Line& line);

    struct Change {
        std::uint32_t encoding;
        std::uint64_t before;
    };
    static constexpr unsigned most = 6;
    Change changes_[most] = {};
    unsigned count_ = 0;
    std::uint32_t hidden_ = 0;  // the field that has places.hidden, which no line may have
    bool must_be_undone_ = false;
    bool is_complete_ = false;  // nothing is added
    bool has_other_launch_state_ = false;
    bool is_behind_mov_ss_ = false;
    bool is_error_number_free_ = false;
    bool is_qualification_free_ = false;
};

}  // namespace flatback::guests
