// SPDX-License-Identifier: Apache-2.0
//
// notch/io/detail/tflite_reader.hpp: the tables of schema version 3 (tensorflow/lite/schema/schema.fbs), by the numbers
// of their fields:
//
//   Model         version 0, operator_codes 1, subgraphs 2, buffers 4
//   OperatorCode  deprecated_builtin_code 0, custom_code 1, builtin_code 3
//   Buffer        data 0, offset 1, size 2
//   SubGraph      tensors 0, inputs 1, outputs 2, operators 3, name 4
//   Tensor        shape 0, type 1, buffer 2, name 3, quantization 4, is_variable 5
//   Quantization  scale 2, zero_point 3, details_type 4, quantized_dimension 6
//   Operator      opcode_index 0, inputs 1, outputs 2, builtin_options_type 3, builtin_options 4
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <notch/core/error.hpp>
#include <notch/core/shape.hpp>
#include <notch/core/types.hpp>
#include <notch/io/detail/flat_reader.hpp>
#include <notch/io/tflite_graph.hpp>

NOTCH_KEYED_BEGIN
namespace tflite {
namespace detail {

using notch::detail::flat_reader;
using notch::detail::flat_text;

constexpr flat_reader::field field(int f) { return static_cast<flat_reader::field>(4 + 2 * f); }

inline constexpr std::size_t max_tensor_rank = 32;

/// Reads the graphs of a model. Members that read something else set what messages name.
class model_reader {
public:
    model_reader(std::span<const std::byte> file, const std::string& label) : in_(file, label) {}

    std::vector<graph> read() {
        const table& model = in_.root("TFL3");
        if (const auto version = in_.scalar<std::uint32_t>(model, field(0), 0); version != 3)
            in_.refuse(cat("has schema version ", version, ", this reader knows 3"), errc::unsupported);
        in_.each(model, field(1), sizeof(operator_code),
                 [&](const table& t, index_t) { codes_.push_back(read_code(t)); });
        in_.each(model, field(4), sizeof(buffers_[0]),
                 [&](const table& t, index_t i) { buffers_.push_back(read_buffer(t, i)); });
        std::vector<graph> graphs;
        in_.each(model, field(2), sizeof(graph), [&](const table& t, index_t) { graphs.push_back(read_graph(t)); });
        in_.at("");
        if (graphs.empty()) in_.refuse("has no graph");
        return graphs;
    }

private:
    using table = flat_reader::table;
    struct operator_code {
        op_code op;
        std::string custom;
    };

    operator_code read_code(const table& t) {
        // Codes up to 127 stand in the older field, a byte; later files have both.
        const std::int32_t older = in_.scalar<std::int8_t>(t, field(0), 0),
                           newer = in_.scalar<std::int32_t>(t, field(3), 0);
        return {static_cast<op_code>(older > newer ? older : newer), in_.text(t, field(1))};
    }
    std::span<const std::byte> read_buffer(const table& t, index_t i) {
        in_.at(cat("buffer ", i));
        const auto begin = in_.scalar<std::uint64_t>(t, field(1), 0), size = in_.scalar<std::uint64_t>(t, field(2), 0);
        if (begin <= 1) return in_.raw<std::uint8_t>(t, field(0));
        // Behind the flatbuffer, where large models keep their constants.
        if (begin > in_.file().size() || size > in_.file().size() - begin)
            in_.refuse(cat("its bytes ", begin, " to ", begin, " + ", size, " lie outside the file"));
        return in_.file().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(size));
    }
    graph read_graph(const table& t) {
        graph g;
        in_.at("a graph");
        g.name = in_.text(t, field(4));
        in_.each(t, field(0), sizeof(tensor), [&](const table& from, index_t i) {
            in_.at(cat("tensor ", i));
            g.tensors.push_back(read_tensor(from, i));
        });
        const auto count = static_cast<index_t>(g.tensors.size());
        in_.at("a graph");
        g.inputs = in_.indices(t, field(1), 0, count, "its input");
        g.outputs = in_.indices(t, field(2), 0, count, "its output");
        in_.each(t, field(3), sizeof(op),
                 [&](const table& from, index_t i) { g.operators.push_back(read_op(from, i, count)); });
        return g;
    }

