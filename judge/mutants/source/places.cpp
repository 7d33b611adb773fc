#include "judge/mutants/source/places.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace flatback::machine {

namespace {

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
    return std::ranges::find(words, word) != words.end();
}

// By recursive descent, one function for each thing that has places in it.
class PlaceReader {
public:
    PlaceReader(const SourceTokens& tokens, Places& into) : tokens_(tokens), into_(into) {
        into_.of_token.assign(tokens.size(), Places::no_place);
    }

    // Outside of functions.
    void declarations(std::size_t at, std::size_t end) {
        while (at < end) at = declaration(at, end);
    }

private:
    // One declaration; returns where the next one begins.
    std::size_t declaration(std::size_t at, std::size_t end) {
        const std::size_t first = at;
        bool has_parameters = false;  // parentheses in no angle brackets
        bool has_value = false;
        bool is_constant = false;
        while (at < end) {
            const std::string_view it = tokens_[at];
            if (it == ";") return at + 1;
            if (it == "namespace") {
                if (tokens_[at + 2] == "=") return behind_semicolon(at, end);
                return inside(at, end);
            }
            if (is_one_of(it, {"struct", "class", "union"}) && !has_parameters) return type(at, end);
            if (is_one_of(it, {"enum", "using", "concept", "static_assert", "friend"}))
                return behind_semicolon(at, end);
            if (is_one_of(it, {"public", "private", "protected"}) && tokens_[at + 1] == ":") return at + 2;
            if (it == "consteval") is_constant = true;
            if (it == "operator") {  // its name may be () or =
                at += tokens_[at + 1] == "(" ? 3U : 2U;
                continue;
            }
            if (it == "template" && tokens_[at + 1] == "<") {
                const std::size_t behind = tokens_.behind_angles(at + 1);
                at = behind > at + 1 ? behind : at + 2;
                continue;
            }
            if (it == "requires" && tokens_[at + 1] == "(") {  // a clause, or an expression with braces
                at = tokens_.behind(at + 1);
                if (tokens_[at] == "{") at = tokens_.behind(at);
                continue;
            }
            if (it == "=") has_value = true;
            if (it == "(") has_parameters = true;
            if (it == ":" && has_parameters && !has_value) {
                at = initialisers_of_members(at + 1, end);
                continue;
            }
            if (it == "{") {
                if (!has_parameters || has_value) return behind_semicolon(at, end);
                if (!is_constant) statements(at + 1, tokens_.partner(at));
                return tokens_.behind(at);
            }
            at = tokens_.behind(at);
        }
        return std::max(at, first + 1);
    }

    std::size_t inside(std::size_t at, std::size_t end) {
        const std::size_t brace = tokens_.find("{", at, end);
        if (brace >= end) return end;
        declarations(brace + 1, tokens_.partner(brace));
        return tokens_.behind(brace);
    }

    std::size_t type(std::size_t at, std::size_t end) {
        for (; at < end && tokens_[at] != ";"; at = tokens_.behind(at)) {
            if (tokens_[at] == "{") declarations(at + 1, tokens_.partner(at));
        }
        return at + 1;
    }

    [[nodiscard]] std::size_t behind_semicolon(std::size_t at, std::size_t end) const {
        return std::min(tokens_.find(";", at, end) + 1, end);
    }

    // Of a constructor; returns where its body begins.
    std::size_t initialisers_of_members(std::size_t at, std::size_t end) {
        while (at < end) {
            while (at < end && !is_one_of(tokens_[at], {"(", "{", "<", ";"})) ++at;
            if (tokens_[at] == "<") at = std::max(tokens_.behind_angles(at), at + 1);
            if (tokens_[at] != "(" && tokens_[at] != "{") return at;
            arguments(at);
            at = tokens_.behind(at);
            if (tokens_[at] != ",") return at;
            ++at;
        }
        return at;
    }

    // --- in functions

    void statements(std::size_t at, std::size_t end) {
        while (at < end) at = statement(at, end);
    }

    // One statement; returns where the next one begins.
    std::size_t statement(std::size_t at, std::size_t end) {
        const std::string_view it = tokens_[at];
        if (it == ";") return at + 1;
        if (it == "{") {
            statements(at + 1, tokens_.partner(at));
            return tokens_.behind(at);
        }
        if (it == "[" && tokens_[at + 1] == "[") return statement(tokens_.behind(at), end);  // an attribute
        if (it == "if") return if_statement(at, end);
        if (it == "while") {
            condition(at + 1);
            return statement(tokens_.behind(at + 1), end);
        }
        if (it == "switch") {
            value(at + 2, tokens_.partner(at + 1));
            return statement(tokens_.behind(at + 1), end);
        }
        if (it == "for") {
            header_of_for(at + 1);
            return statement(tokens_.behind(at + 1), end);
        }
        if (it == "do") {
            at = statement(at + 1, end);
            if (tokens_[at] == "while") condition(at + 1);
            return behind_semicolon(at, end);
        }
        if (it == "case" || it == "default") return std::min(tokens_.find(":", at, end) + 1, end);
        const std::size_t semicolon = tokens_.find(";", at, end);
        if (it == "return") {
            if (semicolon > at + 1) add(Place::Kind::answer, at, semicolon + 1);
        } else if (!is_one_of(it, {"break", "continue", "goto", "using", "static_assert", "typedef", "static",
                                   "constexpr", "struct", "class", "enum", "union", "asm", "template",
                                   "namespace", "friend", "throw"})) {
            if (is_declaration(at, semicolon)) {
                initialisers(at, semicolon);
            } else {
                add(Place::Kind::statement, at, semicolon + 1);
            }
        }
        return std::min(semicolon + 1, end);
    }

