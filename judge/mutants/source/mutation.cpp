#include "judge/mutants/source/mutation.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <random>
#include <span>
#include <utility>

#include "judge/mutants/source/places.hpp"
#include "judge/mutants/source/tokens.hpp"
#include "vmx/field_table.hpp"

namespace flatback::machine {

namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// Only between spaces: elsewhere < is of a template, & of a reference, - a sign.
constexpr std::array other_operators = std::to_array<Pair>({{"==", "!="},
                                                            {"!=", "=="},
                                                            {"<", "<="},
                                                            {"<=", "<"},
                                                            {">", ">="},
                                                            {">=", ">"},
                                                            {"+", "-"},
                                                            {"-", "+"},
                                                            {"&", "|"},
                                                            {"|", "&"},
                                                            {"&&", "||"},
                                                            {"||", "&&"},
                                                            {"<<", ">>"},
                                                            {">>", "<<"},
                                                            {"|=", "&="},
                                                            {"&=", "|="},
                                                            {"+=", "-="},
                                                            {"-=", "+="}});

constexpr std::array other_words = std::to_array<Pair>({{"true", "false"},
                                                        {"false", "true"},
                                                        {"blocking_by_nmi", "blocking_by_mov_ss"},
                                                        {"blocking_by_mov_ss", "blocking_by_sti"},
                                                        {"blocking_by_sti", "blocking_by_nmi"},
                                                        {"nmi_exiting", "virtual_nmis"},
                                                        {"enable_ept", "enable_vpid"},
                                                        {"enable_vpid", "enable_ept"},
                                                        {"save_ia32_efer", "save_ia32_pat"},
                                                        {"load_ia32_efer", "load_ia32_pat"},
                                                        {"load_ia32_pat", "load_ia32_efer"},
                                                        {"protection_enable", "paging"}});

std::optional<std::string_view> partner_in(std::span<const Pair> pairs, std::string_view from) {
    const auto found = std::ranges::find(pairs, from, &Pair::first);
    if (found == pairs.end()) return std::nullopt;
    return found->second;
}

std::string_view kind_of_operator(std::string_view from) {
    if (from == "&&") return "condition dropped";
    if (from == "||") return "condition widened";
    return from.starts_with('<') || from.starts_with('>') ? "off by one" : "operator";
}

// The lines from `first` to before `end` as one, without indents and comments.
std::string as_one_line(std::string_view text) {
    std::string whole;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, std::min(end, text.find("//")));
        text.remove_prefix(std::min(end + 1, text.size()));
        while (line.starts_with(' ')) line.remove_prefix(1);
        while (line.ends_with(' ')) line.remove_suffix(1);
        if (!whole.empty() && !line.empty()) whole += ' ';
        whole += line;
    }
    return whole;
}

class MutationFinder {
public:
    MutationFinder(std::string_view file, std::string_view text, std::vector<SourceMutation>& into)
        : file_(file), text_(text), tokens_(text), places_(places_of(tokens_)), into_(into) {}

    void find() {
        for (std::size_t index = 0; index < places_.all.size(); ++index) {
            place_ = index;
            whole(places_.all[index]);
        }
        for (std::size_t index = 0; index < tokens_.size(); ++index) {
            place_ = places_.of_token[index];
            if (place_ == Places::no_place) continue;
            operators_at(index);
            question_at(index);
            arguments_at(index);
            number_at(index);
            word_at(index);
        }
    }

private:
    // Tokens from `first` to before `end`.
    void replace(std::string_view kind, std::size_t first, std::size_t end, std::string with) {
        const std::size_t offset = tokens_.token(first).begin;
        const std::size_t behind = tokens_.token(end - 1).end;
        SourceMutation it;
        it.file = file_;
        it.kind = kind.data();
        it.line = 1 + static_cast<std::size_t>(std::ranges::count(text_.substr(0, offset), '\n'));
        it.offset = offset;
        it.length = behind - offset;
        it.with = std::move(with);
        it.place = place_;
        const std::size_t begin = offset == 0 ? 0 : text_.rfind('\n', offset - 1) + 1;
        const std::size_t after = std::min(text_.find('\n', behind), text_.size());
        it.before = as_one_line(text_.substr(begin, after - begin));
        it.after = as_one_line(std::string(text_.substr(begin, offset - begin)) + it.with +
                               std::string(text_.substr(behind, after - behind)));
        if (it.before != it.after) into_.push_back(std::move(it));
    }
    [[nodiscard]] std::string_view words_of(std::size_t first, std::size_t end) const {
        return text_.substr(tokens_.token(first).begin,
                            tokens_.token(end - 1).end - tokens_.token(first).begin);
    }
    [[nodiscard]] std::string negated(std::size_t first, std::size_t end) const {
        return "!(" + std::string(words_of(first, end)) + ")";
    }

