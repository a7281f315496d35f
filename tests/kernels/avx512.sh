#!/bin/bash
# The AVX-512 kernels, checked on a machine that has none: a Linux kernel in Bochs runs the checker on that
# set, and a small trace through `--isa avx512`, whose rows `kvbench compare` holds against the generic ones.
#   avx512.sh BUILD SOURCE     ends with `N passed, N failed`; `skipped: why` where it cannot run
# A machine that has AVX-512 runs both itself. Root on Debian, for its packages: its Bochs has EVEX, its qemu
# and valgrind have not. A minute or two, half of it the boot; given up after LIMIT seconds.
set -u
build=$(realpath "$1") source=$(realpath "$2") limit=${LIMIT:-600}
passed=0 failed=0 emulator=
work=$(mktemp -d)
cleanup() {
    [ -z "$emulator" ] || kill -9 -- "-$emulator" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
packages="bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso cpio busybox-static"
check="checkkern --every 41"          # a prime; an instruction on vectors takes about a microsecond
run="run --trace data/trace.h5 --methods @data/methods.list --threads 1 --no-plots --quiet"
export KVBENCH_CACHE=$work/cache

skip() { echo "skipped: $*"; echo "0 passed, 0 failed"; exit 0; }

# verdict STATUS WHAT
verdict() {
    if [ "$1" = 0 ]; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "FAILED: $2"
    return 1
}

# -- a disc: a kernel, a shell, both programs with what they are linked with -------------------------

install_packages() {
    # shellcheck disable=SC2086
    local there
    there=$(dpkg-query -W -f '${db:Status-Status}\n' $packages 2>/dev/null | grep -cx installed)
    [ "$there" = "$(wc -w <<<"$packages")" ] ||
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
}

unpack_kernel() {
    local image
    image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p')
    [ -n "$image" ] && apt-get download -q "$image" && dpkg -x linux-image-*.deb kernel &&
        cp kernel/boot/vmlinuz-* disc/vmlinuz
}

# What process 1 does. An entry that fails is held against AVX2's, too.
first_process() {
    cat <<TEXT
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
/bin/busybox stty -F /dev/ttyS0 115200 raw
export LD_LIBRARY_PATH=/lib OMP_NUM_THREADS=1 KVBENCH_CACHE=/cache
echo "mark cpu \$(/bin/busybox grep -c -m 1 avx512vl /proc/cpuinfo)"
{ /bin/$check avx512; echo "mark checker \$?"; } | /bin/busybox tee /checked
for entry in \$(/bin/busybox sed -n 's/^not ok .* avx512 \([a-z_0-9]*\):.*/\1/p' /checked); do
    /bin/$check --against avx2 avx512 \$entry | /bin/busybox sed 's/^/against avx2: /'
done
/bin/kvbench $run --isa avx512 --out /rows >/ran 2>&1 || /bin/busybox tail -n 20 /ran
/bin/kvbench compare /data/generic.csv /rows >/compared
echo "mark compared \$?"
/bin/busybox tail -n 20 /compared
echo "mark end"
/bin/busybox sleep 1
/bin/busybox reboot -f
TEXT
}

# The libraries of a program, but not what HDF5 reads from the network with: that is two thirds of them.
libraries() {
    local library
    for library in $(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        library=$(ldd "$build/harness/kvbench" | sed -n "s|^.*$library => \([^ ]*\) .*|\1|p")
        case $library in
        '' | */libcurl.* | */libcrypto.*) ;;
        *) echo "$library"; libraries "$library" ;;
        esac
    done
}

make_root() {
    local name
    mkdir -p root/bin root/lib root/lib64 root/proc root/dev &&
        cp -r data root/ && cp /bin/busybox "$build/tests/kernels/checkkern" "$build/harness/kvbench" root/bin/ &&
        strip root/bin/checkkern root/bin/kvbench &&
        libraries "$build/harness/kvbench" | sort -u | xargs cp -L -t root/lib/ &&
        cp -L /lib64/ld-linux-x86-64.so.2 root/lib64/ || return
    for name in libcurl.so.4 libcrypto.so.3; do     # nothing of them is called
        cc -shared -nostdlib -Wl,-soname,$name -o root/lib/$name -x c - </dev/null || return
    done
    first_process >root/init && chmod +x root/init
    (cd root && find . | cpio -o -H newc --quiet) >disc/root
}

