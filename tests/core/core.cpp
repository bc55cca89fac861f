// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/core/parallel.hpp>
#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>

using namespace notch;

TEST_CASE("buffer: aligned, zeroed, a value") {
    for (index_t n : {0, 1, 3, 64, 1000}) {
        buffer<float> a(n);
        CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % buffer_alignment == 0);
        CHECK(std::accumulate(a.begin(), a.end(), 0.0f) == 0.0f);
        for (float& v : a) v = 2.0f;
        buffer<float> b = a, c = b;
        for (float& v : b) v = 3.0f;
        CHECK(std::accumulate(a.begin(), a.end(), 0.0f) == 2.0f * static_cast<float>(n));
        c = b;
        CHECK(std::accumulate(c.begin(), c.end(), 0.0f) == 3.0f * static_cast<float>(n));
        const float* where = c.data();
        const buffer<float> d = std::move(c);
        CHECK(d.data() == where);
        CHECK(d.span().size() == static_cast<std::size_t>(n));
        where = b.data();
        c = buffer<float>(3);
        c = std::move(b);
        CHECK(c.data() == where);
        CHECK(c.size() == n);
        CHECK(b.empty());
        CHECK(b.data() == nullptr);
        buffer<float>& c_itself = c;
        c = std::move(c_itself);
        CHECK(c.data() == where);
        a.resize_discard(n + 1);
        CHECK(a.size() == n + 1);
        CHECK(a[n] == 0.0f);
        const buffer<float>& itself = a;
        a = itself;
        CHECK(a.size() == n + 1);
    }
    CHECK_THROWS_WITH(buffer<float>(-1), contains_text("must be >= 0"));
    CHECK_THROWS_WITH(buffer<double>(std::numeric_limits<index_t>::max()), contains_text("overflow"));
}

TEST_CASE("views: elements, constness, and what makes them invalid") {
    std::vector<int> v(60);
    std::iota(v.begin(), v.end(), 0);
    const matrix_view<int> m(v.data(), 3, 4, 5);
    CHECK(m(2, 3) == 13);
    const matrix_view<const int> cm = m;
    CHECK(&cm(1, 1) == &m(1, 1));
    const nhwc_view<int> x(v.data(), 2, 2, 2, 3, 30, 15, 5);
    CHECK(x(1, 1, 1, 2) == 52);
    CHECK_FALSE(x.is_dense());
    CHECK(nhwc_view<int>(v.data(), 1, 2, 3, 4).is_dense());
    const auto refuses = [](const auto& view, const char* text) {
        CHECK_THROWS_WITH(detail::check_view("test", "x", view), contains_text("test: ") && contains_text(text));
    };
    using mat = matrix_view<int>;
    using img = nhwc_view<int>;
    const index_t top = std::numeric_limits<index_t>::max();
    refuses(mat(v.data(), 2, -1), "x has a negative extent");
    refuses(mat(v.data(), 2, 3, 2), "x has stride 2");
    refuses(mat(nullptr, 2, 3), "x is null");
    refuses(mat(v.data(), top / 2, 3, top / 2), "overflow");
    refuses(img(v.data(), 1, 1, 1, -1), "x has a negative extent");
    refuses(img(nullptr, 1, 1, 1, 1), "x is null");
    refuses(img(v.data(), 1, 1, 2, 3, 6, 6, 2), "stride_w 2");
    refuses(img(v.data(), 1, 2, 2, 3, 6, 5, 3), "stride_h 5");
    refuses(img(v.data(), 2, 2, 2, 3, 11, 6, 3), "stride_n 11");
    refuses(img(v.data(), 2, 2, 2, 3, top, 6, 3), "overflow");
    detail::check_view("test", "x", mat(nullptr, 0, 7));
    detail::check_view("test", "x", img(nullptr, 4, 0, 2, 2));
    detail::check_view("test", "x", mat(v.data(), 1, 9, 0)); // one row needs no stride
    // A stride that is not used must not overflow what is computed with it; in empty views none is.
    refuses(mat(v.data(), 1, 9, top), "x has a stride of");
    refuses(mat(v.data(), 1, 9, -top), "x has a stride of");
    refuses(img(v.data(), 1, 1, 1, 3, top, 3, 3), "x has a stride of");
    detail::check_view("test", "x", mat(v.data(), 0, 9, top));
    detail::check_view("test", "x", img(v.data(), 1, 0, 2, 3, top, top, top));
}

