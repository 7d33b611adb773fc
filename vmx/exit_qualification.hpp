// The exit qualification, decoded and encoded by exit reason (SDM 3C 28.2.1).
#pragma once

#include <cstdint>

namespace flatback::vmx {

// Control-register accesses (SDM 3C table 28-3).
struct ControlRegisterAccess {
    enum class Kind : std::uint8_t { mov_to = 0, mov_from = 1, clts = 2, lmsw = 3 };

    std::uint8_t control_register = 0;  // 0, 3, 4 or 8; 0 for CLTS and LMSW
    Kind kind = Kind::mov_to;
    bool lmsw_memory_operand = false;
    std::uint8_t general_register = 0;  // MOV only: 0 = RAX ... 15 = R15
    std::uint16_t lmsw_source = 0;

    [[nodiscard]] static constexpr ControlRegisterAccess decode(std::uint64_t qualification) {
        return {.control_register = static_cast<std::uint8_t>(qualification & 0xf),
                .kind = static_cast<Kind>(qualification >> 4 & 3),
                .lmsw_memory_operand = (qualification >> 6 & 1) != 0,
                .general_register = static_cast<std::uint8_t>(qualification >> 8 & 0xf),
                .lmsw_source = static_cast<std::uint16_t>(qualification >> 16)};
    }
    [[nodiscard]] constexpr std::uint64_t encode() const {
        return static_cast<std::uint64_t>(control_register) | static_cast<std::uint64_t>(kind) << 4 |
               static_cast<std::uint64_t>(lmsw_memory_operand) << 6 |
               static_cast<std::uint64_t>(general_register) << 8 |
               static_cast<std::uint64_t>(lmsw_source) << 16;
    }
    friend constexpr bool operator==(const ControlRegisterAccess&, const ControlRegisterAccess&) = default;
};

// MOV DR (SDM 3C table 28-4).
struct DebugRegisterAccess {
    std::uint8_t debug_register = 0;
    bool from_debug_register = false;
    std::uint8_t general_register = 0;

    [[nodiscard]] static constexpr DebugRegisterAccess decode(std::uint64_t qualification) {
        return {.debug_register = static_cast<std::uint8_t>(qualification & 7),
                .from_debug_register = (qualification >> 4 & 1) != 0,
                .general_register = static_cast<std::uint8_t>(qualification >> 8 & 0xf)};
    }
    [[nodiscard]] constexpr std::uint64_t encode() const {
        return static_cast<std::uint64_t>(debug_register) |
               static_cast<std::uint64_t>(from_debug_register) << 4 |
               static_cast<std::uint64_t>(general_register) << 8;
    }
    friend constexpr bool operator==(const DebugRegisterAccess&, const DebugRegisterAccess&) = default;
};

// I/O instructions (SDM 3C table 28-5).
struct IoAccess {
    std::uint8_t size = 1;  // bytes: 1, 2 or 4
    bool is_in = false;
    bool is_string = false;
    bool has_rep = false;
    bool immediate_operand = false;  // else DX
    std::uint16_t port = 0;

    [[nodiscard]] static constexpr IoAccess decode(std::uint64_t qualification) {
        return {.size = static_cast<std::uint8_t>((qualification & 7) + 1),
                .is_in = (qualification >> 3 & 1) != 0,
                .is_string = (qualification >> 4 & 1) != 0,
                .has_rep = (qualification >> 5 & 1) != 0,
                .immediate_operand = (qualification >> 6 & 1) != 0,
                .port = static_cast<std::uint16_t>(qualification >> 16)};
    }
    [[nodiscard]] constexpr std::uint64_t encode() const {
        return static_cast<std::uint64_t>((size - 1) & 7) | static_cast<std::uint64_t>(is_in) << 3 |
               static_cast<std::uint64_t>(is_string) << 4 | static_cast<std::uint64_t>(has_rep) << 5 |
               static_cast<std::uint64_t>(immediate_operand) << 6 | static_cast<std::uint64_t>(port) << 16;
    }
    friend constexpr bool operator==(const IoAccess&, const IoAccess&) = default;
};

// Task switches (SDM 3C table 28-2).
struct TaskSwitch {
    enum class Source : std::uint8_t { call = 0, iret = 1, jmp = 2, task_gate = 3 };

    std::uint16_t selector = 0;
    Source source = Source::call;

