/* `dump`: one method, one layer: decoded keys and values, kept positions, outputs and exact
 * outputs, as HDF5 (cli.md section 5), so that an outside program can recompute every metric. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/commands/arguments.h"
#include "harness/run/cell_row.h"
#include "harness/commands/commands.h"
#include "harness/output/files/aside.h"
#include "harness/output/files/dump_file.h"
#include "harness/run/layers/layer_groups.h"
#include "harness/replay/prompt_statistics.h"
#include "harness/output/files/provenance.h"
#include "harness/replay/layout.h"
#include "harness/replay/question.h"
#include "harness/replay/reference.h"
#include "harness/run/scored.h"
#include "harness/run/layers/survey.h"
#include "methods/spec/spec_wants.h"

struct dump_options {
    const char *trace, *method, *out, *isa;
    uint64_t seed;    /* as of run: 1 unless said */
    uint32_t layer, queries; /* queries 0: all */
    struct kv_numbers heads; /* none: all */
};

struct beside { /* a layer that the method's codecs serve together with the one dumped */
    struct kv_layer *layer;
    struct kv_trace_layer shown;
    struct kv_prompt *prompts;
};

struct dump { /* everything that one dump holds */
    struct dump_options options;
    struct kv_spec_list specs;
    struct kv_kernels kernels;
    struct kv_trace *trace;
    struct kv_layer *owner, *reader;
    struct kv_trace_layer shown[2]; /* descriptions of both, as the spec sees them */
    struct kv_reference *reference;
    struct kv_prompt *prompts;
    struct beside *group; /* [n_group]; the one at `own` is empty: it is dumped */
    uint32_t n_group, own;
    struct kv_layer_survey survey;
    struct kv_pool *pool;
    struct kv_answer_arrays answers;
    uint32_t *scored, n_scored;
    struct kv_replay_account account;
    bool turned; /* answers are of another space than the rows that are written */
    struct kv_dump_file *file;
};

#define FIELD(field) offsetof(struct dump_options, field)

static const struct kv_argument table[] = {
    {"--trace", KV_TEXT, FIELD(trace), "FILE", "the recording", 1},
    {"--method", KV_TEXT, FIELD(method), "SPEC", "one method", 1},
    {"--layer", KV_WHOLE, FIELD(layer), "N", "of those recorded", 0, KV_MOST_NUMBERS - 1},
    {"--out", KV_TEXT, FIELD(out), "FILE", "the HDF5 file to write", 1},
    {"--heads", KV_LIST, FIELD(heads), "LIST", "of KV heads, such as 0,2-3 (default: all)", 0, UINT16_MAX, KV_MOST_NUMBERS},
    {"--queries", KV_WHOLE, FIELD(queries), "all|N", "decode steps to answer, as of run", 1, 4e9},
    {"--isa", KV_TEXT, FIELD(isa), "NAME", "kernel set"},
    {"--seed", KV_SEED, FIELD(seed), "N", "seed of everything random (default 1)"},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "dump", .usage = "kvbench dump --trace FILE --method SPEC --layer N --out FILE.h5\n\n", .table = table};

static int read_arguments(struct dump_options *options, int n, char **words, struct kv_error *err)
{
    const int status = kv_arguments_read(&arguments, options, n, words, err);
    if (status != KV_OK) return status;
    if (options->layer == UINT32_MAX) return kv_fail(err, KV_EUSAGE, "dump: expected --layer N, found nothing");
    if (kv_same_file(options->trace, options->out))
        return kv_fail(err, KV_EUSAGE, "dump: --out %.200s: expected another file than the recording",
                       options->out);
    return KV_OK;
}

static int open_trace(struct dump *dump, struct kv_error *err)
{
    int status = kv_trace_open(&dump->trace, dump->options.trace, 0, err);
    if (status != KV_OK) return status;
    const uint32_t reader = kv_trace_find_layer(dump->trace, dump->options.layer);
    if (reader == dump->trace->n_layers)
        return kv_fail(err, KV_EUSAGE,
                       "%s: --layer %u: expected a recorded layer, found none of that index",
                       dump->options.trace, dump->options.layer);
    const uint32_t owner =
        kv_trace_find_layer(dump->trace, dump->trace->layers[reader].kv_source);
    status = kv_trace_read_layer(&dump->reader, dump->trace, reader,
                                 KV_READ_GRADIENTS | KV_READ_PROJECTION, err);
    dump->owner = dump->reader;
    if (status == KV_OK && owner != reader) {
        dump->owner = NULL;
        status = kv_trace_read_layer(&dump->owner, dump->trace, owner,
                                     KV_READ_GRADIENTS | KV_READ_PROJECTION, err);
    }
    return status;
}

