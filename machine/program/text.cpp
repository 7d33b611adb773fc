#include "machine/program/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>
#include <vector>

#include "machine/program/layout.hpp"
#include "vmx/field_table.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine {

namespace {

struct Token {
    std::string_view text;
    std::size_t column = 0;
};

std::vector<Token> split(std::string_view line) {
    std::vector<Token> tokens;
    line = line.substr(0, line.find('#'));
    std::size_t place = 0;
    while (true) {
        place = line.find_first_not_of(" \t\r", place);
        if (place == std::string_view::npos) return tokens;
        const std::size_t end = std::min(line.find_first_of(" \t\r", place), line.size());
        tokens.push_back({line.substr(place, end - place), place + 1});
        place = end;
    }
}

std::string quoted(std::string_view text) {
    // Control characters and very long words would spoil the one line.
    std::string result = "\"";
    for (const char each : text.substr(0, 40)) result += each >= ' ' && each <= '~' ? each : '?';
    return result + (text.size() > 40 ? "...\"" : "\"");
}

std::string hexadecimal(std::uint64_t value) {
    std::array<char, 24> text{};
    std::snprintf(text.data(), text.size(), value < 10 ? "%llu" : "0x%llx",
                  static_cast<unsigned long long>(value));
    return text.data();
}

struct FlagLetter {
    char letter;
    std::uint64_t bits;
};
constexpr std::uint64_t not_executable = x86::page_entry::execute_disable;
constexpr std::array<FlagLetter, 6> page_letters = {{{'r', x86::page_entry::present},
                                                     {'w', x86::page_entry::writable},
                                                     {'u', x86::page_entry::user},
                                                     {'a', x86::page_entry::accessed},
                                                     {'d', x86::page_entry::dirty},
                                                     {'g', x86::page_entry::global}}};
constexpr std::array<FlagLetter, 5> ept_letters = {
    {{'r', 1}, {'w', 2}, {'x', 4}, {'a', 0x100}, {'d', 0x200}}};
constexpr std::uint64_t ept_write_back = 6 << 3;

/// Reads one program; the first rule that is broken ends it.
class Reader {
public:
    explicit Reader(std::string_view text) : text_(text) {}

    Result<Program, ProgramError> read() {
        Program program;
        while (!text_.empty()) {
            ++line_;
            const std::size_t end = std::min(text_.find('\n'), text_.size());
            tokens_ = split(text_.substr(0, end));
            text_.remove_prefix(std::min(end + 1, text_.size()));
            next_ = 0;
            if (tokens_.empty()) continue;
            if (program.steps.size() == program_step_limit) {
                return Refused(fail(tokens_[0].column, "a program has at most " +
                                                           std::to_string(program_step_limit) + " steps"));
            }
            Step step;
            if (!read_step(step)) return Refused(error_);
            program.steps.push_back(step);
        }
        return program;
    }

private:
    ProgramError fail(std::size_t column, std::string message) { return {line_, column, std::move(message)}; }
    bool refuse(std::size_t column, std::string message) {
        error_ = fail(column, std::move(message));
        return false;
    }
    [[nodiscard]] bool at_end() const { return next_ == tokens_.size(); }
    [[nodiscard]] std::size_t end_column() const {
        return tokens_.back().column + tokens_.back().text.size();
    }

    bool read_step(Step& step) {
        if (tokens_[next_].text.front() == '@' && !read_virtual_cpu(step)) return false;
        if (at_end()) return refuse(end_column(), "who acts is missing: l0, l1, l2 or edit");
        const Token actor = tokens_[next_++];
        if (actor.text == "l0") {
            step.actor = Actor::l0;
        } else if (actor.text == "l1") {
            step.actor = Actor::l1;
        } else if (actor.text == "l2") {
            step.actor = Actor::l2;
        } else if (actor.text == "edit") {
            step.actor = Actor::edit;
        } else {
            return refuse(actor.column, "unknown actor " + quoted(actor.text) + ": l0, l1, l2 or edit");
        }
        if (at_end()) return refuse(end_column(), "the step is missing");
        const Token name = tokens_[next_++];
        bool known = false;
        for (unsigned index = 0; index < step_kind_count && !known; ++index) {
            step.kind = static_cast<StepKind>(index);
            known = form_of(step.kind).name == name.text;
        }
        if (!known) return refuse(name.column, "unknown step " + quoted(name.text));
        const Actor owner = owner_of(step.kind);
        const bool may_act = owner == step.actor || (owner == Actor::l1 && step.actor == Actor::l2);
        if (!may_act) {
            return refuse(actor.column, quoted(name.text) + " is not a step of " + std::string(actor.text));
        }
        step_vcpu_ = step.vcpu;
        const StepForm& form = form_of(step.kind);
        for (std::size_t index = 0; index < form.operands.size(); ++index) {
            if (!read_operand(form.operands[index], step.operands[index])) return false;
        }
        if (!at_end())
            return refuse(tokens_[next_].column, "too many operands: " + quoted(tokens_[next_].text));
        return true;
    }

