#!/bin/sh
# Turns gnuplot scripts into C strings, so that the program needs no data folder: embed.sh OUT IN...
set -eu
out=$1
shift
{
    echo '#include "harness/figures/plot.h"'
    echo 'const struct kv_plot_script kv_plot_scripts[] = {'
    for script in "$@"; do
        printf '    {"%s",\n' "${script##*/}"
        sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/     "/' -e 's/$/\\n"/' "$script"
        echo '    },'
    done
    echo '    {0, 0}};'
} > "$out"
