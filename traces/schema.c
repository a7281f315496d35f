/* Names of a trace file's objects; see schema.h. */
#include "traces/schema.h"

#include <stddef.h>

const char *const kv_schema_root_attributes[] = {
    "format", "version", "model", "model_digest", "model_config", "text", "tokens",
    "prefill_length", "question_start", NULL};

const char *const kv_schema_root_datasets[] = {"token_ids", "positions", "nll", NULL};

const char *const kv_schema_layer_attributes[] = {
    "scale", "softcap", "kind", "window", "kv_source", "rope_layout", "rope_dims", "rope_scale",
    "attn_post_norm", "qk_norm", "v_is_k_prefix", NULL};

const char *const kv_schema_layer_datasets[] = {
    "q", "k", "v", "w_o", "x2", "sink_logits", "rope_inv_freq", NULL};
