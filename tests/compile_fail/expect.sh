#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# expect.sh <compiler> <case.cpp>: the case must not compile, and every text of its "// EXPECT: "
# lines must stand in what the compiler says. "// EXPECT: (compiles)" turns that round: a control
# that the cases fail for their own reason.
set -eu
cxx=$1
case=$2
sed -n 's|^// EXPECT: ||p' "$case" > expected
[ -s expected ] || { echo "$case: no line \"// EXPECT: text\""; exit 1; }
status=0
LC_ALL=C "$cxx" -std=c++20 -fsyntax-only "-I$NOTCH_ROOT/include" $NOTCH_ISYSTEM "$case" > said 2>&1 || status=$?
if [ "$(cat expected)" = "(compiles)" ]; then
    cat said
    exit $status
fi
if [ $status -eq 0 ]; then
    echo "$case compiled, but must not"
    exit 1
fi
while IFS= read -r text; do
    if ! grep -qF -- "$text" said; then
        echo "expected to read: $text"
        echo "the compiler said:"
        head -n 30 said
        exit 1
    fi
done < expected
