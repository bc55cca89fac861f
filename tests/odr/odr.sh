#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# odr.sh <compiler> <-O...>: translation units with different flags in one program.
#   1. In a baseline object only functions of the kernels/arch namespaces use more than baseline
#      x86-64, std:: instantiations included (a standard header in a target region would show here).
#   2. In an object with more instruction sets no weak function of notch without a key in its name
#      does: the linker may hand it to everybody.
#   3. The same in the linked program, for both orders of linking.
#   4. The program gives the same results in both orders, in both parts, on every instruction set,
#      and its baseline part also on an emulated CPU without AVX.
# At -O0, where only -march=native is tried, nothing is inlined, so two things are let through, and
# said in a note: the implicit default constructors of the aggregates named below in 2 and 3 (they set
# float members), and, because small std:: functions of floats such as std::isfinite are functions of
# their own, the emulated run of the order that links the wide object first.
set -eu
cxx=$1
optimize=$2
tests=$NOTCH_ROOT/tests/odr
case $(uname -m) in
    x86_64 | amd64) ;;
    *) echo "note: ODR guard not run here: it is about x86-64"; exit 0 ;;
esac
command -v objdump > /dev/null || { echo "ODR guard: objdump (binutils) is not installed"; exit 1; }
failed=0

# The aggregates whose implicit default constructors are let through at -O0, separated by |.
aggregates='add_params|clip|epilogue_args|histogram_view|moments|pool_args|quant_params|real_range'

compile() { # <source> <object> <flags...>
    source=$1 object=$2
    shift 2
    "$cxx" -std=c++20 "$optimize" "-I$NOTCH_ROOT/include" $NOTCH_ISYSTEM "$@" -c "$tests/$source" -o "$object"
}
wide() { # <file> [weak symbols]
    objdump -d --insn-width=16 "$1" | awk -v weak="${2-}" -f "$tests/wide.awk"
}
report() { # <title> <file of findings>
    [ -s "$2" ] || return 0
    echo "$1:"
    c++filt < "$2" | sort -u | sed 's/^/    /' | cut -c 1-300 | head -n 20
    failed=1
}

# Where wide instructions may stand: notch::v0::isa_...::arch::<isa other than scalar>::..., mangled.
arch=$(cd "$NOTCH_ROOT/include/notch/kernels/arch" && for header in *.hpp; do
    name=${header%.hpp}
    [ "$name" = scalar ] || printf '%s%s\n' "${#name}" "$name"
done | paste -s -d '|' -)
arch="$arch|10avx512vbmi" # the copies of NOTCH_BODY_VBMI, see for_each.inl
allowed="^_Z[A-Z]*5notch2v0[0-9]+isa[a-z0-9_]*4arch($arch)"
unkeyed() { # the weak symbols of notch without a key, of a file
    nm "$1" | awk '$2 == "W" || $2 == "V" || $2 == "u" { print $3 }' > weak
    grep 5notch weak | grep -vE '5notch2v0[0-9]+isa_' > unkeyed || true
    if [ "$optimize" = -O0 ]; then
        grep -vE "^_ZN5notch2v0[0-9]+($aggregates)C[12]Ev\$" unkeyed > rest || true
        mv rest unkeyed
    fi
}

compile main.cpp main.o
compile baseline.cpp baseline.o
wide baseline.o | grep -vE "$allowed" > baseline.wide || true
report "more than baseline x86-64 in a baseline object" baseline.wide
if ! wide baseline.o | grep -qE "$allowed"; then
    echo "no kernels found in the baseline object: this guard looks in the wrong place"
    failed=1
fi

first=
wide_flags='-march=native -march=x86-64-v3'
[ "$optimize" != -O0 ] || wide_flags=-march=native
for flags in $wide_flags; do
    compile native.cpp native.o "$flags"
    unkeyed native.o
    wide native.o unkeyed > native.wide
    report "un-keyed weak functions of notch with wide instructions ($flags)" native.wide
    # Standard templates of standard types belong to nobody; they are counted, not judged.
    wide native.o weak | grep -v 5notch > std.wide || true
    echo "$flags: $(wc -l < unkeyed) un-keyed weak symbols of notch, $(wc -l < std.wide) wide weak functions of std"

    part=both
    if [ "$flags" != -march=native ] && ! grep -q ' avx2 .* bmi2 ' /proc/cpuinfo; then part=baseline; fi
    for order in "baseline.o native.o" "native.o baseline.o"; do
        "$cxx" main.o $order -o program
        unkeyed program
        wide program unkeyed > program.wide
        report "un-keyed functions with wide instructions, linked $order ($flags)" program.wide
        if ! ./program $part > output; then
            echo "linked $order ($flags): $(cat output)"
            failed=1
        fi
        [ -n "$first" ] || first=$(cat output)
        if [ "$(cat output)" != "$first" ]; then
            echo "linked $order ($flags): another result, $(cat output) instead of $first"
            failed=1
        fi
        if [ "$optimize" = -O0 ] && [ "$order" = "native.o baseline.o" ]; then
            echo "note: at -O0 the order \"$order\" is not run on a CPU without AVX, and the constructors of" \
                "$aggregates are not judged: see tests/odr/odr.sh"
            continue
        fi
        if command -v qemu-x86_64 > /dev/null; then
            if ! qemu-x86_64 -cpu Nehalem ./program baseline > output 2>&1 || [ "$(cat output)" != "$first" ]; then
                echo "linked $order ($flags), on a CPU without AVX: $(tail -n 1 output), expected $first"
                failed=1
            fi
        else
            echo "note: programs for a CPU without AVX not run here: qemu-x86_64 is not installed"
        fi
    done
done
echo "result $first"
exit $failed
