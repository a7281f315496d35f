/* See record_front.h. The recorder lies in the source tree, above the folder of this binary. */
#include "harness/commands/record_front.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/install.h"

/* Says which packages are missing before it imports any: an import error of torch tells nobody what
 * to do. sys.argv becomes the recorder's. */
static const char check_and_run[] =
    "import importlib.util, os, runpy, sys\n"
    "sys.argv = sys.argv[1:]\n"
    "folder = os.path.dirname(sys.argv[0])\n"
    "wanted = ('torch', 'transformers', 'accelerate', 'gguf', 'h5py', 'numpy', 'xxhash')\n"
    "missing = [n for n in wanted if importlib.util.find_spec(n) is None]\n"
    "if missing:\n"
    "    print('kvbench: trace record: expected the Python packages ' + ', '.join(wanted)\n"
    "          + '; found none of the name ' + ', '.join(missing) + '. Install them with\\n    '\n"
    "          + sys.executable + ' -m pip install -r ' + os.path.join(folder, "
    "'requirements.txt'),\n"
    "          file=sys.stderr)\n"
    "    sys.exit(5)\n"
    "sys.path[0] = folder\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n";

/* Becomes the interpreter with the recorder's command line; returns only when it cannot. */
static int become(char *recorder, int argc, char **argv, struct kv_error *err)
{
    const char *python = getenv("PYTHON");
    if (!python || !*python) python = "python3";
    char **command = calloc((size_t)argc + 5, sizeof *command);
    if (!command) return kv_fail(err, KV_EMEMORY, "trace record: out of memory");
    command[0] = (char *)python;
    command[1] = "-c";
    command[2] = (char *)check_and_run;
    command[3] = recorder;
    for (int i = 0; i < argc; i++) command[4 + i] = argv[i];
    fflush(NULL);
    execvp(python, command);
    const int reason = errno;
    free(command);
    return kv_fail(err, KV_EENVIRONMENT,
                   "trace record: %s: expected a Python interpreter, found: %s", python,
                   strerror(reason));
}

int kv_record_front(int argc, char **argv, struct kv_error *err)
{
    char *recorder = kv_install_path("traces/record/record.py");
    const int status = recorder && access(recorder, R_OK) == 0
                           ? become(recorder, argc, argv, err)
                           : kv_fail(err, KV_EENVIRONMENT,
                                     "trace record: expected traces/record/record.py in the source"
                                     " tree, found no such file");
    free(recorder);
    return status;
}
