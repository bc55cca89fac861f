#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks the #include lines of include/notch against rooms.txt, and a few rules of the tree:
#   - a room includes itself and rooms above it; Eigen, xsimd, nlohmann_json and flatbuffers only where
#     allowed
#   - the operations in kernels/arch are included by kernels/table.hpp alone; kernels/body is
#     included by kernels/arch/for_each.inl alone, through NOTCH_BODY (or _AMX), and that by kernels/*.hpp
#   - between NOTCH_TARGET_BEGIN_... and NOTCH_TARGET_END stands no #include but of NOTCH_BODY and
#     of kernels/arch/*.inl; these and the bodies include nothing but each other: no other header may
#     be compiled inside a region
#   - no namespace detail between NOTCH_NAMESPACE_BEGIN and _END: where an earlier header has opened the
#     keyed one it would be that one, and else another, so names in it depend on the order of includes
#   - every header has #pragma once and the licence line
set -eu
if [ -e CMakeLists.txt ]; then echo "run this in an empty directory: it leaves a list there"; exit 1; fi
cd "$NOTCH_ROOT/include/notch"
find . -name '*.hpp' -o -name '*.inl' | sed 's|^\./||' | sort > "$OLDPWD/files"

awk -v files="$OLDPWD/files" '
function complain(text) { print file ":" line ": " text; bad = 1 }
function package_of(header) {
    if (header ~ /^(Eigen|unsupported)\//) return "eigen"
    if (header ~ /^xsimd\//) return "xsimd"
    if (header ~ /^nlohmann\//) return "io"
    if (header ~ /^flatbuffers\//) return "flatbuffers"
    if (header == "zip.h") return "npz"
    return ""
}
BEGIN {
    while ((getline text < ARGV[1]) > 0) {
        if (text ~ /^#/ || text ~ /^[ \t]*$/) continue
        n = split(text, word, /[ \t]+/)
        rank[word[1]] = ++rooms
        for (i = 2; i <= n; ++i) {
            if (word[i] == "leaf") { leaf[word[1]] = 1; continue }
            colon = index(word[i], ":")
            if (!colon) { allowed[word[1], word[i]] = "*"; continue }
            allowed[word[1], substr(word[i], 1, colon - 1)] = "," substr(word[i], colon + 1) ","
        }
    }
    while ((getline file < files) > 0) {
        ++count
        slash = index(file, "/")
        room = slash ? substr(file, 1, slash - 1) : ""     # "": the umbrella header
        name = file; sub(/.*\//, "", name)
        line = 0; region = 0; common = 0; once = 0; licence = 0
        path = root "./" file
        if (room != "" && !(room in rank)) complain("the room \"" room "\" is not in rooms.txt")
        while ((getline text < path) > 0) {
            ++line
            if (text ~ /^#pragma once/) once = 1
            if (text ~ /SPDX-License-Identifier: Apache-2.0/) licence = 1
            if (text ~ /^NOTCH_TARGET_BEGIN_/) region = 1
            if (text ~ /^NOTCH_TARGET_END/) region = 0
            if (text ~ /^NOTCH_NAMESPACE_BEGIN/) common = 1
            if (text ~ /^NOTCH_NAMESPACE_END/) common = 0
            if (common && text ~ /^namespace detail/) complain("detail is a keyed namespace")
            if (text !~ /^[ \t]*#[ \t]*include/) continue
            if (file == "kernels/arch/for_each.inl" && text ~ /^#include NOTCH_BODY(_AMX)?$/) continue
            if (file ~ /^kernels\/(body|arch)\/.*\.inl$/) {
                if (text !~ /^#include <notch\/kernels\/(body|arch)\/[a-z0-9_]+\.inl>/ || text ~ /for_each/)
                    complain("a part of a region includes parts of regions only")
                continue
            }
            if (text !~ /^[ \t]*#[ \t]*include[ \t]*<[^>]+>/) { complain("write #include <...>"); continue }
            header = text; sub(/^[^<]*</, "", header); sub(/>.*/, "", header)
            if (region && header !~ /^notch\/kernels\/arch\/[a-z0-9_]+\.inl$/)
                complain("<" header "> inside a target region would be compiled for its instruction set")
            package = package_of(header)
            if (package != "") {
                rule = allowed[room, package]
                if (rule == "" || (rule != "*" && !index(rule, "," name ",")))
                    complain("<" header ">: this header may not use " package)
            }
            if (header !~ /^notch\//) continue
            if (header ~ /^notch\/kernels\/body\//)
                complain("only kernels/arch/for_each.inl includes kernels/body, through NOTCH_BODY")
            if (header == "notch/kernels/arch/for_each.inl") {
                if (file !~ /^kernels\/[a-z0-9_]+\.hpp$/) complain("only a header of kernels includes for_each.inl")
            } else if (header ~ /^notch\/kernels\/arch\// && !region && file != "kernels/table.hpp")
                complain("only kernels/table.hpp includes kernels/arch")
            target = header; sub(/^notch\//, "", target)
            if (target !~ /\//) { complain("no header of a room includes the umbrella"); continue }
            sub(/\/.*/, "", target)
            if (!(target in rank)) complain("<" header ">: unknown room")
            else if (target != room && target in leaf) complain("<" header ">: " target " is a leaf")
            else if (room == "" && target == "eigen") complain("<" header ">: the umbrella may not use the room eigen")
            else if (room != "" && rank[target] > rank[room])
                complain("<" header ">: " room " may not include the later room " target)
        }
        close(path)
        if (file ~ /\.hpp$/ && !once) complain("no #pragma once")
        if (!licence) complain("no SPDX line")
    }
    if (!count) { print "no headers found"; bad = 1 }
    if (!bad) print count " headers keep the order of the rooms"
    exit bad
}' "$NOTCH_ROOT/tests/headers/rooms.txt"