TEST_CASE("window: output extents count exactly the places that fit") {
    for (index_t kernel = 1; kernel < 5; ++kernel)
        for (index_t stride = 1; stride < 4; ++stride)
            for (index_t dilation = 1; dilation < 4; ++dilation)
                for (index_t before = 0; before < 3; ++before)
                    for (index_t in = 0; in < 12; ++in) {
                        window s;
                        s.kernel_h = s.kernel_w = kernel;
                        s.stride_h = s.stride_w = stride;
                        s.dilation_h = s.dilation_w = dilation;
                        s.pad_top = s.pad_left = before;
                        s.pad_bottom = s.pad_right = 1;
                        index_t fits = 0;
                        while (fits * stride - before + (kernel - 1) * dilation < in + 1) ++fits;
                        REQUIRE(s.out_h(in) == fits);
                        REQUIRE(s.out_w(in) == fits);
                    }
}

namespace {

// What a layer's constructor does with a constant window. g++ 12 compiles the copy with AVX-512 as a
// move of 64 constant bytes; where their high words are 0 and their other words equal, it broadcasts
// one of them to all (the 512-bit constant is stored without its leading zeros). Only then: the
// compiler must see the constants, and the function that hides the address must not see them.
struct window_holder {
    window geometry;
    index_t in, out;
};
NOTCH_NOINLINE void look_at(window& w) {
    static window* volatile seen;
    seen = &w;
    *seen = window{};
}
template <int K, int S, int P> NOTCH_NOINLINE void copy_constant_window(window_holder& to) {
    window w = window::square(K, S, P);
    look_at(w);
    w = window::square(K, S, P);
    to.geometry = w;
}

template <int K, int S, int P> void check_copied_window() {
    window_holder h{{}, 1, 2};
    copy_constant_window<K, S, P>(h);
    CAPTURE(K, S, P);
    const index_t wanted[] = {K, K, S, S, P, P, P, P, 1, 1};
    const window& g = h.geometry;
    const index_t got[] = {g.kernel_h, g.kernel_w,  g.stride_h,   g.stride_w,   g.pad_top,
                           g.pad_left, g.pad_right, g.pad_bottom, g.dilation_h, g.dilation_w};
    for (int i = 0; i < 10; ++i) CHECK(got[i] == wanted[i]);
}

} // namespace

TEST_CASE("window: constant ones are copied as they are, by every compiler") {
    check_copied_window<1, 1, 0>();
    check_copied_window<2, 2, 0>();
    check_copied_window<3, 3, 0>();
    check_copied_window<3, 1, 0>();
    check_copied_window<3, 1, 1>();
    check_copied_window<3, 2, 1>();
    check_copied_window<1, 1, 1>();
}

