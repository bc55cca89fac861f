// SPDX-License-Identifier: Apache-2.0
//
// notch/io/npz.hpp: NumPy's archives of arrays, in and out: a ZIP file that holds an array x as the member x.npy.
//
// Written are stored members (as numpy.savez does), the same bytes each time; read are also deflated ones
// (numpy.savez_compressed) and whatever else libzip unpacks. A damaged archive, a wrong checksum, two members of one
// name or a member that is no .npy is errc::corrupt; what npy.hpp does not read is errc::unsupported. A member that
// claims to unpack to more than deflate can is refused before memory for it is taken. Needs libzip, which the program
// links (the target notch::npz).
//
//     auto arrays = notch::npz::load("weights.npz");
//     std::span<const float> w = arrays.array("conv1.weight").values<float>({64, 3, -1, -1});
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <zip.h>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/io/detail/file.hpp>
#include <notch/io/detail/safetensors_header.hpp>
#include <notch/io/npy.hpp>

NOTCH_KEYED_BEGIN

/// Arrays by name. Not thread-safe to modify.
class npz {
public:
    /// Sets an array. The name must not be empty, nor hold a zero byte.
    void put(const std::string& name, npy array) {
        if (name.empty() || name.find('\0') != std::string::npos)
            fail(errc::invalid_argument, "npz: " + detail::name_text(name) + " cannot name an array");
        arrays_.insert_or_assign(name, std::move(array));
    }
    /// An error if there is no array of this name.
    [[nodiscard]] const npy& array(std::string_view name) const {
        const auto at = arrays_.find(name);
        if (at == arrays_.end())
            fail(errc::invalid_argument,
                 detail::cat(label_, ": no array ", detail::name_text(name), " among its ", arrays_.size(), " arrays"));
        return at->second;
    }
    [[nodiscard]] bool contains(std::string_view name) const { return arrays_.find(name) != arrays_.end(); }
    /// All of them, in order of their names.
    [[nodiscard]] const std::map<std::string, npy, std::less<>>& arrays() const noexcept { return arrays_; }

    /// Reads a file. errc::io if it cannot be read, or has, or unpacks to, more than max_bytes; else as parse.
    [[nodiscard]] static npz load(const std::string& path, std::uint64_t max_bytes = npy::default_max_bytes) {
        return parse(detail::read_file(path, max_bytes, [](auto&&...) {}).span(), path, max_bytes);
    }
    /// Reads the bytes of a file; label stands for its path in messages.
    [[nodiscard]] static npz parse(std::span<const std::byte> file, std::string label = "npz",
                                   std::uint64_t max_bytes = npy::default_max_bytes) {
        npz result;
        result.label_ = std::move(label);
        // An empty file would be an empty archive to libzip.
        if (file.size() < end_bytes) fail(errc::corrupt, result.label_ + ": no archive of NumPy (.npz): too short");
        zip_error error;
        source_handle source(zip_source_buffer_create(file.data(), file.size(), 0, &error.value));
        if (!source) error.refuse(errc::io, result.label_);
        archive_handle archive(zip_open_from_source(source.get(), ZIP_RDONLY | ZIP_CHECKCONS, &error.value));
        if (!archive) error.refuse(errc::corrupt, result.label_);
        (void)source.release(); // the archive's
        const zip_int64_t members = zip_get_num_entries(archive.get(), 0);
        for (zip_int64_t i = 0; i < members; ++i)
            result.read_member(archive.get(), static_cast<zip_uint64_t>(i), max_bytes);
        return result;
    }

    /// The bytes of a file.
    [[nodiscard]] buffer<std::byte> to_bytes() const {
        if (arrays_.empty()) { // libzip would delete the file: the record that ends an archive, alone
            buffer<std::byte> end(static_cast<index_t>(end_bytes));
            std::memcpy(end.data(), "PK\x05\x06", 4);
            return end;
        }
        zip_error error;
        source_handle source(zip_source_buffer_create(nullptr, 0, 0, &error.value));
        if (!source) error.refuse(errc::io, label_);
        archive_handle archive(zip_open_from_source(source.get(), ZIP_TRUNCATE, &error.value));
        if (!archive) error.refuse(errc::io, label_);
        zip_source_keep(source.get()); // to be read once the archive is closed
        std::vector<buffer<std::byte>> members;
        members.reserve(arrays_.size());
        for (const auto& [name, array] : arrays_) {
            members.push_back(array.to_bytes());
            zip_source_t* member = zip_source_buffer(archive.get(), members.back().data(),
                                                     static_cast<zip_uint64_t>(members.back().size()), 0);
            const zip_int64_t at =
                member ? zip_file_add(archive.get(), (name + ".npy").c_str(), member, ZIP_FL_ENC_UTF_8) : -1;
            if (at < 0) {
                zip_source_free(member);
                refuse(errc::invalid_argument, name, zip_strerror(archive.get()));
            }
            const auto index = static_cast<zip_uint64_t>(at);
            constexpr zip_uint16_t day = 1 << 5 | 1; // 1980-01-01, the first of the format: the same bytes each time
            if (zip_set_file_compression(archive.get(), index, ZIP_CM_STORE, 0) != 0 ||
                zip_file_set_dostime(archive.get(), index, 0, day, 0) != 0)
                refuse(errc::io, name, zip_strerror(archive.get()));
        }
        if (zip_close(archive.get()) != 0) refuse(errc::io, "", zip_strerror(archive.get()));
        (void)archive.release();
        return read_all(source.get());
    }
    /// Writes a new file beside path and renames it to path. On an error (errc::io) what was at path stays.
    void save(const std::string& path) const { detail::write_file(path, to_bytes().span()); }

private:
    static constexpr std::size_t end_bytes = 22;

