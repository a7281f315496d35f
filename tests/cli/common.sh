# Sourced by every test of this folder: `NAME.sh PROGRAM SOURCE`. Runs in a folder of its own, removed at
# the end; a failed expectation is told, the others still run, and `finish` gives the verdict.
set -u
program=$1 source=$2 bad=0
unset KVBENCH_CACHE KV_POOL_FAIL_AT
work=$(mktemp -d)
trap 'cd / && rm -rf "$work"' EXIT
cd "$work" || exit 2
export KVBENCH_CACHE="$work/cache"

kvbench() { ${MESON_EXE_WRAPPER:-} "$program" "$@"; }

complain() { bad=1; echo "FAILED: $*"; }

# column NAME: of the first row of the last CSV on stdout.
column() {
    tr -d '\r' <out | awk -F, -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i }
        NR == 2 && at { print $at }'
}

# expect STATUS TEXT ARGS...: runs; the exit code and a part of what goes to stderr.
expect() {
    wanted=$1 text=$2
    shift 2
    kvbench "$@" >out 2>err </dev/null
    found=$?
    [ $found = "$wanted" ] || complain "$*: expected exit $wanted, found $found: $(cat err)"
    case $(cat err) in
    *"$text"*) ;;
    *) complain "$*: expected ...$text..., found $(cat err)" ;;
    esac
    [ "$wanted" = 0 ] || [ "$(head -c 9 err)" = 'kvbench: ' ] || complain "$*: expected kvbench: first"
}

# says TEXT: so does stdout of the last one.
says() {
    case $(cat out) in
    *"$1"*) ;;
    *) complain "expected $1 on stdout, found $(head -n 5 out)" ;;
    esac
}

# A synthetic trace small enough for an emulator: small.h5.
make_trace() { kvbench trace synth small.h5 --tokens 160 --prefill 128 --layers 2 "$@" || exit 2; }

skip() { echo "$*"; exit 77; }

finish() { exit $bad; }
