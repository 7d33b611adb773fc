// The instructions by which software writes to a register of a device: MOV and XCHG to memory. Pure.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace flatback::metal {

struct StoreInstruction {
    std::uint8_t length = 0;
    std::uint8_t size = 4;                   // of what is stored: 1, 2, 4 or 8 bytes
    std::optional<std::uint64_t> immediate;  // what is stored; else that register's lower part
    std::uint8_t register_number = 0;
    bool high_byte = false;  // of it: AH, CH, DH, BH
    bool exchanges = false;  // and the register gets what was there
};

enum class CodeSize : std::uint8_t { bits_16, bits_32, bits_64 };

namespace detail {

class CodeReader {
public:
    constexpr explicit CodeReader(std::span<const std::uint8_t> code) : code_(code) {}
    // 0 behind the end, which ended() tells.
    constexpr std::uint8_t next() {
        if (at_ == code_.size()) {
            ended_ = true;
            return 0;
        }
        return code_[at_++];
    }
    constexpr void skip(unsigned count) {
        for (unsigned i = 0; i < count; ++i) static_cast<void>(next());
    }
    constexpr std::uint64_t next_bytes(unsigned count) {
        std::uint64_t value = 0;
        for (unsigned byte = 0; byte < count; ++byte) value |= std::uint64_t{next()} << (8 * byte);
        return value;
    }
    [[nodiscard]] constexpr bool ended() const { return ended_; }
    [[nodiscard]] constexpr std::size_t at() const { return at_; }

private:
    std::span<const std::uint8_t> code_;
    std::size_t at_ = 0;
    bool ended_ = false;
};

// Behind the ModR/M byte: SIB and displacement (SDM 2A tables 2-1 to 2-3).
constexpr void skip_address(CodeReader& code, std::uint8_t mod_rm, bool address_16) {
    const unsigned mod = mod_rm >> 6;
    const unsigned rm = mod_rm & 7;
    if (address_16) {
        code.skip(mod == 1 ? 1 : mod == 2 || (mod == 0 && rm == 6) ? 2 : 0);
        return;
    }
    unsigned displacement = mod == 1 ? 1 : mod == 2 || (mod == 0 && rm == 5) ? 4 : 0;
    if (rm == 4) {
        const std::uint8_t sib = code.next();
        if (mod == 0 && (sib & 7) == 5) displacement = 4;
    }
    code.skip(displacement);
}

}  // namespace detail

// nullopt: another instruction, or `code` ends within it.
[[nodiscard]] constexpr std::optional<StoreInstruction> decode_store(std::span<const std::uint8_t> bytes,
                                                                     CodeSize size) {
    constexpr std::size_t longest = 15;
    detail::CodeReader code{bytes.first(bytes.size() < longest ? bytes.size() : longest)};
    bool operand_override = false;
    bool address_override = false;
    std::uint8_t rex = 0;
    std::uint8_t opcode = 0;
    for (;;) {
        opcode = code.next();
        if (opcode == 0x66) {
            operand_override = true;
        } else if (opcode == 0x67) {
            address_override = true;
        } else if (size == CodeSize::bits_64 && (opcode & 0xf0) == 0x40) {
            rex = opcode;
            opcode = code.next();
            break;
        } else if (opcode != 0x26 && opcode != 0x2e && opcode != 0x36 && opcode != 0x3e && opcode != 0x64 &&
                   opcode != 0x65 && opcode != 0xf0) {
            break;
        }
    }
    constexpr std::uint8_t rex_w = 8;
    constexpr std::uint8_t rex_r = 4;
    const bool address_16 =
        size == CodeSize::bits_16 ? !address_override : size == CodeSize::bits_32 && address_override;
    // Of each pair of opcodes the even one is that of bytes.
    constexpr std::uint8_t wide = 1;
    StoreInstruction store;
    const bool is_16_bit = operand_override != (size == CodeSize::bits_16);
    store.size = (opcode & wide) == 0 ? 1 : (rex & rex_w) != 0 ? 8 : is_16_bit ? 2 : 4;
    switch (opcode | wide) {
        case 0xa3:  // MOV moffs, AL to RAX
            code.skip(size == CodeSize::bits_64 && !address_override ? 8 : address_16 ? 2 : 4);
            break;
        case 0x87:  // XCHG
            store.exchanges = true;
            [[fallthrough]];
        case 0x89:    // MOV r/m, r
        case 0xc7: {  // MOV r/m, imm
            const std::uint8_t mod_rm = code.next();
            const unsigned number = mod_rm >> 3 & 7;
            const bool is_immediate = (opcode | wide) == 0xc7;
            if (mod_rm >> 6 == 3 || (is_immediate && number != 0)) return std::nullopt;
            detail::skip_address(code, mod_rm, address_16);
            if (is_immediate) {
                const std::uint64_t value = code.next_bytes(store.size == 8 ? 4 : store.size);
                constexpr std::uint64_t sign = 1ULL << 31;  // 64 bits: 32, with their sign
                store.immediate = store.size == 8 ? (value ^ sign) - sign : value;
            } else {
                // SDM 2A 3.1.1.1: without REX the numbers from 4 on are bits 15:8 of the first four.
                store.high_byte = store.size == 1 && rex == 0 && number >= 4;
                store.register_number = static_cast<std::uint8_t>(
                    store.high_byte ? number - 4 : number | ((rex & rex_r) != 0 ? 8 : 0));
            }
            break;
        }
        default:
            return std::nullopt;
    }
    if (code.ended()) return std::nullopt;
    store.length = static_cast<std::uint8_t>(code.at());
    return store;
}

// A kernel has a few such instructions, which it executes again and again: what the last ones at an address
// were holds while their bytes are the same.
class RememberedStores final {
public:
    // The bytes from an instruction pointer on, as many as the longest instruction has, and one more.
    using Code = std::array<std::uint8_t, 16>;

    // Of 32 bits; nullopt for all others.
    [[nodiscard, gnu::always_inline]] constexpr std::optional<StoreInstruction> decode(std::uint64_t rip,
                                                                                       const Code& code,
                                                                                       CodeSize size) {
        Entry& entry = entries_[(rip ^ rip >> 4) % entries_.size()];
        const auto words = std::bit_cast<std::array<std::uint64_t, 2>>(code);
        if (entry.words[0] == words[0] && entry.words[1] == words[1] && entry.size == size &&
            entry.store.length != 0) {
            return entry.store;
        }
        const auto store = decode_store(code, size);
        if (store && store->size != 4) return std::nullopt;
        if (store) entry = {words, size, *store};
        return store;
    }

private:
    struct Entry {
        std::array<std::uint64_t, 2> words{};
        CodeSize size{};
        StoreInstruction store{};  // length 0: none
    };
    std::array<Entry, 16> entries_{};
};

}  // namespace flatback::metal
