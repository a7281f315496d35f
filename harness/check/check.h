/* The conformance kit: what every method must hold, whatever it does. */
#ifndef KVBENCH_HARNESS_CHECK_H
#define KVBENCH_HARNESS_CHECK_H

#include <stdio.h>

#include "methods/spec/spec.h"

struct kv_check_counts { uint32_t passed, failed, skipped; };

/* Runs every invariant on one spec, prints a line each to out (only failures when quiet). */
void kv_check_spec(const struct kv_spec *spec, const char *isa, bool quiet, FILE *out,
                   struct kv_check_counts *counts);

/* Name and meaning of every invariant, ended by NULL. */
struct kv_invariant_text { const char *name, *meaning; };
const struct kv_invariant_text *kv_check_list(void);

#endif
