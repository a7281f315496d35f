"""What the yardsticks of `kvbench perf --vs SCRIPT` share.

A script is run as `SCRIPT BENCH tokens=4096 dim=128 ...`. serve() prints its name, or `skip` and why;
then every line on standard input is one turn, answered by the seconds that it took: processor seconds of
this process, since kvbench takes its own thread's too and a neighbour must not count for either."""
import os
import sys
import time

# Before numpy or torch are imported: one thread, and no choice of kernels that somebody preset.
for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = '1'
for name in ('OPENBLAS_CORETYPE', 'OPENBLAS_L2_SIZE'):
    os.environ.pop(name, None)


def arguments(benches):
    """The shape as a dict of numbers; ends the script when the bench is not one of `benches`."""
    if len(sys.argv) < 2 or sys.argv[1] not in benches:
        print('skip: this yardstick knows ' + ', '.join(benches))
        sys.exit()
    shape = {'tokens': 4096, 'dim': 128, 'heads': 4, 'kv_heads': 1}
    for word in sys.argv[2:]:
        name, _, value = word.partition('=')
        if value.isdigit():
            shape[name] = int(value)
    return shape


def skip(why):
    print('skip: ' + str(why).splitlines()[0])
    sys.exit()


def serve(name, work):
    def seconds():
        begin = time.process_time()
        work()
        return time.process_time() - begin

    serve_seconds(name, seconds)


def serve_seconds(name, seconds):
    """For work whose seconds are not simply those of a call."""
    seconds()
    print(name, flush=True)
    for _ in sys.stdin:
        print(repr(seconds()), flush=True)
