#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# arm.sh <compiler of this machine>: the library on AArch64, cross-compiled and run under qemu.
#   1. The tests of the rooms core to kernels, with all warnings as errors, on a CPU with
#      everything; those of simd and gemm also on CPUs without I8MM and without dot products.
#   2. Each of these CPUs gets the instruction sets that it should.
#   3. The one-definition rule (tests/odr/odr.sh explains it): in a baseline object nothing beyond
#      Armv8.0 stands outside arch::neondot and arch::neoni8mm; linked with an object of more
#      extensions, in both orders, no un-keyed weak function has such code.
#   4. The number of tests/odr, made from every public operation, is the same on all of these CPUs, in
#      both parts, and the same as on this machine.
set -eu
host=$1
ln -sfn "$NOTCH_ROOT" root # its path may have spaces
tests=root/tests
cross=aarch64-linux-gnu
for tool in $cross-g++ $cross-objdump $cross-nm qemu-aarch64; do
    if ! command -v $tool > /dev/null; then
        echo "note: not run here: AArch64 (neon, neondot, neoni8mm), $tool is not installed"
        exit 0
    fi
done
# Header-only packages, without the rest of this machine's headers.
mkdir -p include
for package in catch2 xsimd; do
    for place in /usr/include /usr/local/include; do
        if [ -d $place/$package ] && [ ! -e include/$package ]; then ln -s $place/$package include/$package; fi
    done
done
flags="-std=c++20 -Iroot/include -I$tests -isystem include -DNDEBUG $NOTCH_WARNINGS"
failed=0

# --- compiling, two at a time ------------------------------------------------------------------------

rooms='core scheme ref kernels'
[ ! -e include/xsimd ] || rooms="$rooms simd"
if [ ! -e include/catch2/catch.hpp ]; then
    echo "note: not run here: the tests of the rooms on AArch64, the one header of Catch2 version 2 is not installed"
    rooms=
fi
cat > one.sh <<'SCRIPT'
object=$1 source=$2
shift 2
"$@" -c "$source" -o "$object" > "$object.log" 2>&1 || { echo "$source:"; head -n 20 "$object.log"; exit 1; }
SCRIPT
quick="$cross-g++ $flags -O1" # half the time of -O2
# Tests that say nothing about instructions: messages of errors, calls that allocate.
left_out='kernels/bad_input kernels/hot_calls'
# The longest test cases: errors that follow from parameters alone, and convolutions over the kernels
# that the products test.
filter='~"norms stay*"~"convolutions of bits*"~[slow]'
{
    for room in $rooms; do
        for source in "$tests/$room"/*.cpp; do
            name=${source##*/}
            case " $left_out " in *" $room/${name%.cpp} "*) continue ;; esac
            echo "$room-${name%.cpp}.o $source $quick -DNOTCH_SEPARATE_KERNELS"
        done
    done
    [ -z "$rooms" ] || echo "definitions.o $tests/definitions.cpp $quick"
    [ -z "$rooms" ] || echo "main.o $tests/main.cpp $cross-g++ $flags -O0 -Wno-conversion"
    echo "isas.o $tests/arm/isas.cpp $quick"
    echo "odr_main.o $tests/odr/main.cpp $quick"
    echo "odr_baseline.o $tests/odr/baseline.cpp $quick"
    echo "odr_wide.o $tests/odr/native.cpp $cross-g++ $flags -O2 -march=armv8.6-a+sve2"
    echo "here_main.o $tests/odr/main.cpp $host -std=c++20 -O1"
    echo "here_baseline.o $tests/odr/baseline.cpp $host -std=c++20 -Iroot/include $NOTCH_ISYSTEM -O1"
} > compilations
xargs -P 2 -L 1 sh one.sh < compilations || { echo "not everything compiles for AArch64"; exit 1; }

# --- what each CPU has -----------------------------------------------------------------------------------

$cross-g++ -static isas.o -o isas
expect() { # <cpu> <instruction sets>
    seen=$(qemu-aarch64 -cpu "$1" ./isas)
    if [ "$seen" != "$2 " ]; then
        echo "$1: available are \"$seen\" instead of \"$2\""
        failed=1
    fi
}
expect max 'scalar neon neondot neoni8mm'
expect neoverse-n1 'scalar neon neondot'
expect cortex-a72 'scalar neon'

# --- the rooms --------------------------------------------------------------------------------------------

for room in $rooms; do
    $cross-g++ -static main.o definitions.o "$room"-*.o -o "test_$room"
