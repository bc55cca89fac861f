// SPDX-License-Identifier: Apache-2.0
//
// What a node test of ONNX is: one node with its attributes, its inputs and the outputs it must have. Read from the
// folders that onnx and libonnx-testdata ship, or from a file of write_cases.py. (The messages: onnx/onnx.proto.)
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <protozero/pbf_reader.hpp>

#include <notch/core/types.hpp>

namespace onnx {

/// TensorProto.DataType.
enum class type : std::int32_t {
    undefined = 0,
    float32 = 1,
    uint8 = 2,
    int8 = 3,
    uint16 = 4,
    int16 = 5,
    int32 = 6,
    int64 = 7,
    string = 8,
    float16 = 10,
    float64 = 11,
    bfloat16 = 16,
    float8e4m3fn = 17,
    float8e4m3fnuz = 18,
    float8e5m2 = 19,
    float8e5m2fnuz = 20,
    uint4 = 21,
    int4 = 22,
    float4e2m1 = 23,
    float8e8m0 = 24,
    uint2 = 25,
    int2 = 26,
};

/// A dense tensor. bytes holds the elements as raw_data has them: little-endian, those below 8 bits packed.
struct tensor {
    std::string name;
    onnx::type type = onnx::type::undefined;
    std::vector<notch::index_t> dims;
    std::vector<std::uint8_t> bytes;

    notch::index_t size() const {
        notch::index_t n = 1;
        for (notch::index_t d : dims) n *= d;
        return n;
    }
    /// Without the last n extents, as one.
    notch::index_t outer(std::size_t n) const {
        notch::index_t product = 1;
        for (std::size_t d = 0; d + n < dims.size(); ++d) product *= dims[d];
        return product;
    }
};

struct attribute {
    std::int64_t integer = 0;
    std::string text;
    std::vector<notch::index_t> integers;
};

/// What the graph says of an input or output.
struct value_info {
    std::string name;
    onnx::type type = onnx::type::undefined;
};

struct data_set {
    std::vector<tensor> inputs, outputs;
};

struct node_case {
    std::string name, op;
    std::size_t nodes = 0; ///< of the graph; more than one where an operator is spelled out in others
    std::map<std::string, attribute> attributes;
    std::vector<std::string> node_inputs;                ///< by name; empty: left out
    std::vector<value_info> graph_inputs, graph_outputs; ///< in the order of the data
    std::vector<data_set> data;

