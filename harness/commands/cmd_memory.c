/* kvbench memory: bytes of any model's cache, without a recording. The order of work;
 * the arithmetic is in memory.c (methods and savings) and serving.c. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/commands/commands.h"
#include "harness/commands/memory_options.h"
#include "harness/memory/memory.h"
#include "harness/memory/memory_plot.h"
#include "harness/memory/memory_rows.h"
#include "harness/memory/serving.h"
#include "harness/output/files/writers.h"

struct work {
    const struct kv_memory_options *options;
    const struct kv_spec_list *specs;
    const struct kv_kernels *kernels;
    struct kv_memory_rows *rows;
    struct kv_memory_plot *plot;
    struct kv_model model;
    uint32_t context;
    int64_t weights; /* bytes; KV_MEMORY_NOTHING when nobody knows */
};

static struct kv_memory_setting setting_of(const struct kv_memory_options *options)
{
    return (struct kv_memory_setting){.decode = (uint32_t)options->decode,
                                      .element_bits = (uint32_t)options->element_bits,
                                      .state_bits = (uint32_t)options->state_bits,
                                      .all_rows = options->all_rows};
}

static int64_t weights_of(const struct kv_memory_options *options, const struct kv_model *model)
{
    if (model->weights_bytes && options->weights_bits == 0) return (int64_t)model->weights_bytes;
    if (!model->parameters) return KV_MEMORY_NOTHING;
    const double bits = options->weights_bits > 0 ? options->weights_bits : 16;
    return (int64_t)ceil((double)model->parameters * bits / 8);
}

/* bytes * batch, or an error past 2^63. */
static int times(int64_t *product, int64_t bytes, uint64_t batch, struct kv_error *err)
{
    if (__builtin_mul_overflow(bytes, (int64_t)batch, product))
        return kv_fail(err, KV_EUSAGE,
                       "memory: more than 2^63 bytes: expected a smaller context or batch");
    return KV_OK;
}

static struct kv_memory_row *new_row(struct work *work, enum kv_memory_part part, const char *item)
{
    struct kv_memory_row *row = kv_memory_add(work->rows, work->model.name, part);
    if (!row) return NULL;
    snprintf(row->item, sizeof row->item, "%.511s", item);
    row->value[KV_MC_CONTEXT] = work->context;
    row->value[KV_MC_BATCH] = (int64_t)work->options->batch;
    row->value[KV_MC_WEIGHTS] = work->weights;
    if (work->model.parameters) row->value[KV_MC_PARAMETERS] = (int64_t)work->model.parameters;
    return row;
}

static void fill_fit(struct work *work, struct kv_memory *memory, int64_t sequence,
                     struct kv_memory_row *row)
{
    const int64_t weights = work->weights == KV_MEMORY_NOTHING ? 0 : work->weights;
    const int64_t left = (int64_t)work->options->fit - weights;
    if (work->weights > 0) {
        const int64_t reach = kv_memory_reach(memory, work->weights);
        if (reach > 0) row->value[KV_MC_BREAK_EVEN] = reach;
    }
    if (!work->options->fit) return;
    const int64_t most =
        kv_memory_most_context(memory, left < 0 ? -1 : left / (int64_t)work->options->batch);
    if (most >= 0) row->value[KV_MC_FIT_CONTEXT] = most;
    if (left < 0 || sequence > 0) row->value[KV_MC_FIT_BATCH] = left < 0 ? 0 : left / sequence;
}

/* Where the data decide: between which figures. */
static void note_bounds(const struct kv_memory_bytes *bytes, struct kv_memory_row *row)
{
    const char *what = !bytes->varies ? "this"
                       : bytes->smaller
                           ? "more than this: parts vary in size, and this is the average"
                           : "more than this: parts vary in size";
    if (bytes->varies || bytes->least < bytes->total)
        snprintf(row->note, sizeof row->note,
                 "the data decide: from least_bytes %" PRId64 " to %s%s", row->value[KV_MC_LEAST],
                 what, bytes->sampled ? ", in two made-up recordings" : "");
}

/* Likewise of what lies on the host, a batch's. */
static void note_host_bounds(const struct kv_memory_bytes *bytes, uint64_t batch,
                             struct kv_memory_row *row)
{
    const size_t length = strlen(row->note);
    if (bytes->offloaded_least < bytes->offloaded_most)
        snprintf(row->note + length, sizeof row->note - length,
                 "%son the host, the data decide: from %" PRId64 " to %" PRId64 " bytes",
                 length ? "; " : "", bytes->offloaded_least * (int64_t)batch,
                 bytes->offloaded_most * (int64_t)batch);
}