    void whole(const Place& place) {
        if (place.kind == Place::Kind::statement) {
            replace("statement dropped", place.first, place.end, ";");
        }
        if (place.kind == Place::Kind::condition) {
            replace("condition negated", place.first, place.end, negated(place.first, place.end));
            replace("condition always false", place.first, place.end, "false");
            replace("condition always true", place.first, place.end, "true");
        }
    }

    // Where what stands before or behind an operator of this bracket ends.
    [[nodiscard]] bool is_limit(std::size_t index, bool also_logic) const {
        const std::string_view it = tokens_[index];
        if (it == "&&" || it == "||") return also_logic && tokens_.is_spaced(index);
        return it == "," || it == ";" || it == "?" || it == ":" || it == "return" || it == "=" ||
               (it.size() >= 2 && it.ends_with('=') && it != "==" && it != "!=" && it != "<=" && it != ">=");
    }
    [[nodiscard]] std::size_t first_of_operand(std::size_t index, bool also_logic) const {
        const std::size_t begin = places_.all[place_].first;
        while (index > begin) {
            const std::size_t before = index - 1;
            if (is_limit(before, also_logic) || tokens_.partner(before) > before) break;
            index = std::min(before, tokens_.partner(before));
        }
        return index;
    }
    [[nodiscard]] std::size_t end_of_operand(std::size_t index) const {
        const std::size_t end = places_.all[place_].end;
        while (index < end && !is_limit(index, true) && tokens_.partner(index) >= index)
            index = tokens_.behind(index);
        return std::min(index, end);
    }

    void operators_at(std::size_t index) {
        const std::string_view from = tokens_[index];
        if (from == "!" && !tokens_.token(index).space_after && index != places_.all[place_].first)
            replace("negation dropped", index, index + 1, "");
        if ((from == "++" || from == "--") && index == places_.all[place_].first)
            replace("operator", index, index + 1, from == "++" ? "--" : "++");
        if (!tokens_.is_spaced(index)) return;
        if (const auto to = partner_in(other_operators, from))
            replace(kind_of_operator(from), index, index + 1, std::string(*to));
        if (from != "&&" && from != "||") return;
        // Of a chain each operand once.
        const std::string nothing = from == "&&" ? "true" : "false";
        const std::size_t first = first_of_operand(index, true);
        if (first < index && (first == places_.all[place_].first || !is_logic(first - 1)))
            replace("operand dropped", first, index, nothing);
        const std::size_t end = end_of_operand(index + 1);
        if (end > index + 1) replace("operand dropped", index + 1, end, nothing);
    }
    [[nodiscard]] bool is_logic(std::size_t index) const {
        return tokens_[index] == "&&" || tokens_[index] == "||";
    }

    void question_at(std::size_t index) {
        if (tokens_[index] != "?") return;
        const std::size_t first = first_of_operand(index, false);
        if (first < index) replace("condition negated", first, index, negated(first, index));
    }

