// SPDX-License-Identifier: Apache-2.0
//
// One include for Catch2 version 2 and version 3. Tests write Approx(x), and contains_text("...")
// for the matcher of a part of a message:
//
//     REQUIRE_THROWS_WITH(notch::buffer<float>(-1), contains_text("must be >= 0"));
#pragma once

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
inline auto contains_text(const std::string& text) { return Catch::Matchers::ContainsSubstring(text); }
#else
#include <catch2/catch.hpp>
inline auto contains_text(const std::string& text) { return Catch::Matchers::Contains(text); }
#endif
