/* How files are opened, for whoever calls the library itself: within one process it asks for the same
 * every time. */
#ifndef KVBENCH_TRACES_H5_ACCESS_H
#define KVBENCH_TRACES_H5_ACCESS_H

#include <hdf5.h>

/* Without locks (some file systems have none) and with everything closed when the file is. The
 * caller's to close; below 0: none. */
hid_t kv_h5_access_list(void);

#endif