    struct source_closer {
        void operator()(zip_source_t* s) const noexcept { zip_source_free(s); }
    };
    struct archive_closer {
        void operator()(zip_t* z) const noexcept { zip_discard(z); }
    };
    struct member_closer {
        void operator()(zip_file_t* f) const noexcept { (void)zip_fclose(f); }
    };
    using source_handle = std::unique_ptr<zip_source_t, source_closer>;
    using archive_handle = std::unique_ptr<zip_t, archive_closer>;
    using member_handle = std::unique_ptr<zip_file_t, member_closer>;

    struct zip_error {
        zip_error_t value;
        zip_error() { zip_error_init(&value); }
        zip_error(const zip_error&) = delete;
        zip_error& operator=(const zip_error&) = delete;
        ~zip_error() { zip_error_fini(&value); }
        [[noreturn]] void refuse(errc code, const std::string& label) {
            fail(code, detail::cat(label, ": no archive of NumPy (.npz): ", zip_error_strerror(&value)));
        }
    };

    [[noreturn]] void refuse(errc code, std::string_view member, const char* what) const {
        fail(code, detail::cat(label_, ": ", member.empty() ? "" : detail::name_text(member) + ": ", what));
    }

    void read_member(zip_t* archive, zip_uint64_t index, std::uint64_t max_bytes) {
        zip_stat_t stat;
        zip_stat_init(&stat);
        constexpr zip_uint64_t needed = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE;
        if (zip_stat_index(archive, index, 0, &stat) != 0 || (stat.valid & needed) != needed)
            refuse(errc::corrupt, "", "has a member without a name or a size");
        const std::string_view member = stat.name;
        if (!member.ends_with(".npy") || member.size() == 4) refuse(errc::corrupt, member, "is no array (.npy)");
        const std::string name(member.substr(0, member.size() - 4));
        if (contains(name)) refuse(errc::corrupt, member, "is there twice");
        constexpr zip_uint64_t most = 1032; // what deflate makes of a byte, at most
        if (stat.size / most > stat.comp_size) refuse(errc::corrupt, member, "claims more bytes than it can have");
        if (stat.size > max_bytes - unpacked_)
            fail(errc::io, detail::cat(label_, ": unpacks to more than the limit of ", max_bytes, " bytes"));
        unpacked_ += stat.size;
        buffer<std::byte> bytes(static_cast<index_t>(stat.size));
        const member_handle file(zip_fopen_index(archive, index, 0));
        if (!file) refuse(errc::corrupt, member, zip_strerror(archive));
        std::byte after{};
        // The checksum is looked at when the end is read.
        if (!read_exactly(file.get(), bytes) || zip_fread(file.get(), &after, 1) != 0)
            refuse(errc::corrupt, member, zip_file_strerror(file.get()));
        arrays_.emplace(name, npy::parse(bytes.span(), detail::cat(label_, ": ", detail::name_text(member))));
    }
    static bool read_exactly(zip_file_t* file, buffer<std::byte>& to) {
        for (index_t done = 0; done < to.size();) {
            const zip_int64_t n = zip_fread(file, to.data() + done, static_cast<zip_uint64_t>(to.size() - done));
            if (n <= 0) return false;
            done += n;
        }
        return true;
    }
    [[nodiscard]] buffer<std::byte> read_all(zip_source_t* source) const {
        zip_stat_t stat;
        zip_stat_init(&stat);
        if (zip_source_stat(source, &stat) != 0 || zip_source_open(source) != 0)
            refuse(errc::io, "", "the archive cannot be read back");
        buffer<std::byte> bytes(static_cast<index_t>(stat.size));
        const zip_int64_t n = zip_source_read(source, bytes.data(), stat.size);
        (void)zip_source_close(source);
        if (n != bytes.size()) refuse(errc::io, "", "the archive cannot be read back");
        return bytes;
    }

    std::string label_ = "npz";
    std::map<std::string, npy, std::less<>> arrays_;
    std::uint64_t unpacked_ = 0;
};

NOTCH_KEYED_END
