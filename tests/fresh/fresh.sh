#!/bin/bash
# Both commands of the README on a bare Debian 12, as a stranger would type them:
#   tests/fresh/fresh.sh [FOLDER]     as root; FOLDER (default: a new one, removed) takes about 3 GiB
# 1. without --setup: the message names what is missing, exit 5
# 2. as root   3. again without a network, from a clean build folder   4. as a user with sudo
# The packages come from where this machine's apt takes them; its settings are copied, not written here.
set -u
source=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
passed=0 failed=0

finish() { [ $# -gt 0 ] || rm -rf --one-file-system "$work"; }
trap 'finish "$@"' EXIT

# Settings of the machine's apt that fetching depends on: proxies, checks, retries.
apt_settings() { apt-config dump | grep -E '^Acquire::(http|https|Check|Retries|ForceIPv4)' || true; }

apt_sources() { cat /etc/apt/sources.list.d/debian.sources 2>/dev/null || cat /etc/apt/sources.list; }

make_bare() {
    apt_settings >"$work/apt.conf"
    apt_sources | mmdebstrap --quiet --variant=minbase --aptopt="$work/apt.conf" bookworm "$work/bare" -
}

# copy NAME: a bare system with a clone of the committed sources in /srv/kvbench.
copy() {
    cp -a "$work/bare" "$work/$1"
    cp /etc/resolv.conf "$work/$1/etc/resolv.conf"
    cp "$work/apt.conf" "$work/$1/etc/apt/apt.conf.d/99machine"
    git clone --quiet --no-hardlinks "$source" "$work/$1/srv/kvbench"
}

# enter NAME COMMAND [UNSHARE_OPTION]: runs in /srv/kvbench as root, in nothing of this machine's
# environment but its proxies.
enter() {
    # shellcheck disable=SC2016 # expands inside
    unshare --mount --pid --fork --kill-child ${3:-} bash -c '
        mount --make-rprivate / && mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" || exit 99
        exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8 \
            ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
            chroot "$1" sh -c "cd /srv/kvbench && $2"' enter "$work/$1" "$2"
}

# check WHAT EXPECTED_STATUS COMMAND...: one line of verdict; the output on failure.
check() {
    local what=$1 expected=$2 start=$SECONDS status=0
    shift 2
    "$@" >"$work/log" 2>&1 || status=$?
    if [ $status = "$expected" ]; then
        passed=$((passed + 1))
        echo "ok      $what ($((SECONDS - start)) s): $(tail -n 1 "$work/log")"
    else
        failed=$((failed + 1))
        echo "FAILED  $what: expected exit $expected, found $status"
        tail -n 40 "$work/log" | sed 's/^/        /'
    fi
}

run='./kvbench --setup --methods h2o,kivi,turboquant'
test='./kvbench --setup test'
add_user='apt-get update -q && apt-get install -q -y --no-install-recommends sudo &&
    useradd -m someone && echo "someone ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/someone &&
    chown -R someone: /srv/kvbench'

check 'a bare Debian 12' 0 make_bare
check 'a clone for root' 0 copy root
check 'without --setup: says what is missing' 5 enter root './kvbench --methods h2o'
check 'root: the main job' 0 enter root "$run"
check 'root: the tests' 0 enter root "$test"
check 'root, no network, clean build: the main job' 0 enter root "rm -rf build && $run" --net
check 'root, no network: the tests' 0 enter root "$test" --net
check 'a clone for a user' 0 copy user
check 'a user with sudo' 0 enter user "$add_user"
check 'user: the main job' 0 enter user "su someone -c '$run'"
check 'user: the tests' 0 enter user "su someone -c '$test'"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
