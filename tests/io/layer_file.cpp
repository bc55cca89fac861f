// SPDX-License-Identifier: Apache-2.0
//
// A layer in a model file: round trips, and fields that lie, behind a valid checksum.
#include "../catch.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <random>
#include <span>
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
    for (auto& w : s.weights)
        w = static_cast<std::int8_t>(static_cast<int>(g() % static_cast<unsigned>(2 * top + 1)) - top);
    s.w_scales = buffer<float>(5);
    for (float& v : s.w_scales) v = 0.01f;
    if (dynamic)
        s.float_bias = buffer<float>(5);
    else
        s.bias = buffer<std::int32_t>(5);
    s.x = {0.02f, 7};
    s.y = {0.3f, 250};
    s.function = nonlinearity::relu6;
    s.float_output = dynamic;
    return s;
}

std::string message_of(auto call) {
    try {
        call();
    } catch (const error& e) {
        return std::string(e.code() == errc::corrupt ? "corrupt " : "") + e.what();
    }
    return "no error";
}

/// The four tensors of a saved layer, to be changed behind save_layer's back.
struct tensors {
    std::vector<std::int8_t> w;
    std::vector<float> s;
    std::vector<std::int32_t> b;
    std::vector<float> float_b;
    std::vector<std::int32_t> p;
};
template <class Change> model_file lying(Change change, bool depthwise = false) {
    model_writer w("t");
    save_layer(w, "a", some_layer(8, depthwise, false));
    const model_file f = model_file::parse(w.to_bytes().span());
    const auto all = []<class T>(std::span<const T> values) { return std::vector<T>(values.begin(), values.end()); };
    tensors t{all(f.tensor<std::int8_t>("a.w")),
              all(f.tensor<float>("a.s")),
              all(f.tensor<std::int32_t>("a.b")),
              {},
              all(f.tensor<std::int32_t>("a.p"))};
    change(t);
    model_writer lie("t");
    const auto add = [&]<class T>(const char* name, const std::vector<T>& values) {
        lie.add<T>(name, {static_cast<index_t>(values.size())}, values);
    };
    add("a.w", t.w);
    add("a.s", t.s);
    if (t.float_b.empty())
        add("a.b", t.b);
    else
        add("a.b", t.float_b);
    add("a.p", t.p);
    return model_file::parse(lie.to_bytes().span());
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
    const auto refused = [](const char* part, auto change, bool depthwise = false) {
        const model_file f = lying(change, depthwise);
        const std::string text = message_of([&] { (void)load_layer(f, "a"); });
        INFO(text);
        CHECK(text.find("corrupt load_layer: a") == 0);
        CHECK(text.find(part) != std::string::npos);
    };
    const float nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(message_of([] { (void)load_layer(lying([](tensors&) {}), "a"); }) == "no error");
    refused("19 entries", [](tensors& t) { t.p.pop_back(); });
    refused("kernel_w", [](tensors& t) { t.p[2] = -1; });
    refused("stride_h", [](tensors& t) { t.p[3] = 0; });
    refused("pad_top", [](tensors& t) { t.p[5] = -1; });
    refused("dilation_w", [](tensors& t) { t.p[10] = 0; });
    refused("in_channels is 0", [](tensors& t) { t.p[11] = 0; });
    refused("out_channels is", [](tensors& t) { t.p[12] = 1 << 30; });
    refused("135 weights, expected 162", [](tensors& t) { t.p[12] = 6; });
    refused("address space", [](tensors& t) { t.p[1] = t.p[2] = t.p[11] = t.p[12] = 1 << 20; });
    refused("flags", [](tensors& t) { t.p[13] = 4; });
    refused(
        "depthwise layer", [](tensors& t) { t.p[11] = 4; }, true);
    refused("weight_bits", [](tensors& t) { t.p[14] = 9; });
    refused("does not fit 7 bits", [](tensors& t) {
        t.p[14] = 7;
        t.w[3] = 64;
    });
    refused("nonlinearity", [](tensors& t) { t.p[15] = 7; });
    refused("nonlinearity", [](tensors& t) { t.p[15] = -1; });
    refused("x.scale", [=](tensors& t) { t.p[16] = std::bit_cast<std::int32_t>(nan); });
    refused("x.zero_point", [](tensors& t) { t.p[17] = 256; });
    refused("y.scale", [](tensors& t) { t.p[18] = std::bit_cast<std::int32_t>(-1.0f); });
    refused("y.zero_point", [](tensors& t) { t.p[19] = -1; });
    refused("134 weights", [](tensors& t) { t.w.pop_back(); });
    refused("4 weight scales", [](tensors& t) { t.s.pop_back(); });
    refused("a weight scale is 0", [](tensors& t) { t.s[2] = 0.0f; });
    refused("3 biases", [](tensors& t) { t.b.resize(3); });
    refused("a bias is inf", [](tensors& t) { t.float_b = {0, 0, 0, 0, std::numeric_limits<float>::infinity()}; });
    CHECK(message_of([] { (void)load_layer(lying([](tensors& t) { t.p[0] = 2; }), "a"); }).find("version 2") !=
          std::string::npos);
    CHECK_THROWS_AS(load_layer(lying([](tensors&) {}), "b"), error);
    // A bias that could overflow the accumulator is caught when the layer is packed.
    const model_file huge = lying([](tensors& t) { t.b[0] = std::numeric_limits<std::int32_t>::max(); });
    CHECK_THROWS_AS(frozen_conv2d(load_layer(huge, "a")), error);
}

