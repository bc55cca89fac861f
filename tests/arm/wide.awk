# SPDX-License-Identifier: Apache-2.0
#
# Reads `objdump -d` of AArch64 code and prints "<symbol> <first such instruction>" for every function
# that contains an instruction beyond Armv8.0: dot products, matrix products, bfloat16, atomics, CRC,
# SVE, half precision and the like. With -v weak=FILE (from nm) it keeps to the symbols named there.
BEGIN {
    FS = "\t"
    if (weak != "") while ((getline name < weak) > 0) wanted[name] = 1
    beyond = "^(u?s?dot|su?dot|us?mmla|smmla|bfdot|bfmmla|bfcvt|bfmlal|fmlal|fmlsl|sqrdml[as]h|crc32|ldapr|stlur|" \
             "ldapur|(cas|swp|(ld|st)(add|clr|eor|set|[su](max|min)))p?(a|l|al)?[bh]?$|eor3|bcax|rax1|xar|" \
             "fjcvtzs|fcadd|fcmla|frint(32|64)|cpy[fpme]|set[pme]|ptrue|whil|rdvl|addvl)"
}
/^[0-9a-f]+ <.*>:$/ {
    symbol = $0
    sub(/^[0-9a-f]+ </, "", symbol)
    sub(/>:$/, "", symbol)
    found = 0
    next
}
NF >= 3 && !found {
    half = $3 ~ /^f/ && $3 !~ /^f(cvt(l|n)?2?|mov)$/ && $4 ~ /(^|[ ,])(h[0-9]+|v[0-9]+\.[48]h)/
    if ($3 ~ beyond || $4 ~ /(^|[ ,{[])z[0-9]+(\.|,|$)/ || half) {
        found = 1
        if (weak == "" || symbol in wanted) print symbol, $3
    }
}