TEST_CASE("window: an invalid one has no outputs, whatever the size of the image") {
    const auto changed = [](index_t window::*member, index_t value) {
        window s = window::square(3, 2, 1);
        s.*member = value;
        return s;
    };
    constexpr index_t huge = std::numeric_limits<index_t>::max(), most = index_t{1} << 20;
    const auto check = [&](index_t window::*h, index_t window::*w, index_t bad) {
        CHECK(changed(h, bad).out_h(9) == 0);
        CHECK(changed(h, bad).out_w(9) == 5);
        CHECK(changed(w, bad).out_w(9) == 0);
        CHECK(changed(w, bad).out_h(9) == 5);
    };
    for (index_t bad : {index_t{0}, index_t{-1}, -huge - 1, most + 1, huge}) {
        check(&window::stride_h, &window::stride_w, bad);
        check(&window::kernel_h, &window::kernel_w, bad);
        check(&window::dilation_h, &window::dilation_w, bad);
    }
    for (index_t bad : {index_t{-1}, -huge - 1, most + 1, huge}) {
        check(&window::pad_top, &window::pad_left, bad);
        check(&window::pad_bottom, &window::pad_right, bad);
    }
    // The largest valid values: (9 + 2 * 2^20 - 1) / 2^20 + 1 = 3.
    CHECK(window::square(1, most, most).out_h(9) == 3);
    CHECK(changed(&window::dilation_h, most).out_h(9) == 0);
    for (index_t in : {index_t{-1}, -huge, huge}) {
        CHECK(window::square(3).out_h(in) == 0);
        CHECK(window::square(3).out_w(in) == 0);
    }
    static_assert(window::square(1, 0).out_h(5) == 0 && window::square(1).out_w(5) == 5);
}

TEST_CASE("executor_ref: serial by default, any executor by reference") {
    std::vector<int> seen(5);
    const task_ref task{[](void* c, index_t i) { ++(*static_cast<std::vector<int>*>(c))[static_cast<std::size_t>(i)]; },
                        &seen};
    executor_ref().run(5, task);
    CHECK(executor_ref().concurrency() == 1);
    struct backwards {
        int calls = 0;
        [[nodiscard]] index_t concurrency() const { return 4; }
        void run(index_t n, task_ref t) {
            ++calls;
            while (n > 0) t(--n);
        }
    } mine;
    const executor_ref e(mine);
    e.run(5, task);
    e.run(0, task);
    CHECK(e.concurrency() == 4);
    CHECK(mine.calls == 1);
    for (int n : seen) CHECK(n == 2);
}

TEST_CASE("workspace: an aligned block fits wherever the span begins; errors carry their code") {
    std::vector<std::byte> memory(400);
    for (std::size_t shift = 0; shift < 64; ++shift)
        for (index_t n : {1, 63, 64, 65, 200}) {
            const index_t need = detail::workspace_bytes(n);
            const auto span = std::span(memory).subspan(shift, static_cast<std::size_t>(need));
            std::byte* begin = detail::workspace_begin("op", "op_workspace_size", span, need);
            REQUIRE(reinterpret_cast<std::uintptr_t>(begin) % 64 == 0);
            REQUIRE(begin + n <= span.data() + span.size());
        }
    CHECK(detail::workspace_bytes(0) == 0);
    CHECK_THROWS_WITH(detail::workspace_begin("op", "ask_me", {}, 1),
                      contains_text("op: the workspace has 0 bytes, 1 are needed; ask ask_me"));
    try {
        detail::check_scale("op", "y.scale", -0.0f);
        FAIL("accepted");
    } catch (const error& e) {
        CHECK(e.code() == errc::invalid_argument);
        CHECK_THAT(e.what(), contains_text("op: y.scale is"));
    }
}

TEST_CASE("messages: text, numbers of every kind, names with an index and a rest") {
    using detail::cat;
    using detail::name_of;
    CHECK(cat("f", ": ", std::string("x"), std::string_view(" is "), 3, ", ", -3, ", ", true) == "f: x is 3, -3, 1");
    CHECK(cat(~std::uint64_t{0}, " ", std::numeric_limits<std::int64_t>::min()) ==
          "18446744073709551615 -9223372036854775808");
    CHECK(cat(0.1f, " ", 1e300, " ", std::numeric_limits<float>::infinity()) == "0.100000001 1e+300 inf");
    CHECK(cat(name_of("w", 0), " ", name_of("w", 12), " ", name_of("w"), " ", name_of("w", ".scale")) ==
          "w[0] w[12] w w.scale");
}