    std::int64_t integer(const std::string& key, std::int64_t otherwise) const {
        const auto a = attributes.find(key);
        return a == attributes.end() ? otherwise : a->second.integer;
    }
    std::vector<notch::index_t> integers(const std::string& key, std::vector<notch::index_t> otherwise) const {
        const auto a = attributes.find(key);
        return a == attributes.end() ? otherwise : a->second.integers;
    }
};

namespace detail {

/// Calls take(value) for a repeated varint, packed or not.
template <class Take> void each_varint(protozero::pbf_reader& from, const Take& take) {
    if (from.wire_type() == protozero::pbf_wire_type::varint) return take(from.get_int64());
    for (std::int64_t v : from.get_packed_int64()) take(v);
}
inline void append(std::vector<std::uint8_t>& bytes, std::uint64_t value, int count) {
    for (int i = 0; i < count; ++i) bytes.push_back(static_cast<std::uint8_t>(value >> 8 * i));
}
/// The bytes of an entry of int32_data: an element, or for types below 8 bits a byte of packed ones.
inline int entry_bytes(type t) {
    switch (t) {
    case type::int32: return 4;
    case type::uint16:
    case type::int16:
    case type::float16:
    case type::bfloat16: return 2;
    default: return 1;
    }
}

inline tensor read_tensor(const std::string& message) {
    tensor t;
    std::vector<std::uint64_t> entries;
    protozero::pbf_reader from(message);
    while (from.next()) switch (from.tag()) {
        case 1: each_varint(from, [&](std::int64_t d) { t.dims.push_back(d); }); break;
        case 2: t.type = static_cast<type>(from.get_int32()); break;
        case 4: // float_data
            for (float f : from.get_packed_float()) {
                std::uint32_t bits = 0;
                std::memcpy(&bits, &f, sizeof bits);
                append(t.bytes, bits, 4);
            }
            break;
        case 5: // int32_data
            each_varint(from, [&](std::int64_t v) { entries.push_back(static_cast<std::uint64_t>(v)); });
            break;
        case 8: t.name = from.get_string(); break;
        case 9: {
            const std::string raw = from.get_string();
            t.bytes.assign(raw.begin(), raw.end());
            break;
        }
        default: from.skip();
        }
    for (std::uint64_t e : entries) append(t.bytes, e, entry_bytes(t.type)); // now that the type is known
    return t;
}

inline std::pair<std::string, attribute> read_attribute(protozero::pbf_reader from) {
    std::pair<std::string, attribute> a;
    while (from.next()) switch (from.tag()) {
        case 1: a.first = from.get_string(); break;
        case 3: a.second.integer = from.get_int64(); break;
        case 4: a.second.text = from.get_string(); break;
        case 8: each_varint(from, [&](std::int64_t v) { a.second.integers.push_back(v); }); break;
        default: from.skip();
        }
    return a;
}

inline void read_node(node_case& c, protozero::pbf_reader from) {
    while (from.next()) switch (from.tag()) {
        case 1: c.node_inputs.push_back(from.get_string()); break;
        case 4: c.op = from.get_string(); break;
        case 5: c.attributes.insert(read_attribute(from.get_message())); break;
        default: from.skip();
        }
}

/// ValueInfoProto.name and .type.tensor_type.elem_type.
inline value_info read_value_info(protozero::pbf_reader from) {
    value_info v;
    while (from.next()) switch (from.tag()) {
        case 1: v.name = from.get_string(); break;
        case 2: {
            protozero::pbf_reader any = from.get_message();
            while (any.next(1)) {
                protozero::pbf_reader of_tensor = any.get_message();
                while (of_tensor.next(1)) v.type = static_cast<type>(of_tensor.get_int32());
            }
            break;
        }
        default: from.skip();
        }
    return v;
}

/// ModelProto.graph, and of it the nodes, the inputs and the outputs.
inline void read_model(node_case& c, const std::string& message) {
    protozero::pbf_reader model(message);
    while (model.next(7)) {
        protozero::pbf_reader graph = model.get_message();
        while (graph.next()) switch (graph.tag()) {
            case 1:
                if (c.nodes++ == 0)
                    read_node(c, graph.get_message());
                else
                    graph.skip();
                break;
            case 11: c.graph_inputs.push_back(read_value_info(graph.get_message())); break;
            case 12: c.graph_outputs.push_back(read_value_info(graph.get_message())); break;
            default: graph.skip();
            }
    }
}

inline std::string read_file(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// <folder>/<name>/model.onnx, .../test_data_set_<i>/input_<k>.pb and output_<k>.pb
inline node_case read_folder(const std::filesystem::path& folder) {
    node_case c;
    c.name = folder.filename().string();
    read_model(c, read_file(folder / "model.onnx"));
    for (int i = 0;; ++i) {
        const auto set = folder / ("test_data_set_" + std::to_string(i));
        if (!std::filesystem::exists(set)) return c;
        const auto tensors = [&](const std::string& kind) {
            std::vector<tensor> read;
            for (int k = 0;; ++k) {
                const auto file = set / (kind + "_" + std::to_string(k) + ".pb");
                if (!std::filesystem::exists(file)) return read;
                read.push_back(read_tensor(read_file(file)));
            }
        };
        c.data.push_back({tensors("input"), tensors("output")});
    }
}

/// A file of write_cases.py.
inline std::vector<node_case> read_bundle(const std::string& message) {
    std::vector<node_case> cases;
    protozero::pbf_reader all(message);
    while (all.next(1)) {
        node_case c;
        protozero::pbf_reader one = all.get_message();
        while (one.next()) switch (one.tag()) {
            case 1: c.name = one.get_string(); break;
            case 2: read_model(c, one.get_string()); break;
            case 3: {
                data_set d;
                protozero::pbf_reader set = one.get_message();
                while (set.next()) {
                    const bool input = set.tag() == 1;
                    (input ? d.inputs : d.outputs).push_back(read_tensor(set.get_string()));
                }
                c.data.push_back(std::move(d));
                break;
            }
            default: one.skip();
            }
        cases.push_back(std::move(c));
    }
    return cases;
}

} // namespace detail

/// The cases of a folder or a file whose names begin as those of the quantization operators do, in order.
inline std::vector<node_case> read_cases(const std::filesystem::path& path) {
    std::vector<node_case> cases;
    const auto ours = [](const std::string& name) {
        for (std::string_view begin :
             {"test_quantizelinear", "test_dequantizelinear", "test_dynamicquantizelinear", "test_convinteger",
              "test_basic_convinteger", "test_matmulinteger", "test_qlinearmatmul", "test_qlinearconv", "test_cast_"})
            if (name.compare(0, begin.size(), begin) == 0) return true;
        return false;
    };
    if (std::filesystem::is_directory(path)) {
        for (const auto& entry : std::filesystem::directory_iterator(path))
            if (ours(entry.path().filename().string())) cases.push_back(detail::read_folder(entry.path()));
    } else {
        for (node_case& c : detail::read_bundle(detail::read_file(path)))
            if (ours(c.name)) cases.push_back(std::move(c));
    }
    // Before numpy could name it, bfloat16 was written as uint16; the graph says which is meant.
    const auto name_bfloat16 = [](std::vector<tensor>& tensors, const std::vector<value_info>& infos) {
        for (std::size_t k = 0; k < tensors.size() && k < infos.size(); ++k)
            if (tensors[k].type == type::uint16 && infos[k].type == type::bfloat16) tensors[k].type = type::bfloat16;
    };
    for (node_case& c : cases)
        for (data_set& d : c.data) {
            name_bfloat16(d.inputs, c.graph_inputs);
            name_bfloat16(d.outputs, c.graph_outputs);
        }
    std::sort(cases.begin(), cases.end(), [](const node_case& a, const node_case& b) { return a.name < b.name; });
    return cases;
}

} // namespace onnx
