#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace flatback::machine {

enum class TokenKind : std::uint8_t { word, number, literal, sign };

struct Token {
    TokenKind kind = TokenKind::sign;
    std::size_t begin = 0;  // in the text
    std::size_t end = 0;
    bool space_before = false;  // or the end of a line
    bool space_after = false;
};

/// The tokens of a C++ source that clang-format has laid out, without comments
/// and preprocessor lines. No raw strings.
class SourceTokens {
public:
    /// `text` outlives this.
    explicit SourceTokens(std::string_view text);

    [[nodiscard]] std::size_t size() const { return tokens_.size(); }
    [[nodiscard]] const Token& token(std::size_t index) const { return tokens_[index]; }
    /// The token's text; nothing behind the last one.
    [[nodiscard]] std::string_view operator[](std::size_t index) const;
    [[nodiscard]] bool is_word(std::size_t index) const {
        return index < tokens_.size() && tokens_[index].kind == TokenKind::word;
    }
    /// With space around it: of < > & * - only then an operator between two operands.
    [[nodiscard]] bool is_spaced(std::size_t index) const {
        return tokens_[index].space_before && tokens_[index].space_after;
    }
    /// Of a bracket: the one that closes, or opens, it. Of any other token, and
    /// of a bracket that has none: itself.
    [[nodiscard]] std::size_t partner(std::size_t index) const { return partners_[index]; }
    /// Behind the token, or behind all that the bracket encloses.
    [[nodiscard]] std::size_t behind(std::size_t index) const {
        return partners_[index] > index ? partners_[index] + 1 : index + 1;
    }
    /// Behind the angle brackets that open here; here, where they do not close.
    [[nodiscard]] std::size_t behind_angles(std::size_t index) const;
    /// The next one of this text from `index` on, in no bracket; `end`: none.
    [[nodiscard]] std::size_t find(std::string_view sign, std::size_t index, std::size_t end) const;
    [[nodiscard]] std::string_view text() const { return text_; }

private:
    void read();
    void pair_brackets();

    std::string_view text_;
    std::vector<Token> tokens_;
    std::vector<std::size_t> partners_;
};

}  // namespace flatback::machine
