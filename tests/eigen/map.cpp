// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <notch/eigen/map.hpp>

using namespace notch;

TEST_CASE("maps and views share memory, strides included") {
    row_major<float> m(4, 6);
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 6; ++j) m(i, j) = static_cast<float>(10 * i + j);
    const auto whole = as_view(m);
    CHECK(whole.data == m.data());
    CHECK(whole.rows == 4);
    auto block = m.block(1, 2, 2, 3);
    const auto part = as_view(block);
    CHECK(part.stride == 6);
    CHECK(part(1, 2) == m(2, 4));
    as_eigen(part)(0, 0) = -1.0f;
    CHECK(m(1, 2) == -1.0f);
    const row_major<float>& constant = m;
    CHECK(as_eigen(as_view(constant)).sum() == Approx(m.sum()));
    auto of_constants = as_eigen(as_view(constant)); // an object that is not constant, of elements that are
    const matrix_view<const float> there = as_view(of_constants);
    CHECK(there.data == m.data());
    CHECK(there.rows == 4);
    const Eigen::Ref<const row_major<float>> reference = m;
    Eigen::Ref<const row_major<float>> variable = m;
    CHECK(as_view(reference).data == as_view(variable).data);
    auto constant_block = constant.block(1, 1, 2, 2);
    CHECK(as_view(constant_block).data == &m(1, 1));
    // What is still to be computed is no memory.
    constexpr auto viewable = []<class T>(T&& e) {
        return requires { as_view(e); };
    };
    CHECK(viewable(m));
    CHECK(!viewable(m + m));
    CHECK(!viewable(m.reverse()));
    CHECK_THROWS_AS(as_eigen(matrix_view<float>(nullptr, 2, 2)), error);
}
