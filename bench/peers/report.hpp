// SPDX-License-Identifier: Apache-2.0
//
// The rows of a report, the file kernels.json, and the table for people.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace bench {

/// One implementation on one problem.
struct row {
    std::string kernel, shape, types, isa, impl;
    int threads = 1;
    double gops = 0, gops_median = 0;         ///< 1e9 operations a second in the best and the median repetition
    double peak_gops = 0;                     ///< in the best repetition of its bound; 0 if there is none
    std::string peak, detail, group;          ///< what bounds it; which kernel ran; rows of a group stand together
    long results = 0, differ = 0, beyond = 0; ///< results compared with ref, other codes, by more than one
    double fraction() const { return peak_gops > 0 ? gops / peak_gops : 0; }
};

/// {"head": {...}, "rows": [...]}. Reading throws std::runtime_error with the name of the file.
void write_report(const std::string& path, const nlohmann::json& head, const std::vector<row>& rows);
void read_report(const std::string& path, nlohmann::json& head, std::vector<row>& rows);

/// For each instruction set a table: a line for each problem with notch's GOP/s and share of the
/// peak, every peer's GOP/s, and notch's ratio to the best peer with integers and with floats.
void print_report(std::ostream& to, const nlohmann::json& head, const std::vector<row>& rows);

} // namespace bench
