// SPDX-License-Identifier: Apache-2.0
//
// notch/io/tflite.hpp: reads models of TensorFlow Lite (LiteRT), schema version 3: tensors with their quantization,
// operators with their options, graph inputs and outputs, as plain structs.
//
//     auto model = notch::tflite::model::load("kws_ref_model.tflite");
//     for (const notch::tflite::op& o : model.main().operators)
//         if (o.code == notch::tflite::op_code::conv_2d) {
//             const auto& options = std::get<notch::tflite::conv_options>(o.options);
//             std::span<const std::int8_t> weights = model.constant<std::int8_t>(o.inputs[1]);
//             ...
//
// The file is a flatbuffer. The reader trusts nothing: every table, offset, vector and string is checked by
// flatbuffers::Verifier before it is read, every index against what it counts, the size of a constant against its shape
// and type. Refused, besides what is damaged: files of 2^31 - 1 bytes or more, more than a million tables, a rank above
// 32, and what would take more memory than 16 times the file (its parts may refer to the same bytes). Options are those
// of the operators that op_code names; other operators keep their code, inputs and outputs. Messages name the file and
// what is wrong. Needs flatbuffers 2 or later (headers only).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/io/detail/file.hpp>
#include <notch/io/detail/tflite_reader.hpp>
#include <notch/io/tflite_graph.hpp>

static_assert(std::endian::native == std::endian::little,
              "notch/io: models are little-endian and are used without conversion; a big-endian host is not supported");

NOTCH_KEYED_BEGIN
namespace tflite {

/// A model in memory. Spans of its tensors point into it and live as long as it does; moving it keeps them valid, and
/// it cannot be copied. Reading from several threads is safe.
class model {
public:
    /// Reads a file. errc::io if it cannot be read or has more than max_bytes, errc::corrupt if it is damaged,
    /// errc::unsupported if it is of another schema version, or has a sparse or blockwise quantization, shuffled
    /// weights or an activation that no int8 kernel has.
    [[nodiscard]] static model load(const std::string& path,
                                    std::uint64_t max_bytes = notch::detail::flatbuffer_bytes_end - 1) {
        return model(notch::detail::read_file(path, max_bytes, [](auto&&...) {}), path);
    }
    /// The same from memory, which is copied; label stands for the path in messages.
    [[nodiscard]] static model parse(std::span<const std::byte> file, std::string label = "tflite") {
        buffer<std::byte> copy(static_cast<index_t>(file.size()));
        if (!file.empty()) std::memcpy(copy.data(), file.data(), file.size());
        return model(std::move(copy), std::move(label));
    }

    model(const model&) = delete;
    model& operator=(const model&) = delete;
    model(model&&) = default;
    model& operator=(model&&) = default;

    /// There is at least one graph; the first is the one that is run.
    [[nodiscard]] const std::vector<graph>& graphs() const noexcept { return graphs_; }
    [[nodiscard]] const graph& main() const noexcept { return graphs_.front(); }
    /// A tensor of the main graph; an error if there is none of this index (-1: an input that was left out).
    [[nodiscard]] const tensor& at(index_t index) const {
        if (index < 0 || index >= static_cast<index_t>(main().tensors.size()))
            fail(errc::invalid_argument, detail::cat(label_, ": no tensor ", index, " among ", main().tensors.size()));
        return main().tensors[static_cast<std::size_t>(index)];
    }
    /// The elements of a constant of the main graph: float, double, or integers of 8 to 64 bits. An error that names
    /// the tensor if its type is another one, it has no data, or the file left it unaligned (errc::unsupported).
    template <class T> [[nodiscard]] std::span<const T> constant(index_t index) const {
        static_assert(detail::element_of_v<T> != static_cast<element>(-1),
                      "notch: constant<T>: T must be float, double or an integer type of a tensor");
        const tensor& t = at(index);
        const auto refuse = [&](errc code, const char* what) {
            fail(code, detail::cat(label_, ": tensor ", index, " ", notch::detail::flat_text(t.name), what));
        };
        if (t.type != detail::element_of_v<T>) refuse(errc::invalid_argument, " has elements of another type");
        if (t.data.empty() && t.size() != 0) refuse(errc::invalid_argument, " is not a constant");
        if (reinterpret_cast<std::uintptr_t>(t.data.data()) % alignof(T) != 0)
            refuse(errc::unsupported, " is not aligned for its type");
        return {reinterpret_cast<const T*>(t.data.data()), t.data.size() / sizeof(T)};
    }
    /// The path or label, as messages name it.
    [[nodiscard]] const std::string& label() const noexcept { return label_; }

private:
    model(buffer<std::byte>&& file, std::string label) : file_(std::move(file)), label_(std::move(label)) {
        const std::span<const std::byte> bytes = std::as_const(file_).span();
        if (bytes.size() >= notch::detail::flatbuffer_bytes_end)
            fail(errc::unsupported,
                 detail::cat(label_, ": has ", bytes.size(), " bytes, a flatbuffer less than 2^31 - 1"));
        graphs_ = detail::model_reader(bytes, label_).read();
    }

    buffer<std::byte> file_;
    std::string label_;
    std::vector<graph> graphs_;
};

} // namespace tflite
NOTCH_KEYED_END
