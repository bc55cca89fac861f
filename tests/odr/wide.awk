# SPDX-License-Identifier: Apache-2.0
#
# Reads `objdump -d` and prints "<symbol> <first such instruction>" for every function that contains
# code beyond baseline x86-64: an instruction with a VEX or EVEX prefix (in 64-bit code the bytes c4,
# c5 and 62 begin nothing else), lzcnt, popcnt or movbe. With -v weak=FILE (from nm) it keeps to the
# symbols named there.
BEGIN {
    FS = "\t"
    if (weak != "") while ((getline name < weak) > 0) wanted[name] = 1
}
/^[0-9a-f]+ <.*>:$/ {
    symbol = $0
    sub(/^[0-9a-f]+ </, "", symbol)
    sub(/>:$/, "", symbol)
    found = 0
    next
}
NF >= 3 && !found {
    bytes = $2
    while (bytes ~ /^(26|2e|36|3e|64|65|67) /) bytes = substr(bytes, 4)
    if (bytes ~ /^(c4|c5|62) / || $3 ~ /^(lzcnt|popcnt|movbe)/) {
        found = 1
        if (weak == "" || symbol in wanted) print symbol, $3
    }
}
