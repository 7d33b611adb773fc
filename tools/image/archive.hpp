// Compressed files and archives, by libarchive: Debian packages are read, an initramfs is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ground/error.hpp"
#include "tools/ground/files.hpp"

namespace flatback::tools {

// Decompresses a stream (xz, gzip, zstd, …), which nothing may follow.
// Error: input_file where it is damaged, of no known kind, or becomes larger than `most`.
[[nodiscard]] Result<Bytes> decompress(std::span<const std::byte> stream, std::size_t most);

// The files of a Debian package that are wanted: `wanted` tells by the path ("./boot/vmlinuz-6.1.0-1-amd64").
// Error: input_file where the package is damaged.
[[nodiscard]] Result<std::map<std::string, Bytes>> files_of_debian_package(
    const std::filesystem::path& package, const std::function<bool(std::string_view path)>& wanted);

// What an initramfs holds.
struct InitramfsEntry {
    enum class Kind : std::uint8_t { directory, file, symbolic_link, character_device } kind = Kind::file;
    std::string path;  // from the root, with or without the first slash
    unsigned mode = 0;
    Bytes contents;      // of a file
    std::string target;  // of a symbolic link
    unsigned major = 0;  // of a device
    unsigned minor = 0;
};

// A cpio archive in the form that Linux unpacks ("newc"), uncompressed: unpacking costs emulated time.
[[nodiscard]] Result<Bytes> make_initramfs(std::span<const InitramfsEntry> entries);

}  // namespace flatback::tools