done
cat > run.sh <<'SCRIPT'
log=$1 cpu=$2
shift 2
qemu-aarch64 -cpu "$cpu" "$@" > "$log" 2>&1 || echo "failed on $cpu: $*" >> "$log"
SCRIPT
if [ -n "$rooms" ]; then
    # Two at a time; the kernels, which take longest, in parts.
    rm -f ./*.names ./*.max.log
    : > runs
    for room in $rooms; do
        parts=1
        [ "$room" != kernels ] || parts=8
        # Its status is their number; the special characters of a filter need a backslash.
        { qemu-aarch64 "./test_$room" --list-test-names-only "$filter" || true; } | sed 's/[][,"\\]/\\&/g' > names
        awk -v room="$room" -v parts=$parts '{ print > (room "." NR % parts ".names") }' names
    done
    for cpu in neoverse-n1 cortex-a72; do
        echo "gemm.$cpu.log $cpu ./test_kernels gemm*" >> runs
        [ ! -e test_simd ] || echo "simd.$cpu.log $cpu ./test_simd" >> runs
    done
    for names in *.names; do
        program=./test_${names%%.*}
        echo "${names%.names}.max.log max $program -f $names" >> runs
    done
    xargs -P 2 -L 1 sh run.sh < runs
    for log in *.max.log *.neoverse-n1.log *.cortex-a72.log; do
        if grep -q '^All tests passed' "$log" && ! grep -q '^failed on' "$log"; then continue; fi
        echo "$log:"
        grep -v '^$' "$log" | tail -n 40
        failed=1
    done
fi

# --- the one-definition rule --------------------------------------------------------------------------------

allowed='^_Z[A-Z]*5notch2v0[0-9]+isa[a-z0-9_]*4arch(7neondot|8neoni8mm)'
wide() { # <file> [weak symbols]
    $cross-objdump -d "$1" | awk -v weak="${2-}" -f "$tests/arm/wide.awk"
}
report() { # <title> <file of findings>
    [ -s "$2" ] || return 0
    echo "$1:"
    c++filt < "$2" | sort -u | sed 's/^/    /' | cut -c 1-300 | head -n 20
    failed=1
}
unkeyed() { # the weak symbols of notch without a key, of a file
    $cross-nm "$1" | awk '$2 == "W" || $2 == "V" || $2 == "u" { print $3 }' > weak
    grep 5notch weak | grep -vE '5notch2v0[0-9]+isa_' > unkeyed || true
}
wide odr_baseline.o > all.wide
grep -vE "$allowed" all.wide > baseline.wide || true
report "more than Armv8.0 in a baseline object" baseline.wide
for name in 7neondot 8neoni8mm; do
    if ! grep -q "4arch$name" all.wide; then
        echo "no kernels of $name found in the baseline object: this guard looks in the wrong place"
        failed=1
    fi
done
unkeyed odr_wide.o
wide odr_wide.o unkeyed > native.wide
report "un-keyed weak functions of notch with more than Armv8.0" native.wide

# The same number everywhere: here_baseline.o stands for both parts on this machine.
echo '#include <cstdint>
std::uint64_t baseline();
std::uint64_t native() { return baseline(); }' > here_native.cpp
"$host" -std=c++20 here_main.o here_baseline.o here_native.cpp -o here
expected=$(./here) || { echo "on this machine: $expected"; exit 1; }
for order in "odr_baseline.o odr_wide.o" "odr_wide.o odr_baseline.o"; do
    $cross-g++ -static odr_main.o $order -o program
    unkeyed program
    wide program unkeyed > program.wide
    report "un-keyed functions with more than Armv8.0, linked $order" program.wide
    for cpu in max neoverse-n1 cortex-a72; do
        part=baseline
        [ $cpu != max ] || part=both
        if ! qemu-aarch64 -cpu $cpu ./program $part > output 2>&1 || [ "$(cat output)" != "$expected" ]; then
            echo "linked $order, on $cpu: $(tail -n 1 output), on this machine $expected"
            failed=1
        fi
    done
done
passed=$(cat ./*.max.log 2> /dev/null | sed -n 's/.* in \([0-9]*\) test cases*)$/\1/p' | awk '{ n += $1 } END { print n + 0 }')
if [ -n "$rooms" ] && [ "$passed" -ne "$(cat ./*.names | wc -l)" ]; then
    echo "$passed test cases passed of $(cat ./*.names | wc -l)"
    failed=1
fi
echo "note: AArch64 under qemu: $passed test cases of the rooms passed on neon, neondot and neoni8mm; result $expected" \
    "everywhere"
exit $failed
