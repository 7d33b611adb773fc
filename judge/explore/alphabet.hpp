#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tag/vpid12_map.hpp"

namespace flatback::machine::explore {

/// How much of everything the programs may use.
struct Alphabet {
    unsigned vpids = 2;  // vpid12 1 and 2
    unsigned tags = 2;   // that the processor has, for L1s and L2s together
    unsigned pages = 2;  // page 0 is ordinary, page 1 global
    unsigned pcids = 2;
    unsigned eptps = 2;  // x and y
    unsigned cpus = 2;
    tag::Policy policy = tag::Policy::mapped;
};

/// Who runs, and whose translations a tag holds.
enum class Guest : std::uint8_t {
    none,
    vpid_1,        // L2 with vpid12 = 1
    vpid_2,        // L2 with vpid12 = 2
    without_vpid,  // L2 with "enable VPID" = 0
    l1,
    other,  // the L1 of another VM
};

[[nodiscard]] constexpr bool is_l2(Guest guest) {
    return guest == Guest::vpid_1 || guest == Guest::vpid_2 || guest == Guest::without_vpid;
}

[[nodiscard]] std::string describe(Guest guest);

/// One step of a program.
struct Action {
    enum class Kind : std::uint8_t {
        // L1, and then L1 runs on; but for `enter`.
        enter,                   // guest, eptp
        enter_fails_flush_paid,  // guest: L0 paid what was owed, then the processor refused the entry
        enter_fails_flush_kept,  // guest: L0 refused it before it paid
        edit_ept,                // eptp, page: EPT12 maps the page elsewhere
        invvpid_address,         // guest, page
        invvpid_single,          // guest
        invvpid_all,
        invvpid_retaining_globals,  // guest
        invept_single,              // eptp
        invept_all,
        flush_of_l1,  // L1's own translations; L0 emulates the MOV to CR that does it
        vmxoff_vmxon,
        // L2, or L1 where it can
        edit_page,  // page: the paging structures of all L2s map it elsewhere
        // L2
        access,       // page
        change_pcid,  // MOV to CR3 with bit 63 set
        mov_cr3,      // MOV to CR3 with bit 63 clear, of the PCID that is current
        invlpg,       // page
        exit,
        // L0, whoever runs
        move,       // the virtual CPU goes to the other processor
        take_page,  // page: what L1 believes to be this page is elsewhere now
        other_vm_comes,
        other_vm_goes,
    };
    Kind kind = Kind::exit;
    Guest guest = Guest::none;
    std::uint8_t eptp = 0;
    std::uint8_t page = 0;

    friend bool operator==(const Action&, const Action&) = default;
};

/// "L1: INVVPID type 0 of vpid12 1, page 0", ...
[[nodiscard]] std::string describe(const Action& action);

/// All that may be done next: while L1 runs, and while an L2 runs.
struct Actions {
    explicit Actions(const Alphabet& alphabet);
    std::vector<Action> of_l1;
    std::vector<Action> of_l2;
};

}  // namespace flatback::machine::explore
