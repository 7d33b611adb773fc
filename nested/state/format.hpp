// The nested state of a virtual CPU as bytes (docs/state.md has the layout): what is read of them and what is
// written, by VMCS field encoding and little-endian, independent of the processor and of this program.
//
// Nothing here knows the engine. A reader never looks beyond its bytes, whatever they say.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "../../vmx/capability.hpp"
#include "../../x86/expected.hpp"

namespace flatback::nested {

// Why a state was not saved or not restored. A restore that says so has had no effect.
enum class StateError : std::uint8_t {
    no_room,            // save: the buffer is too small
    hosts_exit,         // save: an exit of L2's is the host's, and it has not gone on (Entry::the_hosts)
    not_a_state,        // restore: other bytes, cut short, too long, or with something that this layout lacks
    other_version,      // of another layout
    promise_not_kept,   // its L1 was promised what this one is not
    unknown_field,      // a field that L1 does not have here, or one that has no place there
    fields_not_sorted,  // two of one field, or not in the order of the encodings
    value_too_wide,     // more bits than the field has
    bad_pointer,        // of the VMXON region or a VMCS: one that L1 could not have loaded, or two of one
    impossible,         // L2 is said to run as no VM entry of L1's and nothing of L2's could have made it
    no_memory,          // the Port gives no page for a VMCS
};

namespace state {

inline constexpr std::uint32_t magic = 0x534e'4246;  // "FBNS"
inline constexpr std::uint32_t version = 1;

// Bits of the header's flags.
inline constexpr std::uint32_t in_vmx_operation = 1U << 0;
inline constexpr std::uint32_t in_l2 = 1U << 1;
inline constexpr std::uint32_t l2_has_run = 1U << 2;            // since L1's last VM entry
inline constexpr std::uint32_t entering_by_vmlaunch = 1U << 3;  // L1's VM entry is still to be made
// Of a VMCS's.
inline constexpr std::uint32_t launched = 1U << 0;
inline constexpr std::uint32_t shadow = 1U << 1;  // a shadow VMCS, which is never launched

inline constexpr std::uint64_t no_pointer = ~std::uint64_t{0};
// The capability MSRs, IA32_VMX_BASIC to IA32_VMX_VMFUNC (SDM 3D appendix A).
inline constexpr std::uint32_t first_capability_msr = 0x480;
inline constexpr std::size_t capability_msrs = 18;

// Sizes in bytes.
inline constexpr std::size_t header_size = 36 + 8 * capability_msrs;
inline constexpr std::size_t vmcs_header_size = 16;
inline constexpr std::size_t l2_header_size = 4;
inline constexpr std::size_t field_size = 12;
inline constexpr std::size_t size_at = 8;  // where the header says how long the whole is

struct Header {
    std::uint32_t flags = 0;
    std::uint64_t vmxon_pointer = no_pointer;
    std::uint64_t current_pointer = no_pointer;
    std::uint32_t vmcs_count = 0;
    vmx::Capabilities promised{};
};

struct VmcsHeader {
    std::uint64_t pointer = 0;
    std::uint32_t flags = 0;
    std::uint32_t field_count = 0;
};

struct FieldValue {
    std::uint32_t encoding = 0;
    std::uint64_t value = 0;
};

// Whether an L1 that was promised `theirs` finds all of it, and nothing that means something else, where
// `mine` is promised.
[[nodiscard]] constexpr bool covers(const vmx::Capabilities& mine, const vmx::Capabilities& theirs) {
    const auto has_all = [](std::uint64_t of_mine, std::uint64_t of_theirs) {
        return (of_theirs & ~of_mine) == 0;
    };
    const auto controls = [&](vmx::ControlCapability of_mine, vmx::ControlCapability of_theirs) {
        return has_all(of_theirs.allowed0, of_mine.allowed0) && has_all(of_mine.allowed1, of_theirs.allowed1);
    };
    const auto fixed = [&](vmx::FixedBits of_mine, vmx::FixedBits of_theirs) {
        return has_all(of_theirs.fixed0, of_mine.fixed0) && has_all(of_mine.fixed1, of_theirs.fixed1);
    };
    constexpr std::uint64_t more_may_be =
        vmx::BasicCapability::ins_outs_information | vmx::BasicCapability::any_error_code;
    constexpr std::uint64_t misc_bits =
        vmx::MiscCapability::store_efer_lma | vmx::MiscCapability::activity_hlt |
        vmx::MiscCapability::activity_shutdown | vmx::MiscCapability::activity_wait_for_sipi |
        vmx::MiscCapability::vmwrite_any_field | vmx::MiscCapability::zero_length_injection;
    return (mine.basic.value & ~more_may_be) == (theirs.basic.value & ~more_may_be) &&
           has_all(mine.basic.value & more_may_be, theirs.basic.value & more_may_be) &&
           controls(mine.pin_based, theirs.pin_based) &&
           controls(mine.primary_processor_based, theirs.primary_processor_based) &&
           controls(mine.secondary_processor_based, theirs.secondary_processor_based) &&
           controls(mine.vm_exit, theirs.vm_exit) && controls(mine.vm_entry, theirs.vm_entry) &&
           // L1's timer goes by it.
           mine.misc.preemption_timer_rate() == theirs.misc.preemption_timer_rate() &&
           has_all(mine.misc.value & misc_bits, theirs.misc.value & misc_bits) &&
           mine.misc.cr3_target_count() >= theirs.misc.cr3_target_count() &&
           mine.misc.msr_list_entries() >= theirs.misc.msr_list_entries() && fixed(mine.cr0, theirs.cr0) &&
           fixed(mine.cr4, theirs.cr4) && mine.vmcs_enum >= theirs.vmcs_enum &&
           has_all(mine.ept_vpid.value, theirs.ept_vpid.value) &&
           has_all(mine.vm_functions, theirs.vm_functions);
}

// Writes as long as there is room, and knows then that there was none.
class Writer final {
public:
    explicit Writer(std::span<std::byte> into) : into_(into) {}

