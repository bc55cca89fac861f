# SPDX-License-Identifier: Apache-2.0
#
# Extracts the ```cpp fences of a Markdown file as programs. -v prefix=PATH: snippet number N becomes
# PATH_N.cpp; the paths are printed, with " no-run" after those that are only compiled.
#
#   ```cpp            a program: as it stands if it contains "int main", else its #include lines,
#                     then the rest inside a main()
#   ```cpp no-run     compiled, not run
#   ```cpp continued  begins with all the code of the snippet before it in this file
#   <!-- setup        a comment directly before a fence: code that the reader need not see
#   ... -->
function flush(   body, heads, lines, n, i, path) {
    path = prefix "_" ++count ".cpp"
    body = setup code
    if (continued) body = previous body
    previous = body
    printf "// From %s, line %d\n", FILENAME, start > path
    if (body ~ /int main\(/) {
        printf "%s", body > path
    } else {
        n = split(body, lines, "\n")
        heads = ""; body = ""
        for (i = 1; i < n; ++i) {
            if (lines[i] ~ /^[ \t]*#/) heads = heads lines[i] "\n"
            else body = body lines[i] "\n"
        }
        printf "%s\nint main() {\n%s}\n", heads, body > path
    }
    close(path)
    print path (norun ? " no-run" : "")
}
in_fence && /^[ \t]*```/ { if (cpp) flush(); in_fence = 0; cpp = 0; setup = ""; next }
in_fence { if (cpp) code = code $0 "\n"; next }
in_setup && /-->/ { in_setup = 0; next }
in_setup { setup = setup $0 "\n"; next }
/^<!-- setup[ \t]*$/ { in_setup = 1; setup = ""; next }
/^[ \t]*```/ {
    in_fence = 1; code = ""; start = FNR
    cpp = $0 ~ /^[ \t]*```cpp([ \t]|$)/
    norun = $0 ~ /no-run/
    continued = $0 ~ /continued/
    next
}
NF { setup = "" }
