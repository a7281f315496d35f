#!/bin/sh
# Functions of at most 80 lines, of kernels 120 (style guide). Needs universal-ctags.
#   function_length.sh SOURCE
cd "$1" || exit 2
ctags --version 2>/dev/null | grep -q Universal || { echo 'no universal-ctags here'; exit 77; }
find harness methods traces metrics tests -name '*.c' |
    ctags -L - -f - --kinds-C=f --fields=+ne |
    awk -F '\t' '{
        line = end = 0
        for (i = 4; i <= NF; i++) {
            if ($i ~ /^line:/) line = substr($i, 6)
            if ($i ~ /^end:/) end = substr($i, 5)
        }
        limit = $2 ~ /^methods\/kernels\// ? 120 : 80
        n++
        if (end - line + 1 > limit) {
            printf "%s:%d: %s has %d lines, expected at most %d\n", $2, line, $1, end - line + 1, limit
            bad++
        }
    } END { printf "%d functions, %d too long\n", n, bad; exit bad > 0 || n == 0 }'
