// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <exception>
#include <string_view>

#include <CLI/CLI.hpp>

#include "options.hpp"

int mnist::run_program(const char* name, int argc, char** argv, int (*work)(const options&)) {
    const bool trains = name == std::string_view("mnist_train");
    options o;
    CLI::App app(trains ? "Trains and quantizes the networks of the demo; mnist_run then checks and times them"
                        : "Checks and times the networks that mnist_train saved");
    app.add_option("--data", o.data, "folder of the IDX files")->capture_default_str();
    app.add_option("--out", o.out, "folder of the results")->capture_default_str();
    if (trains) {
        app.add_option("--seed", o.seed, "seed of all random numbers")->capture_default_str();
        app.add_flag("--quick", o.quick, "less training, fewer repetitions; lower accuracy");
    } else {
        app.add_flag("--keep-codes", o.keep_codes, "keep the files of codes");
    }
    CLI11_PARSE(app, argc, argv);
    try {
        return work(o);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "%s: %s\n", name, e.what());
        return 1;
    }
}
