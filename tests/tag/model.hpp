// The judge of the tag manager: processors that forget nothing, and what their guests may see.
//
// A TLB here keeps every translation until an INVVPID or INVEPT that must remove it (translation-caching
// rules, SDM 3C 29.4) has run. Virtual CPUs run L1 and L2s on it under the tags they are told, and whoever is
// entered must find only translations that are its own and that nobody asked to be gone. The other side is
// cost: who left warm translations behind, and had nothing happen to it since, is entered without a flush and
// still finds them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tag/vpid12_map.hpp"

namespace flatback::tag_test {

inline constexpr std::size_t model_slots = 2;
inline constexpr std::size_t model_vcpus = 2;
inline constexpr std::uint32_t model_cpus = 3;
inline constexpr std::uint16_t model_addresses = 2;

// What an L1 (or its host) does next.
struct Step {
    enum class Kind : std::uint8_t {
        run_l2,      // VMLAUNCH; argument: how it goes (Outcome)
        reenter_l2,  // L0 took an exit of L2's and resumes it, perhaps after a move
        run_l2_without_vpid,
        invvpid_address,
        invvpid_single,
        invvpid_all,
        invvpid_retaining_globals,
        move,  // the host moves the virtual CPU; it does not run yet
        vmxoff,
        other_vm,     // takes the next free tag, dirties it on every CPU, and gives it back
        page_taken,   // L0 changes EPT01 and every EPT02
        invept,       // L1's
        flush_by_l1,  // emulated by L0
        flush_address_by_l1,
        run_l1,
        count,
    };
    Kind kind = Kind::run_l1;
    std::uint8_t vcpu = 0;
    std::uint16_t vpid12 = 1;
    std::uint8_t cpu = 0;
    std::uint8_t address = 0;
    bool keep =
        false;  // the flush that is to be run now is kept instead; an entry fails before its flush ran
    bool fail = false;  // the entry fails after its flush ran
};

std::string describe(const Step& step);

class Model final {
public:
    Model(std::uint16_t tags, tag::Policy policy);

    // The complaint, if this step showed one.
    std::optional<std::string> take(const Step& step);

private:
    // Who a translation belongs to. vpid12: l1, without_vpid, or L1's number for its L2.
    static constexpr std::uint32_t l1 = 0x1'0000;
    static constexpr std::uint32_t without_vpid = 0x2'0000;
    static constexpr std::size_t nobody = 99;
    struct Guest {
        std::size_t vcpu;
        std::uint32_t vpid12;
        bool operator==(const Guest&) const = default;
        bool operator<(const Guest& other) const {
            return std::tie(vcpu, vpid12) < std::tie(other.vcpu, other.vpid12);
        }
    };
    struct Translation {
        Guest guest;
        std::uint16_t address;
        bool global;
        std::uint64_t made;
    };
    // Guest-physical mappings of one set of EPT contexts: an L1's EPT01, or all the EPT02s of its L2s.
    struct Context {
        std::size_t vcpu;
        bool of_l2;
        bool operator==(const Context&) const = default;
        bool operator<(const Context& other) const {
            return std::tie(vcpu, of_l2) < std::tie(other.vcpu, other.of_l2);
        }
    };
    struct Processor {
        std::map<tag::TagNumber, std::vector<Translation>> tlb;
        std::map<Context, std::uint64_t> oldest_guest_physical;
    };
    // Before when a translation of a guest's has to be gone.
    struct Wanted {
        std::array<std::uint64_t, model_addresses> address{};
        std::uint64_t non_global = 0;
        std::uint64_t all = 0;
        // It ran on `cpu` and no other since `there_since`: what another CPU cached before is dead.
        std::uint32_t cpu = model_cpus;
        std::uint64_t there_since = 0;
        // Entered and paid, and nothing has happened to it since.
        bool warm = false;
    };
    struct WantedOfContext {
        std::uint64_t all = 0;
        std::uint32_t cpu = model_cpus;
        std::uint64_t there_since = 0;
    };
    struct Vcpu {
        explicit Vcpu(tag::VpidPool& pool, tag::Policy policy) : vpid01(pool), map(pool, vpid01, policy) {}
        tag::Vpid01 vpid01;
        tag::Vpid12Map<model_slots> map;
        std::uint32_t cpu = 0;
        // The guest that the hardware ran last, which L0 may re-enter.
        std::optional<std::uint32_t> in_l2;
        std::deque<std::uint32_t> recently_used;  // vpid12s with a slot, the least recently used first
    };

    static constexpr bool is_l2(const Guest& guest) { return guest.vpid12 != l1; }
    std::optional<std::string> enter(std::size_t vcpu, std::uint32_t vpid12, bool keep, bool fail);
    std::optional<std::string> run_l1(std::size_t vcpu) { return enter(vcpu, l1, false, false); }
    std::optional<std::string> invvpid(const Step& step);
    std::optional<std::string> look(const Guest& guest, tag::TagNumber tag, std::uint32_t cpu) const;
    std::optional<std::string> check_slots(std::size_t vcpu, std::uint32_t vpid12, std::uint64_t evictions,
                                           std::uint64_t shared);
    void run_flush(const Guest& guest, const tag::FlushTarget& target);
    void fill(const Guest& guest, tag::TagNumber tag, std::uint32_t cpu);
    void cool(std::size_t vcpu, bool l2s, bool the_l1);
    void transition_of_vpid_zero(Processor& processor) { processor.tlb[tag::TagNumber::none].clear(); }

    tag::VpidPool pool_;
    std::vector<std::unique_ptr<Vcpu>> vcpus_;
    std::array<Processor, model_cpus> processors_;
    std::map<Guest, Wanted> wanted_;
    std::map<Context, WantedOfContext> wanted_of_context_;
    std::uint64_t now_ = 1;
};

}  // namespace flatback::tag_test
