#!/bin/sh
# A bad trace: exit 3, the message names the file and what was found, no result directory is left.
# (Every rejection of the format has its unit test; here it is the whole program.)
. "$(dirname "$0")/common.sh"
make_trace

expect 3 'nothere.h5: /: expected a readable trace file, found: No such file' --trace nothere.h5 --methods f16
expect 3 'nothere*.h5' --trace 'nothere*.h5' --methods f16
echo 'no HDF5' >text.h5
expect 3 'text.h5' --trace text.h5 --methods f16
: >empty.h5
expect 3 'empty.h5' --trace empty.h5 --methods f16
for part in 100 3000 100000; do
    head -c $part small.h5 >short.h5
    expect 3 'short.h5' --trace short.h5 --methods f16
    expect 3 'short.h5' info short.h5
    expect 3 'short.h5' trace validate short.h5
done

# One byte in the middle of the tensors: only the content hash can tell.
cp small.h5 flipped.h5
size=$(wc -c <small.h5)
printf '\377' | dd of=flipped.h5 bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
cmp -s small.h5 flipped.h5 || expect 3 'flipped.h5' --trace flipped.h5 --methods f16

# The heap of strings points nowhere: libhdf5 itself would end the program.
cp small.h5 heap.h5
heap=$(grep -abo GCOL small.h5 | head -n 1 | cut -d : -f 1)
printf '\377\377' | dd of=heap.h5 bs=1 seek=$((heap + 16)) conv=notrunc 2>/dev/null
expect 3 'heap.h5: /' trace validate heap.h5
expect 3 'heap.h5: /' --trace heap.h5 --methods f16

mkdir folder.h5
expect 3 'folder.h5' --trace folder.h5 --methods f16
expect 3 'nowhere.args: cannot be read: No such file' @nowhere.args
expect 3 'nowhere.list: cannot be read: No such file' --methods @nowhere.list
expect 3 '--resume: nodir: expected a result directory' --resume nodir --trace small.h5 --methods f16
expect 3 'nodir' compare nodir nodir2
expect 3 'nodir' report nodir
[ -z "$(ls results 2>/dev/null)" ] || complain 'expected no result directory from a run that never began'
[ -z "$(find . -name '*.partial')" ] || complain 'expected no partial files'
finish
