#include "judge/mutants/source/mutation.hpp"

#include <algorithm>
#include <array>
#include <random>
#include <regex>
#include <utility>

#include "vmx/field_table.hpp"

namespace flatback::machine {

namespace {

std::string_view without_indent(std::string_view line) {
    const std::size_t first = line.find_first_not_of(' ');
    return first == std::string_view::npos ? std::string_view{} : line.substr(first);
}

std::string_view without_comment(std::string_view line) {
    const std::size_t comment = line.find("//");
    std::string_view code = comment == std::string_view::npos ? line : line.substr(0, comment);
    while (code.ends_with(' ')) code.remove_suffix(1);
    return code;
}

/// Where the parenthesis at `open` ends; npos: not in this line.
std::size_t closing(std::string_view code, std::size_t open) {
    int depth = 0;
    for (std::size_t at = open; at < code.size(); ++at) {
        if (code[at] == '(') ++depth;
        if (code[at] == ')' && --depth == 0) return at;
    }
    return std::string_view::npos;
}

/// Lines in which nothing is done when the program runs.
bool is_passive(std::string_view code) {
    if (code.empty() || code.starts_with('#') || code.starts_with("namespace") ||
        code.starts_with("using ") || code.starts_with("template") || code.starts_with("static_assert") ||
        code.starts_with("struct ") || code.starts_with("class ") || code.starts_with("enum ") ||
        code.starts_with("requires") || code.starts_with("concept ") || code.starts_with("friend ") ||
        code.starts_with("[[") || code.starts_with("inline constexpr") || code.starts_with("constexpr ")) {
        return true;
    }
    return code.find("if constexpr") != std::string_view::npos;
}

class Line {
public:
    Line(std::string_view file, std::size_t number, std::string_view code, std::vector<SourceMutation>& into)
        : file_(file), number_(number), code_(code), into_(into) {}

    void mutate() {
        conditions();
        statements();
        operators();
        arguments();
        numbers();
        names();
    }

private:
    void add(const char* kind, std::string after) {
        if (after != code_)
            into_.push_back({std::string(file_), number_, kind, std::string(code_), std::move(after)});
    }
    void replace(const char* kind, std::size_t at, std::size_t length, std::string_view with) {
        std::string after(code_);
        after.replace(at, length, with);
        add(kind, std::move(after));
    }
    void replace_each(const char* kind, std::string_view what, std::string_view with) {
        for (std::size_t at = code_.find(what); at != std::string_view::npos; at = code_.find(what, at + 1))
            replace(kind, at, what.size(), with);
    }

    void conditions() {
        for (std::size_t at = code_.find("if ("); at != std::string_view::npos;
             at = code_.find("if (", at + 1)) {
            const std::size_t open = at + 3;
            const std::size_t close = closing(code_, open);
            if (close == std::string_view::npos) continue;
            const std::string_view inside = code_.substr(open + 1, close - open - 1);
            // With a declaration in it there is no condition to negate.
            if (inside.find(';') != std::string_view::npos || inside.find(" = ") != std::string_view::npos)
                continue;
            replace("condition negated", open + 1, inside.size(), "!(" + std::string(inside) + ")");
            replace("condition always false", open + 1, inside.size(), "false");
            replace("condition always true", open + 1, inside.size(), "true");
        }
        replace_each("condition dropped", " && ", " || ");
        replace_each("condition widened", " || ", " && ");
    }

    void statements() {
        static const std::regex call(R"(^[A-Za-z_][\w:.<>\->\[\]*]*\(.*\);$)");
        static const std::regex assignment(R"(^[a-z_*][\w.\->\[\]()]* (=|\|=|&=|\+=|-=) .*;$)");
        static const std::regex increment(R"(^(\+\+|--)[\w.\->\[\]()]+;$)");
        const std::string code(code_);
        if (code.starts_with("return") || code.starts_with("delete ") || code.starts_with("auto ") ||
            code.starts_with("const ") || code.starts_with("if ") || code.starts_with("for ")) {
            guarded();
            return;
        }
        if (std::regex_match(code, call) || std::regex_match(code, assignment) ||
            std::regex_match(code, increment))
            add("statement dropped", ";");
    }
    // `if (condition) statement;` in one line: the statement alone goes.
    void guarded() {
        if (!code_.starts_with("if (") || !code_.ends_with(';')) return;
        const std::size_t close = closing(code_, 3);
        if (close == std::string_view::npos || close + 2 >= code_.size()) return;
        const std::string_view statement = code_.substr(close + 1);
        if (statement.find("return") == std::string_view::npos) return;
        add("return dropped", std::string(code_.substr(0, close + 1)) + " {}");
    }

