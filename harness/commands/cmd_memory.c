/* kvbench memory: bytes of any model's cache, without a recording. Options, the order of work; the
 * arithmetic is in memory.c (methods and savings) and serving.c. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/commands/commands.h"
#include "harness/memory/memory.h"
#include "harness/memory/memory_plot.h"
#include "harness/memory/memory_rows.h"
#include "harness/memory/serving.h"
#include "harness/output/writers.h"

enum { MOST_MODELS = 64 };

static const char usual_methods[] = "f16,int:bits=8,int:bits=4,kivi:bits=2,turboquant:bits=3";

struct options {
    char *models[MOST_MODELS];
    uint32_t n_models;
    char *methods;
    const char *format, *plot;
    uint64_t context, batch, decode, element_bits, state_bits, block, chunk, tensor, contexts, ring,
        users, prefix, fit;
    double weights_bits;
    bool all_rows, serving;
};

/* -- options ---------------------------------------------------------------------------------- */

/* 8GiB, 80GB, 128Ki, 32k, 7: a whole number of bytes or tokens. */
static bool read_amount(const char *text, uint64_t *amount)
{
    static const struct {
        const char *suffix;
        double factor;
    } units[] = {
        {"", 1},     {"k", 1e3},   {"K", 1e3},      {"M", 1e6},         {"G", 1e9},
        {"T", 1e12}, {"Ki", 1024}, {"Mi", 1048576}, {"Gi", 1073741824}, {"Ti", 1099511627776}};
    char *end, suffix[8];
    const double value = strtod(text, &end);
    if (end == text || *text == '-' || !isfinite(value) || strlen(end) > 3) return false;
    strcpy(suffix, end);
    const size_t length = strlen(suffix);
    if (length && suffix[length - 1] == 'B') suffix[length - 1] = 0;
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        const double product = value * units[u].factor;
        if (strcmp(units[u].suffix, suffix) != 0) continue;
        if (product > 0x1p53 || product != floor(product)) return false;
        *amount = (uint64_t)product;
        return true;
    }
    return false;
}

static const struct option {
    const char *name;
    size_t offset;
    double least, most;
    bool serving; /* asks for the serving tables too */
    const char *meaning;
} amounts[] = {
    {"--context", offsetof(struct options, context), 1, 1 << 30, false,
     "tokens of a sequence (default: 32Ki, or what the model takes)"},
    {"--batch", offsetof(struct options, batch), 1, 1e9, false, "sequences"},
    {"--decode", offsetof(struct options, decode), 0, 1 << 24, false,
     "of the context, tokens that came one by one"},
    {"--element-bits", offsetof(struct options, element_bits), 16, 32, false,
     "of rows that are kept as they are: 16 or 32"},
    {"--state-bits", offsetof(struct options, state_bits), 8, 32, false,
     "of recurrent states: 8, 16 or 32"},
    {"--fit", offsetof(struct options, fit), 1, 0x1p53, false,
     "memory for weights and cache, such as 8GiB"},
    {"--block", offsetof(struct options, block), 1, 1 << 20, true,
     "tokens of a block (default: the engine's)"},
    {"--chunk", offsetof(struct options, chunk), 1, 1 << 30, true, "prompt tokens of one step"},
    {"--tp", offsetof(struct options, tensor), 1, 65536, true, "devices that share heads"},
    {"--cp", offsetof(struct options, contexts), 1, 65536, true, "devices that share the context"},
    {"--ring", offsetof(struct options, ring), 1, 65536, true, "devices of a ring"},
    {"--users", offsetof(struct options, users), 1, 1e9, true, "users of one prefix"},
    {"--prefix", offsetof(struct options, prefix), 0, 1 << 30, true, "tokens of that prefix"}};

enum { N_AMOUNTS = sizeof amounts / sizeof *amounts };

static const char *const known[] = {
    "--model",      "--methods", "--format",  "--plot",  "--weights-bits", "--all-rows",
    "--serving",    "--help",    "--context", "--batch", "--decode",       "--element-bits",
    "--state-bits", "--fit",     "--block",   "--chunk", "--tp",           "--cp",
    "--ring",       "--users",   "--prefix",  NULL};

static int take_amount(struct options *options, const struct option *option, const char *value,
                       struct kv_error *err)
{
    uint64_t amount;
    if (!read_amount(value, &amount) || (double)amount < option->least ||
        (double)amount > option->most)
        return kv_fail(err, KV_EUSAGE,
                       "memory: %s: expected a whole number from %.0f to %.0f, with k, Ki, GiB and "
                       "so on, found %.60s",
                       option->name, option->least, option->most, value);
    memcpy((char *)options + option->offset, &amount, sizeof amount);
    options->serving |= option->serving;
    return KV_OK;
}

static int take_models(struct options *options, const char *value, struct kv_error *err)
{
    for (const char *at = value; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const size_t length = strcspn(at, ",");
        if (!length)
            return kv_fail(err, KV_EUSAGE, "memory: --model: expected names, found %.200s", value);
        if (options->n_models == MOST_MODELS)
            return kv_fail(err, KV_EUSAGE, "memory: expected at most %d models", MOST_MODELS);
        char *name = strndup(at, length);
        if (!name) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
        options->models[options->n_models++] = name;
    }
    return KV_OK;
}

/* Lists given more than once are one. */
static int take_methods(struct options *options, const char *value, struct kv_error *err)
{
    char *all = NULL;
    const char *before = options->methods ? options->methods : "";
    if (asprintf(&all, "%s%s%s", before, *before ? "," : "", value) < 0)
        return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    free(options->methods);
    options->methods = all;
    return KV_OK;
}