static int reserve(struct dump *dump, struct kv_error *err)
{
    const struct kv_geometry *geometry = &dump->reader->info->geometry;
    dump->pool = kv_pool_create(0);
    dump->scored = calloc(geometry->tokens, sizeof *dump->scored);
    if (!dump->pool || !dump->scored) return kv_fail(err, KV_EMEMORY, "out of memory");
    dump->n_scored =
        kv_choose_scored(geometry->prefill, geometry->tokens, dump->options.queries, dump->scored);
    const size_t rows = (size_t)geometry->q_heads * dump->n_scored;
    float *memory = kv_pool_take(dump->pool, rows * (geometry->value_dim + 4) * sizeof *memory);
    dump->prompts = kv_pool_take(dump->pool, geometry->q_heads * sizeof *dump->prompts);
    if (!memory || !dump->prompts) return kv_fail(err, KV_EMEMORY, "out of memory");
    dump->answers = (struct kv_answer_arrays){.outputs = memory,
                                              .log_sum_exp = memory + rows * geometry->value_dim};
    dump->answers.divergence = dump->answers.log_sum_exp + rows;
    dump->answers.held_mass = dump->answers.divergence + rows;
    dump->answers.drift = dump->answers.held_mass + rows;
    dump->answers.span_mass = dump->answers.drift; /* no spans are asked for */
    return KV_OK;
}

/* Of all recorded layers: the one that is dumped shares its budget with them. */
static int take_survey(struct dump *dump, struct kv_error *err)
{
    if (!kv_survey_wanted(&dump->specs.specs[0])) return KV_OK;
    uint32_t *layers = calloc(dump->trace->n_layers, sizeof *layers);
    if (!layers) return kv_fail(err, KV_EMEMORY, "out of memory");
    for (uint32_t i = 0; i < dump->trace->n_layers; i++) layers[i] = i;
    const int status = kv_survey_take(&dump->survey, &dump->specs.specs[0], dump->trace, layers,
                                      dump->trace->n_layers, &dump->kernels, err);
    free(layers);
    return status;
}

/* Reads the other layers of the dumped layer's group. */
static int open_members(struct dump *dump, const struct kv_layer_group *group, struct kv_error *err)
{
    dump->group = calloc(group->n, sizeof *dump->group);
    if (!dump->group) return kv_fail(err, KV_EMEMORY, "out of memory");
    dump->n_group = group->n;
    int status = KV_OK;
    for (uint32_t m = 0; status == KV_OK && m < group->n; m++) {
        if (dump->trace->layers[group->layers[m]].index == dump->reader->info->index)
            dump->own = m;
        else
            status = kv_trace_read_layer(&dump->group[m].layer, dump->trace, group->layers[m],
                                         KV_READ_GRADIENTS | KV_READ_PROJECTION, err);
    }
    return status;
}

/* The group that `run` forms over all recorded layers, of which this layer is one. */
static int open_group(struct dump *dump, struct kv_error *err)
{
    const uint32_t n = dump->trace->n_layers;
    struct kv_layer_groups groups = {0};
    uint32_t *layers = calloc(n, sizeof *layers);
    if (!layers) return kv_fail(err, KV_EMEMORY, "out of memory");
    for (uint32_t i = 0; i < n; i++) layers[i] = i;
    int status = kv_layer_groups_form(&groups, dump->trace, layers, n, &dump->specs.specs[0], err);
    for (uint32_t g = 0; status == KV_OK && !dump->group && g < groups.n; g++)
        for (uint32_t m = 0; m < groups.groups[g].n; m++)
            if (!dump->group &&
                dump->trace->layers[groups.groups[g].layers[m]].index == dump->reader->info->index)
                status = open_members(dump, &groups.groups[g], err);
    kv_layer_groups_free(&groups);
    free(layers);
    return status;
}

/* What the policies want known of the prompt: of the dumped layer, and of those beside it. */
static int compute_prompts(struct dump *dump, struct kv_error *err)
{
    const uint32_t heads = dump->owner->info->geometry.kv_heads;
    const struct kv_wants wants = kv_spec_wants(&dump->specs.specs[0]);
    int status = KV_OK;
    for (uint32_t m = 0; status == KV_OK && m < dump->n_group; m++) {
        struct beside *member = &dump->group[m];
        const struct kv_layer *layer = m == dump->own ? dump->owner : member->layer;
        member->prompts = m == dump->own ? dump->prompts
                                         : kv_pool_take(dump->pool, heads * sizeof *dump->prompts);
        if (!member->prompts) return kv_fail(err, KV_EMEMORY, "out of memory");
        if (m != dump->own) kv_layer_show(&dump->specs.specs[0], member->layer, &member->shown);
        for (uint32_t h = 0; status == KV_OK && h < heads; h++)
            status = kv_prompt_compute(&member->prompts[h], layer, h, &wants, &dump->kernels,
                                       dump->pool, err);
    }
    return status;
}

