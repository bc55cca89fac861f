// SPDX-License-Identifier: Apache-2.0
//
// The reader of TensorFlow Lite's models: a model made here, which is read and run; files that were cut, files with
// flipped bits, and files that lie.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <flatbuffers/flatbuffers.h>

#include <notch/io/tflite.hpp>
#include <notch/kernels/conv.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/tflite.hpp>

#include "../../examples/models/tiny/network.hpp"
#include "files.hpp"

using namespace io_test;
namespace tflite = notch::tflite;
using notch::errc;
using notch::index_t;
using s8 = std::int8_t;

namespace {

using any = flatbuffers::Offset<void>;

/// Writes tables by the numbers of their fields.
class writer {
public:
    flatbuffers::FlatBufferBuilder fbb;

    /// fields() adds them: number(n, value), refer(n, offset).
    any table(const std::function<void()>& fields) {
        const auto start = fbb.StartTable();
        fields();
        return any(fbb.EndTable(start));
    }
    template <class T> void number(int n, T value) {
        fbb.AddElement<T>(static_cast<flatbuffers::voffset_t>(4 + 2 * n), value);
    }
    void refer(int n, any offset) {
        if (offset.o != 0) fbb.AddOffset(static_cast<flatbuffers::voffset_t>(4 + 2 * n), offset);
    }
    template <class T> any vector(const std::vector<T>& v) { return any(fbb.CreateVector(v).o); }
    any text(const std::string& s) { return any(fbb.CreateString(s).o); }
    any tables(const std::vector<any>& all) {
        std::vector<flatbuffers::Offset<flatbuffers::Table>> offsets;
        for (any a : all) offsets.emplace_back(a.o);
        return any(fbb.CreateVector(offsets).o);
    }
    bytes_t finish(any root, const char* identifier) {
        fbb.Finish(flatbuffers::Offset<flatbuffers::Table>(root.o), identifier);
        bytes_t file(fbb.GetSize());
        std::memcpy(file.data(), fbb.GetBufferPointer(), file.size());
        return file;
    }
};

struct tensor_spec {
    std::string name;
    std::vector<std::int32_t> shape;
    s8 type = 9; // int8
    std::vector<float> scales;
    std::vector<std::int64_t> zeros;
    std::int32_t axis = 0;
    std::uint32_t buffer = 0;
};
struct op_spec {
    std::uint32_t code = 0;
    std::vector<std::int32_t> inputs, outputs;
    std::uint8_t kind = 0;
    std::vector<std::int32_t> ints; // conv: stride_w, stride_h, dilation_w, dilation_h
    s8 pad = 1, fused = 0;
};

const std::vector<s8> conv_weights{1, -2, 3, -4, 5, -6, 7, -8, 127, -127, 0, 1, 2, 3, -1, -1};
const std::vector<s8> dense_weights{1, 2, 3, 4, 5, 6, 7, 8, -1, -1, 1, 1, -1, -1, 1, 1, 127, 0, 0, 0, 0, 0, 0, -127};
const std::vector<std::int32_t> conv_bias{10, -20}, dense_bias{3, 0, -100};

template <class T> std::vector<std::uint8_t> bytes_of(const std::vector<T>& v) {
    std::vector<std::uint8_t> b(v.size() * sizeof(T));
    std::memcpy(b.data(), v.data(), b.size());
    return b;
}

/// A convolution of 2 x 2 over 3 x 3 pixels with 2 channels, then a fully connected layer with 3 outputs.
struct model_spec {
    const char* identifier = "TFL3";
    std::uint32_t version = 3;
    std::vector<std::int32_t> codes{3, 9}; // CONV_2D, FULLY_CONNECTED
    std::vector<std::vector<std::uint8_t>> buffers{
        {}, bytes_of(conv_weights), bytes_of(conv_bias), bytes_of(dense_weights), bytes_of(dense_bias)};
    std::vector<tensor_spec> tensors{
        {"x", {1, 3, 3, 2}, 9, {0.5f}, {-1}, 0, 0},
        {"conv/w", {2, 2, 2, 2}, 9, {0.25f, 0.5f}, {0, 0}, 0, 1},
        {"conv/b", {2}, 2, {0.125f, 0.25f}, {0, 0}, 0, 2},
        {"h", {1, 2, 2, 2}, 9, {1.0f}, {3}, 0, 0},
        {"dense/w", {3, 8}, 9, {0.125f}, {0}, 0, 3},
        {"dense/b", {3}, 2, {0.125f}, {}, 0, 4},
        {"y", {1, 3}, 9, {2.0f}, {-5}, 0, 0},
    };
    std::vector<op_spec> ops{{0, {0, 1, 2}, {3}, 1, {1, 1, 1, 1}, 1, 1}, {1, {3, 4, 5}, {6}, 8, {}, 0, 0}};
    std::vector<std::int32_t> inputs{0}, outputs{6};
    std::uint8_t quantization_details = 0;

