#!/bin/sh
# The launcher: what it says on a system that lacks packages, and how it runs what is built.
. "$(dirname "$0")/common.sh"
mkdir tree tools
cp "$source/kvbench" tree/

# A system with nothing but the basic tools.
for tool in sh readlink dirname mkdir id tr cat grep tail flock rm env apt-get; do
    path=$(command -v $tool) && ln -s "$path" tools/
done
PATH=$work/tools tree/kvbench --methods h2o >out 2>err </dev/null
[ $? = 5 ] || complain "expected exit 5: $(cat err)"
grep -q 'missing' err || complain "expected what is missing, found $(cat err)"
for package in gcc libc6-dev meson ninja-build pkg-config libhdf5-dev libgsl-dev libcjson-dev libxxhash-dev; do
    grep -q "missing.*$package" err || complain "expected $package to be named, found $(cat err)"
done
if command -v apt-get >/dev/null; then
    grep -q 'apt-get install -y --no-install-recommends gcc libc6-dev meson' err ||
        complain "expected the install line, found $(cat err)"
fi
grep -q criterion err && complain 'expected no test library for a run'
PATH=$work/tools tree/kvbench test >out 2>err </dev/null
grep -q libcriterion-dev err || complain 'expected the test library for the tests'

# A program that is built, in a tree without tools or sources, from another folder, through a link.
mkdir -p tree/build/harness
printf '#!/bin/sh\necho "ran $*"\nexit 4\n' >tree/build/harness/kvbench
chmod +x tree/build/harness/kvbench
touch tree/build/build.ninja
ln -s tree/kvbench link
for launcher in tree/kvbench ./link "$work/tree/kvbench"; do
    PATH=$work/tools $launcher --methods 'a b' --setup= x >out 2>err
    [ $? = 4 ] || complain "$launcher: expected the program's exit code: $(cat err)"
    [ "$(cat out)" = 'ran --methods a b --setup= x' ] || complain "$launcher: expected its arguments: $(cat out)"
done
PATH=$work/tools tree/kvbench -h >out 2>err
says './kvbench [--setup] test [SUITE...]'
says 'ran -h'
finish
