#!/bin/sh
# `new` writes a codec, a policy and an answer that build without a warning and pass `check` as they are, in a copy
# of the tree.
. "$(dirname "$0")/common.sh"
[ -z "${MESON_EXE_WRAPPER:-}" ] || skip 'builds with the native compiler'
command -v meson >/dev/null && command -v ninja >/dev/null || skip 'no meson or ninja here'
mkdir tree
(cd "$source" && tar cf - --exclude='traces/data/*.h5' --exclude=__pycache__ meson.build meson_options.txt \
    harness methods metrics traces plots tests experiments) | tar xf - -C tree
cd tree || exit 2
build() {
    if [ ! -d build ]; then
        meson setup build --buildtype=debugoptimized --werror -Dunit_tests=disabled >log 2>&1
    fi
    ninja -C build harness/kvbench tests/vectors/check_vectors >>log 2>&1 || { tail -n 30 log; complain "expected a build"; exit 1; }
    program=$PWD/build/harness/kvbench
}
build
expect 0 '' new plain_grid
expect 0 '' new long-keys --policy
expect 0 '' new fading-mean --answer
expect 2 'exists' new plain_grid
expect 2 'new: --policy: expected one of --policy and --answer, found --policy' new other --answer --policy
grep -q "'plain_grid'" methods/codecs/meson.build || complain 'expected the codec in the build list'
grep -q "'long-keys'" methods/policies/meson.build || complain 'expected the policy in the build list'
grep -q "'fading-mean'" methods/answers/meson.build || complain 'expected the answer in the build list'
build
expect 2 'new: plain_grid: a method of that name exists' new plain_grid
expect 0 '' check plain_grid --quiet
expect 0 '' check long-keys --quiet
expect 0 '' check fading-mean,fading-mean:decay=0.9 --quiet
expect 0 '' check long-keys+plain_grid:bits=4 --quiet
build/tests/vectors/check_vectors tests/vectors >vectors || complain 'expected the vectors to pass'
for name in plain_grid long-keys fading-mean; do
    grep -q "^ok .*$name" vectors || complain "expected the vector of $name: $(cat vectors)"
done
expect 0 '' list plain_grid
says 'plain_grid:bits=8'
finish