TEST_CASE("an invalid layer_spec is neither saved nor made a layer") {
    const auto refused = [](const char* part, auto change, int bits = 8) {
        layer_spec s = some_layer(bits, false, false);
        change(s);
        model_writer w("t");
        const std::string saving = message_of([&] { save_layer(w, "a", s); });
        const std::string making = message_of([&] { (void)frozen_conv2d(s); });
        INFO(saving << " / " << making);
        CHECK(saving.find("save_layer: a: ") == 0);
        CHECK(saving.find(part) != std::string::npos);
        CHECK(making.find(part) != std::string::npos);
        CHECK(model_file::parse(w.to_bytes().span()).tensors().empty());
    };
    refused("stride_w", [](layer_spec& s) { s.geometry.stride_w = (index_t{1} << 32) + 1; });
    refused("x.scale", [](layer_spec& s) { s.x.scale = std::numeric_limits<float>::quiet_NaN(); });
    refused("x.scale", [](layer_spec& s) { s.x.scale = 0; });
    refused("y.zero_point", [](layer_spec& s) { s.y.zero_point = 256; });
    refused("134 weights", [](layer_spec& s) { s.weights = buffer<std::int8_t>(134); });
    refused("weight_bits", [](layer_spec& s) { s.weight_bits = 99; });
    refused("weight_bits", [](layer_spec& s) { s.weight_bits = 0; });
    refused(
        "does not fit 4 bits", [](layer_spec& s) { s.weights[0] = 8; }, 4);
    refused(
        "does not fit 2 bits", [](layer_spec& s) { s.weights[0] = -3; }, 2);
    refused("nonlinearity", [](layer_spec& s) { s.function = static_cast<nonlinearity>(3); });
    refused("a weight scale", [](layer_spec& s) { s.w_scales[4] = std::numeric_limits<float>::infinity(); });
    refused("both bias", [](layer_spec& s) { s.float_bias = buffer<float>(5); });
    refused("in_channels", [](layer_spec& s) { s.in_channels = 0; });

    // Each kind of layer takes its own kind of spec.
    const layer_spec fixed = some_layer(8, false, false), dynamic = some_layer(8, false, true),
                     dw = some_layer(8, true, false);
    CHECK_THROWS_AS(frozen_conv2d(dynamic), error);
    CHECK_THROWS_AS(dynamic_conv2d(fixed), error);
    CHECK_THROWS_AS(frozen_conv2d(dw), error);
    CHECK_THROWS_AS(frozen_depthwise(fixed), error);
    CHECK_NOTHROW(frozen_conv2d(fixed));
    CHECK_NOTHROW(dynamic_conv2d(dynamic));
    CHECK_NOTHROW(frozen_depthwise(dw));
}