    tensor read_tensor(const table& t, index_t i) {
        tensor x;
        x.name = in_.text(t, field(3));
        in_.at(cat("tensor ", i, " ", flat_text(x.name)));
        x.type = static_cast<element>(in_.scalar<std::int8_t>(t, field(1), 0));
        x.variable = in_.scalar<std::uint8_t>(t, field(5), 0) != 0;
        x.shape = in_.indices(t, field(0), 0, std::numeric_limits<std::int32_t>::max(), "an extent");
        if (x.shape.size() > max_tensor_rank) in_.refuse(cat("has ", x.shape.size(), " dimensions, more than 32"));
        index_t bits = element_bits(x.type) == 0 ? 8 : element_bits(x.type);
        for (index_t e : x.shape) {
            // An extent of 0 does not hide the product of the others.
            if (__builtin_mul_overflow(bits, e == 0 ? 1 : e, &bits))
                in_.refuse("its shape overflows the address space");
        }
        const auto buffer = in_.scalar<std::uint32_t>(t, field(2), 0);
        if (buffer >= buffers_.size() && buffer != 0) in_.refuse(cat("has buffer ", buffer, " of ", buffers_.size()));
        if (buffer != 0) x.data = buffers_[buffer];
        if (const index_t each = element_bits(x.type); each != 0 && !x.data.empty()) {
            const index_t need = (x.size() * each + 7) / 8;
            if (static_cast<index_t>(x.data.size()) != need)
                in_.refuse(cat("has ", x.data.size(), " bytes of data, its shape and type need ", need));
        }
        if (const table* q = in_.child(t, field(4))) read_quantization(*q, x);
        return x;
    }
    void read_quantization(const table& q, tensor& x) {
        if (in_.scalar<std::uint8_t>(q, field(4), 0) != 0)
            in_.refuse("is quantized by another scheme than scales and zero points", errc::unsupported);
        x.scales = in_.numbers<float>(q, field(2));
        const auto zeros = in_.numbers<std::int64_t>(q, field(3));
        x.axis = in_.scalar<std::int32_t>(q, field(6), 0);
        const std::size_t count = x.scales.size();
        if (zeros.size() != count && !zeros.empty())
            in_.refuse(cat("has ", count, " scales and ", zeros.size(), " zero points"));
        for (float s : x.scales)
            if (!(s > 0.0f) || !std::isfinite(s)) in_.refuse(cat("has the scale ", s, ", must be finite and > 0"));
        std::int64_t least = std::numeric_limits<std::int32_t>::min(), most = std::numeric_limits<std::int32_t>::max();
        if (x.type == element::i8 || x.type == element::u8) {
            least = x.type == element::i8 ? -128 : 0;
            most = least + 255;
        }
        x.zero_points.resize(count);
        for (std::size_t c = 0; c < zeros.size(); ++c) {
            if (zeros[c] < least || zeros[c] > most)
                in_.refuse(cat("has the zero point ", zeros[c], ", must be ", least, "..", most));
            x.zero_points[c] = static_cast<std::int32_t>(zeros[c]);
        }
        if (count < 2) return;
        if (x.axis < 0 || x.axis >= static_cast<index_t>(x.shape.size()))
            in_.refuse(cat("is quantized along dimension ", x.axis, " of ", x.shape.size()));
        if (x.shape[static_cast<std::size_t>(x.axis)] != static_cast<index_t>(count))
            in_.refuse(cat("has ", count, " scales for ", x.shape[static_cast<std::size_t>(x.axis)], " indices"));
    }