    [[nodiscard]] bytes_t file() const {
        writer w;
        std::vector<any> code_tables, buffer_tables, tensor_tables, op_tables;
        for (std::int32_t c : codes)
            code_tables.push_back(w.table([&] {
                w.number<std::int32_t>(3, c);
                w.number<s8>(0, static_cast<s8>(c < 127 ? c : 127));
            }));
        for (const auto& b : buffers) {
            w.fbb.ForceVectorAlignment(b.size(), 1, 16);
            const any data = b.empty() ? any() : w.vector(b);
            buffer_tables.push_back(w.table([&] { w.refer(0, data); }));
        }
        for (const tensor_spec& t : tensors) {
            const any scales = w.vector(t.scales), zeros = w.vector(t.zeros), name = w.text(t.name),
                      shape = w.vector(t.shape);
            const any q = w.table([&] {
                w.refer(2, scales);
                w.refer(3, zeros);
                w.number<std::int32_t>(6, t.axis);
                if (quantization_details != 0) w.number<std::uint8_t>(4, quantization_details);
            });
            tensor_tables.push_back(w.table([&] {
                w.refer(0, shape);
                w.number<s8>(1, t.type);
                w.number<std::uint32_t>(2, t.buffer);
                w.refer(3, name);
                w.refer(4, q);
            }));
        }
        for (const op_spec& o : ops) {
            const any in = w.vector(o.inputs), out = w.vector(o.outputs);
            const any options = w.table([&] {
                if (o.kind == 1 && o.ints.size() == 4) {
                    w.number<s8>(0, o.pad);
                    for (int i = 0; i < 2; ++i) w.number<std::int32_t>(1 + i, o.ints[static_cast<std::size_t>(i)]);
                    w.number<s8>(3, o.fused);
                    for (int i = 2; i < 4; ++i) w.number<std::int32_t>(2 + i, o.ints[static_cast<std::size_t>(i)]);
                }
                if (o.kind == 8) w.number<s8>(0, o.fused);
            });
            op_tables.push_back(w.table([&] {
                w.number<std::uint32_t>(0, o.code);
                w.refer(1, in);
                w.refer(2, out);
                w.number<std::uint8_t>(3, o.kind);
                if (o.kind != 0) w.refer(4, options);
            }));
        }
        const any tensor_list = w.tables(tensor_tables), in = w.vector(inputs), out = w.vector(outputs),
                  op_list = w.tables(op_tables), name = w.text("main");
        const any graph = w.table([&] {
            w.refer(0, tensor_list);
            w.refer(1, in);
            w.refer(2, out);
            w.refer(3, op_list);
            w.refer(4, name);
        });
        const any code_list = w.tables(code_tables), buffer_list = w.tables(buffer_tables), graphs = w.tables({graph});
        return w.finish(w.table([&] {
            w.number<std::uint32_t>(0, version);
            w.refer(1, code_list);
            w.refer(2, graphs);
            w.refer(4, buffer_list);
        }),
                        identifier);
    }
};

/// Touches everything that a model gives.
std::size_t touch(const tflite::model& m) {
    std::size_t sum = 0;
    for (const tflite::graph& g : m.graphs()) {
        for (const tflite::tensor& t : g.tensors) {
            sum += t.name.size() + static_cast<std::size_t>(t.size());
            for (std::byte b : t.data) sum += static_cast<std::size_t>(b);
            CHECK(t.scales.size() == t.zero_points.size());
        }
        for (const tflite::op& o : g.operators) {
            for (index_t i : o.inputs) CHECK((i >= -1 && i < static_cast<index_t>(g.tensors.size())));
            for (index_t i : o.outputs) sum += g.tensors[static_cast<std::size_t>(i)].name.size();
            sum += to_string(o.code).size();
        }
        for (index_t i : g.inputs) sum += g.tensors[static_cast<std::size_t>(i)].shape.size();
    }
    for (std::size_t i = 0; i < m.main().tensors.size(); ++i) {
        const auto index = static_cast<index_t>(i);
        try {
            if (m.at(index).type == tflite::element::i8)
                for (s8 q : m.constant<s8>(index)) sum += static_cast<std::size_t>(q & 1);
            else
                for (std::int32_t q : m.constant<std::int32_t>(index)) sum += static_cast<std::size_t>(q & 1);
        } catch (const notch::error&) {
        }
    }
    return sum;
}
/// A model, or an error of a file: nothing else.
void read_damaged(std::span<const std::byte> file) {
    try {
        (void)touch(tflite::model::parse(file));
    } catch (const notch::error& e) {
        const bool of_a_file = e.code() == errc::corrupt || e.code() == errc::unsupported;
        CAPTURE(std::string(e.what()));
        CHECK(of_a_file);
    }
}

} // namespace