    void operators() {
        constexpr std::array<std::pair<std::string_view, std::string_view>, 12> pairs = {{{" == ", " != "},
                                                                                          {" != ", " == "},
                                                                                          {" < ", " <= "},
                                                                                          {" <= ", " < "},
                                                                                          {" > ", " >= "},
                                                                                          {" >= ", " > "},
                                                                                          {" + ", " - "},
                                                                                          {" - ", " + "},
                                                                                          {" & ~", " | "},
                                                                                          {" |= ", " &= "},
                                                                                          {" & ", " | "},
                                                                                          {" | ", " & "}}};
        for (const auto& [from, to] : pairs) {
            const bool edge = from == " < " || from == " <= " || from == " > " || from == " >= ";
            replace_each(edge ? "off by one" : "operator", from, to);
        }
        if (code_ == "return true;") add("answer", "return false;");
        if (code_ == "return false;") add("answer", "return true;");
    }

    void arguments() {
        static const std::regex two(R"(\(([A-Za-z_][\w.:]*), ([A-Za-z_][\w.:]*)\))");
        const std::string code(code_);
        for (std::sregex_iterator it(code.begin(), code.end(), two), end; it != end; ++it) {
            replace("arguments swapped", static_cast<std::size_t>(it->position()),
                    static_cast<std::size_t>(it->length()),
                    "(" + (*it)[2].str() + ", " + (*it)[1].str() + ")");
        }
    }

    void numbers() {
        static const std::regex number(R"((^|[^\w'.])(0x[0-9a-fA-F']+|[0-9]+)(U|ULL|UL|u)?(?![\w'.]))");
        const std::string code(code_);
        for (std::sregex_iterator it(code.begin(), code.end(), number), end; it != end; ++it) {
            std::string digits = (*it)[2];
            std::erase(digits, '\'');
            if (digits.size() > 18) continue;
            const std::uint64_t value = std::stoull(digits, nullptr, 0);
            replace("constant", static_cast<std::size_t>(it->position(2)),
                    static_cast<std::size_t>((*it)[2].length()), std::to_string(value == 0 ? 1 : value + 1));
            if (value > 1) {
                replace("constant", static_cast<std::size_t>(it->position(2)),
                        static_cast<std::size_t>((*it)[2].length()), std::to_string(value - 1));
            }
        }
    }

    // field::x becomes the next field of its width and kind; bit::x of a register
    // the next bit that is named there.
    void names() {
        static const std::regex field(R"(field::(\w+))");
        const std::string code(code_);
        for (std::sregex_iterator it(code.begin(), code.end(), field), end; it != end; ++it) {
            const auto found =
                std::ranges::find(vmx::all_fields,
                                  std::string_view(code).substr(static_cast<std::size_t>(it->position(1)),
                                                                static_cast<std::size_t>((*it)[1].length())),
                                  &vmx::NamedField::name);
            if (found == vmx::all_fields.end()) continue;
            const auto alike = [&](const vmx::NamedField& other) {
                return vmx::width(other.encoding) == vmx::width(found->encoding) &&
                       vmx::kind(other.encoding) == vmx::kind(found->encoding);
            };
            auto next = std::find_if(found + 1, vmx::all_fields.end(), alike);
            if (next == vmx::all_fields.end()) next = std::ranges::find_if(vmx::all_fields, alike);
            replace("wrong field", static_cast<std::size_t>(it->position(1)),
                    static_cast<std::size_t>((*it)[1].length()), next->name);
        }
        constexpr std::array<std::pair<std::string_view, std::string_view>, 10> bits = {
            {{"blocking_by_nmi", "blocking_by_mov_ss"},
             {"blocking_by_mov_ss", "blocking_by_sti"},
             {"blocking_by_sti", "blocking_by_nmi"},
             {"nmi_exiting", "virtual_nmis"},
             {"enable_ept", "enable_vpid"},
             {"enable_vpid", "enable_ept"},
             {"save_ia32_efer", "save_ia32_pat"},
             {"load_ia32_efer", "load_ia32_pat"},
             {"load_ia32_pat", "load_ia32_efer"},
             {"protection_enable", "paging"}}};
        for (const auto& [from, to] : bits) replace_each("wrong bit", from, to);
    }

    std::string_view file_;
    std::size_t number_;
    std::string_view code_;
    std::vector<SourceMutation>& into_;
};

}  // namespace

std::vector<SourceMutation> mutations_of(std::string_view file, std::string_view text) {
    std::vector<SourceMutation> found;
    std::size_t number = 0;
    bool in_declaration = false;  // a passive line goes on until its end
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view code = without_comment(without_indent(text.substr(0, end)));
        text.remove_prefix(std::min(end + 1, text.size()));
        ++number;
        if (!in_declaration && !is_passive(code)) Line(file, number, code, found).mutate();
        if (is_passive(code) || in_declaration) {
            in_declaration = !code.empty() && !code.starts_with('#') && !code.ends_with(';') &&
                             !code.ends_with('{') && !code.ends_with('}') && !code.ends_with(':') &&
                             !code.ends_with('>');
        }
    }
    return found;
}

std::string mutated(std::string_view text, const SourceMutation& mutation) {
    std::string changed(text);
    std::size_t start = 0;
    for (std::size_t line = 1; line < mutation.line; ++line) start = changed.find('\n', start) + 1;
    const std::size_t at = changed.find(mutation.before, start);
    if (at != std::string::npos) changed.replace(at, mutation.before.size(), mutation.after);
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
