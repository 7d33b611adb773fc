// Which sources clang-tidy has to look at again: those that bring in a file that it has not found clean as it
// is now.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flatback::tools {

// The names between quotation marks that a source includes, as they stand there.
[[nodiscard]] std::vector<std::string> quoted_includes(std::string_view text);

// Which file includes which, read once a file, however many sources bring it in.
class Includes final {
public:
    // `texts`: a path relative to the top, and the file's text. A name is looked for in the folder of the
    // file that includes, then from the top, as a compiler does; what is not there is left out.
    explicit Includes(const std::map<std::string, std::string>& texts);

    // `source` and all that it brings in.
    [[nodiscard]] std::set<std::string> brought_in(const std::string& source) const;

private:
    std::map<std::string, std::vector<std::string>> direct_;
};

// A few of `sources` (path: what it brings in, itself with it) that bring in every file of `changed` that any
// of them does; a source that is itself changed is always among them. Not more than `most`.
[[nodiscard]] std::vector<std::string> sources_that_show(
    const std::set<std::string>& changed, const std::map<std::string, std::set<std::string>>& sources,
    std::size_t most);

// Files as they were when they were found clean: path, and a digest of the text. Under other rules than those
// that it was written with it is empty.
class CleanFiles final {
public:
    // What stands in the file `text` was read from; damaged lines count as nothing.
    [[nodiscard]] static CleanFiles parse(std::string_view text, std::string_view rules_digest);
    [[nodiscard]] std::string text() const;

    [[nodiscard]] bool contains(const std::string& path, std::string_view digest) const;
    void add(const std::string& path, std::string_view digest) { digests_[path] = digest; }
    [[nodiscard]] bool empty() const { return digests_.empty(); }

private:
    explicit CleanFiles(std::string_view rules_digest) : rules_digest_{rules_digest} {}

    std::string rules_digest_;
    std::map<std::string, std::string> digests_;
};

}  // namespace flatback::tools