TEST_CASE("tflite: a model is read and runs on the kernels") {
    const auto m = tflite::model::parse(model_spec{}.file(), "tiny");
    const tflite::graph& g = m.main();
    REQUIRE(m.graphs().size() == 1);
    REQUIRE(g.tensors.size() == 7);
    REQUIRE(g.operators.size() == 2);
    CHECK(g.name == "main");
    CHECK(g.inputs == std::vector<index_t>{0});
    CHECK(g.outputs == std::vector<index_t>{6});
    CHECK(g.tensors[0].name == "x");
    CHECK(g.tensors[0].shape == std::vector<index_t>{1, 3, 3, 2});
    CHECK(g.tensors[0].params() == notch::quant_params{0.5f, -1});
    CHECK(g.tensors[0].data.empty());
    CHECK(g.tensors[1].scales == std::vector<float>{0.25f, 0.5f});
    CHECK(g.tensors[5].zero_points == std::vector<std::int32_t>{0}); // none in the file
    CHECK(g.tensors[2].type == tflite::element::i32);
    const tflite::op& conv = g.operators[0];
    CHECK(conv.code == tflite::op_code::conv_2d);
    CHECK(to_string(conv.code) == "CONV_2D");
    CHECK(conv.inputs == std::vector<index_t>{0, 1, 2});
    const auto& options = std::get<tflite::conv_options>(conv.options);
    CHECK(options.pad == tflite::padding::valid);
    CHECK(options.fused == tflite::activation::relu);
    CHECK(options.stride_h == 1);
    const auto weights = m.constant<s8>(1);
    CHECK(std::vector<s8>(weights.begin(), weights.end()) == conv_weights);

    // Moving keeps spans valid.
    auto from = tflite::model::parse(model_spec{}.file(), "tiny");
    const std::byte* data = from.at(1).data.data();
    const tflite::model moved = std::move(from);
    CHECK(moved.at(1).data.data() == data);
    CHECK(touch(moved) == touch(m));

    notch::window s = notch::window::square(2);
    const auto w = notch::pack_conv2d(weights, 2, 2, s);
    const auto ep = tflite::make_conv_epilogue(w, m.at(0).params(), m.at(1).scales, m.constant<std::int32_t>(2),
                                               m.at(3).params(), options.fused);
    const auto dense = notch::pack({m.constant<s8>(4).data(), 3, 8});
    const auto acc_ep = tflite::make_accumulators(dense, m.at(3).params().zero_point, m.constant<std::int32_t>(5));
    std::vector<s8> x{1, 2, 3, 4, 5, 6, 7, 8, 9, -10, 11, -12, 13, -14, 15, -16, 17, -128}, h(8), y(3);
    std::vector<std::int32_t> acc(3);
    std::vector<std::byte> memory(static_cast<std::size_t>(notch::conv2d_workspace_size(w, 1, 3, 3)));
    notch::conv2d(notch::nhwc_view<const s8>(x.data(), 1, 3, 3, 2), w, ep, notch::nhwc_view<s8>(h.data(), 1, 2, 2, 2),
                  notch::context(memory));
    notch::gemm(notch::matrix_view<const s8>(h.data(), 1, 8), dense, acc_ep,
                notch::matrix_view<std::int32_t>(acc.data(), 1, 3));
    tflite::rescale({acc.data(), 1, 3}, tflite::make_rescale(m.at(3).params(), m.at(4).scales, m.at(6).params()),
                    {y.data(), 1, 3});
    for (int oy = 0; oy < 2; ++oy)
        for (int ox = 0; ox < 2; ++ox)
            for (int c = 0; c < 2; ++c) {
                std::int32_t sum = conv_bias[static_cast<std::size_t>(c)];
                for (int ky = 0; ky < 2; ++ky)
                    for (int kx = 0; kx < 2; ++kx)
                        for (int k = 0; k < 2; ++k)
                            sum += (x[static_cast<std::size_t>(((oy + ky) * 3 + ox + kx) * 2 + k)] + 1) *
                                   conv_weights[static_cast<std::size_t>(((c * 2 + ky) * 2 + kx) * 2 + k)];
                // 0.5 * 0.25 and 0.5 * 0.5: powers of two, so one rounding, with halves toward +infinity before the
                // last shift; the ReLU starts at code 3.
                const int shift = c == 0 ? 3 : 2;
                const std::int32_t half = (sum + 1) >> 1; // doubling_high_mul by 2^30
                const std::int32_t code = notch::rounding_divide_by_pot(half, shift - 1) + 3;
                CHECK(h[static_cast<std::size_t>((oy * 2 + ox) * 2 + c)] == std::min(127, std::max(3, code)));
            }
    for (std::size_t c = 0; c < 3; ++c) {
        std::int32_t sum = dense_bias[c];
        for (std::size_t k = 0; k < 8; ++k) sum += (h[k] - 3) * dense_weights[c * 8 + k];
        const double code = std::round(sum * 0.0625) - 5; // 1 * 0.125 / 2
        CHECK(y[c] == std::min(127.0, std::max(-128.0, code)));
    }
}

