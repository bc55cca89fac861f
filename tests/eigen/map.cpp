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
    CHECK_THROWS_AS(as_eigen(matrix_view<float>(nullptr, 2, 2)), error);
}
