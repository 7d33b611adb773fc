#include "tools/report/json_schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "tools/ground/files.hpp"

namespace flatback::tools {
namespace {

constexpr std::uintmax_t most_megabytes = 256;
// Writing JSON recurses, as checking it does: nothing that is needed comes near this depth.
constexpr int most_depth = 32;
constexpr std::size_t most_characters = 120;

// The message of one line, without what a terminal would act on.
std::string one_line(std::string_view text) {
    std::string line{text.substr(0, most_characters)};
    std::ranges::replace_if(
        line, [](char each) { return each < ' ' || each == '\x7f'; }, '?');
    if (text.size() > most_characters) line += "...";
    return line;
}

// "<root>", "[lat_ctx]", "[bare]" as "lat_ctx.bare".
std::string place_of(const std::vector<std::string>& context) {
    std::string place;
    for (const std::string& each : context) {
        if (!each.starts_with('[') || !each.ends_with(']')) continue;
        if (!place.empty()) place += '.';
        place += each.substr(1, each.size() - 2);
    }
    return place.empty() ? "the whole file" : place;
}

Result<CheckedJson> parse(std::string_view text, std::string_view name) {
    bool too_deep = false;
    const auto bound_depth = [&too_deep](int depth, CheckedJson::parse_event_t, CheckedJson&) {
        too_deep |= depth > most_depth;
        return !too_deep;
    };
    try {
        CheckedJson json = CheckedJson::parse(text, bound_depth);
        if (too_deep) {
            return fail(ExitStatus::input_file,
                        fmt::format("{}: nested more than {} levels deep", name, most_depth));
        }
        return json;
    } catch (const CheckedJson::exception& error) {
        // Behind the exception's own number in brackets it says what is wrong.
        std::string_view why = error.what();
        if (why.starts_with('[')) why.remove_prefix(std::min(why.find("] ") + 2, why.size()));
        return fail(ExitStatus::input_file, fmt::format("{} is not JSON: {}", name, one_line(why)));
    }
}

// The schema with each {"$ref": "#/definitions/NAME"} replaced by that definition: valijson 1.0 rejects what
// fits a definition that another one refers to. A definition must not use itself.
CheckedJson without_references(const CheckedJson& schema, const CheckedJson& definitions) {
    constexpr std::string_view prefix = "#/definitions/";
    if (!schema.is_structured()) return schema;
    if (schema.contains("$ref")) {
        const auto& reference = schema.at("$ref").get_ref<const std::string&>();
        return without_references(definitions.at(reference.substr(prefix.size())), definitions);
    }
    CheckedJson copy = schema;
    for (CheckedJson& child : copy) child = without_references(child, definitions);
    return copy;
}

}  // namespace

Result<CheckedJson> parse_checked_json(std::string_view text, std::string_view name,
                                       const std::filesystem::path& schema) {
    using Adapter = valijson::adapters::NlohmannJsonAdapter;
    const CheckedJson json = TRY(parse(text, name));
    const Bytes schema_bytes = TRY(read_file(schema));
    const CheckedJson with_references = TRY(parse(text_of(schema_bytes), schema.string()));
    const CheckedJson schema_json =
        without_references(with_references, with_references.value("definitions", CheckedJson::object()));
    valijson::Schema rules;
    valijson::SchemaParser parser;
    parser.populateSchema(Adapter(schema_json), rules);
    valijson::Validator validator;
    valijson::ValidationResults results;
    if (validator.validate(rules, Adapter(json), &results)) return json;
    // Errors come from the inside out: the first is where it is wrong, the others are what that makes wrong.
    valijson::ValidationResults::Error error;
    if (!results.popError(error)) error.description = "does not fit";
    return fail(ExitStatus::input_file, fmt::format("{}: {}: {}", name, one_line(place_of(error.context)),
                                                    one_line(error.description)));
}

Result<CheckedJson> read_checked_json(const std::filesystem::path& path,
                                      const std::filesystem::path& schema) {
    const Bytes bytes = TRY(read_file_of_at_most(path, most_megabytes));
    return parse_checked_json(text_of(bytes), path.string(), schema);
}

}  // namespace flatback::tools
