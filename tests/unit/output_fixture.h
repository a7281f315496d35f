/* Made-up but plausible results for the tests of writers, tables and plots. */
#ifndef KVBENCH_UNIT_OUTPUT_FIXTURE_H
#define KVBENCH_UNIT_OUTPUT_FIXTURE_H

#include "harness/run/journal/results.h"

/* Two traces (the second without probes when probes_everywhere is false) of n_layers layers,
 * n_specs methods each out of a list of 40; with more than five, one failed and one answers as
 * another. */
struct kv_results *output_fixture(uint32_t n_specs, uint32_t n_layers, bool probes_everywhere);
void output_fixture_free(struct kv_results *results);

#endif