# The kernel does without power management, mitigations and the tables that take it longest. Compacted
# states (XSAVEC, XSAVES) have a size in this processor that it does not believe, so it uses plain ones.
make_disc() {
    cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 disc/isolinux/ || return
    {
        printf '%s\n' 'default check' 'prompt 0' 'label check' ' kernel /vmlinuz'
        printf '%s ' ' append initrd=/root console=ttyS0,115200 quiet nosmp acpi=off mitigations=off nokaslr' \
            'clearcpuid=321,323 tsc=reliable random.trust_cpu=on panic=-1 reboot=t' \
            'initcall_blacklist=trace_eval_init,trace_eval_sync,load_system_certificate_list'
    } >disc/isolinux/isolinux.cfg
    xorriso -as mkisofs -quiet -o disc.iso -b isolinux/isolinux.bin -c isolinux/boot.cat \
        -no-emul-boot -boot-load-size 4 -boot-info-table disc
}

make_machine() {
    cat >machine <<TEXT
display_library: term
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
cpu: model=corei7_skylake_x, count=1, ips=20000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=512, host=512
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
clock: sync=none
log: $work/log
panic: action=fatal
error: action=ignore
info: action=ignore
TEXT
    echo c >go                        # Debian's Bochs waits in its debugger
}

prepare_disc() {
    mkdir -p disc/isolinux && install_packages && unpack_kernel && make_root && make_disc && make_machine
}

# Its screen wants a terminal, which script(1) makes.
emulate() {
    TERM=xterm setsid script -qec "bochs-bin -q -f machine -rc go" /dev/null </dev/null >screen 2>&1 &
    emulator=$!
    disown $emulator
    while kill -0 $emulator 2>/dev/null && [ $SECONDS -lt "$limit" ]; do
        if grep -aq '^mark end' serial 2>/dev/null; then break; fi
        sleep 1
    done
    touch serial && tr -d '\r' <serial >told
    grep -q '^mark cpu 1' told && return
    tail -n 20 told screen
    echo "FAILED: no processor with AVX-512 came up within $SECONDS s"
    echo "0 passed, 1 failed"
    exit 1
}

run_here() {
    "$build/tests/kernels/checkkern" avx512
    echo "mark checker $?"
    "$build/harness/kvbench" $run --isa avx512 --out rows
    "$build/harness/kvbench" compare data/generic.csv rows >compared
    echo "mark compared $?"
    tail -n 20 compared
    echo "mark end"
}

# -- what it told ------------------------------------------------------------------------------------

# Bochs 2.7 rounds floats midway between two halves up, not to the even one. An entry that is not as generic
# in there, but as AVX2's, which on this processor is as generic, is right.
is_right() {
    grep -aq "^against avx2: ok .* avx512 $1\$" told && "$build/tests/kernels/checkkern" avx2 "$1" >/dev/null
}

count_checker() {
    local entry status
    passed=$((passed + $(grep -ac '^ok [0-9]* - avx512 ' told)))
    for entry in $(sed -n 's/^not ok .* avx512 \([a-z_0-9]*\):.*/\1/p' told); do
        is_right "$entry"
        verdict $? "$(grep -a "avx512 $entry:" told)" && echo "$entry: as AVX2's in the emulator, which has it wrong"
    done
    status=$(sed -n 's/^mark checker //p' told)
    case $status in
    0 | 1) ;;
    *) verdict 1 "checkkern avx512: status ${status:-none} after $SECONDS s; $(grep -a '^Bail out' told)" ;;
    esac
}

# The name of the set, at least, differs in every row.
count_rows() {
    local status
    status=$(sed -n 's/^mark compared //p' told)
    sed -n '/^mark compared/,/^mark end/p' told >compared
    grep -aq 'generic -> avx512' compared || status="${status:-none}, no row of avx512"
    grep -a 'rows compared' compared
    verdict "$([ "$status" = 0 ]; echo $?)" "rows against generic: status $status after $SECONDS s; $(cat compared)"
}

cd "$work" && mkdir data && cp "$source/tests/micro/llama_gqa.h5" data/trace.h5 &&
    cp "$source/tests/micro/methods.list" data/ || exit 1
"$build/harness/kvbench" $run --isa generic --out generic >generic.txt 2>&1 || [ $? = 4 ] || { cat generic.txt; exit 1; }
cp generic/rows.csv data/generic.csv
if grep -q avx512vl /proc/cpuinfo; then
    echo "this machine has AVX-512: no emulator"
    run_here >told 2>&1
else
    [ "$(uname -m)" = x86_64 ] || skip "no x86-64"
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || skip "Bochs is installed by root on Debian only"
    prepare_disc >prepared 2>&1 || { tail -n 5 prepared; skip "Debian's packages do not give the emulator"; }
    emulate
fi
count_checker
count_rows
echo "$passed passed, $failed failed"
[ $failed = 0 ]
