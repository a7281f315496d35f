/* Why a call of HDF5 failed, in its words or, where it quotes them, the system's. */
#ifndef KVBENCH_TRACES_H5_REASON_H
#define KVBENCH_TRACES_H5_REASON_H

/* Of the call just before: the next one forgets it. */
void kv_h5_reason(char text[128]);

#endif
