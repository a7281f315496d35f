/* Lists of named things: built once as objects, printed as JSON or as columns. */
#ifndef KVBENCH_HARNESS_LISTING_H
#define KVBENCH_HARNESS_LISTING_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "harness/base/status.h"

/* Sets a key of an object; NULL is "". False without memory. */
bool kv_listing_text(cJSON *object, const char *name, const char *text);

/* Appends a new object to the list; NULL without memory. */
cJSON *kv_listing_object(cJSON *list);

/* The text of a key; "" where there is none. */
const char *kv_listing_get(const cJSON *object, const char *key);

/* Characters of the longest text of a key. */
int kv_listing_width(const cJSON *list, const char *key);

/* Up to three keys as columns; a line between kinds when the objects have one. */
void kv_listing_print(const cJSON *list, const char *const keys[3]);

int kv_listing_json(const cJSON *what, struct kv_error *err);

#endif
