// SPDX-License-Identifier: Apache-2.0
//
// The fp32 arithmetic of the layers for windows that are not square, with dilation and paddings that differ: forward
// against the definition and a case by hand, backward as its transpose. Small integers throughout, so floats are exact.
#include "../catch.hpp"

#include <algorithm>
#include <iterator>
#include <vector>

#include <notch/layers/float_math.hpp>

using namespace notch;

namespace {

window tall() {
    window s;
    s.kernel_h = 2, s.kernel_w = 3;
    s.stride_h = 2, s.stride_w = 1;
    s.pad_top = 1, s.pad_left = 2, s.pad_right = 1;
    s.dilation_h = 2;
    return s;
}
window wide() {
    window s;
    s.kernel_h = 3, s.kernel_w = 2;
    s.stride_h = 1, s.stride_w = 3;
    s.pad_left = 1, s.pad_bottom = 2;
    s.dilation_w = 2;
    return s;
}
/// Different small integers.
std::vector<float> integers(index_t n, int seed) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>((static_cast<int>(i) * 37 + seed) % 19 - 9);
    return v;
}
template <class Math>
std::vector<float> outputs(Math& math, const activation& shape, const std::vector<float>& x,
                           const std::vector<float>& w) {
    const index_t rows = shape.n * math.geometry.out_h(shape.h) * math.geometry.out_w(shape.w);
    std::vector<float> z(static_cast<std::size_t>(rows * math.out), 100.0f);
    math.forward(x.data(), shape, w, {z.data(), rows, math.out});
    return z;
}
/// What the definition gives: weights [out][kh][kw][in], or [kh][kw][channels] depthwise.
template <class Math>
std::vector<float> defined(const Math& math, const activation& shape, const std::vector<float>& x,
                           const std::vector<float>& w) {
    const window& s = math.geometry;
    std::vector<float> z;
    for (index_t n = 0; n < shape.n; ++n)
        for (index_t oy = 0; oy < s.out_h(shape.h); ++oy)
            for (index_t ox = 0; ox < s.out_w(shape.w); ++ox)
                for (index_t o = 0; o < math.out; ++o) {
                    float sum = 0;
                    for (index_t iy = 0; iy < shape.h; ++iy)
                        for (index_t ix = 0; ix < shape.w; ++ix) {
                            // The tap that sees this pixel, if there is one.
                            const index_t dy = iy - oy * s.stride_h + s.pad_top, dx = ix - ox * s.stride_w + s.pad_left;
                            if (dy < 0 || dx < 0 || dy % s.dilation_h != 0 || dx % s.dilation_w != 0) continue;
                            const index_t ky = dy / s.dilation_h, kx = dx / s.dilation_w;
                            if (ky >= s.kernel_h || kx >= s.kernel_w) continue;
                            const index_t tap = ky * s.kernel_w + kx,
                                          pixel = ((n * shape.h + iy) * shape.w + ix) * shape.c;
                            for (index_t c = Math::depthwise ? o : 0; c < (Math::depthwise ? o + 1 : shape.c); ++c) {
                                const index_t at = Math::depthwise ? tap * math.out + o
                                                                   : (o * s.kernel_h * s.kernel_w + tap) * shape.c + c;
                                sum += x[static_cast<std::size_t>(pixel + c)] * w[static_cast<std::size_t>(at)];
                            }
                        }
                    z.push_back(sum);
                }
    return z;
}
float dot(const std::vector<float>& a, const std::vector<float>& b) {
    float sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}
template <class Math> void check(Math math) {
    activation shape;
    shape.reshape(2, 6, 7, math.in);
    std::vector<float> x = integers(shape.size(), 3), w = integers(math.layout().size(), 5);
    const std::vector<float> z = outputs(math, shape, x, w), dz = integers(static_cast<index_t>(z.size()), 11);
    CHECK(z == defined(math, shape, x, w));
    // forward is linear in x and in w: the gradient of <dz, z> is <dz, forward of a unit vector>.
    std::vector<float> dw(w.size(), 1.0f), dx(x.size(), 7.0f), want_w(w.size()), want_x(x.size());
    const index_t rows = static_cast<index_t>(z.size()) / math.out;
    math.backward(x.data(), shape, w, matrix_view<const float>(dz.data(), rows, math.out), dw, dx.data());
    for (std::size_t i = 0; i < w.size(); ++i) {
        std::vector<float> unit(w.size());
        unit[i] = 1.0f;
        want_w[i] = 1.0f + dot(dz, defined(math, shape, x, unit)); // adds to what was there
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
        std::vector<float> unit(x.size());
        unit[i] = 1.0f;
        want_x[i] = dot(dz, defined(math, shape, unit, w));
    }
    CHECK(dw == want_w);
    CHECK(dx == want_x);
}

} // namespace

TEST_CASE("fp32 convolutions of any window follow the definition, forward and backward") {
    for (const window& s : {tall(), wide()}) {
        check(detail::conv_math{s, 2, 3, {}, {}, {}});
        check(detail::depthwise_math{s, 3, 3});
    }
    check(detail::conv_math{window::square(1), 2, 3, {}, {}, {}});
}

TEST_CASE("a dilated row with padding on the left, by hand") {
    // x = 1 2 3 4 5, w = 10 1 two apart, stride 2: 10 * 0 + 2, 10 * 2 + 4, 10 * 4 + 0.
    window s;
    s.kernel_w = 2, s.dilation_w = 2, s.stride_w = 2, s.pad_left = 1, s.pad_right = 1;
    activation shape;
    shape.reshape(1, 1, 5, 1);
    detail::conv_math conv{s, 1, 1, {}, {}, {}};
    detail::depthwise_math depthwise{s, 1, 1};
    const std::vector<float> x{1, 2, 3, 4, 5}, w{10, 1}, want{2, 24, 40};
    CHECK(outputs(conv, shape, x, w) == want);
    CHECK(outputs(depthwise, shape, x, w) == want);
}