TEST_CASE("tflite: asking for what is not there names the tensor and the file") {
    const auto m = tflite::model::parse(model_spec{}.file(), "tiny");
    CHECK(contains(error_of(errc::invalid_argument, [&] { (void)m.constant<std::int32_t>(1); }),
                   "tiny: tensor 1 \"conv/w\" has elements of another type"));
    CHECK(contains(error_of(errc::invalid_argument, [&] { (void)m.constant<s8>(0); }), "not a constant"));
    (void)error_of(errc::invalid_argument, [&] { (void)m.at(7); });
    (void)error_of(errc::invalid_argument, [&] { (void)m.at(-1); });
    CHECK(contains(error_of(errc::invalid_argument, [&] { (void)m.at(1).params(); }), "2 scales"));
}

TEST_CASE("tflite: files that lie") {
    const auto refused = [](errc code, const char* text, const std::function<void(model_spec&)>& change) {
        model_spec m;
        change(m);
        const bytes_t file = m.file();
        const std::string message = error_of(code, [&] { (void)tflite::model::parse(file, "evil"); });
        CAPTURE(message);
        CHECK(message.rfind("evil: ", 0) == 0);
        CHECK(contains(message, text));
        CHECK(message.size() < 400);
    };
    constexpr float inf = std::numeric_limits<float>::infinity();
    refused(errc::corrupt, "TFL3", [](model_spec& m) { m.identifier = "TFL4"; });
    refused(errc::unsupported, "schema version 4", [](model_spec& m) { m.version = 4; });
    refused(errc::corrupt, "has code 2 of 2", [](model_spec& m) { m.ops[1].code = 2; });
    refused(errc::corrupt, "has buffer 5 of 5", [](model_spec& m) { m.tensors[1].buffer = 5; });
    refused(errc::corrupt, "tensor 1 \"conv/w\": has 16 bytes of data, its shape and type need 32",
            [](model_spec& m) { m.tensors[1].shape[1] = 4; });
    refused(errc::corrupt, "an extent -1", [](model_spec& m) { m.tensors[0].shape[1] = -1; });
    refused(errc::corrupt, "overflows", [](model_spec& m) { m.tensors[0].shape = {1 << 30, 1 << 30, 1 << 30}; });
    refused(errc::corrupt, "overflows", [](model_spec& m) { m.tensors[0].shape = {0, 1 << 30, 1 << 30, 1 << 30}; });
    refused(errc::corrupt, "33 dimensions", [](model_spec& m) { m.tensors[0].shape.assign(33, 1); });
    refused(errc::corrupt, "the scale nan", [](model_spec& m) { m.tensors[0].scales = {std::nanf("")}; });
    refused(errc::corrupt, "the scale inf", [](model_spec& m) { m.tensors[0].scales = {inf}; });
    refused(errc::corrupt, "the scale 0", [](model_spec& m) { m.tensors[0].scales = {0.0f}; });
    refused(errc::corrupt, "2 scales and 1 zero points", [](model_spec& m) { m.tensors[1].zeros = {0}; });
    refused(errc::corrupt, "the zero point 128", [](model_spec& m) { m.tensors[0].zeros = {128}; });
    refused(errc::corrupt, "the zero point -9223372036854775808",
            [](model_spec& m) { m.tensors[2].zeros[1] = std::numeric_limits<std::int64_t>::min(); });
    refused(errc::corrupt, "along dimension 4 of 4", [](model_spec& m) { m.tensors[1].axis = 4; });
    refused(errc::corrupt, "along dimension -1", [](model_spec& m) { m.tensors[1].axis = -1; });
    refused(errc::corrupt, "2 scales for 3 indices", [](model_spec& m) {
        m.tensors[3].scales = {1.0f, 2.0f};
        m.tensors[3].zeros = {0, 0};
        m.tensors[3].shape = {1, 3, 2, 2};
        m.tensors[3].axis = 1;
    });
    refused(errc::unsupported, "another scheme", [](model_spec& m) { m.quantization_details = 1; });
    refused(errc::corrupt, "its input 7", [](model_spec& m) { m.ops[0].inputs[0] = 7; });
    refused(errc::corrupt, "its input -2", [](model_spec& m) { m.ops[0].inputs[2] = -2; });
    refused(errc::corrupt, "its output -1", [](model_spec& m) { m.ops[0].outputs[0] = -1; });
    refused(errc::corrupt, "its output 7", [](model_spec& m) { m.outputs[0] = 7; });
    refused(errc::corrupt, "operator 0 CONV_2D: has the options 8, must be 1",
            [](model_spec& m) { m.ops[0].kind = 8; });
    refused(errc::corrupt, "has 0 among its strides", [](model_spec& m) { m.ops[0].ints[0] = 0; });
    refused(errc::corrupt, "has -1 among its strides", [](model_spec& m) { m.ops[0].ints[3] = -1; });
    refused(errc::corrupt, "has the padding 2", [](model_spec& m) { m.ops[0].pad = 2; });
    refused(errc::corrupt, "has the activation 6", [](model_spec& m) { m.ops[0].fused = 6; });
    refused(errc::unsupported, "TANH", [](model_spec& m) { m.ops[1].fused = 4; });
    // No escape sequence reaches the terminal.
    refused(errc::corrupt, "\"?[31m?\"", [](model_spec& m) {
        m.tensors[0].name = "\x1b[31m\xff";
        m.tensors[0].scales = {-1.0f};
    });
}