/* Heads that the layer has. */
static int check_heads(const struct kv_numbers *heads, uint32_t kv_heads, struct kv_error *err)
{
    for (uint32_t i = 0; i < heads->n; i++)
        if (heads->at[i] >= kv_heads)
            return kv_fail(err, KV_EUSAGE, "dump: --heads: expected KV heads from 0 to %u, found %u", kv_heads - 1,
                           heads->at[i]);
    return KV_OK;
}

static int prepare(struct dump *dump, struct kv_error *err)
{
    int status = kv_spec_parse(&dump->specs, dump->options.method, err);
    if (status == KV_OK && dump->specs.n != 1)
        status =
            kv_fail(err, KV_EUSAGE, "dump: --method: expected one spec, found %u", dump->specs.n);
    if (status == KV_OK) status = kv_kernels_fill(&dump->kernels, dump->options.isa, err);
    if (status == KV_OK) status = open_trace(dump, err);
    const struct kv_spec *spec = status == KV_OK ? &dump->specs.specs[0] : NULL;
    if (status == KV_OK)
        status = kv_layout_check(spec, dump->reader->info, dump->owner->info, err);
    if (status == KV_OK)
        status = check_heads(&dump->options.heads, kv_layout_lanes(spec, dump->owner->info), err);
    if (status == KV_OK)
        status = kv_question_check(spec, dump->trace->question_start, dump->trace->prefill, err);
    if (status == KV_OK) status = open_group(dump, err);
    if (status == KV_OK) status = reserve(dump, err);
    if (status == KV_OK) status = take_survey(dump, err);
    if (status != KV_OK) return status;
    const struct kv_layer recorded = *dump->reader;
    kv_layer_show(spec, dump->reader, &dump->shown[0]);
    if (dump->owner != dump->reader) kv_layer_show(spec, dump->owner, &dump->shown[1]);
    const struct kv_reference_input input = {.layer = &recorded,
                                             .kernels = &dump->kernels,
                                             .n_scored = dump->n_scored,
                                             .scored = dump->scored,
                                             .version = kv_code_version(),
                                             .threads = 1};
    status = kv_reference_get(&dump->reference, &input, err);
    if (status == KV_OK && dump->reader->info->geometry.copies)
        status = kv_layout_part_reference(dump->reference, &recorded.info->geometry, dump->n_scored, 0, err);
    return status == KV_OK ? compute_prompts(dump, err) : status;
}

/* [kv_heads][scored][group][dim] -> [q_heads][scored][dim], as the file has it. */
static int write_outputs(struct dump *dump, const char *name, const float *rows,
                         struct kv_error *err)
{
    const struct kv_geometry *geometry = &dump->reader->info->geometry;
    const uint64_t dims[3] = {geometry->q_heads, dump->n_scored, geometry->value_dim};
    float *sorted = malloc(dims[0] * dims[1] * dims[2] * sizeof *sorted);
    if (!sorted) return kv_fail(err, KV_EMEMORY, "out of memory");
    for (uint32_t q = 0; q < geometry->q_heads; q++)
        for (uint32_t s = 0; s < dump->n_scored; s++) {
            const size_t row =
                ((size_t)(q / geometry->group) * dump->n_scored + s) * geometry->group +
                q % geometry->group;
            memcpy(sorted + ((size_t)q * dump->n_scored + s) * dims[2], rows + row * dims[2],
                   dims[2] * sizeof *sorted);
        }
    const int status = kv_dump_floats(dump->file, name, 3, dims, sorted, err);
    free(sorted);
    return status;
}

/* positions and read_from are [2][n], keys and values [n][key_dim] and [n][value_dim] behind. */
static int write_rows(struct dump *dump, uint32_t head, uint32_t n, const int64_t *positions,
                      const float *rows, struct kv_error *err)
{
    const struct kv_geometry *geometry = &dump->owner->info->geometry;
    const uint64_t dims[2][2] = {{n, geometry->key_dim}, {n, geometry->value_dim}};
    char name[2][64];
    int status = KV_OK;
    for (int part = 0; status == KV_OK && part < 2; part++) {
        snprintf(name[0], sizeof name[0], "head/%u/%s", head, part ? "read_from" : "positions");
        snprintf(name[1], sizeof name[1], "head/%u/%s", head, part ? "values" : "keys");
        status = kv_dump_integers(dump->file, name[0], n, positions + part * (size_t)n, err);
        if (status == KV_OK)
            status = kv_dump_floats(dump->file, name[1], 2, dims[part],
                                    rows + part * n * (size_t)geometry->key_dim, err);
    }
    return status;
}

