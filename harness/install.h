/* Where the program's own files are: the source tree that it was built from. */
#ifndef KVBENCH_HARNESS_INSTALL_H
#define KVBENCH_HARNESS_INSTALL_H

/* A file of the tree ("traces/data/prose.h5"), found beside the running binary (the tree above
 * build/harness/kvbench) or, failing that, where it was compiled. Caller frees; NULL without
 * memory. */
char *kv_install_path(const char *relative);

#endif
