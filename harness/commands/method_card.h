/* One method by name: summary, paper, parameters, what it can do, and the head comment of its
 * source. */
#ifndef KVBENCH_HARNESS_METHOD_CARD_H
#define KVBENCH_HARNESS_METHOD_CARD_H

#include <stdbool.h>

#include "harness/base/status.h"

/* True when there is a method, or a preset, of that name. */
bool kv_method_is_known(const char *name);

/* Prints the card of a known one. */
int kv_method_card(const char *name, bool json, struct kv_error *err);

#endif