/* The rows that lane `index` of both caches holds at the end, ascending, and since when they are
 * read in this form: after the last step for a row that was encoded only behind its answer. */
static int write_head(struct dump *dump, uint32_t head, struct kv_cache *caches[2], uint32_t index,
                      struct kv_error *err)
{
    const struct kv_geometry *geometry = &dump->owner->info->geometry;
    uint32_t n = 0;
    for (int c = 0; c < 2 && caches[c]; c++) n += caches[c]->lanes[index].n;
    const size_t width = geometry->key_dim + geometry->value_dim;
    int64_t *positions = malloc((n + 1) * 2 * sizeof *positions), *read_from = positions + n;
    float *keys = malloc((n + 1) * width * sizeof *keys),
          *values = keys ? keys + (size_t)n * geometry->key_dim : NULL;
    int status = positions && keys ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory");
    uint32_t at = 0;
    for (uint32_t t = 0; status == KV_OK && t < geometry->tokens; t++)
        for (int c = 0; c < 2 && caches[c]; c++) {
            const struct kv_held *lane = &caches[c]->lanes[index];
            const uint32_t line = lane->line_of[t];
            if (line >= lane->lines.n || lane->lines.position[line] != t ||
                lane->lines.until[line] != UINT32_MAX)
                continue;
            kv_cache_read(caches[c], index, 1, &t, keys + (size_t)at * geometry->key_dim,
                          values + (size_t)at * geometry->value_dim);
            read_from[at] = lane->lines.from[line];
            positions[at++] = t;
        }
    if (status == KV_OK) status = write_rows(dump, head, n, positions, keys, err);
    free(positions);
    free(keys);
    return status;
}

static bool head_wanted(const struct kv_numbers *heads, uint32_t head)
{
    bool wanted = heads->n == 0;
    for (uint32_t i = 0; i < heads->n; i++) wanted |= heads->at[i] == head;
    return wanted;
}

/* The dumped layer is answered; those beside it are only replayed. */
static struct kv_replay replay_of(const struct dump *dump, uint32_t m, uint32_t first, uint32_t n)
{
    const struct kv_spec *spec = &dump->specs.specs[0];
    const bool own = m == dump->own;
    const struct kv_layer *owner = own ? dump->owner : dump->group[m].layer;
    const struct kv_trace_layer *info = owner->info;
    return (struct kv_replay){
        .owner = owner,
        .reader = own ? dump->reader : owner,
        .spec = spec,
        .kernels = &dump->kernels,
        .prompts = dump->group[m].prompts,
        .survey = kv_survey_at(&dump->survey, info->index),
        .first_head = first,
        .n_heads = n,
        .n_scored = own ? dump->n_scored : 0,
        .scored = dump->scored,
        .exact_log_sum_exp = dump->reference->log_sum_exp,
        .seed = dump->options.seed,
        .answers = dump->answers,
        .exact_layer = kv_spec_is_exact_layer(spec, info->index, info->geometry.model_layers)};
}

static int replay_unit(struct dump *dump, uint32_t first, uint32_t heads, struct kv_pool *pool,
                       struct kv_error *err)
{
    const uint32_t n = dump->n_group, own = dump->own;
    struct kv_replay *replays = kv_pool_take(pool, n * sizeof *replays);
    struct kv_replay_account *accounts = kv_pool_take(pool, n * sizeof *accounts);
    struct kv_cache **caches = kv_pool_take(pool, 2 * (size_t)n * sizeof *caches);
    if (!replays || !accounts || !caches) return kv_fail(err, KV_EMEMORY, "out of memory");
    for (uint32_t m = 0; m < n; m++) replays[m] = replay_of(dump, m, first, heads);
    int status = kv_replay_keep(replays, n, accounts, pool, caches, caches + n, err);
    struct kv_cache *of_layer[2] = {caches[own], caches[n + own]}; /* none where no rows are kept */
    for (uint32_t b = 0; status == KV_OK && of_layer[0] && b < of_layer[0]->n_banks; b++)
        dump->turned |= of_layer[0]->banks[b].must_turn;
    for (uint32_t i = 0; status == KV_OK && i < heads; i++)
        if (head_wanted(&dump->options.heads, first + i))
            status = write_head(dump, first + i, of_layer, i, err);
    if (status == KV_OK) kv_account_add(&dump->account, &accounts[own]);
    return status;
}

