// SPDX-License-Identifier: Apache-2.0
//
// The calibration caches: round trips, merging, and files made to hurt the readers.
#include <cfloat>
#include <cmath>
#include <limits>
#include <random>

#include <notch/io/calibration_cache.hpp>
#include <notch/io/tensorrt_cache.hpp>

#include "files.hpp"

using namespace io_test;
using notch::calibration_cache;
using notch::errc;

namespace {

std::vector<float> some(std::size_t n, unsigned seed) {
    std::mt19937 g(seed);
    std::normal_distribution<float> d;
    std::vector<float> x(n);
    for (float& v : x) v = d(g);
    x[0] = std::numeric_limits<float>::quiet_NaN();
    return x;
}

/// One of each observer, and of each for channels.
calibration_cache one_of_each(unsigned seed) {
    const std::vector<float> x = some(600, seed);
    calibration_cache cache;
    const auto add = [&](const std::string& name, auto observer) {
        cache.put(name + ".empty", observer);
        notch::channel_observer channels(3, observer);
        channels.observe(x, {10, 3, 20});
        observer.observe(x);
        cache.put(name, observer);
        cache.put(name + ".channels", channels);
    };
    add("min_max", notch::min_max());
    add("moving_average", notch::moving_average(0.7f));
    add("abs_max", notch::abs_max());
    add("mean_sigma", notch::mean_sigma(2.5f));
    add("histogram", notch::histogram(64));
    add("percentile", notch::percentile(99.5, 32));
    return cache;
}

} // namespace

TEST_CASE("calibration cache: what is written is read, and written again the same") {
    const calibration_cache cache = one_of_each(1);
    const std::string text = cache.to_text();
    const calibration_cache read = calibration_cache::parse(text);
    CHECK(read.to_text() == text);
    CHECK(read.names() == cache.names());
    CHECK(cache.names().size() == 18);
    CHECK(read.contains("min_max"));
    CHECK_FALSE(read.contains("min"));

    const auto m = cache.get<notch::mean_sigma>("mean_sigma"), n = read.get<notch::mean_sigma>("mean_sigma");
    CHECK(m.range() == n.range());
    CHECK(m.mean() == n.mean());
    CHECK(m.sigma() == n.sigma());
    CHECK(n.k() == 2.5f);
    CHECK(n.nonfinite() == 1);
    const auto h = cache.get<notch::histogram>("histogram"), i = read.get<notch::histogram>("histogram");
    CHECK(h.quantile(0.3) == i.quantile(0.3));
    CHECK(h.range() == i.range());
    CHECK(i.finite() == 599);
    const auto a = cache.get_channels<notch::moving_average>("moving_average.channels");
    const auto b = read.get_channels<notch::moving_average>("moving_average.channels");
    REQUIRE(b.channels() == 3);
    for (notch::index_t c = 0; c < 3; ++c) CHECK(a.range(c) == b.range(c));
    CHECK(b[2].momentum() == 0.7f);
    CHECK(read.get<notch::percentile>("percentile").percent() == 99.5);
    CHECK(read.get<notch::percentile>("percentile").range() == cache.get<notch::percentile>("percentile").range());
    CHECK(read.get<notch::abs_max>("abs_max.empty").range().empty());
    // An observer that was read goes on.
    auto more = read.get<notch::histogram>("histogram"), never_saved = h;
    more.observe(some(500, 2));
    never_saved.observe(some(500, 2));
    CHECK(more.quantile(0.9) == never_saved.quantile(0.9));
}

TEST_CASE("calibration cache: the format, byte for byte") {
    calibration_cache cache;
    CHECK(cache.to_text() == "{\"notch_calibration\":1,\"tensors\":{\n\n}}\n");
    CHECK(calibration_cache::parse(cache.to_text()).names().empty());
    notch::min_max m;
    const float x[] = {-1.5f, 0.1f};
    m.observe(x);
    notch::channel_observer<notch::abs_max> c(2);
    c.observe(x, {1, 2, 1});
    notch::histogram h(16);
    const float y[] = {1.0f, 2.0f, 1.99f};
    h.observe(y);
    cache.put("b \"q\"\n", m);
    cache.put("a", c);
    cache.put("h", h);
    CHECK(cache.to_text() == R"({"notch_calibration":1,"tensors":{
 "a":{"observer":"abs_max","per":"channel","statistics":[
  {"finite":1,"magnitude":1.5,"nonfinite":0},
  {"finite":1,"magnitude":0.10000000149011612,"nonfinite":0}]},
 "b \"q\"\n":{"observer":"min_max","per":"tensor","statistics":[
  {"finite":2,"max":0.10000000149011612,"min":-1.5,"nonfinite":0}]},
 "h":{"observer":"histogram","per":"tensor","statistics":[
  {"bins":16,"counts":[1,0,0,0,0,0,0,1,1],"exponent":-3,"finite":3,"first":8,"max":2.0,"min":1.0,"nonfinite":0}]}
}}
)");
}