TEST_CASE("tflite: other operators keep their code") {
    model_spec m;
    m.codes = {150, 9};
    m.ops[0].inputs[2] = -1; // left out
    const bytes_t file = m.file();
    const auto model = tflite::model::parse(file);
    CHECK(to_string(model.main().operators[0].code) == "operator 150");
    CHECK(std::holds_alternative<std::monostate>(model.main().operators[0].options));
    CHECK(model.main().operators[0].inputs[2] == -1);
}

TEST_CASE("tflite: a file whose parts refer to the same bytes cannot ask for much memory") {
    writer w;
    const any name = w.text(std::string(2000, 'n'));
    const any one = w.table([&] { w.refer(3, name); });
    const any list = w.tables(std::vector<any>(20000, one)), nothing = w.tables({});
    const any graph = w.table([&] { w.refer(0, list); });
    const any graphs = w.tables({graph});
    const bytes_t file = w.finish(w.table([&] {
        w.number<std::uint32_t>(0, 3);
        w.refer(1, nothing);
        w.refer(2, graphs);
        w.refer(4, nothing);
    }),
                                  "TFL3");
    CHECK(contains(error_of(errc::corrupt, [&] { (void)tflite::model::parse(file); }), "16 times the file"));
}

TEST_CASE("tflite: cut at every byte") {
    const bytes_t file = model_spec{}.file();
    for (std::size_t size = 0; size < file.size(); ++size) read_damaged(std::span(file).first(size));
    read_damaged({});
}