static int replay_units(struct dump *dump, struct kv_error *err)
{
    const struct kv_geometry *geometry = &dump->owner->info->geometry;
    const uint32_t heads = kv_replay_unit_heads(&dump->specs.specs[0], geometry);
    int status = KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < geometry->kv_heads; h += heads) {
        struct kv_pool *pool = kv_pool_create(0);
        if (!pool) return kv_fail(err, KV_EMEMORY, "out of memory");
        status = replay_unit(dump, h, heads, pool, err);
        kv_pool_destroy(pool);
    }
    return status;
}

static int write_attributes(struct dump *dump, struct kv_error *err)
{
    const struct kv_cache_bytes *bytes = &dump->account.bytes;
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {
        {"payload_bytes", bytes->payload[0] + bytes->payload[1]},
        {"metadata_bytes", bytes->metadata[0] + bytes->metadata[1] + dump->account.policy_bytes},
        {"residual_bytes", bytes->residual[0] + bytes->residual[1]},
        {"basis_bytes", bytes->basis[0] + bytes->basis[1] + dump->account.shared_basis},
        {"payload_bytes_key", bytes->payload[0]},
        {"payload_bytes_value", bytes->payload[1]},
        {"metadata_bytes_key", bytes->metadata[0]},
        {"metadata_bytes_value", bytes->metadata[1]},
        {"residual_bytes_key", bytes->residual[0]},
        {"residual_bytes_value", bytes->residual[1]},
        {"basis_bytes_key", bytes->basis[0]},
        {"basis_bytes_value", bytes->basis[1]},
        {"offloaded_bytes", bytes->offloaded[0] + bytes->offloaded[1]},
        {"offloaded_bytes_key", bytes->offloaded[0]},
        {"offloaded_bytes_value", bytes->offloaded[1]},
        {"policy_bytes", dump->account.policy_bytes},
        {"workspace_bytes", dump->account.workspace_bytes},
        {"turned", dump->turned},
        {"layer", dump->reader->info->index},
        {"seed", (int64_t)dump->options.seed}};
    int status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < sizeof counts / sizeof *counts; i++)
        status = kv_dump_attribute(dump->file, counts[i].name, counts[i].value, err);
    if (status == KV_OK)
        status = kv_dump_text(dump->file, "method", dump->specs.specs[0].text, err);
    if (status == KV_OK)
        status = kv_dump_text(dump->file, "trace_hash", dump->trace->content_hash, err);
    if (status == KV_OK) status = kv_dump_text(dump->file, "isa", dump->kernels.isa, err);
    return status;
}

static int write_file(struct dump *dump, struct kv_error *err)
{
    int status = kv_dump_create(&dump->file, dump->options.out, err);
    if (status == KV_OK) status = replay_units(dump, err);
    if (status == KV_OK) status = write_outputs(dump, "output", dump->answers.outputs, err);
    if (status == KV_OK) status = write_outputs(dump, "reference", dump->reference->outputs, err);
    int64_t *queries = calloc(dump->n_scored, sizeof *queries);
    if (!queries && status == KV_OK) status = kv_fail(err, KV_EMEMORY, "out of memory");
    for (uint32_t s = 0; queries && s < dump->n_scored; s++) queries[s] = dump->scored[s];
    if (status == KV_OK)
        status = kv_dump_integers(dump->file, "queries", dump->n_scored, queries, err);
    free(queries);
    if (status == KV_OK) status = write_attributes(dump, err);
    struct kv_error late;
    const int closed = kv_dump_close(dump->file, status == KV_OK, &late);
    if (status == KV_OK && closed != KV_OK) status = closed, *err = late;
    return status;
}

int kv_cmd_dump(int argc, char **argv, struct kv_error *err)
{
    struct dump dump = {.options = {.isa = "auto", .seed = 1, .layer = UINT32_MAX}};
    int status = read_arguments(&dump.options, argc - 1, argv + 1, err);
    if (status == KV_OK) status = prepare(&dump, err);
    if (status == KV_OK) status = write_file(&dump, err);
    kv_reference_free(dump.reference);
    if (dump.owner != dump.reader) kv_layer_free(dump.owner);
    kv_layer_free(dump.reader);
    for (uint32_t m = 0; m < dump.n_group; m++) kv_layer_free(dump.group[m].layer);
    free(dump.group);
    kv_trace_close(dump.trace);
    kv_pool_destroy(dump.pool);
    free(dump.scored);
    kv_survey_free(&dump.survey);
    kv_spec_free(&dump.specs);
    return status;
}