TEST_CASE("calibration cache: extreme statistics survive") {
    for (const float v : {FLT_MAX, -FLT_MAX, 1e-45f, -0.0f, 0.1f}) {
        calibration_cache cache;
        notch::min_max m;
        notch::histogram h(16);
        notch::mean_sigma s;
        for (int k = 0; k < 3; ++k) {
            m.observe({&v, 1});
            h.observe({&v, 1});
            s.observe({&v, 1});
        }
        cache.put("m", m);
        cache.put("h", h);
        cache.put("s", s);
        const auto read = calibration_cache::parse(cache.to_text());
        CHECK(read.get<notch::min_max>("m").range() == notch::real_range{v, v});
        CHECK(read.get<notch::histogram>("h").range() == notch::real_range{v, v});
        CHECK(read.get<notch::mean_sigma>("s").range() == notch::real_range{v, v});
    }
}

TEST_CASE("calibration cache: shards merge as if one had seen everything") {
    const std::vector<float> x = some(900, 3), y = some(700, 4);
    notch::histogram left(128), right(128), both(128);
    left.observe(x);
    right.observe(y);
    both.observe(x);
    both.observe(y);
    calibration_cache a, b, c;
    a.put("t", left);
    b.put("t", right);
    b.put("only b", notch::min_max());
    c.put("t", both);
    c.put("only b", notch::min_max());
    calibration_cache ab = a, ba = b;
    ab.merge(b);
    ba.merge(a);
    CHECK(ab.to_text() == c.to_text());
    CHECK(ba.to_text() == c.to_text());

    calibration_cache other;
    other.put("t", notch::min_max());
    other.put("new", notch::min_max());
    const std::string before = a.to_text();
    CHECK(contains(error_of(errc::shape_mismatch, [&] { a.merge(other); }), "histogram"));
    CHECK(a.to_text() == before);
    calibration_cache fewer;
    fewer.put("t", notch::histogram(64));
    CHECK(contains(error_of(errc::shape_mismatch, [&] { a.merge(fewer); }), "number of bins"));
}

TEST_CASE("calibration cache: asking for what is not there") {
    const calibration_cache cache = one_of_each(5);
    CHECK(error_of(errc::invalid_argument, [&] { (void)cache.get<notch::min_max>("x"); }) ==
          R"(calibration_cache: no tensor "x" among its 18 tensors)");
    CHECK(error_of(errc::invalid_argument, [&] { (void)cache.get<notch::min_max>("histogram"); }) ==
          R"(calibration_cache: "histogram" has histogram, asked for min_max)");
    CHECK(error_of(errc::invalid_argument, [&] { (void)cache.get<notch::min_max>("min_max.channels"); }) ==
          R"(calibration_cache: "min_max.channels" has min_max for each channel, asked for min_max)");
    calibration_cache bad;
    CHECK(contains(error_of(errc::invalid_argument, [&] { bad.put("", notch::min_max()); }), "empty"));
    CHECK(contains(error_of(errc::invalid_argument, [&] { bad.put("a\xff", notch::min_max()); }), "UTF-8"));
    CHECK(contains(error_of(errc::invalid_argument, [&] { bad.put("c", notch::channel_observer<notch::min_max>(0)); }),
                   "no channels"));
    CHECK(bad.names().empty());
}

