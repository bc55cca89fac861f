// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <notch/eigen/map.hpp>

using namespace notch;

TEST_CASE("a vector is a view of the same elements, whichever way it lies") {
    Eigen::RowVectorXf row(5);
    row << 1, 2, 3, 4, 5;
    const auto r = as_view(row);
    REQUIRE(r.rows == 1);
    REQUIRE(r.cols == 5);
    CHECK(&r(0, 4) == &row(4));
    Eigen::VectorXf column(5);
    column << 1, 2, 3, 4, 5;
    const auto c = as_view(column);
    REQUIRE(c.rows == 5);
    REQUIRE(c.cols == 1);
    CHECK(&c(0, 0) == &column(0));
    CHECK(&c(1, 0) == &column(1));
    CHECK(&c(4, 0) == &column(4));
    const Eigen::VectorXf& constant = column;
    CHECK(&as_view(constant)(3, 0) == &column(3));
}

TEST_CASE("a column of a row-major matrix, and empty matrices") {
    row_major<float> m(4, 6);
    m.setZero();
    auto column = m.col(2);
    const auto v = as_view(column);
    REQUIRE(v.rows == 4);
    CHECK(&v(3, 0) == &m(3, 2));
    auto row = m.row(3);
    CHECK(&as_view(row)(0, 5) == &m(3, 5));
    row_major<float> none(0, 6);
    CHECK(as_eigen(as_view(none)).size() == 0);
    CHECK(as_eigen(matrix_view<float>(nullptr, 0, 3)).rows() == 0);
    CHECK_THROWS_WITH(as_eigen(matrix_view<float>(m.data(), -1, 3)), contains_text("negative extent"));
    CHECK_THROWS_WITH(as_eigen(matrix_view<float>(m.data(), 2, 3, 2)), contains_text("stride 2"));
}