    op read_op(const table& t, index_t i, index_t tensors) {
        op o;
        in_.at(cat("operator ", i));
        const auto code = in_.scalar<std::uint32_t>(t, field(0), 0);
        if (code >= codes_.size()) in_.refuse(cat("has code ", code, " of ", codes_.size()));
        o.code = codes_[code].op;
        if (o.code == op_code::custom) {
            in_.charge(codes_[code].custom.size());
            o.custom = codes_[code].custom;
        }
        in_.at(cat("operator ", i, " ", to_string(o.code)));
        o.inputs = in_.indices(t, field(1), -1, tensors, "its input");
        o.outputs = in_.indices(t, field(2), 0, tensors, "its output");
        const auto kind = in_.scalar<std::uint8_t>(t, field(3), 0);
        read_options(o, kind, kind == 0 ? nullptr : in_.child(t, field(4)));
        return o;
    }
    /// kind: the member of the union of options. A field that is not there has the schema's default.
    void read_options(op& o, std::uint8_t kind, const table* t) {
        const auto expect = [&](std::uint8_t member) {
            if (kind != member && kind != 0) in_.refuse(cat("has the options ", kind, ", must be ", member));
        };
        switch (o.code) {
        case op_code::conv_2d:
            expect(1);
            o.options = conv_options{pad(t, 0), extent(t, 2, 0), extent(t, 1, 0), extent(t, 5, 1), extent(t, 4, 1),
                                     1,         fused(t, 3)};
            return;
        case op_code::depthwise_conv_2d: {
            expect(2);
            const std::int32_t m = number(t, 3, 0);
            if (m < 0) in_.refuse(cat("has the depth multiplier ", m));
            o.options = conv_options{pad(t, 0), extent(t, 2, 0), extent(t, 1, 0), extent(t, 6, 1), extent(t, 5, 1),
                                     m,         fused(t, 4)};
            return;
        }
        case op_code::average_pool_2d:
        case op_code::max_pool_2d:
            expect(5);
            o.options = pool_options{pad(t, 0),       extent(t, 4, 0), extent(t, 3, 0),
                                     extent(t, 2, 0), extent(t, 1, 0), fused(t, 5)};
            return;
        case op_code::fully_connected:
            expect(8);
            if (byte(t, 1) != 0) in_.refuse("has shuffled weights", errc::unsupported);
            o.options = fully_connected_options{fused(t, 0), byte(t, 2) != 0};
            return;
        case op_code::softmax: {
            expect(9);
            const float beta = t ? in_.scalar<float>(*t, field(0), 0.0f) : 0.0f;
            if (!(beta > 0.0f) || !std::isfinite(beta)) in_.refuse(cat("has beta ", beta));
            o.options = softmax_options{beta};
            return;
        }
        case op_code::concatenation:
            expect(10);
            o.options = concatenation_options{number(t, 0, 0), fused(t, 1)};
            return;
        case op_code::add:
        case op_code::mul:
        case op_code::sub:
            expect(o.code == op_code::add ? 11 : o.code == op_code::mul ? 21 : 28);
            o.options = binary_options{fused(t, 0)};
            return;
        case op_code::reshape: {
            expect(17);
            reshape_options r;
            if (t) r.shape = in_.indices(*t, field(0), -1, std::numeric_limits<std::int32_t>::max(), "an extent");
            o.options = std::move(r);
            return;
        }
        case op_code::mean:
            expect(27);
            o.options = reducer_options{byte(t, 0) != 0};
            return;
        default: return;
        }
    }
    std::int8_t byte(const table* t, int f) const {
        return t ? in_.scalar<std::int8_t>(*t, field(f), 0) : std::int8_t{0};
    }
    std::int32_t number(const table* t, int f, std::int32_t missing) const {
        return t ? in_.scalar<std::int32_t>(*t, field(f), missing) : missing;
    }
    index_t extent(const table* t, int f, std::int32_t missing) const {
        const std::int32_t e = number(t, f, missing);
        if (e < 1 || e > notch::detail::max_window)
            in_.refuse(cat("has ", e, " among its strides, dilations and extents, must be 1..2^20"));
        return e;
    }
    padding pad(const table* t, int f) const {
        const std::int8_t p = byte(t, f);
        if (p != 0 && p != 1) in_.refuse(cat("has the padding ", p));
        return static_cast<padding>(p);
    }
    activation fused(const table* t, int f) const {
        const std::int8_t a = byte(t, f);
        if (a == 4 || a == 5) in_.refuse("has TANH or SIGN_BIT as its activation", errc::unsupported);
        if (a < 0 || a > 5) in_.refuse(cat("has the activation ", a));
        return static_cast<activation>(a);
    }

    flat_reader in_;
    std::vector<operator_code> codes_;
    std::vector<std::span<const std::byte>> buffers_;
};

} // namespace detail
} // namespace tflite
NOTCH_KEYED_END
