/* See record_front.h. The recorder lies in the source tree, above the folder of this binary. */
#include "harness/record_front.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LEVELS_UP = 4 };

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

static bool find_recorder(char path[PATH_MAX])
{
    char folder[PATH_MAX - 64];
    const ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (length <= 0) return false;
    folder[length] = '\0';
    for (int level = 0; level < LEVELS_UP; level++) {
        char *slash = strrchr(folder, '/');
        if (!slash) return false;
        *slash = '\0';
        snprintf(path, PATH_MAX, "%s/traces/record/record.py", folder);
        if (access(path, R_OK) == 0) return true;
    }
#ifdef KV_SOURCE_DIR
    snprintf(path, PATH_MAX, "%s/traces/record/record.py", KV_SOURCE_DIR);
    return access(path, R_OK) == 0;
#else
    return false;
#endif
}

int kv_record_front(int argc, char **argv, struct kv_error *err)
{
    char path[PATH_MAX];
    if (!find_recorder(path))
        return kv_fail(err, KV_EENVIRONMENT,
                       "trace record: expected traces/record/record.py in the source"
                       " tree, found no such file");
    const char *python = getenv("PYTHON");
    if (!python || !*python) python = "python3";
    char **command = calloc((size_t)argc + 5, sizeof *command);
    if (!command) return kv_fail(err, KV_EMEMORY, "trace record: out of memory");
    command[0] = (char *)python;
    command[1] = "-c";
    command[2] = (char *)check_and_run;
    command[3] = path;
    for (int i = 0; i < argc; i++) command[4 + i] = argv[i];
    fflush(NULL);
    execvp(python, command);
    const int reason = errno;
    free(command);
    return kv_fail(err, KV_EENVIRONMENT,
                   "trace record: %s: expected a Python interpreter, found: %s", python,
                   strerror(reason));
}