    std::size_t if_statement(std::size_t at, std::size_t end) {
        ++at;
        if (tokens_[at] == "!") ++at;
        if (tokens_[at] == "constexpr") {
            ++at;
            if (tokens_[at] == "(") at = tokens_.behind(at);
        } else if (tokens_[at] == "consteval") {
            ++at;
        } else {
            condition(at);
            at = tokens_.behind(at);
        }
        at = statement(at, end);
        if (tokens_[at] == "else") at = statement(at + 1, end);
        return at;
    }

    // In parentheses.
    void condition(std::size_t open) {
        if (tokens_[open] != "(") return;
        std::size_t first = open + 1;
        const std::size_t end = tokens_.partner(open);
        const std::size_t semicolon = tokens_.find(";", first, end);
        if (semicolon != end) {
            initialisers(first, semicolon);
            first = semicolon + 1;
        }
        if (is_declaration(first, end)) {
            initialisers(first, end);
        } else {
            add(Place::Kind::condition, first, end);
        }
    }

    // The last part is left alone: what it does wrong is a loop without an end.
    void header_of_for(std::size_t open) {
        const std::size_t first = open + 1;
        const std::size_t end = tokens_.partner(open);
        const std::size_t semicolon = tokens_.find(";", first, end);
        if (semicolon == end) {
            value(tokens_.find(":", first, end) + 1, end);
            return;
        }
        if (is_declaration(first, semicolon)) initialisers(first, semicolon);
        const std::size_t second = tokens_.find(";", semicolon + 1, end);
        if (second > semicolon + 1) add(Place::Kind::condition, semicolon + 1, second);
    }

    // A type, and a name behind it.
    [[nodiscard]] bool is_declaration(std::size_t at, std::size_t end) const {
        if (is_one_of(tokens_[at], {"const", "auto", "volatile", "unsigned", "signed"})) return true;
        if (!tokens_.is_word(at) || is_one_of(tokens_[at], {"delete", "new", "co_await", "co_yield"}))
            return false;
        ++at;
        while (tokens_[at] == "::" && tokens_.is_word(at + 1)) at += 2;
        if (tokens_[at] == "<" && !tokens_.token(at).space_before) at = tokens_.behind_angles(at);
        while (at < end && (tokens_[at] == "const" ||
                            (is_one_of(tokens_[at], {"&", "*", "&&"}) && !tokens_.token(at).space_before))) {
            ++at;
        }
        return at < end && tokens_.is_word(at);
    }

    // Of the names that a declaration declares.
    void initialisers(std::size_t at, std::size_t end) {
        for (; at < end; at = tokens_.behind(at)) {
            if (tokens_[at] == "=") {
                const std::size_t comma = tokens_.find(",", at + 1, end);
                value(at + 1, comma);
                at = comma;
                if (at >= end) return;
            } else if ((tokens_[at] == "{" || tokens_[at] == "(") && tokens_.is_word(at - 1)) {
                arguments(at);
            }
        }
    }

    // Each by itself, as braces are no expression.
    void arguments(std::size_t open) {
        const std::size_t end = tokens_.partner(open);
        for (std::size_t at = open + 1; at < end;) {
            const std::size_t comma = tokens_.find(",", at, end);
            const bool named = tokens_[at] == "." && tokens_[at + 2] == "=";
            value(named ? at + 3 : at, comma);
            at = comma + 1;
        }
    }

    void value(std::size_t first, std::size_t end) {
        if (first >= end) return;
        if (tokens_[first] == "{") {
            arguments(first);
        } else if (is_lambda(first)) {
            lambdas(first, end);
        } else {
            add(Place::Kind::expression, first, end);
        }
    }

    void add(Place::Kind kind, std::size_t first, std::size_t end) {
        if (first >= end || end > tokens_.size()) return;
        std::fill(into_.of_token.begin() + static_cast<std::ptrdiff_t>(first),
                  into_.of_token.begin() + static_cast<std::ptrdiff_t>(end), into_.all.size());
        into_.all.push_back({kind, first, end});
        lambdas(first, end);
    }

    // Not behind an operand (an index), and no attribute.
    [[nodiscard]] bool is_lambda(std::size_t at) const {
        if (tokens_[at] != "[" || tokens_[at + 1] == "[" || at == 0) return false;
        const std::string_view before = tokens_[at - 1];
        if (before == "return") return true;
        return !tokens_.is_word(at - 1) && !is_one_of(before, {")", "]", "}", ">", "["});
    }

    // Their bodies are places of their own, and no part of what they are in.
    void lambdas(std::size_t at, std::size_t end) {
        for (; at < end; ++at) {
            if (!is_lambda(at)) continue;
            std::size_t body = tokens_.behind(at);
            while (body < end && !is_one_of(tokens_[body], {"{", ";", ",", "consteval", "constexpr"}))
                body = tokens_.behind(body);
            if (body >= end || tokens_[body] != "{") continue;
            const std::size_t close = tokens_.partner(body);
            std::fill(into_.of_token.begin() + static_cast<std::ptrdiff_t>(body),
                      into_.of_token.begin() + static_cast<std::ptrdiff_t>(close), Places::no_place);
            statements(body + 1, close);
            at = close;
        }
    }

    const SourceTokens& tokens_;
    Places& into_;
};

}  // namespace

Places places_of(const SourceTokens& tokens) {
    Places found;
    PlaceReader(tokens, found).declarations(0, tokens.size());
    return found;
}

}  // namespace flatback::machine
