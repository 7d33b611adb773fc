#include "judge/mutants/source/schema.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "judge/mutants/source/places.hpp"
#include "judge/mutants/source/tokens.hpp"

namespace flatback::machine {

namespace {

// Each change stands in lines of its own, so that a line tells which one it is.
class SchemaWriter {
public:
    SchemaWriter(std::string_view text, const std::vector<NumberedMutation>& mutations)
        : text_(text), tokens_(text), places_(places_of(tokens_)) {
        for (const NumberedMutation& each : mutations) changes_[each.mutation.place].push_back(&each);
    }

    SchemaFile write() {
        add("#include \"judge/mutants/source/project/mutant.hpp\"\n");
        auto next = changes_.begin();
        copy(0, text_.size(), next);
        begin_line({});
        return std::move(file_);
    }

private:
    using Changes = std::map<std::size_t, std::vector<const NumberedMutation*>>;

    void add(std::string_view text) {
        file_.text += text;
        file_.blamed.resize(file_.blamed.size() + static_cast<std::size_t>(std::ranges::count(text, '\n')),
                            blamed_);
    }
    // What follows is to be blamed on these.
    void begin_line(const std::vector<unsigned>& blamed) {
        add("\n");
        blamed_ = blamed;
    }

    // With the changes in it, from `next` on.
    void copy(std::size_t begin, std::size_t end, Changes::iterator& next) {
        while (next != changes_.end() && begin_of(places_.all[next->first]) < end) {
            const Place& place = places_.all[next->first];
            add(text_.substr(begin, begin_of(place) - begin));
            begin = end_of(place);
            choice(place, next);
        }
        add(text_.substr(begin, end - begin));
    }

    void choice(const Place& place, Changes::iterator& next) {
        const std::vector<const NumberedMutation*>& here = next->second;
        ++next;
        const std::vector<unsigned> around = blamed_;
        std::vector<unsigned> all;
        for (const NumberedMutation* each : here) all.push_back(each->number);

        const bool is_statement = place.kind == Place::Kind::statement || place.kind == Place::Kind::answer;
        const std::string_view opens = is_statement                           ? "{"
                                       : place.kind == Place::Kind::condition ? "static_cast<bool>("
                                                                              : "(";
        const std::string_view closes = is_statement ? "}" : ")";
        begin_line(all);
        add(is_statement ? "{" : "(");
        for (const NumberedMutation* each : here) {
            begin_line({each->number});
            const std::string number = std::to_string(each->number);
            add((is_statement ? "if (::flatback_mutants::is(" + number + ")) "
                              : "::flatback_mutants::is(" + number + ") ? ") +
                std::string(opens));
            add(changed(place, each->mutation));
            add("\n");  // it may end in a comment
            add(std::string(closes) + (is_statement ? " else " : " : "));
        }
        begin_line(all);
        add(opens);
        copy(begin_of(place), end_of(place), next);
        begin_line(all);
        add(std::string(closes) + std::string(closes.substr(0, 1)));
        begin_line(around);
    }

    [[nodiscard]] std::string changed(const Place& place, const SourceMutation& mutation) const {
        std::string text(text_.substr(begin_of(place), end_of(place) - begin_of(place)));
        return text.replace(mutation.offset - begin_of(place), mutation.length, mutation.with);
    }
    [[nodiscard]] std::size_t begin_of(const Place& place) const { return tokens_.token(place.first).begin; }
    [[nodiscard]] std::size_t end_of(const Place& place) const { return tokens_.token(place.end - 1).end; }

    std::string_view text_;
    SourceTokens tokens_;
    Places places_;
    Changes changes_;
    std::vector<unsigned> blamed_;
    SchemaFile file_;
};

struct Located {
    std::string_view path;
    std::size_t line = 0;  // from 1
    std::string_view message;
};

// "path:line:column: message".
std::optional<Located> located(std::string_view line) {
    const std::size_t path = line.find(':');
    if (path == std::string_view::npos) return std::nullopt;
    std::size_t number = 0;
    const char* const end = line.data() + line.size();
    const auto [rest, error] = std::from_chars(line.data() + path + 1, end, number);
    if (error != std::errc{} || rest == end || *rest != ':') return std::nullopt;
    const std::string_view behind(rest + 1, end);
    const std::size_t column = std::min(behind.find(':'), behind.size());
    return Located{line.substr(0, path), number, behind.substr(std::min(column + 1, behind.size()))};
}

}  // namespace

SchemaFile schema_of(std::string_view text, const std::vector<NumberedMutation>& mutations) {
    return SchemaWriter(text, mutations).write();
}

std::set<unsigned> refused_by_compiler(
    std::string_view messages, const std::function<const SchemaFile*(std::string_view path)>& file_of) {
    std::set<unsigned> refused;
    std::vector<unsigned> instantiated;  // where the templates are asked for, the innermost one
    const auto blamed_at = [&](const Located& where) -> const std::vector<unsigned>* {
        const SchemaFile* file = file_of(where.path);
        if (file == nullptr || where.line == 0 || where.line > file->blamed.size()) return nullptr;
        const std::vector<unsigned>& found = file->blamed[where.line - 1];
        return found.empty() ? nullptr : &found;
    };
    while (!messages.empty()) {
        const std::size_t end = std::min(messages.find('\n'), messages.size());
        const auto where = located(messages.substr(0, end));
        messages.remove_prefix(std::min(end + 1, messages.size()));
        if (!where) continue;
        const std::vector<unsigned>* blamed = blamed_at(*where);
        if (where->message.find("error:") != std::string_view::npos) {
            if (blamed == nullptr) blamed = &instantiated;
            refused.insert(blamed->begin(), blamed->end());
            instantiated.clear();
        } else if (where->message.find("required from") != std::string_view::npos && blamed != nullptr &&
                   instantiated.empty()) {
            instantiated = *blamed;
        }
    }
    return refused;
}

}  // namespace flatback::machine