    // Two that stand side by side and are a name each.
    void arguments_at(std::size_t index) {
        const std::string_view it = tokens_[index];
        if ((it != "(" && it != "{") || index == 0 || !tokens_.is_word(index - 1)) return;
        const std::size_t end = tokens_.partner(index);
        for (std::size_t at = index + 1; at < end;) {
            const std::size_t comma = tokens_.find(",", at, end);
            const std::size_t next = tokens_.find(",", std::min(comma + 1, end), end);
            if (comma + 1 < next && is_name(at, comma) && is_name(comma + 1, next)) {
                replace("arguments swapped", at, next,
                        std::string(words_of(comma + 1, next)) + ", " + std::string(words_of(at, comma)));
            }
            at = comma + 1;
        }
    }
    [[nodiscard]] bool is_name(std::size_t first, std::size_t end) const {
        if (first >= end) return false;
        for (std::size_t at = first; at < end; ++at) {
            const std::string_view it = tokens_[at];
            if (!tokens_.is_word(at) && it != "." && it != "::" && it != "->") return false;
        }
        return true;
    }

    void number_at(std::size_t index) {
        if (tokens_.token(index).kind != TokenKind::number) return;
        std::string digits(tokens_[index]);
        std::erase(digits, '\'');
        const bool hexadecimal = digits.starts_with("0x") || digits.starts_with("0X");
        std::uint64_t value = 0;
        const char* const begin = digits.data() + (hexadecimal ? 2 : 0);
        const char* const end = digits.data() + digits.size();
        const auto [rest, error] = std::from_chars(begin, end, value, hexadecimal ? 16 : 10);
        const std::string suffix(rest, end);
        if (error != std::errc{} || suffix.find_first_not_of("uUlLzZ") != std::string::npos) return;
        replace("constant", index, index + 1, std::to_string(value + 1) + suffix);
        if (value > 0) replace("constant", index, index + 1, std::to_string(value - 1) + suffix);
    }

    // field::x becomes the next field of its width and kind; a bit of a register
    // the next bit that is named there.
    void word_at(std::size_t index) {
        if (!tokens_.is_word(index)) return;
        const std::string_view name = tokens_[index];
        if (const auto to = partner_in(other_words, name))
            replace(name == "true" || name == "false" ? "answer" : "wrong bit", index, index + 1,
                    std::string(*to));
        if (index < 2 || tokens_[index - 1] != "::" || tokens_[index - 2] != "field") return;
        const auto found = std::ranges::find(vmx::all_fields, name, &vmx::NamedField::name);
        if (found == vmx::all_fields.end()) return;
        const auto alike = [&](const vmx::NamedField& other) {
            return vmx::width(other.encoding) == vmx::width(found->encoding) &&
                   vmx::kind(other.encoding) == vmx::kind(found->encoding);
        };
        auto next = std::find_if(found + 1, vmx::all_fields.end(), alike);
        if (next == vmx::all_fields.end()) next = std::ranges::find_if(vmx::all_fields, alike);
        replace("wrong field", index, index + 1, std::string(next->name));
    }

    std::string_view file_;
    std::string_view text_;
    SourceTokens tokens_;
    Places places_;
    std::size_t place_ = 0;
    std::vector<SourceMutation>& into_;
};

}  // namespace

std::vector<SourceMutation> mutations_of(std::string_view file, std::string_view text) {
    std::vector<SourceMutation> found;
    MutationFinder(file, text, found).find();
    std::ranges::stable_sort(found, {}, &SourceMutation::offset);
    return found;
}

std::string mutated(std::string_view text, const SourceMutation& mutation) {
    std::string changed(text);
    changed.replace(mutation.offset, mutation.length, mutation.with);
    return changed;
}

std::vector<SourceMutation> sample(std::vector<SourceMutation> all, std::size_t count, std::uint64_t seed) {
    // std::shuffle is not the same everywhere.
    std::mt19937_64 random(seed);
    const std::size_t taken = std::min(count, all.size());
    for (std::size_t index = 0; index < taken; ++index)
        std::swap(all[index], all[index + random() % (all.size() - index)]);
    all.resize(taken);
    return all;
}

}  // namespace flatback::machine
