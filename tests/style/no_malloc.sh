#!/bin/sh
# Methods take memory from the pool, which is where every byte of a cache is counted (DESIGN 3.5).
# Allowed apart from it: specs, made before any cell, and what `create` and `fit` need for their own
# length and free before they return.
#   no_malloc.sh SOURCE
cd "$1" || exit 2
allowed='methods/spec/spec_list\.c|methods/parts/(eigen|kmeans|polar|rotation|wrapper)\.c|methods/answers/linear-state\.c|methods/codecs/(autoencoder|gear/gear_fit|gqa|kq-svd|kvquant|layer-share|minicache|mla/mla_fit|palu|polar-han|svd|think|turboquant|xkv)\.c'
if grep -rnE --include='*.[ch]' '\b(malloc|calloc|realloc|aligned_alloc|strdup|asprintf) *\(' methods |
    grep -vE "^($allowed):"; then
    echo 'the lines above take memory that nobody counts; use the pool'
    exit 1
fi
# What is taken for the time of a call is given back in the same file.
for file in $(find methods -name '*.c' | grep -E "^($allowed)$"); do
    takes=$(grep -cE '\b(malloc|calloc|aligned_alloc)\(' "$file")
    frees=$(grep -cE '\bfree\(' "$file")
    [ "$frees" -ge "$takes" ] && continue
    echo "$file: takes memory in $takes places, frees it in $frees"
    exit 1
done