static int fill_method(struct work *work, struct kv_memory *memory, struct kv_memory_row *row,
                       struct kv_error *err)
{
    struct kv_memory_total total;
    const uint64_t batch = work->options->batch;
    int status = kv_memory_at(memory, work->context, &total, err);
    if (status != KV_OK) return status;
    const struct {
        enum kv_memory_column column;
        int64_t bytes;
    } parts[] = {{KV_MC_BYTES, total.total},
                 {KV_MC_LEAST, total.cache.least - total.cache.smaller + total.state + total.index},
                 {KV_MC_PAYLOAD, total.cache.payload},
                 {KV_MC_METADATA, total.cache.metadata},
                 {KV_MC_RESIDUAL, total.cache.residual},
                 {KV_MC_BASIS, total.cache.basis},
                 {KV_MC_STATE, total.state},
                 {KV_MC_INDEX, total.index},
                 {KV_MC_OFFLOADED, total.cache.offloaded}};
    for (size_t i = 0; status == KV_OK && i < sizeof parts / sizeof *parts; i++)
        status = times(&row->value[parts[i].column], parts[i].bytes, batch, err);
    if (status != KV_OK) return status;
    row->bytes_per_token = (double)total.total / work->context;
    if (total.elements)
        row->bits_per_element = 8.0 * (double)total.cache.total / (double)total.elements;
    if (total.cache.total)
        row->compression_ratio = (double)work->options->element_bits / row->bits_per_element;
    if (work->weights > 0)
        row->of_weights = (double)row->value[KV_MC_BYTES] / (double)work->weights;
    note_bounds(&total.cache, row);
    note_host_bounds(&total.cache, batch, row);
    fill_fit(work, memory, total.total, row);
    return KV_OK;
}

/* What a method cannot do is a row that says so. */
static int forgive(int status, struct kv_memory_row *row, const struct kv_error *err)
{
    if (status != KV_EUNSUPPORTED && status != KV_ESKIPPED) return status;
    row->status = status == KV_ESKIPPED ? "skipped" : "unsupported";
    snprintf(row->note, sizeof row->note, "%.255s", err->text);
    return KV_OK;
}

static int add_method(struct work *work, const struct kv_spec *spec, struct kv_error *err)
{
    struct kv_memory *memory = NULL;
    const struct kv_memory_setting setting = setting_of(work->options);
    struct kv_memory_row *row = new_row(work, KV_PART_METHOD, spec->text);
    if (!row) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    int status = kv_memory_open(&memory, &work->model, spec, &setting, work->kernels, err);
    if (status == KV_OK) status = fill_method(work, memory, row, err);
    if (status == KV_OK && work->plot)
        status = kv_memory_plot_add(work->plot, work->model.name, spec->asked, memory,
                                    work->weights, err);
    kv_memory_close(memory);
    return forgive(status, row, err);
}

/* One step of the chain: the model with the savings so far, in 16 or 32 bits. */
static int add_saving(struct work *work, enum kv_saving saving, const struct kv_spec *exact,
                      int64_t *first, struct kv_error *err)
{
    struct kv_model model;
    struct kv_memory *memory = NULL;
    struct kv_memory_total total;
    struct kv_memory_setting setting = setting_of(work->options);
    bool applies;
    int status = kv_model_with_savings(&model, &work->model, saving, &applies, err);
    if (status == KV_OK && applies)
        status = kv_memory_open(&memory, &model, exact, &setting, work->kernels, err);
    if (status == KV_OK && applies) status = kv_memory_at(memory, work->context, &total, err);
    if (status == KV_OK && applies) {
        struct kv_memory_row *row = new_row(work, KV_PART_CHAIN, kv_saving_names[saving]);
        status = row ? times(&row->value[KV_MC_BYTES], total.total, work->options->batch, err)
                     : kv_fail(err, KV_EMEMORY, "memory: out of memory");
        if (status == KV_OK && saving == KV_SAVING_NONE) *first = row->value[KV_MC_BYTES];
        if (status == KV_OK && row->value[KV_MC_BYTES])
            row->compression_ratio = (double)*first / (double)row->value[KV_MC_BYTES];
    }
    kv_memory_close(memory);
    kv_model_free(&model);
    return status;
}