TEST_CASE("tflite: any flipped bit is an error or another model, never a crash") {
    const bytes_t original = model_spec{}.file();
    CAPTURE(original.size());
    for (std::size_t bit = 0; bit < original.size() * 8; ++bit) {
        bytes_t file = original;
        file[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        read_damaged(file);
    }
    // Whole bytes and words, where offsets and lengths stand.
    for (std::size_t at = 0; at + 4 <= original.size(); ++at)
        for (std::uint32_t value : {0u, 0x7fffffffu, 0x80000000u, 0xffffffffu, 0xfffffffcu,
                                    static_cast<std::uint32_t>(original.size() - at)}) {
            bytes_t file = original;
            std::memcpy(file.data() + at, &value, 4);
            read_damaged(file);
        }
}

namespace {

const std::vector<float> float_weights{1, -2, 3, -4, 5, -6, 7, -8, 0.5f, 0, 0, 1, 2, 0, -1, -1};
/// The convolution in float: without quantization.
model_spec float_model() {
    model_spec m;
    m.tensors = {{"x", {1, 3, 3, 2}, 0, {}, {}, 0, 0},
                 {"w", {2, 2, 2, 2}, 0, {}, {}, 0, 1},
                 {"b", {2}, 0, {}, {}, 0, 2},
                 {"y", {1, 2, 2, 2}, 0, {}, {}, 0, 0}};
    m.buffers = {{}, bytes_of(float_weights), bytes_of(std::vector<float>{10, -2})};
    m.ops.resize(1);
    m.outputs = {3};
    return m;
}
using training_network = tiny::builder<tiny::training_layers<true>>;

void set_input(notch::activation& x) {
    x.reshape(1, 3, 3, 2);
    x.quantized = false;
    x.values = notch::buffer<float>(18);
    for (index_t i = 0; i < 18; ++i) x.values[i] = static_cast<float>(i % 5 - 2);
}

} // namespace

TEST_CASE("tflite: a float model becomes layers, in fp32 and frozen") {
    const bytes_t file = float_model().file();
    const auto m = tflite::model::parse(file, "tiny");
    const auto weights = m.constant<float>(1);
    CHECK(std::vector<float>(weights.begin(), weights.end()) == float_weights);
    CHECK(m.at(0).scales.empty());

    auto net = training_network(m).build();
    set_input(net.values[net.input]);
    const notch::activation& y = net.forward(notch::phase::fp32);
    REQUIRE(y.values.size() == 8);
    for (index_t oy = 0; oy < 2; ++oy)
        for (index_t ox = 0; ox < 2; ++ox)
            for (index_t c = 0; c < 2; ++c) {
                float sum = c == 0 ? 10.0f : -2.0f;
                for (index_t ky = 0; ky < 2; ++ky)
                    for (index_t kx = 0; kx < 2; ++kx)
                        for (index_t k = 0; k < 2; ++k)
                            sum += static_cast<float>((((oy + ky) * 3 + ox + kx) * 2 + k) % 5 - 2) *
                                   float_weights[static_cast<std::size_t>(((c * 2 + ky) * 2 + kx) * 2 + k)];
                CHECK(y.values[(oy * 2 + ox) * 2 + c] == std::max(0.0f, sum)); // small integers and halves: exact
            }

    const notch::quant_params x{0.5f, 100};
    auto frozen = tiny::freeze(net, x);
    set_input(frozen.values[frozen.input]);
    notch::quantize_input(net.values[net.input], x);
    notch::quantize_input(frozen.values[frozen.input], x);
    (void)net.forward(notch::phase::quantized);
    for (notch::isa isa : notch::available_isas()) {
        const notch::activation& z = frozen.infer(notch::context(isa));
        CHECK(std::equal(z.values.begin(), z.values.end(), net.values[net.output].values.begin()));
    }
}

TEST_CASE("tflite: layers of weights that a float model stores as int8") {
    model_spec m = float_model();
    m.buffers[1] = bytes_of(conv_weights);
    m.tensors[1] = {"w", {2, 2, 2, 2}, 9, {0.25f, 0.5f}, {0, 0}, 0, 1};
    const bytes_t file = m.file();
    const auto model = tflite::model::parse(file);
    auto net = training_network(model).build();
    const auto& layer = std::get<0>(net.nodes.at(0).layer);
    for (index_t i = 0; i < 16; ++i)
        CHECK(layer.weight[i] ==
              (i < 8 ? 0.25f : 0.5f) * static_cast<float>(conv_weights[static_cast<std::size_t>(i)]));
}

TEST_CASE("tflite: float models that lie, and those without layers, are refused") {
    const auto refused = [](const char* text, const std::function<void(model_spec&)>& change) {
        model_spec m = float_model();
        change(m);
        const bytes_t file = m.file();
        const auto model = tflite::model::parse(file, "evil");
        CHECK(contains(error_of(errc::unsupported, [&] { (void)training_network(model).build(); }), text));
    };
    refused("are not constant", [](model_spec& m) { // and would need much memory
        m.tensors[1].shape = {1 << 20, 1 << 10, 1 << 10, 2};
        m.tensors[1].buffer = 0;
    });
    refused("has groups", [](model_spec& m) { m.tensors[0].shape[3] = 4; });
    refused("another rank", [](model_spec& m) { m.tensors[0].shape = {1, 18}; });
    refused("is not float", [](model_spec& m) { m.tensors[0].type = 2; });
    refused("nothing has computed", [](model_spec& m) { m.ops[0].inputs[0] = 3; });
    refused("written twice", [](model_spec& m) { m.ops[0].outputs[0] = 0; });
    refused("that no layer has", [](model_spec& m) { m.ops[0].fused = 2; });
    refused("not that of a last layer", [](model_spec& m) { m.outputs[0] = 0; });
    refused("no layer here", [](model_spec& m) { m.codes[0] = 150; });
    refused("other scales", [](model_spec& m) {
        m.buffers[1] = bytes_of(conv_weights);
        m.tensors[1] = {"w", {2, 2, 2, 2}, 9, {}, {}, 0, 1};
    });

    const bytes_t original = float_model().file();
    for (std::size_t bit = 0; bit < original.size() * 8; ++bit) {
        bytes_t file = original;
        file[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        try {
            const auto model = tflite::model::parse(file);
            auto net = training_network(model).build();
            set_input(net.values[net.input]);
            (void)net.forward(notch::phase::fp32);
        } catch (const notch::error&) {
        }
    }
}

TEST_CASE("tflite: files that cannot be read") {
    scratch_folder folder;
    const std::string path = folder.file("m.tflite");
    CHECK(contains(error_of(errc::io, [&] { (void)tflite::model::load(path); }), path));
    write_bytes(path, model_spec{}.file());
    CHECK(touch(tflite::model::load(path)) == touch(tflite::model::parse(model_spec{}.file())));
    CHECK(contains(error_of(errc::io, [&] { (void)tflite::model::load(path, 100); }), "limit"));
    std::filesystem::resize_file(path, std::uint64_t{1} << 33); // without contents
    (void)error_of(errc::io, [&] { (void)tflite::model::load(path); });
}
