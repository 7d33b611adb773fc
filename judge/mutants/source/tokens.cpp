#include "judge/mutants/source/tokens.hpp"

#include <algorithm>
#include <array>

namespace flatback::machine {

namespace {

// The longest first.
constexpr std::array<std::string_view, 25> long_signs = {
    "<<=", ">>=", "->*", "...", "<=>", "::", "->", "++", "--", "<<", ">>", "<=", ">=",
    "==",  "!=",  "&&",  "||",  "+=",  "-=", "*=", "/=", "%=", "&=", "|=", "^="};

constexpr std::string_view spaces = " \t\r\n";

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// Where the line ends, with those that a backslash joins to it.
std::size_t end_of_directive(std::string_view text, std::size_t at) {
    std::size_t end = text.find('\n', at);
    while (end != std::string_view::npos && end > 0 && text[end - 1] == '\\') end = text.find('\n', end + 1);
    return std::min(end, text.size());
}

std::size_t end_of_literal(std::string_view text, std::size_t at) {
    const char quote = text[at];
    for (++at; at < text.size() && text[at] != quote; ++at) {
        if (text[at] == '\\') ++at;
    }
    return std::min(at + 1, text.size());
}

std::size_t end_of_word(std::string_view text, std::size_t at) {
    while (at < text.size() && (is_letter(text[at]) || is_digit(text[at]))) ++at;
    return at;
}

// The quotes between digits are of the number.
std::size_t end_of_number(std::string_view text, std::size_t at) {
    while (at < text.size() &&
           (is_letter(text[at]) || is_digit(text[at]) || text[at] == '\'' || text[at] == '.')) {
        ++at;
    }
    return at;
}

std::size_t end_of_sign(std::string_view text, std::size_t at) {
    for (const std::string_view sign : long_signs) {
        if (text.substr(at).starts_with(sign)) return at + sign.size();
    }
    return at + 1;
}

}  // namespace

SourceTokens::SourceTokens(std::string_view text) : text_(text) {
    read();
    pair_brackets();
}

std::string_view SourceTokens::operator[](std::size_t index) const {
    if (index >= tokens_.size()) return {};
    return text_.substr(tokens_[index].begin, tokens_[index].end - tokens_[index].begin);
}

void SourceTokens::read() {
    std::size_t at = 0;
    bool line_begins = true;
    while (at < text_.size()) {
        const std::string_view rest = text_.substr(at);
        if (spaces.find(text_[at]) != std::string_view::npos) {
            line_begins = line_begins || text_[at] == '\n';
            ++at;
            continue;
        }
        if (rest.starts_with("//")) {
            at = std::min(text_.find('\n', at), text_.size());
            continue;
        }
        if (rest.starts_with("/*")) {
            const std::size_t end = text_.find("*/", at + 2);
            at = end == std::string_view::npos ? text_.size() : end + 2;
            continue;
        }
        if (text_[at] == '#' && line_begins) {
            at = end_of_directive(text_, at);
            continue;
        }
        line_begins = false;
        Token token{.kind = TokenKind::sign, .begin = at, .end = end_of_sign(text_, at)};
        if (text_[at] == '"' || text_[at] == '\'') {
            token.kind = TokenKind::literal;
            token.end = end_of_literal(text_, at);
        } else if (is_digit(text_[at])) {
            token.kind = TokenKind::number;
            token.end = end_of_number(text_, at);
        } else if (is_letter(text_[at])) {
            token.kind = TokenKind::word;
            token.end = end_of_word(text_, at);
        }
        token.space_before = at == 0 || spaces.find(text_[at - 1]) != std::string_view::npos;
        at = token.end;
        token.space_after = at == text_.size() || spaces.find(text_[at]) != std::string_view::npos;
        tokens_.push_back(token);
    }
}

void SourceTokens::pair_brackets() {
    partners_.resize(tokens_.size());
    std::vector<std::size_t> open;
    for (std::size_t index = 0; index < tokens_.size(); ++index) {
        partners_[index] = index;
        if (tokens_[index].kind != TokenKind::sign) continue;
        const char sign = text_[tokens_[index].begin];
        if (sign == '(' || sign == '[' || sign == '{') open.push_back(index);
        if ((sign == ')' || sign == ']' || sign == '}') && !open.empty()) {
            partners_[index] = open.back();
            partners_[open.back()] = index;
            open.pop_back();
        }
    }
}

std::size_t SourceTokens::behind_angles(std::size_t index) const {
    int depth = 0;
    for (std::size_t at = index; at < size(); at = behind(at)) {
        const std::string_view sign = (*this)[at];
        if (sign == "<") ++depth;
        if (sign == ">") --depth;
        if (sign == ">>") depth -= 2;
        if (sign == ";" || sign == "{") break;
        if (depth <= 0) return at + 1;
    }
    return index;
}

std::size_t SourceTokens::find(std::string_view sign, std::size_t index, std::size_t end) const {
    for (; index < end; index = behind(index)) {
        if ((*this)[index] == sign) return index;
    }
    return end;
}

}  // namespace flatback::machine
