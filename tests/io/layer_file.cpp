// SPDX-License-Identifier: Apache-2.0
//
// A layer in a model file: round trips, and fields that lie, behind a valid checksum.
#include "../catch.hpp"

#include <limits>
#include <random>
#include <string>
#include <vector>

#include <notch/io/layer_file.hpp>

using namespace notch;

namespace {

layer_spec some_layer(int bits, bool depthwise, bool dynamic) {
    std::mt19937 g(static_cast<unsigned>(bits));
    layer_spec s;
    s.geometry = window::square(3, 2, 1);
    s.geometry.pad_right = 2;
    s.in_channels = depthwise ? 5 : 3;
    s.out_channels = 5;
    s.depthwise = depthwise;
    s.weight_bits = bits;
    s.weights = buffer<std::int8_t>(depthwise ? 45 : 135);
    const int top = (1 << (bits - 1)) - 1;
    for (auto& w : s.weights) w = static_cast<std::int8_t>(static_cast<int>(g() % static_cast<unsigned>(2 * top + 1)) - top);
    s.w_scales = buffer<float>(5);
    for (float& v : s.w_scales) v = 0.01f;
    if (dynamic) s.float_bias = buffer<float>(5);
    else s.bias = buffer<std::int32_t>(5);
    s.x = {0.02f, 7};
    s.y = {0.3f, 250};
    s.function = nonlinearity::relu6;
    s.float_output = dynamic;
    return s;
}

/// The file of a layer after a change of its description.
template <class Change> model_file with(Change change) {
    layer_spec s = some_layer(8, false, false);
    change(s);
    model_writer w("t");
    save_layer(w, "a", s);
    return model_file::parse(w.to_bytes().span());
}
template <class Change> std::string refused(Change change) {
    const model_file f = with(change);
    try {
        (void)load_layer(f, "a");
    } catch (const error& e) {
        return e.what();
    }
    return "no error";
}

} // namespace

TEST_CASE("layers round-trip through a model file, 4-bit weights in half the bytes") {
    for (int bits : {2, 4, 8})
        for (bool depthwise : {false, true})
            for (bool dynamic : {false, true}) {
                const layer_spec s = some_layer(bits, depthwise, dynamic);
                model_writer w("t");
                save_layer(w, "a", s);
                const model_file f = model_file::parse(w.to_bytes().span());
                const layer_spec t = load_layer(f, "a");
                CHECK(t.geometry == s.geometry);
                CHECK(t.x == s.x);
                CHECK(t.y == s.y);
                CHECK(t.depthwise == depthwise);
                CHECK(t.float_output == dynamic);
                CHECK(t.weight_bits == bits);
                CHECK(t.function == s.function);
                CHECK(std::equal(t.weights.begin(), t.weights.end(), s.weights.begin(), s.weights.end()));
                CHECK(t.bias.size() + t.float_bias.size() == 5);
                CHECK(f.info("a.w").type == (bits <= 4 ? dtype::u8 : dtype::i8));
            }
}

TEST_CASE("a layer whose fields lie is refused, though its checksum is right") {
    const auto has = [](const std::string& text, const char* part) {
        INFO(text);
        CHECK(text.find(part) != std::string::npos);
    };
    has(refused([](layer_spec& s) { s.geometry.stride_h = 0; }), "stride_h");
    has(refused([](layer_spec& s) { s.geometry.kernel_w = -1; }), "kernel_w");
    has(refused([](layer_spec& s) { s.in_channels = 0; }), "number of channels");
    has(refused([](layer_spec& s) { s.out_channels = 1 << 30; }), "number of channels");
    has(refused([](layer_spec& s) { s.out_channels = 6; }), "a.w has 135 elements, expected 162");
    has(refused([](layer_spec& s) { s.weight_bits = 9; }), "number of bits");
    has(refused([](layer_spec& s) { s.function = static_cast<nonlinearity>(7); }), "nonlinearity");
    has(refused([](layer_spec& s) { s.x.scale = std::numeric_limits<float>::quiet_NaN(); }), "a.x.scale");
    has(refused([](layer_spec& s) { s.y.scale = -1.0f; }), "a.y.scale");
    has(refused([](layer_spec& s) { s.x.zero_point = 256; }), "zero_point");
    has(refused([](layer_spec& s) { s.w_scales = buffer<float>(4); }), "4 scales for 5 channels");
    has(refused([](layer_spec& s) { s.w_scales[2] = 0.0f; }), "a.s");
    has(refused([](layer_spec& s) { s.bias = buffer<std::int32_t>(3); }), "a.b has 3 elements");
    has(refused([](layer_spec& s) { s.depthwise = true; s.in_channels = 4; }), "number of channels");
    has(refused([](layer_spec& s) {
            s.bias = {};
            s.float_bias = buffer<float>(5);
            s.float_bias[1] = std::numeric_limits<float>::infinity();
        }), "not finite");
    const model_file f = with([](layer_spec&) {});
    CHECK_THROWS_AS(load_layer(f, "b"), error);
    // A bias that could overflow the accumulator is caught when the layer is packed.
    const model_file huge = with([](layer_spec& s) { s.bias[0] = std::numeric_limits<std::int32_t>::max(); });
    CHECK_THROWS_AS(frozen_conv2d(load_layer(huge, "a")), error);
}