    void put(const Header& header) {
        put_word(magic);
        put_word(version);
        put_word(std::uint32_t{0});  // the size: finish()
        put_word(header.flags);
        put_word(header.vmxon_pointer);
        put_word(header.current_pointer);
        put_word(header.vmcs_count);
        for (std::uint32_t i = 0; i < capability_msrs; ++i)
            put_word(header.promised.read_msr(first_capability_msr + i).value_or(0));
    }
    void put(const VmcsHeader& vmcs) {
        put_word(vmcs.pointer);
        put_word(vmcs.flags);
        put_word(vmcs.field_count);
    }
    void put_count(std::uint32_t field_count) { put_word(field_count); }
    void put(FieldValue field) {
        put_word(field.encoding);
        put_word(field.value);
    }

    // How long the whole is.
    [[nodiscard]] Expected<std::size_t, StateError> finish() {
        if (!fits_) return Unexpected{StateError::no_room};
        const auto size = static_cast<std::uint32_t>(used_);
        std::memcpy(&into_[size_at], &size, sizeof size);
        return used_;
    }

private:
    template <typename Word>
    void put_word(Word word) {
        if (into_.size() - used_ < sizeof word) fits_ = false;
        if (!fits_) return;
        std::memcpy(&into_[used_], &word, sizeof word);
        used_ += sizeof word;
    }

    std::span<std::byte> into_;
    std::size_t used_ = 0;
    bool fits_ = true;
};

// Reads what a Writer wrote, or anything else: a word that is not there is 0, and all_there() is false then.
class Reader final {
public:
    explicit Reader(std::span<const std::byte> from) : from_(from) {}

    // Of the whole: its version is ours and its size is what it says.
    [[nodiscard]] Expected<Header, StateError> header() {
        if (word<std::uint32_t>() != magic) return Unexpected{StateError::not_a_state};
        if (word<std::uint32_t>() != version) return Unexpected{StateError::other_version};
        const auto size = word<std::uint32_t>();
        if (size != from_.size() || size < header_size) return Unexpected{StateError::not_a_state};
        Header read;
        read.flags = word<std::uint32_t>();
        read.vmxon_pointer = word<std::uint64_t>();
        read.current_pointer = word<std::uint64_t>();
        read.vmcs_count = word<std::uint32_t>();
        std::array<std::uint64_t, capability_msrs> msrs{};
        for (std::uint64_t& msr : msrs) msr = word<std::uint64_t>();
        read.promised = vmx::Capabilities::from_msrs(
            [&](std::uint32_t msr) { return msrs[(msr - first_capability_msr) % capability_msrs]; });
        return read;
    }
    [[nodiscard]] VmcsHeader vmcs() {
        VmcsHeader read;
        read.pointer = word<std::uint64_t>();
        read.flags = word<std::uint32_t>();
        read.field_count = word<std::uint32_t>();
        return read;
    }
    [[nodiscard]] std::uint32_t count() { return word<std::uint32_t>(); }
    [[nodiscard]] FieldValue field() {
        FieldValue read;
        read.encoding = word<std::uint32_t>();
        read.value = word<std::uint64_t>();
        return read;
    }

    [[nodiscard]] bool all_there() const { return all_there_; }
    [[nodiscard]] bool at_end() const { return all_there_ && used_ == from_.size(); }

private:
    template <typename Word>
    [[nodiscard]] Word word() {
        Word read{};
        if (from_.size() - used_ < sizeof read) all_there_ = false;
        if (!all_there_) return read;
        std::memcpy(&read, &from_[used_], sizeof read);
        used_ += sizeof read;
        return read;
    }

    std::span<const std::byte> from_;
    std::size_t used_ = 0;
    bool all_there_ = true;
};

}  // namespace state
}  // namespace flatback::nested