TEST_CASE("a layer without a bias is saved, loaded and gives what zeros give") {
    for (int bits : {4, 8})
        for (bool dynamic : {false, true}) {
            layer_spec zeros = some_layer(bits, false, dynamic), none = zeros;
            none.bias = {};
            none.float_bias = {};
            model_writer w("t");
            save_layer(w, "a", none);
            const layer_spec t = load_layer(model_file::parse(w.to_bytes().span()), "a");
            CHECK(t.bias.size() + t.float_bias.size() == 0);
            CHECK(std::equal(t.weights.begin(), t.weights.end(), zeros.weights.begin(), zeros.weights.end()));
            buffer<std::byte> memory(1 << 16);
            const context ctx(isa::scalar, {}, memory);
            const index_t h = 7, out = zeros.geometry.out_h(h), wide = zeros.geometry.out_w(h);
            std::vector<float> real(static_cast<std::size_t>(h * h * 3));
            std::vector<std::uint8_t> codes(real.size());
            for (std::size_t i = 0; i < real.size(); ++i) {
                codes[i] = static_cast<std::uint8_t>(i * 37 % 256);
                real[i] = 0.1f * static_cast<float>(codes[i]);
            }
            const auto run = [&]<class Y, class X>(auto layer, const std::vector<X>& x, Y) {
                std::vector<Y> y(static_cast<std::size_t>(out * wide * 5));
                layer.forward(nhwc_view<const X>(x.data(), 1, h, h, 3), nhwc_view<Y>(y.data(), 1, out, wide, 5), ctx);
                return y;
            };
            if (dynamic)
                CHECK(run(dynamic_conv2d(t), real, 0.0f) == run(dynamic_conv2d(zeros), real, 0.0f));
            else
                CHECK(run(frozen_conv2d(t), codes, std::uint8_t{}) == run(frozen_conv2d(zeros), codes, std::uint8_t{}));
        }
}

TEST_CASE("4-bit weights: odd and even counts, whichever extent decides") {
    struct extents {
        index_t kernel_h, kernel_w, in, out;
        bool depthwise;
    };
    for (const extents& e :
         {extents{3, 3, 3, 5, false}, extents{2, 3, 3, 5, false}, extents{3, 2, 3, 5, false},
          extents{3, 3, 2, 5, false}, extents{3, 3, 3, 4, false}, extents{1, 1, 1, 1, false}, extents{3, 3, 5, 5, true},
          extents{2, 3, 5, 5, true}, extents{3, 2, 5, 5, true}, extents{3, 3, 4, 4, true}}) {
        layer_spec s;
        s.geometry.kernel_h = e.kernel_h;
        s.geometry.kernel_w = e.kernel_w;
        s.in_channels = e.in;
        s.out_channels = e.out;
        s.depthwise = e.depthwise;
        s.weight_bits = 4;
        const index_t count = e.kernel_h * e.kernel_w * e.out * (e.depthwise ? 1 : e.in);
        s.weights = buffer<std::int8_t>(count);
        for (index_t i = 0; i < count; ++i) s.weights[i] = static_cast<std::int8_t>(i % 16 - 8);
        s.w_scales = buffer<float>(e.out);
        s.bias = buffer<std::int32_t>(e.out);
        for (index_t c = 0; c < e.out; ++c) {
            s.w_scales[c] = 0.5f + static_cast<float>(c);
            s.bias[c] = static_cast<std::int32_t>(7 - 3 * c);
        }
        model_writer w("t");
        save_layer(w, "a", s);
        const model_file f = model_file::parse(w.to_bytes().span());
        INFO(e.kernel_h << " x " << e.kernel_w << " x " << e.in << " x " << e.out);
        // Two codes a byte, the first in the low nibble: -8, -7 is 0x98; an odd last one stands alone.
        const auto packed = f.tensor<std::uint8_t>("a.w", {(count + 1) / 2});
        CHECK(packed[0] == (count == 1 ? 0x08 : 0x98));
        if (count % 2 != 0) CHECK(packed.back() >> 4 == 0);
        const layer_spec t = load_layer(f, "a");
        CHECK(std::equal(t.weights.begin(), t.weights.end(), s.weights.begin(), s.weights.end()));
        CHECK(std::equal(t.w_scales.begin(), t.w_scales.end(), s.w_scales.begin(), s.w_scales.end()));
        CHECK(std::equal(t.bias.begin(), t.bias.end(), s.bias.begin(), s.bias.end()));
    }
}

TEST_CASE("a layer whose name is taken in part leaves nothing behind") {
    for (const char* part : {"a.w", "a.s", "a.b", "a.p"}) {
        model_writer w("t");
        w.add<float>(part, {1}, std::vector<float>{1.0f});
        const auto before = w.to_bytes();
        CHECK(message_of([&] { save_layer(w, "a", some_layer(8, false, false)); }).find(part) != std::string::npos);
        const auto after = w.to_bytes();
        CHECK(std::equal(before.begin(), before.end(), after.begin(), after.end()));
        CHECK(w.contains(part));
        CHECK(!w.contains("b.w"));
    }
}