/* The method comes last, mostly precision: the smallest of the methods that were asked for. */
static int add_least_method(struct work *work, uint32_t first_method, int64_t first,
                            struct kv_error *err)
{
    const struct kv_memory_row *least = NULL;
    char item[560];
    for (uint32_t r = first_method; r < work->rows->n; r++) {
        const struct kv_memory_row *row = &work->rows->row[r];
        if (row->value[KV_MC_BYTES] > 0 &&
            (!least || row->value[KV_MC_BYTES] < least->value[KV_MC_BYTES]))
            least = row;
    }
    if (!least) return KV_OK;
    const int64_t bytes = least->value[KV_MC_BYTES];
    snprintf(item, sizeof item, "method%s: %.500s",
             least->value[KV_MC_OFFLOADED] > 0 ? ", and more on the host" : "", least->item);
    struct kv_memory_row *row = new_row(work, KV_PART_CHAIN, item);
    if (!row) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    row->value[KV_MC_BYTES] = bytes;
    row->compression_ratio = (double)first / (double)bytes;
    return KV_OK;
}

static int add_chain(struct work *work, int64_t *first, struct kv_error *err)
{
    struct kv_spec_list exact;
    int status = kv_spec_parse(&exact, work->options->element_bits == 32 ? "f32" : "f16", err);
    if (status != KV_OK) return status;
    for (int saving = 0; status == KV_OK && saving < KV_SAVINGS; saving++)
        status = add_saving(work, (enum kv_saving)saving, &exact.specs[0], first, err);
    kv_spec_free(&exact);
    return status;
}

static int add_serving(struct work *work, const struct kv_serving_type *type, struct kv_error *err)
{
    const struct kv_memory_options *options = work->options;
    const struct kv_serving_setting setting = {
        .context = work->context,
        .block = (uint32_t)options->block,
        .chunk = (uint32_t)options->chunk,
        .tensor = (uint32_t)options->tensor,
        .contexts = (uint32_t)options->contexts,
        .ring = (uint32_t)options->ring,
        .users = (uint32_t)options->users,
        .prefix = options->prefix < work->context ? (uint32_t)options->prefix : work->context,
        .state_bits = (uint32_t)options->state_bits,
        .all_rows = options->all_rows};
    struct kv_serving serving;
    char item[128];
    snprintf(item, sizeof item, "%s %s", type->engine, type->name);
    struct kv_memory_row *row = new_row(work, KV_PART_SERVING, item);
    if (!row) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    snprintf(row->note, sizeof row->note, "%s", type->note);
    int status = kv_serving_count(&serving, &work->model, type, &setting, err);
    if (status != KV_OK) return forgive(status, row, err);
    const struct {
        enum kv_memory_column column;
        int64_t bytes;
    } parts[] = {{KV_MC_BYTES, serving.used},
                 {KV_MC_ALLOCATED, serving.allocated},
                 {KV_MC_WASTE, serving.allocated - serving.used},
                 {KV_MC_DEVICE, serving.device},
                 {KV_MC_RING, serving.ring_device}};
    for (size_t i = 0; status == KV_OK && i < sizeof parts / sizeof *parts; i++)
        status = times(&row->value[parts[i].column], parts[i].bytes, options->batch, err);
    row->value[KV_MC_BLOCK] = serving.block;
    row->value[KV_MC_USERS] = serving.users, row->value[KV_MC_USERS_SHARED] = serving.users_shared;
    if (setting.ring == 1) row->value[KV_MC_RING] = KV_MEMORY_NOTHING;
    if (setting.users == 1)
        row->value[KV_MC_USERS] = row->value[KV_MC_USERS_SHARED] = KV_MEMORY_NOTHING;
    return status;
}

/* -- headings --------------------------------------------------------------------------------- */

struct shape_count {
    uint32_t full, local, latent, state, shared, heads, key_dim;
};

static struct shape_count count_layers(const struct kv_model *model)
{
    struct shape_count n = {0};
    for (uint32_t i = 0; i < model->n_layers; i++) {
        const struct kv_model_layer *layer = &model->layers[i];
        n.state += layer->state_elements > 0;
        if (layer->kind == KV_LAYER_NONE) continue;
        if (layer->source != i)
            n.shared++;
        else if (layer->kind == KV_LAYER_FULL)
            n.full++;
        else if (layer->kind == KV_LAYER_MLA)
            n.latent++;
        else
            n.local++;
        n.heads = layer->kv_heads, n.key_dim = layer->key_dim;
    }
    return n;
}

