#!/bin/sh
# Who may include whom (DESIGN: harness/base <- methods, traces, metrics <- harness). Methods never see
# traces or metrics; metrics share nothing with the kernels that they judge.
#   layering.sh SOURCE
cd "$1" || exit 2
status=0

# allow FOLDER PATTERN: quoted includes of the folder's files must match.
allow() {
    grep -rnE --include='*.[ch]' '^ *# *include "' "$1" | grep -vE "include \"($2)" && status=1
}

allow harness/base 'harness/base/'
allow methods 'harness/base/|methods/|registry_list\.h'
allow traces 'harness/base/|traces/'
allow metrics 'harness/base/|metrics/'
grep -rnE --include='*.[ch]' 'hdf5\.h|gsl/' methods harness/base && status=1
[ $status = 0 ] || echo 'the lines above reach across layers'
exit $status
