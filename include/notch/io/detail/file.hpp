// SPDX-License-Identifier: Apache-2.0
//
// notch/io/detail/file.hpp: whole files in and out. Writing is all or nothing: the bytes go to
// a new file beside it, which is renamed over path once it is complete.
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <system_error>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h> // fsync
#endif

NOTCH_KEYED_BEGIN
namespace detail {

struct file_closer {
    void operator()(std::FILE* f) const noexcept { std::fclose(f); }
};
using file_handle = std::unique_ptr<std::FILE, file_closer>;

[[noreturn]] inline void fail_io(const std::string& path, const char* what, int error_number) {
    fail(errc::io, cat(path, ": ", what, ": ", std::generic_category().message(error_number)));
}

/// Reads a regular file. check_start(first bytes, size of the file, path) may refuse it before
/// memory for the whole is taken.
template <class CheckStart>
buffer<std::byte> read_file(const std::string& path, std::uint64_t max_bytes, CheckStart&& check_start) {
    std::error_code status;
    const std::uint64_t size = std::filesystem::file_size(path, status);
    if (status) fail_io(path, "cannot be read", status.value());
    if (size > max_bytes) fail(errc::io, cat(path, ": has ", size, " bytes, more than the limit of ", max_bytes));
    errno = 0;
    file_handle file(std::fopen(path.c_str(), "rb"));
    if (!file) fail_io(path, "cannot be opened", errno);
    std::byte start[8] = {};
    const std::size_t start_bytes = std::fread(start, 1, sizeof start, file.get());
    if (std::ferror(file.get())) fail_io(path, "cannot be read", errno);
    check_start(std::span<const std::byte>(start, start_bytes), size, path);
    buffer<std::byte> bytes(static_cast<index_t>(size));
    if (start_bytes > static_cast<std::size_t>(size)) fail(errc::io, cat(path, ": changed while it was read"));
    if (start_bytes > 0) std::memcpy(bytes.data(), start, start_bytes);
    const std::size_t rest = static_cast<std::size_t>(size) - start_bytes;
    if (rest > 0 && std::fread(bytes.data() + start_bytes, 1, rest, file.get()) != rest) {
        if (std::ferror(file.get())) fail_io(path, "cannot be read", errno);
        fail(errc::io, cat(path, ": became shorter while it was read"));
    }
    return bytes;
}

/// Creates a file beside path that did not exist, path.<number>.tmp, and opens it.
inline file_handle create_beside(const std::string& path, std::string& temporary) {
    for (int number = 0;; ++number) {
        temporary = cat(path, ".", number, ".tmp");
        errno = 0;
        file_handle file(std::fopen(temporary.c_str(), "wbx")); // x: never a file that exists
        if (file) return file;
        if (errno != EEXIST || number == 999) fail_io(path, "cannot be saved", errno);
    }
}

/// Replaces the file at path by bytes, or fails and leaves what was there. A symbolic link stays one:
/// the file it leads to is replaced. What exists and is not a regular file is refused. The
/// permissions of a file that is replaced are kept.
inline void write_file(const std::string& requested, std::span<const std::byte> bytes) {
    namespace fs = std::filesystem;
    std::error_code status;
    std::string path = requested;
    for (int links = 0; fs::is_symlink(fs::symlink_status(path, status)); ++links) {
        const fs::path to = fs::read_symlink(path, status);
        if (status || links == 40) fail_io(requested, "cannot be saved", status ? status.value() : ELOOP);
        path = (to.is_absolute() ? to : fs::path(path).parent_path() / to).string();
    }
    const fs::file_status old = fs::status(path, status);
    if (fs::exists(old) && !fs::is_regular_file(old))
        fail(errc::io, cat(requested, ": cannot be saved: it exists and is not a regular file"));
    std::string temporary;
    file_handle file = create_beside(path, temporary);
    errno = 0;
    bool good = bytes.empty() || std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size();
    good = good && std::fflush(file.get()) == 0;
#if defined(__unix__) || defined(__APPLE__)
    good = good && ::fsync(::fileno(file.get())) == 0;
#endif
    int error_number = errno;
    if (std::fclose(file.release()) != 0 && good) {
        good = false;
        error_number = errno;
    }
    if (good) {
        if (fs::exists(old)) fs::permissions(temporary, old.permissions(), status);
        fs::rename(temporary, path, status);
        if (!status) return;
        error_number = status.value();
    }
    std::remove(temporary.c_str());
    fail_io(path, "cannot be saved", error_number);
}

} // namespace detail
NOTCH_KEYED_END