static void add_count(char *text, size_t capacity, uint32_t n, const char *what)
{
    const size_t length = strlen(text);
    if (n) snprintf(text + length, capacity - length, ", %u %s", n, what);
}

static int add_heading(struct work *work, struct kv_error *err)
{
    const struct kv_model *model = &work->model;
    const struct shape_count n = count_layers(model);
    struct kv_memory_rows *rows = work->rows;
    struct kv_memory_model *more = realloc(rows->model, (rows->n_models + 1) * sizeof *more);
    char human[16], weights[160] = "weights unknown";
    if (!more) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    rows->model = more;
    struct kv_memory_model *heading = &rows->model[rows->n_models++];
    snprintf(heading->name, sizeof heading->name, "%s", model->name);
    snprintf(heading->source, sizeof heading->source, "%s", model->source);
    char *text = heading->heading;
    const size_t capacity = sizeof heading->heading;
    snprintf(text, capacity, "%s, %u layers", model->model_type, model->n_layers);
    add_count(text, capacity, n.full, "global");
    add_count(text, capacity, n.local, "local");
    add_count(text, capacity, n.latent, "with a latent");
    add_count(text, capacity, n.shared, "that read another's cache");
    add_count(text, capacity, n.state, "with a state");
    if (work->weights != KV_MEMORY_NOTHING)
        snprintf(weights, sizeof weights,
                 "%" PRIu64 " parameters%s, %" PRId64 " bytes of weights (%s)", model->parameters,
                 model->counted ? " by formula" : "", work->weights,
                 kv_memory_human(work->weights, human));
    const size_t length = strlen(text);
    snprintf(text + length, capacity - length, "; %s; %u tokens, batch %" PRIu64 "%s", weights,
             work->context, work->options->batch,
             model->max_context && work->context > model->max_context
                 ? " (more than the model takes)"
                 : "");
    return KV_OK;
}

static int add_model(struct work *work, const char *name, struct kv_error *err)
{
    const struct kv_memory_options *options = work->options;
    int status = kv_model_read(&work->model, name, err);
    if (status != KV_OK) return status;
    const uint32_t most = work->model.max_context ? work->model.max_context : 32768;
    work->context = options->context ? (uint32_t)options->context : most < 32768 ? most : 32768;
    work->weights = weights_of(options, &work->model);
    int64_t first = 0;
    status = add_heading(work, err);
    if (status == KV_OK) status = add_chain(work, &first, err);
    const uint32_t first_method = work->rows->n;
    for (uint32_t s = 0; status == KV_OK && s < work->specs->n; s++)
        status = add_method(work, &work->specs->specs[s], err);
    if (status == KV_OK) status = add_least_method(work, first_method, first, err);
    for (int t = 0; status == KV_OK && options->serving && kv_serving_types[t].engine; t++)
        status = add_serving(work, &kv_serving_types[t], err);
    kv_model_free(&work->model);
    return status;
}

static int run(const struct kv_memory_options *options, struct kv_error *err)
{
    struct kv_spec_list specs = {0};
    struct kv_kernels kernels;
    struct kv_memory_rows rows = {0};
    struct kv_memory_plot *plot = NULL;
    int status = kv_kernels_fill(&kernels, "auto", err);
    if (status == KV_OK) status = kv_spec_parse(&specs, options->methods, err);
    if (status == KV_OK && options->plot) status = kv_memory_plot_open(&plot, options->plot, err);
    struct work work = {
        .options = options, .specs = &specs, .kernels = &kernels, .rows = &rows, .plot = plot};
    for (uint32_t m = 0; status == KV_OK && m < options->n_models; m++)
        status = add_model(&work, options->models[m], err);
    if (status == KV_OK) status = kv_memory_write(stdout, &rows, options->format, err);
    if (status == KV_OK && plot) status = kv_memory_plot_draw(plot, err);
    kv_memory_plot_close(plot);
    kv_memory_rows_free(&rows);
    kv_spec_free(&specs);
    return status;
}

int kv_cmd_memory(int argc, char **argv, struct kv_error *err)
{
    struct kv_memory_options options;
    int status = kv_memory_options_read(&options, argc - 1, argv + 1, err);
    if (status == KV_OK) status = run(&options, err);
    kv_memory_options_free(&options);
    return status;
}
