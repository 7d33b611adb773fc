#include "tools/image/archive.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <memory>

namespace flatback::tools {
namespace {

struct FreeReader {
    void operator()(archive* reader) const { archive_read_free(reader); }
};
struct FreeWriter {
    void operator()(archive* writer) const { archive_write_free(writer); }
};
struct FreeEntry {
    void operator()(archive_entry* entry) const { archive_entry_free(entry); }
};
using Reader = std::unique_ptr<archive, FreeReader>;
using Writer = std::unique_ptr<archive, FreeWriter>;
using Entry = std::unique_ptr<archive_entry, FreeEntry>;

constexpr std::size_t read_block = 256 * 1024;
constexpr std::size_t most_package_file = std::size_t{512} << 20;

std::string why(archive* reader) {
    const char* text = archive_error_string(reader);
    return text == nullptr ? "damaged" : text;
}

// The contents of the entry that the reader stands at.
Result<Bytes> read_contents(archive* reader, std::size_t most, std::string_view what) {
    Bytes contents;
    for (;;) {
        const std::size_t start = contents.size();
        contents.resize(start + read_block);
        const la_ssize_t count = archive_read_data(reader, contents.data() + start, read_block);
        if (count < 0)
            return fail(ExitStatus::input_file, fmt::format("cannot unpack {}: {}", what, why(reader)));
        contents.resize(start + static_cast<std::size_t>(count));
        if (count == 0) return contents;
        if (contents.size() > most)
            return fail(ExitStatus::input_file, fmt::format("{} is too large unpacked", what));
    }
}

// The tar archive inside a Debian package, which is an ar archive with data.tar.* as a member.
Result<Bytes> package_data(const std::filesystem::path& package) {
    const Reader reader{archive_read_new()};
    archive_read_support_format_ar(reader.get());
    const auto damaged = [&] {
        return fail(ExitStatus::input_file,
                    fmt::format("cannot read {}: {}", package.string(), why(reader.get())));
    };
    if (archive_read_open_filename(reader.get(), package.c_str(), read_block) != ARCHIVE_OK) return damaged();
    archive_entry* entry = nullptr;
    for (;;) {
        const int status = archive_read_next_header(reader.get(), &entry);
        if (status == ARCHIVE_EOF) {
            return fail(ExitStatus::input_file, fmt::format("{} is not a Debian package", package.string()));
        }
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN) return damaged();
        const char* name = archive_entry_pathname(entry);
        if (name != nullptr && std::string_view{name}.starts_with("data.tar")) {
            return read_contents(reader.get(), most_package_file, package.string());
        }
    }
}

}  // namespace

Result<Bytes> decompress(std::span<const std::byte> stream, std::size_t most) {
    const Reader reader{archive_read_new()};
    archive_read_support_filter_all(reader.get());
    archive_read_support_format_raw(reader.get());
    archive_entry* entry = nullptr;
    if (archive_read_open_memory(reader.get(), stream.data(), stream.size()) != ARCHIVE_OK ||
        archive_read_next_header(reader.get(), &entry) != ARCHIVE_OK) {
        return fail(ExitStatus::input_file, fmt::format("cannot unpack the stream: {}", why(reader.get())));
    }
    if (archive_filter_count(reader.get()) < 2)
        return fail(ExitStatus::input_file, "the stream is not compressed");
    return read_contents(reader.get(), most, "the stream");
}

Result<std::map<std::string, Bytes>> files_of_debian_package(
    const std::filesystem::path& package, const std::function<bool(std::string_view path)>& wanted) {
    const Bytes data = TRY(package_data(package));
    const Reader reader{archive_read_new()};
    archive_read_support_filter_all(reader.get());
    archive_read_support_format_tar(reader.get());
    const auto damaged = [&] {
        return fail(ExitStatus::input_file,
                    fmt::format("cannot unpack {}: {}", package.string(), why(reader.get())));
    };
    if (archive_read_open_memory(reader.get(), data.data(), data.size()) != ARCHIVE_OK) return damaged();
    std::map<std::string, Bytes> files;
    archive_entry* entry = nullptr;
    for (;;) {
        const int status = archive_read_next_header(reader.get(), &entry);
        if (status == ARCHIVE_EOF) return files;
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN) return damaged();
        const char* name = archive_entry_pathname(entry);
        if (name == nullptr || archive_entry_filetype(entry) != AE_IFREG || !wanted(name)) continue;
        std::string path = name;
        files[path] = TRY(read_contents(reader.get(), most_package_file, path));
    }
}

Result<Bytes> make_initramfs(std::span<const InitramfsEntry> entries) {
    std::size_t size = 0;
    for (const InitramfsEntry& entry : entries) size += entry.contents.size() + entry.path.size() + 512;
    Bytes image(size + 64 * 1024);
    const Writer writer{archive_write_new()};
    archive_write_set_format_cpio_newc(writer.get());
    archive_write_add_filter_none(writer.get());
    std::size_t used = 0;
    const auto failed = [&] {
        return fail(ExitStatus::output_file, fmt::format("cannot make the initramfs: {}", why(writer.get())));
    };
    if (archive_write_open_memory(writer.get(), image.data(), image.size(), &used) != ARCHIVE_OK)
        return failed();
    std::int64_t inode = 0;
    for (const InitramfsEntry& item : entries) {
        const Entry entry{archive_entry_new()};
        std::string_view path = item.path;
        while (path.starts_with('/')) path.remove_prefix(1);
        archive_entry_set_pathname(entry.get(), std::string{path}.c_str());
        archive_entry_set_ino64(entry.get(), ++inode);
        archive_entry_set_nlink(entry.get(), 1);
        archive_entry_set_mtime(entry.get(), 0, 0);
        archive_entry_set_size(entry.get(), 0);
        switch (item.kind) {
            case InitramfsEntry::Kind::directory:
                archive_entry_set_filetype(entry.get(), AE_IFDIR);
                break;
            case InitramfsEntry::Kind::file:
                archive_entry_set_filetype(entry.get(), AE_IFREG);
                archive_entry_set_size(entry.get(), static_cast<la_int64_t>(item.contents.size()));
                break;
            case InitramfsEntry::Kind::symbolic_link:
                archive_entry_set_filetype(entry.get(), AE_IFLNK);
                archive_entry_set_symlink(entry.get(), item.target.c_str());
                break;
            case InitramfsEntry::Kind::character_device:
                archive_entry_set_filetype(entry.get(), AE_IFCHR);
                archive_entry_set_rdevmajor(entry.get(), item.major);
                archive_entry_set_rdevminor(entry.get(), item.minor);
                break;
        }
        archive_entry_set_perm(entry.get(), item.mode);
        if (archive_write_header(writer.get(), entry.get()) != ARCHIVE_OK) return failed();
        if (!item.contents.empty() &&
            archive_write_data(writer.get(), item.contents.data(), item.contents.size()) < 0) {
            return failed();
        }
    }
    if (archive_write_close(writer.get()) != ARCHIVE_OK) return failed();
    image.resize(used);
    return image;
}

}  // namespace flatback::tools