TEST_CASE("calibration cache: hostile files") {
    const auto with = [](const std::string& tensors) {
        return "{\"notch_calibration\":1,\"tensors\":" + tensors + "}";
    };
    const auto statistic = [&](const std::string& kind, const std::string& s) {
        return with("{\"t\":{\"observer\":\"" + kind + "\",\"per\":\"tensor\",\"statistics\":[" + s + "]}}");
    };
    const std::string good = R"({"finite":2,"nonfinite":0,"min":0,"max":1})";
    REQUIRE_NOTHROW((void)calibration_cache::parse(statistic("min_max", good)));
    const std::string histogram_start =
        R"({"bins":16,"exponent":-3,"finite":3,"first":8,"max":2.0,"min":1.0,"nonfinite":0,"counts":)";
    REQUIRE_NOTHROW((void)calibration_cache::parse(statistic("histogram", histogram_start + "[1,0,0,0,0,0,0,1,1]}")));
    const std::pair<std::string, const char*> cases[] = {
        {"", "not a JSON object"},
        {"[]", "not a JSON object"},
        {"\xef\xbb\xbf{}", "not a JSON object"},
        {"{", "not valid JSON"},
        {"{}x", "not valid JSON"},
        {"{}", "no notch_calibration"},
        {R"({"notch_calibration":"1"})", "not an integer"},
        {R"({"notch_calibration":1.0})", "not an integer"},
        {R"({"notch_calibration":1})", "no tensors"},
        {R"({"notch_calibration":1,"notch_calibration":1})", "two entries are called"},
        {with("[]"), "tensors is not an object"},
        {with("{},\"more\":1"), "does not know"},
        {with("{\"\":{\"observer\":\"min_max\",\"per\":\"tensor\",\"statistics\":[" + good + "]}}"), "name is empty"},
        {with("{\"t\":1}"), "not an object"},
        {with("{\"t\":{}}"), "has no per"},
        {with(R"({"t":{"per":"row"}})"), "must be tensor or channel"},
        {with(R"({"t":{"per":"tensor","observer":1}})"), "not a text"},
        {with(R"({"t":{"per":"tensor","observer":"min_max","statistics":[]}})"), "one entry for each channel"},
        {with("{\"t\":{\"per\":\"tensor\",\"observer\":\"min_max\",\"statistics\":[" + good + "," + good + "]}}"),
         "one entry"},
        {with("{\"t\":{\"per\":\"tensor\",\"observer\":\"min_max\",\"statistics\":[" + good + "],\"x\":0}}"),
         "does not know"},
        {with("{\"t\":{\"per\":\"tensor\",\"observer\":\"min_max\",\"statistics\":[" + good + "]},\"t\":{}}"),
         "two entries are called \"t\""},
        {statistic("median", good), "unknown observer \"median\""},
        {statistic("min_max", "7"), "not an object"},
        {statistic("min_max", R"({"finite":2,"nonfinite":0,"min":0})"), "has no max"},
        {statistic("min_max", R"({"finite":2,"nonfinite":0,"min":0,"max":1,"mid":0})"), "does not know"},
        {statistic("min_max", R"({"finite":2,"nonfinite":0,"min":1,"max":0})"), "not the range"},
        {statistic("min_max", R"({"finite":-2,"nonfinite":0,"min":0,"max":1})"), "counts"},
        {statistic("min_max", R"({"finite":0,"nonfinite":0,"min":0,"max":1})"), "does not know"},
        {statistic("min_max", R"({"finite":9223372036854775807,"nonfinite":1,"min":0,"max":1})"), "counts"},
        {statistic("min_max", R"({"finite":9223372036854775808,"nonfinite":1,"min":0,"max":1})"), "64 bits"},
        {statistic("min_max", R"({"finite":2,"nonfinite":0,"min":0,"max":1e39})"), "not the value of a float"},
        {statistic("min_max", R"({"finite":2,"nonfinite":0,"min":0,"max":0.1})"), "not the value of a float"},
        {statistic("min_max", R"({"finite":2,"nonfinite":0,"min":0,"max":1e999})"), ""},
        {statistic("min_max", R"({"finite":2,"nonfinite":0,"min":0,"max":NaN})"), "not valid JSON"},
        {statistic("min_max", R"({"finite":2,"nonfinite":0,"min":0,"max":null})"), "not a number"},
        {statistic("moving_average", R"({"batches":1,"momentum":1,"nonfinite":0,"min":0,"max":1})"), "momentum"},
        {statistic("abs_max", R"({"finite":1,"nonfinite":0,"magnitude":-1})"), "magnitude"},
        {statistic("mean_sigma", R"({"finite":1,"nonfinite":0,"k":3,"m2":-1,"mean":0,"min":0,"max":0})"),
         "sum of squares"},
        {statistic("histogram", histogram_start + "{}}"), "not an array"},
        {statistic("histogram", histogram_start + "[1,0,0,0,0,0,0,1,2]}"), "cannot be"},
        {statistic("histogram", histogram_start + "[1,0,0,0,0,0,0,0,1]}"), "add up"},
        {statistic("histogram", histogram_start + "[1,0,0,0,0,0,0,1,-1]}"), "cannot be"},
        {statistic("histogram", histogram_start + "[1,1.5]}"), "not an integer"},
        {statistic("histogram", histogram_start + "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}"), "17 counts"},
        {statistic("histogram",
                   R"({"bins":9007199254740992,"exponent":0,"finite":0,"first":0,"nonfinite":0,"counts":[]})"),
         "bins"},
        {statistic("histogram", R"({"bins":16,"exponent":-4000,"finite":0,"first":0,"nonfinite":0,"counts":[]})"),
         "exponent"},
        {statistic("histogram", R"({"bins":16,"exponent":0,"finite":0,"first":99999999999,"nonfinite":0,"counts":[]})"),
         "first bin"},
        {statistic("percentile", histogram_start + R"([1,0,0,0,0,0,0,1,1],"percent":0})"), "percent"},
    };
    for (const auto& [text, expected] : cases) {
        CAPTURE(text);
        const std::string message =
            error_of(errc::corrupt, [&, t = text] { (void)calibration_cache::parse(t, "evil"); });
        CAPTURE(message);
        CHECK(message.rfind("evil", 0) == 0);
        CHECK(contains(message, expected));
        CHECK(message.size() < 400);
    }
    CHECK(contains(
        error_of(errc::unsupported, [] { (void)calibration_cache::parse(R"({"notch_calibration":2,"x":[]})"); }),
        "version 2"));
    (void)error_of(errc::corrupt, [] { (void)calibration_cache::parse(std::string("{}\0{}", 5)); });
    (void)error_of(errc::corrupt, [&] { (void)calibration_cache::parse(with(std::string(1'000'000, '['))); });
}