static int take_weights(struct options *options, const char *value, struct kv_error *err)
{
    char *end;
    options->weights_bits = strtod(value, &end);
    if (*value && !*end && options->weights_bits > 0 && options->weights_bits <= 64) return KV_OK;
    return kv_fail(err, KV_EUSAGE,
                   "memory: --weights-bits: expected a number from above 0 to 64, found %.60s",
                   value);
}

static int take_valued(struct options *options, const char *name, const char *value,
                       struct kv_error *err)
{
    if (strcmp(name, "--model") == 0) return take_models(options, value, err);
    if (strcmp(name, "--methods") == 0) return take_methods(options, value, err);
    if (strcmp(name, "--weights-bits") == 0) return take_weights(options, value, err);
    if (strcmp(name, "--plot") == 0) return options->plot = value, KV_OK;
    if (strcmp(name, "--format") == 0) {
        options->format = value;
        return kv_check_format(value, err);
    }
    for (int i = 0; i < N_AMOUNTS; i++)
        if (strcmp(amounts[i].name, name) == 0)
            return take_amount(options, &amounts[i], value, err);
    const char *near = kv_nearest(name, known);
    return kv_fail(err, KV_EUSAGE, "memory: unknown option %.60s%s%s%s", name,
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static bool is_known(const char *name)
{
    for (int i = 0; known[i]; i++)
        if (strcmp(known[i], name) == 0) return true;
    return false;
}

static int take_argument(struct options *options, int argc, char **argv, int *i,
                         struct kv_error *err)
{
    char name[64];
    const char *argument = argv[*i], *equals = strchr(argument, '=');
    if (strcmp(argument, "--all-rows") == 0) return options->all_rows = true, KV_OK;
    if (strcmp(argument, "--serving") == 0) return options->serving = true, KV_OK;
    if (argument[0] != '-') return take_models(options, argument, err);
    snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - argument) : 63, argument);
    if (!is_known(name)) return take_valued(options, name, "", err);
    if (!equals && *i + 1 == argc)
        return kv_fail(err, KV_EUSAGE, "memory: %s: expected a value after it", name);
    return take_valued(options, name, equals ? equals + 1 : argv[++*i], err);
}

static int help(void)
{
    printf(
        "kvbench memory --model NAME|config.json[,...]: bytes of a cache, without a recording\n\n"
        "  --model LIST       names (kvbench list models) or files\n"
        "  --methods LIST     specs as of run (default %s)\n"
        "  --weights-bits X   of a weight (default: the model's, else 16)\n"
        "  --format F         table, markdown, csv or json\n"
        "  --plot DIR         bytes against the context, drawn by gnuplot\n"
        "  --all-rows         local layers keep every row\n"
        "  --serving          what vLLM, SGLang and TensorRT-LLM allocate\n",
        usual_methods);
    for (int i = 0; i < N_AMOUNTS; i++) printf("  %-18s %s\n", amounts[i].name, amounts[i].meaning);
    return KV_OK;
}

static int check_options(const struct options *options, struct kv_error *err)
{
    if (!options->n_models)
        return kv_fail(err, KV_EUSAGE,
                       "memory: expected --model NAME or a config.json (kvbench list models)");
    if (options->element_bits != 16 && options->element_bits != 32)
        return kv_fail(err, KV_EUSAGE, "memory: --element-bits: expected 16 or 32, found %" PRIu64,
                       options->element_bits);
    if (options->state_bits % 8 || options->state_bits == 24)
        return kv_fail(err, KV_EUSAGE, "memory: --state-bits: expected 8, 16 or 32, found %" PRIu64,
                       options->state_bits);
    return KV_OK;
}

/* -- one model -------------------------------------------------------------------------------- */

struct work {
    const struct options *options;
    const struct kv_spec_list *specs;
    const struct kv_kernels *kernels;
    struct kv_memory_rows *rows;
    struct kv_memory_plot *plot;
    struct kv_model model;
    uint32_t context;
    int64_t weights; /* bytes; KV_MEMORY_NOTHING when nobody knows */
};

static struct kv_memory_setting setting_of(const struct options *options)
{
    return (struct kv_memory_setting){.decode = (uint32_t)options->decode,
                                      .element_bits = (uint32_t)options->element_bits,
                                      .state_bits = (uint32_t)options->state_bits,
                                      .all_rows = options->all_rows};
}

static int64_t weights_of(const struct options *options, const struct kv_model *model)
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
    row->value[KV_MC_FIT_BATCH] = left < 0 || sequence == 0 ? 0 : left / sequence;
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
                 {KV_MC_INDEX, total.index}};
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
    snprintf(item, sizeof item, "method: %.500s", least->item);
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
    const struct options *options = work->options;
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
    const struct options *options = work->options;
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

static int run(const struct options *options, struct kv_error *err)
{
    struct kv_spec_list specs = {0};
    struct kv_kernels kernels;
    struct kv_memory_rows rows = {0};
    struct kv_memory_plot *plot = NULL;
    int status = kv_kernels_fill(&kernels, "auto", err);
    if (status == KV_OK)
        status = kv_spec_parse(&specs, options->methods ? options->methods : usual_methods, err);
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
    struct options options = {.format = "table",
                              .batch = 1,
                              .element_bits = 16,
                              .state_bits = 16,
                              .chunk = 1,
                              .tensor = 1,
                              .contexts = 1,
                              .ring = 1,
                              .users = 1};
    int status = KV_OK;
    for (int i = 1; status == KV_OK && i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) return help();
        status = take_argument(&options, argc, argv, &i, err);
    }
    if (status == KV_OK) status = check_options(&options, err);
    if (status == KV_OK) status = run(&options, err);
    for (uint32_t m = 0; m < options.n_models; m++) free(options.models[m]);
    free(options.methods);
    return status;
}
