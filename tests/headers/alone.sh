#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# alone.sh <compiler>: every header but kernels/body compiles by itself, included twice, with all warnings as
# errors; and again with -fno-exceptions -fno-rtti and with kernels only declared. Headers of a room whose package is not found are
# left out, and so are those of the table below from the second pass. Rooms that promise to need no
# package are also asked what they really include.
set -eu
cxx=$1
: "$NOTCH_ROOT" "$NOTCH_WARNINGS"

# Headers that need exceptions or RTTI, because a package does.
needs_exceptions='io/'

awk '!/^#/ && NF { print }' "$NOTCH_ROOT/tests/headers/rooms.txt" > rooms
(cd "$NOTCH_ROOT/include/notch" && find . -name '*.hpp' | sed 's|^\./||' |
    grep -v '^kernels/body/' | sort) > files

# One compilation a line: <header> <label> <flags...>
: > compilations
while read -r header; do
    room=${header%%/*}
    skip=
    for package in $(awk -v room="$room" -v name="${header##*/}" '$1 == room {
            for (i = 2; i <= NF; ++i) {
                n = split($i, part, ":")
                if ($i != "leaf" && (n == 1 || index("," part[2] ",", "," name ","))) print part[1]
            } }' rooms); do
        case " $NOTCH_PACKAGES " in *" $package "*) ;; *) skip=$package ;; esac
    done
    if [ -n "$skip" ]; then
        echo "note: <notch/$header> not compiled here: $skip is not installed"
        continue
    fi
    echo "$header plain" >> compilations
    without=yes
    for prefix in $needs_exceptions; do
        case $header in "$prefix"*) without= ;; esac
    done
    [ -z "$without" ] || echo "$header noexcept -fno-exceptions -fno-rtti -DNOTCH_SEPARATE_KERNELS" >> compilations
done < files

cat > one.sh <<'SCRIPT'
cxx=$1; header=$2; label=$3; shift 3
unit=$(echo "$header-$label" | tr '/' '_').cpp
printf '#include <notch/%s>\n#include <notch/%s>\n' "$header" "$header" > "$unit"
if ! "$cxx" -std=c++20 -O2 -fsyntax-only $NOTCH_WARNINGS "$@" "-I$NOTCH_ROOT/include" \
        $NOTCH_ISYSTEM "$unit" > "$unit.log" 2>&1; then
    echo "<notch/$header> does not compile alone ($label):"
    head -n 8 "$unit.log"
    exit 1
fi
SCRIPT
failed=0
xargs -P 2 -L 1 sh one.sh "$cxx" < compilations || failed=1

# Rooms without packages, and the umbrella, as the preprocessor sees them.
while read -r header; do
    case $header in
        notch.hpp | core/* | scheme/* | ref/* | kernels/* | simd/cpu.hpp | simd/target.hpp)
            forbidden='/Eigen/\|/xsimd/\|/nlohmann/\|/flatbuffers/\|/zip.h' ;;
        *) continue ;;
    esac
    echo "#include <notch/$header>" > includes.cpp
    if "$cxx" -std=c++20 -M "-I$NOTCH_ROOT/include" $NOTCH_ISYSTEM includes.cpp |
            grep "$forbidden" > includes.txt; then
        echo "<notch/$header> pulls in a package:"
        head -n 3 includes.txt
        failed=1
    fi
done < files

echo "$(wc -l < compilations) compilations of $(wc -l < files) headers"
exit $failed
