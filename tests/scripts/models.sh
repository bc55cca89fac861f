#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# models.sh: scripts/models.sh and join_results.py on programs that are made up.
#   1. Wrong options are named, with the usage.
#   2. What was not built is skipped, and that nothing ran is an error.
#   3. Rows are joined and shown, from paths with spaces; a program that fails makes the script fail, but its rows and
#      those of others are there.
#   4. Rows of peers are joined; --peers without their packages is an error.
#   5. Rows that are none are refused, and the results of before stay.
set -eu
failed=0
for tool in bash python3; do
    command -v $tool > /dev/null || { echo "note: not run here: scripts/models.sh, $tool is not installed"; exit 0; }
done
script=$NOTCH_ROOT/scripts/models.sh
rm -rf "build none" "build one" out
mkdir -p "build none" "build one/examples/models"

# expect <status> <text that is printed> <arguments...>
expect() {
    status=$1 text=$2
    shift 2
    seen=0
    "$script" "$@" > output 2>&1 || seen=$?
    if [ $seen -ne "$status" ] || ! grep -qF -e "$text" output; then
        echo "scripts/models.sh $*: status $seen, expected $status, and \"$text\" in:"
        sed 's/^/    /' output
        failed=1
    fi
}
# program <rows> <status>: the made-up models_gnn, which keeps what it was called with.
program() {
    printf '%s\n' "$1" > rows.json
    cat > "build one/examples/models/models_gnn" << TEXT
#!/bin/sh
echo "\$*" > "$PWD/called"
while [ "\$1" != --out ]; do shift; done
cp "$PWD/rows.json" "\$2"
exit $2
TEXT
    chmod +x "build one/examples/models/models_gnn"
}
row='{"model": "m", "method": "static", "bits": "w8a8", "metric": "top1 %", "value": 91.256, "fp32_value": 91.5,
      "bytes": 1234, "latency_ms": 0.5, "peer": null, "peer_latency_ms": null}'

expect 0 'usage: scripts/models.sh' --help
expect 1 'unknown option --frob' --frob
expect 1 'usage: scripts/models.sh' --frob
expect 1 'unknown option gnn' gnn
for option in --data --build --jobs --out; do expect 1 "$option needs a" $option; done
expect 1 'there is no directory nowhere' --build nowhere
expect 1 '--data: there is no directory nowhere' --build "build none" --data nowhere

expect 1 'skipping gnn: ' --build "build none" --out out
expect 1 'error: no model has run' --build "build none" --out out

program "[$row, $row]" 0
expect 0 'm      static  w8a8  top1 %  91.26  91.50   1234  0.500' --build "build one" --out "out/a b" --quick
[ "$(python3 -c 'import json; print(len(json.load(open("out/a b/results.json"))))')" = 2 ] ||
    { echo "the rows were not joined"; failed=1; }
grep -q -- '--quick' called || { echo "--quick was not passed on: $(cat called)"; failed=1; }

# What was measured with other libraries before is joined too; with none of their packages --peers is an error.
printf '%s\n' "[$row]" | sed 's/"bytes": 1234/"bytes": null/; s/91.5/null/; s/"peer": null/"peer": "Other 1.2"/' > "out/a b/cnn_peers.json"
expect 0 '0.500  Other 1.2' --build "build one" --out "out/a b"
rm "out/a b/cnn_peers.json"
if [ ! -e "$NOTCH_ROOT/build/peers/venv" ]; then
    expect 1 'are not in build/peers/venv' --build "build one" --out "out/a b" --peers --no-install
fi

program "[$row]" 3
expect 1 'error: failed: gnn' --build "build one" --out "out/a b"
grep -q -- '--quick' called && { echo "--quick was passed on without being asked for"; failed=1; }
[ "$(python3 -c 'import json; print(len(json.load(open("out/a b/results.json"))))')" = 1 ] ||
    { echo "the rows of a program that failed were lost"; failed=1; }

for bad in '[{"model": "m"}]' '{}' '[1' '[3]'; do
    program "$bad" 0
    expect 1 'join_results: ' --build "build one" --out "out/a b"
    grep -q 91.256 "out/a b/results.json" || { echo "results were lost to $bad"; failed=1; }
done
exit $failed