TEST_CASE("calibration cache: truncated anywhere, and any flipped bit") {
    calibration_cache cache;
    notch::histogram h(16);
    const float y[] = {1.0f, 2.0f, 1.99f};
    h.observe(y);
    cache.put("h", h);
    const std::string text = cache.to_text();
    for (std::size_t size = 0; size + 1 < text.size(); ++size) // without the last line feed it is still whole
        (void)error_of(errc::corrupt, [&] { (void)calibration_cache::parse(std::string_view(text).substr(0, size)); });
    for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
        std::string damaged = text;
        damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
        try {
            (void)calibration_cache::parse(damaged).to_text();
        } catch (const notch::error& e) {
            CHECK((e.code() == errc::corrupt || e.code() == errc::unsupported));
        }
    }
}

TEST_CASE("calibration cache: files") {
    scratch_folder folder;
    const std::string path = folder.file("cache.json");
    const calibration_cache cache = one_of_each(6);
    cache.save(path);
    CHECK(folder.count() == 1);
    CHECK(calibration_cache::load(path).to_text() == cache.to_text());
    calibration_cache().save(path);
    CHECK(calibration_cache::load(path).names().empty());
    cache.save(path);
    CHECK(contains(error_of(errc::io, [&] { (void)calibration_cache::load(path, 100); }), "more than the limit"));
    CHECK(contains(error_of(errc::io, [&] { (void)calibration_cache::load(folder.file("none")); }), "none"));
    (void)error_of(errc::io, [&] { cache.save(folder.file("no/such/folder")); });
    write_bytes(path, {});
    CHECK(contains(error_of(errc::corrupt, [&] { (void)calibration_cache::load(path); }), path));
}

TEST_CASE("calibration cache: a few bytes cannot ask for memory without end, but what is written can be read") {
    const auto text = [](int statistics, const std::string& bins) {
        std::string t =
            R"({"notch_calibration":1,"tensors":{"t":{"observer":"histogram","per":"channel","statistics":[)";
        for (int i = 0; i < statistics; ++i)
            t += (i ? ",{\"bins\":" : "{\"bins\":") + bins +
                 R"(,"counts":[],"exponent":-126,"finite":0,"first":0,"nonfinite":0})";
        return t + "]}}}";
    };
    // Each statistic of some 80 bytes names 2^20 bins, 8 MiB.
    CHECK(calibration_cache::parse(text(2, "1048576")).contains("t"));
    CHECK(
        contains(error_of(errc::corrupt, [&] { (void)calibration_cache::parse(text(200, "1048576")); }), "more bins"));
    // Channels that have seen nothing take the fewest bytes for a bin.
    CHECK(calibration_cache::parse(calibration_cache::parse(text(280, "65536")).to_text()).contains("t"));
    calibration_cache large;
    large.put("t", notch::channel_observer<notch::histogram>(18, notch::histogram(notch::index_t{1} << 20)));
    CHECK(contains(error_of(errc::overflow, [&] { (void)large.to_text(); }), "18874368 bins"));
}

