#!/bin/sh
# A full disk and a read-only folder: exit 5, the message names the file and the cause, and no file is
# left half-written.
. "$(dirname "$0")/common.sh"
make_trace
run="--trace small.h5 --methods f16,int --no-plots --quiet"

[ -c /dev/full ] || skip 'no /dev/full here'
for format in table markdown csv json; do
    # shellcheck disable=SC2086 # words
    kvbench $run --format $format --out full-$format >/dev/full 2>err
    [ $? = 5 ] || complain "$format on a full stdout: expected exit 5: $(cat err)"
    grep -q 'No space left' err || complain "$format on a full stdout: expected the cause, found $(cat err)"
    [ -s full-$format/rows.csv ] || complain 'expected the result directory all the same'
done
for words in list --help 'list --help' --version 'info small.h5' 'check f16' 'trace hash small.h5' 'compare full-csv full-json' \
    'memory --model smollm2-135m'; do
    # shellcheck disable=SC2086 # words
    kvbench $words >/dev/full 2>err
    [ $? = 5 ] || complain "$words on a full stdout: expected exit 5: $(cat err)"
    grep -q 'stdout: cannot write: ' err || complain "$words on a full stdout: expected that, found $(cat err)"
done

# A file where a folder should be, and a folder that cannot be.
: >file
expect 5 'file' $run --out file
expect 5 'file/below' $run --out file/below

# Mounts need a namespace of our own; elsewhere these two are left out.
unshare --mount --map-root-user true 2>/dev/null || unshare --mount true 2>/dev/null || finish
spaced=unshare\ --mount
unshare --mount true 2>/dev/null || spaced='unshare --mount --map-root-user'
cat >inside.sh <<'TEXT'
mkdir tiny closed && mount -t tmpfs -o size=16k none tiny && mount -t tmpfs -o size=1m none closed &&
    mount -o remount,ro closed || exit 77
$MESON_EXE_WRAPPER "$@" --out tiny/out >out 2>tiny.err
echo $? >tiny.status
ls tiny/out >tiny.list 2>/dev/null
$MESON_EXE_WRAPPER "$@" --out closed/out >out 2>closed.err
echo $? >closed.status
$MESON_EXE_WRAPPER "$1" trace synth tiny/more.h5 --tokens 160 --prefill 128 2>synth.err
echo $? >synth.status
$MESON_EXE_WRAPPER "$1" trace slice small.h5 --out tiny/more.h5 2>slice.err
echo $? >slice.status
$MESON_EXE_WRAPPER "$1" dump --trace small.h5 --method int --layer 0 --out tiny/more.h5 2>dump.err
echo $? >dump.status
TEXT
export MESON_EXE_WRAPPER="${MESON_EXE_WRAPPER:-}"
# shellcheck disable=SC2086 # words
if $spaced sh inside.sh "$program" $run; then
    [ "$(cat tiny.status)" = 5 ] || complain "a full disk: expected exit 5, found $(cat tiny.status tiny.err)"
    grep -q 'No space left' tiny.err || complain "a full disk: expected its cause, found $(cat tiny.err)"
    grep -q 'tiny/out' tiny.err || complain "a full disk: expected the file's name, found $(cat tiny.err)"
    ! grep -q 'partial' tiny.list || complain "a full disk: expected no partial files, found $(cat tiny.list)"
    for made in synth slice dump; do # a recording that does not fit
        [ "$(cat $made.status)" = 5 ] || complain "$made: expected exit 5, found $(cat $made.status $made.err)"
        grep -q 'No space left' $made.err || complain "$made: expected the cause, found $(cat $made.err)"
    done
    [ "$(cat closed.status)" = 5 ] || complain "read-only: expected exit 5, found $(cat closed.status closed.err)"
    grep -q 'Read-only file system' closed.err || complain "read-only: expected its cause, found $(cat closed.err)"
fi
finish
