// SPDX-License-Identifier: Apache-2.0
//
// What the demo writes is whole, or what was there stays.
#include "../catch.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "../../examples/mnist/files.hpp"

TEST_CASE("a file is written whole, or not and an error names it") {
    const std::filesystem::path folder = std::filesystem::path(NOTCH_BINARY_DIR) / "files_of_the_demo";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    const std::string path = (folder / "results.json").string();
    const auto content = [&] {
        std::ostringstream s;
        s << std::ifstream(path).rdbuf();
        return s.str();
    };
    mnist::write_file(path, "first");
    mnist::write_file(path, "second");
    CHECK(content() == "second");
    std::filesystem::create_directories(path + ".tmp"); // where the new content would be written
    CHECK_THROWS_WITH(mnist::write_file(path, "third"), contains_text("results.json: cannot be written"));
    CHECK(content() == "second");
    CHECK_THROWS_AS(mnist::write_file((folder / "nowhere" / "file").string(), "x"), notch::error);
    std::filesystem::remove_all(folder);
}