    static Actor owner_of(StepKind kind) {
        if (kind >= StepKind::create_vm) return Actor::l0;
        return kind >= StepKind::map ? Actor::edit : Actor::l1;
    }

    bool read_virtual_cpu(Step& step) {
        const Token token = tokens_[next_++];
        const std::size_t dot = token.text.find('.');
        std::uint64_t vm = 0;
        std::uint64_t vcpu = 0;
        if (dot == std::string_view::npos || !plain_number(token.text.substr(1, dot - 1), vm) ||
            !plain_number(token.text.substr(dot + 1), vcpu)) {
            return refuse(token.column, "a virtual CPU is written @VM.VCPU");
        }
        if (vm >= program_vm_limit || vcpu >= layout::vcpus) {
            return refuse(token.column, "there are at most " + std::to_string(program_vm_limit) + " VMs of " +
                                            std::to_string(layout::vcpus) + " virtual CPUs");
        }
        step.vm = static_cast<std::uint8_t>(vm);
        step.vcpu = static_cast<std::uint8_t>(vcpu);
        return true;
    }

    static bool plain_number(std::string_view text, std::uint64_t& value) {
        int base = 10;
        if (text.starts_with("0x")) {
            base = 16;
            text.remove_prefix(2);
        }
        const char* end = text.data() + text.size();
        const auto [stopped, code] = std::from_chars(text.data(), end, value, base);
        return code == std::errc{} && stopped == end && !text.empty();
    }

    bool term(std::string_view text, std::uint64_t& value) const {
        if (text == "x") {
            value = layout::vmxon_region(step_vcpu_);
            return true;
        }
        if (plain_number(text, value)) return true;
        std::uint64_t index = 0;
        if (text.size() < 2 || !plain_number(text.substr(1), index)) return false;
        switch (text.front()) {
            case 'v':
                value = layout::vmcs_region(index);
                return index < layout::vmcss;
            case 'd':
                value = layout::data_page(index);
                return index < layout::data_pages;
            case 't':
                value = layout::page_root(index);
                return index < layout::page_hierarchies;
            case 'e':
                value = layout::eptp(index);
                return index < layout::ept_hierarchies;
            default:
                return false;
        }
    }

    bool number(const Token& token, std::uint64_t& value) {
        std::string_view rest = token.text;
        value = 0;
        char operation = '+';
        while (true) {
            const std::size_t end = std::min(rest.find_first_of("+|"), rest.size());
            std::uint64_t part = 0;
            if (!term(rest.substr(0, end), part))
                return refuse(token.column, "no number: " + quoted(token.text));
            value = operation == '+' ? value + part : value | part;
            if (end == rest.size()) return true;
            operation = rest[end];
            rest.remove_prefix(end + 1);
        }
    }

    bool hierarchy(const Token& token, char letter, std::uint64_t& value) {
        if (token.text.size() < 2 || token.text.front() != letter ||
            !plain_number(token.text.substr(1), value) || value >= layout::page_hierarchies) {
            return refuse(token.column, std::string("a hierarchy is ") + letter + "0 to " + letter +
                                            "7, not " + quoted(token.text));
        }
        return true;
    }

    template <std::size_t Count>
    bool flags(const Token& token, const std::array<FlagLetter, Count>& letters, std::uint64_t& value) {
        value = 0;
        for (const char each : token.text) {
            const auto found = std::ranges::find(letters, each, &FlagLetter::letter);
            if (found == letters.end()) return number(token, value);
            value |= found->bits;
        }
        return true;
    }

