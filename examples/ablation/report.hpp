// SPDX-License-Identifier: Apache-2.0
//
// Shows the results of the ablation (results.hpp): mean and deviation over the seeds, as a table for the terminal and
// as a web page with charts that needs no network.
#pragma once

#include <string>

#include "results.hpp"

namespace ablation {

/// Writes the page; a notch::error (errc::io) if path cannot be written.
void write_report(const json& results, const std::string& path);

/// For each network a table: a row for each method, a column for each pair of widths.
std::string text_table(const json& results);

} // namespace ablation