TEST_CASE("TensorRT cache: its text there and back") {
    // Scales as in TensorRT's own files: 1/127 is 3c010204.
    const std::string text = "TRT-8601-EntropyCalibration2\n"
                             "(Unnamed Layer* 0) [Convolution]_output: 3f800000\n"
                             "data: 3c010204\n"
                             "scope::conv: 1: 00000001\n";
    const auto cache = notch::tensorrt_cache::parse(text);
    CHECK(cache.title() == "TRT-8601-EntropyCalibration2");
    CHECK(cache.scale("data") == 1.0f / 127.0f);
    CHECK(cache.scale("(Unnamed Layer* 0) [Convolution]_output") == 1.0f);
    CHECK(cache.scale("scope::conv: 1") == std::numeric_limits<float>::denorm_min());
    CHECK(cache.params("data") == notch::quant_params{1.0f / 127.0f, 0});
    CHECK(cache.scales().size() == 3);
    CHECK(cache.to_text() == text);
    const auto dos = notch::tensorrt_cache::parse("TRT-7103-MinMaxCalibration\r\ndata: 3C010204\r\n\r\nx: 40000000");
    CHECK(dos.scale("data") == 1.0f / 127.0f);
    CHECK(dos.scale("x") == 2.0f);
    CHECK_FALSE(dos.contains("y"));

    notch::tensorrt_cache made("TRT-1-X");
    made.put("b", 2.0f);
    made.put("a", 0.5f);
    made.put("b", 1.0f);
    CHECK(made.to_text() == "TRT-1-X\na: 3f000000\nb: 3f800000\n");
    scratch_folder folder;
    made.save(folder.file("cache"));
    CHECK(notch::tensorrt_cache::load(folder.file("cache")).to_text() == made.to_text());
}

TEST_CASE("TensorRT cache: bad input names the line") {
    const std::pair<std::string, const char*> cases[] = {
        {"", "title is empty"},
        {"data: 3c010204\n", "not the title"},
        {"TRT-1-X\ndata\n", "line 2 has no colon"},
        {"TRT-1-X\n: 3c010204\n", "line 2: the name is empty"},
        {"TRT-1-X\na: 3c010204\n\nb: 3c01020\n", "line 4"},
        {"TRT-1-X\na: 3c0102041\n", "eight hexadecimal digits"},
        {"TRT-1-X\na: 3c01020g\n", "eight hexadecimal digits"},
        {"TRT-1-X\na:\n", "eight hexadecimal digits"},
        {"TRT-1-X\na: 7fc00000\n", "nan"},
        {"TRT-1-X\na: 7f800000\n", "inf"},
        {"TRT-1-X\na: 00000000\n", "is 0"},
        {"TRT-1-X\na: bf800000\n", "-1"},
        {"TRT-1-X\na: 3c010204\na: 3c010204\n", "two lines are called \"a\""},
        {std::string("TRT-1-X\na\0b: 3c010204\n", 22), "not one line"},
    };
    for (const auto& [text, expected] : cases) {
        CAPTURE(text);
        const std::string message =
            error_of(errc::corrupt, [&, t = text] { (void)notch::tensorrt_cache::parse(t, "evil"); });
        CAPTURE(message);
        CHECK(contains(message, expected));
        CHECK(message.rfind("evil: ", 0) == 0);
    }
    notch::tensorrt_cache cache;
    for (float bad : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
        CHECK(contains(error_of(errc::invalid_argument, [&] { cache.put("a", bad); }), "scale of \"a\""));
    CHECK(contains(error_of(errc::invalid_argument, [&] { cache.put("", 1.0f); }), "empty"));
    CHECK(contains(error_of(errc::invalid_argument, [&] { cache.put("a\nb", 1.0f); }), "not one line"));
    CHECK(contains(error_of(errc::invalid_argument, [&] { notch::tensorrt_cache bad("a\n"); }), "title"));
    CHECK(contains(error_of(errc::invalid_argument, [&] { notch::tensorrt_cache bad("my title"); }), "TRT-"));
    CHECK(contains(error_of(errc::invalid_argument, [&] { (void)cache.scale("a"); }), "no tensor"));
    CHECK(cache.scales().empty());
}
