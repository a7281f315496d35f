/* Names of a trace file's objects (schema.md). */
#ifndef KVBENCH_TRACES_SCHEMA_H
#define KVBENCH_TRACES_SCHEMA_H

#define KV_TRACE_FORMAT "kvbench-trace"
enum { KV_TRACE_VERSION = 1 };

/* NULL-terminated; which of them a file must have is the reader's business. */
extern const char *const kv_schema_root_attributes[];   /* without content_hash and recorder */
extern const char *const kv_schema_root_datasets[];
extern const char *const kv_schema_layer_attributes[];
extern const char *const kv_schema_layer_datasets[];

#endif