    [[nodiscard]] static constexpr TaskSwitch decode(std::uint64_t qualification) {
        return {.selector = static_cast<std::uint16_t>(qualification),
                .source = static_cast<Source>(qualification >> 30 & 3)};
    }
    [[nodiscard]] constexpr std::uint64_t encode() const {
        return static_cast<std::uint64_t>(selector) | static_cast<std::uint64_t>(source) << 30;
    }
    friend constexpr bool operator==(const TaskSwitch&, const TaskSwitch&) = default;
};

// APIC-access VM exits (SDM 3C table 28-6).
struct ApicAccess {
    enum class Kind : std::uint8_t {
        linear_read = 0,
        linear_write = 1,
        linear_fetch = 2,
        linear_event_delivery = 3,
        physical_event_delivery = 10,
        physical_fetch_or_execution = 15,
    };

    std::uint16_t offset = 0;  // in the APIC page; undefined for a guest-physical access
    Kind kind = Kind::linear_read;

    [[nodiscard]] static constexpr ApicAccess decode(std::uint64_t qualification) {
        return {.offset = static_cast<std::uint16_t>(qualification & 0xfff),
                .kind = static_cast<Kind>(qualification >> 12 & 0xf)};
    }
    [[nodiscard]] constexpr std::uint64_t encode() const {
        return static_cast<std::uint64_t>(offset & 0xfff) | static_cast<std::uint64_t>(kind) << 12;
    }
    friend constexpr bool operator==(const ApicAccess&, const ApicAccess&) = default;
};

// EPT violations (SDM 3C table 28-7). The same bits serve as the value: a reflected violation changes only
// some.
struct EptViolation {
    std::uint64_t value = 0;

    // clang-format off
    static constexpr std::uint64_t read                      = 1ULL << 0;   // the access
    static constexpr std::uint64_t write                     = 1ULL << 1;
    static constexpr std::uint64_t fetch                     = 1ULL << 2;
    static constexpr std::uint64_t readable                  = 1ULL << 3;   // AND over the entries of the walk
    static constexpr std::uint64_t writable                  = 1ULL << 4;
    static constexpr std::uint64_t executable                = 1ULL << 5;
    static constexpr std::uint64_t user_executable           = 1ULL << 6;   // mode-based execute control
    static constexpr std::uint64_t linear_address_valid      = 1ULL << 7;
    static constexpr std::uint64_t of_linear_address         = 1ULL << 8;   // else of a paging-structure entry
    static constexpr std::uint64_t user_mode_address         = 1ULL << 9;   // advanced information from here
    static constexpr std::uint64_t writable_address          = 1ULL << 10;
    static constexpr std::uint64_t execute_disabled_address  = 1ULL << 11;
    static constexpr std::uint64_t nmi_unblocking_by_iret    = 1ULL << 12;
    static constexpr std::uint64_t access_mask               = read | write | fetch;
    static constexpr std::uint64_t permission_mask           = readable | writable | executable;
    static constexpr unsigned      permission_shift          = 3;           // permissions of an EPT entry, moved here
    // clang-format on

    [[nodiscard]] constexpr bool has(std::uint64_t bits) const { return (value & bits) == bits; }
    [[nodiscard]] constexpr bool is_read() const { return has(read); }
    [[nodiscard]] constexpr bool is_write() const { return has(write); }
    [[nodiscard]] constexpr bool is_fetch() const { return has(fetch); }
    // The access as the permission bits that an EPT entry must have: R, W, X in bits 2:0.
    [[nodiscard]] constexpr std::uint64_t access() const { return value & access_mask; }
    // The permissions of the translation, R, W, X in bits 2:0; 0 where it was not present.
    [[nodiscard]] constexpr std::uint64_t permissions() const {
        return (value & permission_mask) >> permission_shift;
    }
    // The same violation of another EPT hierarchy's walk. permissions: R, W, X in bits 2:0.
    [[nodiscard]] constexpr EptViolation with_permissions(std::uint64_t permissions) const {
        return {(value & ~permission_mask) | (permissions << permission_shift & permission_mask)};
    }

    friend constexpr bool operator==(EptViolation, EptViolation) = default;
};

// The qualification of an entry failure due to guest state (SDM 3C 27.8).
enum class GuestStateFailure : std::uint64_t {
    other = 0,
    pdpte = 2,
    nmi_injection_blocked = 3,
    vmcs_link_pointer = 4,
};

}  // namespace flatback::vmx