    bool read_operand(OperandKind kind, std::uint64_t& value) {
        switch (kind) {
            case OperandKind::none:
                return true;
            case OperandKind::user:
                value = 0;
                if (!at_end() && tokens_[next_].text == "user") {
                    value = 1;
                    ++next_;
                }
                return true;
            case OperandKind::page_size:
                value = 0;
                if (at_end()) return true;
                for (const std::string_view size : {"4k", "2m", "1g"}) {
                    if (tokens_[next_].text == size) {
                        ++next_;
                        return true;
                    }
                    ++value;
                }
                return refuse(tokens_[next_].column,
                              "a page size is 4k, 2m or 1g, not " + quoted(tokens_[next_].text));
            case OperandKind::optional_ept:
                value = 0;
                if (at_end()) return refuse(end_column(), "an operand is missing: eN or noept");
                if (tokens_[next_].text == "noept") {
                    ++next_;
                    return true;
                }
                if (!hierarchy(tokens_[next_], 'e', value)) return false;
                ++value;
                ++next_;
                return true;
            default:
                break;
        }
        if (at_end()) return refuse(end_column(), "an operand is missing");
        const Token token = tokens_[next_++];
        switch (kind) {
            case OperandKind::field: {
                const auto found = std::ranges::find(vmx::all_fields, token.text, &vmx::NamedField::name);
                if (found != vmx::all_fields.end()) {
                    value = found->encoding;
                    return true;
                }
                if (!number(token, value))
                    return refuse(token.column, "no VMCS field: " + quoted(token.text));
                return true;
            }
            case OperandKind::page_hierarchy:
                return hierarchy(token, 't', value);
            case OperandKind::ept_hierarchy:
                return hierarchy(token, 'e', value);
            case OperandKind::page_flags: {
                // Without x a page is not executable.
                std::string letters(token.text);
                const bool only_letters = letters.find_first_not_of("rwuadgx-") == std::string::npos;
                if (!only_letters) return number(token, value);
                const bool executable = letters.find('x') != std::string::npos;
                std::erase_if(letters, [](char each) { return each == 'x' || each == '-'; });
                if (!flags(Token{letters, token.column}, page_letters, value)) return false;
                if (!executable && value != 0) value |= not_executable;
                return true;
            }
            case OperandKind::ept_flags: {
                const bool only_letters = token.text.find_first_not_of("rwxad-") == std::string_view::npos;
                if (!only_letters) return number(token, value);
                std::string letters(token.text);
                std::erase(letters, '-');
                if (!flags(Token{letters, token.column}, ept_letters, value)) return false;
                value |= ept_write_back;
                return true;
            }
            default:
                return number(token, value);
        }
    }

    std::string_view text_;
    std::vector<Token> tokens_;
    std::size_t next_ = 0;
    std::size_t line_ = 0;
    std::uint64_t step_vcpu_ = 0;
    ProgramError error_;
};

template <std::size_t Count>
std::optional<std::string> letters_of(std::uint64_t value, const std::array<FlagLetter, Count>& letters) {
    std::string text;
    for (const FlagLetter& each : letters) {
        if ((value & each.bits) == 0) continue;
        text += each.letter;
        value &= ~each.bits;
    }
    if (value != 0) return std::nullopt;
    return text;
}

std::string page_flags_text(std::uint64_t value) {
    const bool executable = (value & not_executable) == 0;
    const auto letters = letters_of(value & ~not_executable, page_letters);
    if (!letters || (value & ~not_executable) == 0) return hexadecimal(value);
    return *letters + (executable ? "x" : "");
}

std::string ept_flags_text(std::uint64_t value) {
    if ((value & 0x38) != ept_write_back) return hexadecimal(value);
    const auto letters = letters_of(value & ~std::uint64_t{0x38}, ept_letters);
    if (!letters) return hexadecimal(value);
    return letters->empty() ? "-" : *letters;
}

std::string operand_text(OperandKind kind, std::uint64_t value) {
    switch (kind) {
        case OperandKind::none:
            return "";
        case OperandKind::user:
            return value != 0 ? "user" : "";
        case OperandKind::field:
            return vmx::dense_index(value) >= 0 && !vmx::is_high(value) ? std::string(vmx::name_of(value))
                                                                        : hexadecimal(value);
        case OperandKind::page_hierarchy:
            return "t" + std::to_string(value);
        case OperandKind::ept_hierarchy:
            return "e" + std::to_string(value);
        case OperandKind::optional_ept:
            return value == 0 ? "noept" : "e" + std::to_string(value - 1);
        case OperandKind::page_flags:
            return page_flags_text(value);
        case OperandKind::ept_flags:
            return ept_flags_text(value);
        case OperandKind::page_size:
            return value == 0 ? "" : value == 1 ? "2m" : "1g";
        default:
            return hexadecimal(value);
    }
}

}  // namespace

std::string ProgramError::describe(std::string_view name) const {
    return std::string(name) + ":" + std::to_string(line) + ":" + std::to_string(column) + ": " + message;
}

Result<Program, ProgramError> read_program(std::string_view text) {
    return Reader(text).read();
}

std::string write_step(const Step& step) {
    std::string line;
    if (step.vm != 0 || step.vcpu != 0) {
        line = "@" + std::to_string(step.vm) + "." + std::to_string(step.vcpu) + " ";
    }
    switch (step.actor) {
        case Actor::l0:
            line += "l0";
            break;
        case Actor::l1:
            line += "l1";
            break;
        case Actor::l2:
            line += "l2";
            break;
        case Actor::edit:
            line += "edit";
            break;
    }
    const StepForm& form = form_of(step.kind);
    line += " ";
    line += form.name;
    for (std::size_t index = 0; index < form.operands.size(); ++index) {
        const std::string operand = operand_text(form.operands[index], step.operands[index]);
        if (!operand.empty()) line += " " + operand;
    }
    return line;
}

std::string write_program(const Program& program) {
    std::string text;
    for (const Step& step : program.steps) text += write_step(step) + "\n";
    return text;
}

}  // namespace flatback::machine
