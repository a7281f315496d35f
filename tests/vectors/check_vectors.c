/* Vectors of methods: NAME.txt of a folder, worked by hand or taken from a named source, each
 * through the real codec or the real cache. Words, `#` begins a comment:
 *
 *     codec SPEC       side keys|values|both   dim D    rows N  x...   what is stored
 *     payload BYTES    metadata BYTES      of an atom
 *     bytes HEX                            of all atoms, optional   decoded x...   within tolerance
 *     policy SPEC      dim D    keys N  x...   [queries N  x...]      a prompt; queries are 0
 * without kept P...        the positions that stay after it answer SPEC      dim D    keys N  x...
 * values N  x...   [queries N  x...]   tokens in order payload BYTES    metadata BYTES      of the
 * state answered x...    the answer to each token's query, that token included, within tolerance
 * both: a key and a value of D / 2 columns each.
 *
 * A file may hold several; each ends with `decoded`, `kept` or `answered`. Prints TAP. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/replay/prompt_statistics.h"
#include "methods/cache/cache.h"
#include "methods/spec/spec_wants.h"

enum { MOST_VALUES = 65536, MOST_TEXT = 1 << 20 };

struct reader { /* words of a file */
    const char *name;
    char *text, *at;
    struct kv_error err;
};

enum kind { CODEC, POLICY, ANSWER };

struct vector {
    enum kind kind;
    char spec[512];
    enum kv_side side;
    uint32_t dim, rows;
    long payload, metadata;
    double tolerance;
    char bytes[4096];                   /* hexadecimal, or empty */
    float *values, *queries, *expected; /* [MOST_VALUES]; values: rows of a codec, or keys */
    float *second;                      /* [MOST_VALUES] values of an answer */
    uint32_t n_expected;
};

static int tests, failures;

static int bad(struct reader *in, const char *expected, const char *found)
{
    return kv_fail(&in->err, KV_EINPUT, "%s: expected %s, found %.60s", in->name, expected,
                   found ? found : "its end");
}

/* The next word, or NULL at the end. */
static char *word(struct reader *in)
{
    in->at += strspn(in->at, " \t\r\n");
    while (*in->at == '#') in->at += strcspn(in->at, "\n"), in->at += strspn(in->at, " \t\r\n");
    char *start = in->at;
    in->at += strcspn(in->at, " \t\r\n");
    if (*in->at) *in->at++ = 0;
    return *start ? start : NULL;
}

static int number(struct reader *in, double *value)
{
    char *text = word(in), *end = NULL;
    if (text) *value = strtod(text, &end);
    return text && end != text && !*end ? KV_OK : bad(in, "a number", text);
}

static int numbers(struct reader *in, uint32_t n, float *out)
{
    int status = KV_OK;
    double value = 0.0;
    for (uint32_t i = 0; status == KV_OK && i < n; i++) {
        status = number(in, &value);
        out[i] = (float)value;
    }
    return status;
}

static int matrix(struct reader *in, struct vector *vector, float *out)
{
    double rows = 0.0;
    const int status = number(in, &rows);
    if (status != KV_OK) return status;
    if (rows < 1.0 || vector->dim == 0 || rows * vector->dim > MOST_VALUES)
        return bad(in, "dim before rows, and rows that fit", "others");
    vector->rows = (uint32_t)rows;
    return numbers(in, vector->rows * vector->dim, out);
}

/* ---- codecs ---- */

/* Compares one atom with the next of the bytes that are wanted, if any are. */
static int same_bytes(const char **wanted, const uint8_t *atom, size_t n, struct kv_error *err)
{
    for (size_t i = 0; **wanted && i < n; i++, *wanted += 2) {
        unsigned byte = 256;
        if (sscanf(*wanted, "%2x", &byte) != 1 || byte != atom[i])
            return kv_fail(err, KV_EGATE, "byte %zu of an atom: expected %.2s, found %02x", i,
                           *wanted, atom[i]);
    }
    return KV_OK;
}

/* A row there and back; of codecs that turn rows by their definition, as a reader of recorded rows
 * sees it. */
static void pass(struct kv_code *code, uint32_t token, const float *row, uint8_t *atom, float *out,
                 bool back)
{
    static float turned[MOST_VALUES];
    const bool turns = kv_code_must_turn(code);
    if (!back) {
        if (turns) code->type->turn->row(code, token, row, turned);
        code->type->encode(code, turns ? turned : row, atom);
        return;
    }
    code->type->decode(code, atom, 1, 0, code->dim, turns ? turned : out);
    if (turns) code->type->turn->back(code, token, turned, out);
}

static int round_trip(struct vector *vector, struct kv_setup *setup, const struct kv_spec *spec,
                      float *decoded, struct kv_error *err)
{
    struct kv_code *code;
    int status =
        kv_create_code(&code, kv_chain(&spec->caches[0], setup->side), setup, vector->dim, err);
    if (status != KV_OK) return status;
    uint32_t *positions = kv_pool_take(setup->pool, vector->rows * sizeof *positions);
    for (uint32_t i = 0; i < vector->rows; i++) positions[i] = i;
    const struct kv_sample sample = {
        .n = vector->rows, .rows = vector->values, .positions = positions};
    if (code->type->fit) status = code->type->fit(code, &sample, err);
    if (status != KV_OK) return status;
    if (vector->payload >= 0 && vector->payload != code->payload_bytes)
        return kv_fail(err, KV_EGATE, "expected %ld bytes of payload, found %u", vector->payload,
                       code->payload_bytes);
    if (vector->metadata >= 0 && vector->metadata != code->metadata_bytes)
        return kv_fail(err, KV_EGATE, "expected %ld bytes of metadata, found %u", vector->metadata,
                       code->metadata_bytes);
    uint8_t *atom = kv_pool_take(setup->pool, kv_atom_bytes(code));
    const char *wanted = vector->bytes;
    for (uint32_t i = 0; i + code->block <= vector->rows; i += code->block) {
        const float *row = vector->values + (size_t)i * vector->dim;
        pass(code, i, row, atom, NULL, false);
        status = same_bytes(&wanted, atom, kv_atom_bytes(code), err);
        if (status != KV_OK) return status;
        pass(code, i, row, atom, decoded + (size_t)i * vector->dim, true);
    }
    return KV_OK;
}

static int check_codec(struct vector *vector, struct kv_setup *setup, const struct kv_spec *spec,
                       struct kv_error *err)
{
    float *decoded = kv_pool_take(setup->pool, MOST_VALUES * sizeof *decoded);
    const int status = round_trip(vector, setup, spec, decoded, err);
    for (uint32_t i = 0; status == KV_OK && i < vector->rows * vector->dim; i++)
        if (!(fabs((double)decoded[i] - vector->expected[i]) <= vector->tolerance))
            return kv_fail(err, KV_EGATE, "value %u: expected %.9g, found %.9g", i,
                           (double)vector->expected[i], (double)decoded[i]);
    return status;
}

/* ---- policies ---- */

static int held_after(struct vector *vector, struct kv_geometry *geometry, struct kv_setup *setup,
                      const struct kv_spec *spec, struct kv_cache **cache, struct kv_error *err)
{
    const struct kv_tensor keys = {.dtype = KV_F32,
                                   .heads = 1,
                                   .tokens = geometry->tokens,
                                   .dim = vector->dim,
                                   .stride = vector->dim,
                                   .data = vector->values};
    struct kv_tensor queries = keys;
    queries.data = vector->queries;
    const struct kv_trace_layer info = {.dtype = KV_F32, .geometry = *geometry};
    float *identity =
        kv_pool_take(setup->pool, (size_t)vector->dim * vector->dim * sizeof *identity);
    for (uint32_t c = 0; identity && c < vector->dim; c++)
        identity[(size_t)c * vector->dim + c] = 1.0f;
    const struct kv_layer layer = {
        .info = &info, .q = queries, .k = keys, .v = keys, .w_o = identity, .hidden = vector->dim};
    const struct kv_wants wants = kv_cache_wants(&spec->caches[0]);
    struct kv_prompt prompt = {0};
    int status = kv_prompt_compute(&prompt, &layer, 0, &wants, setup->kernels, setup->pool, err);
    const struct kv_cache_plan plan = {
        .source = {.geometry = geometry, .keys = &keys, .values = &keys, .queries = &queries},
        .spec = &spec->caches[0],
        .kernels = setup->kernels,
        .pool = setup->pool,
        .prompts = &prompt,
        .n_heads = 1,
        .seed = 1};
    if (status == KV_OK) status = kv_cache_create(cache, &plan, err);
    return status == KV_OK ? kv_cache_prefill(*cache, err) : status;
}

static int check_policy(struct vector *vector, struct kv_geometry *geometry, struct kv_setup *setup,
                        const struct kv_spec *spec, struct kv_error *err)
{
    struct kv_cache *cache = NULL;
    const int status = held_after(vector, geometry, setup, spec, &cache, err);
    if (status != KV_OK) return status;
    const struct kv_held *held = &cache->lanes[0];
    bool same = held->n == vector->n_expected;
    char found[256] = "";
    for (uint32_t i = 0; i < held->n; i++) {
        same = same && held->positions[i] == (uint32_t)vector->expected[i];
        if (strlen(found) < sizeof found - 16)
            sprintf(found + strlen(found), " %u", held->positions[i]);
    }
    return same ? KV_OK : kv_fail(err, KV_EGATE, "other rows are kept:%s", found);
}

/* ---- answers ---- */

static int charged(const struct kv_pool *pool, enum kv_class class, long wanted, const char *name,
                   struct kv_error *err)
{
    const long found = (long)kv_pool_used(pool, class);
    return wanted < 0 || wanted == found
               ? KV_OK
               : kv_fail(err, KV_EGATE, "expected %ld bytes of %s, found %ld", wanted, name, found);
}

static int check_answer(struct vector *vector, struct kv_setup *setup, const struct kv_spec *spec,
                        struct kv_error *err)
{
    const struct kv_stage *stage = spec->caches[0].answer;
    static float output[MOST_VALUES];
    struct kv_state *state;
    if (!stage) return kv_fail(err, KV_EGATE, "expected a method without rows");
    setup->config = stage->config[0];
    int status = stage->answer->create(&state, setup, err);
    if (status == KV_OK) status = charged(setup->pool, KV_PAYLOAD, vector->payload, "payload", err);
    if (status == KV_OK)
        status = charged(setup->pool, KV_METADATA, vector->metadata, "metadata", err);
    for (uint32_t i = 0; status == KV_OK && i < vector->rows; i++) {
        const size_t at = (size_t)i * vector->dim;
        stage->answer->append(state, vector->values + at, vector->second + at);
        stage->answer->answer(state, vector->queries + at, output);
        for (uint32_t c = 0; status == KV_OK && c < vector->dim; c++)
            if (!(fabs((double)output[c] - vector->expected[at + c]) <= vector->tolerance))
                status = kv_fail(err, KV_EGATE, "token %u, value %u: expected %.9g, found %.9g", i,
                                 c, (double)vector->expected[at + c], (double)output[c]);
    }
    return status;
}

/* ---- a vector, a file, a folder ---- */

static int check_with(struct vector *vector, const struct kv_spec *spec, struct kv_pool *pool,
                      struct kv_error *err)
{
    static int32_t positions[MOST_VALUES];
    struct kv_kernels kernels;
    /* One step follows the prompt. */
    const bool both = vector->side == KV_BOTH_SIDES;
    const uint32_t tokens = vector->kind == CODEC && !both ? 2 : vector->rows + 1;
    const uint32_t width = both ? vector->dim / 2 : vector->dim;
    struct kv_geometry geometry = {.model_layers = 1,
                                   .q_heads = 1,
                                   .kv_heads = 1,
                                   .group = 1,
                                   .key_dim = width,
                                   .value_dim = width,
                                   .tokens = tokens,
                                   .prefill = tokens - 1,
                                   .question_start = tokens - 1,
                                   .element_bits = 32,
                                   .scale = 1.0,
                                   .positions = positions};
    for (uint32_t t = 0; t < tokens && t < MOST_VALUES; t++) positions[t] = (int32_t)t;
    const int status = kv_kernels_fill(&kernels, "generic", err);
    struct kv_setup setup = {.geometry = &geometry,
                             .kernels = &kernels,
                             .pool = pool,
                             .seed = 1,
                             .n_heads = 1,
                             .dim = vector->dim,
                             .side = vector->side};
    if (status != KV_OK) return status;
    if (vector->kind == ANSWER) return check_answer(vector, &setup, spec, err);
    return vector->kind == CODEC ? check_codec(vector, &setup, spec, err)
                                 : check_policy(vector, &geometry, &setup, spec, err);
}

static void check(struct vector *vector, enum kind kind, const char *file)
{
    struct kv_error err = {""};
    struct kv_spec_list specs;
    struct kv_pool *pool = kv_pool_create(0);
    vector->kind = kind;
    int status = pool ? kv_spec_parse(&specs, vector->spec, &err) : KV_EMEMORY;
    if (status == KV_OK) {
        status = check_with(vector, &specs.specs[0], pool, &err);
        kv_spec_free(&specs);
    }
    kv_pool_destroy(pool);
    if (status != KV_OK) failures++;
    printf("%s %d - %s: %s\n", status == KV_OK ? "ok" : "not ok", ++tests, file, vector->spec);
    if (status != KV_OK) printf("# %s\n", err.text);
}

static void begin(struct vector *vector)
{
    vector->side = KV_KEYS, vector->dim = vector->rows = vector->n_expected = 0;
    vector->bytes[0] = 0;
    vector->payload = vector->metadata = -1, vector->tolerance = 0.0;
    memset(vector->values, 0, MOST_VALUES * sizeof(float));
    memset(vector->queries, 0, MOST_VALUES * sizeof(float));
    memset(vector->second, 0, MOST_VALUES * sizeof(float));
}

static int positions_kept(struct reader *in, struct vector *vector)
{
    while (vector->n_expected < MOST_VALUES) {
        in->at += strspn(in->at, " \t\r\n");
        if (*in->at < '0' || *in->at > '9') return KV_OK;
        const int status = numbers(in, 1, vector->expected + vector->n_expected++);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

/* What follows the word `key`. */
static int take(struct reader *in, struct vector *vector, const char *key)
{
    double value = 0.0;
    int status = KV_OK;
    if (strcmp(key, "codec") == 0 || strcmp(key, "policy") == 0 || strcmp(key, "answer") == 0) {
        begin(vector);
        const char *spec = word(in);
        snprintf(vector->spec, sizeof vector->spec, "%s", spec ? spec : "");
    } else if (strcmp(key, "side") == 0) {
        const char *side = word(in);
        vector->side = side && strcmp(side, "values") == 0 ? KV_VALUES : KV_KEYS;
        if (side && strcmp(side, "both") == 0) vector->side = KV_BOTH_SIDES;
    } else if (strcmp(key, "bytes") == 0) {
        const char *bytes = word(in);
        snprintf(vector->bytes, sizeof vector->bytes, "%s", bytes ? bytes : "");
    } else if (strcmp(key, "rows") == 0 || strcmp(key, "keys") == 0) {
        status = matrix(in, vector, vector->values);
    } else if (strcmp(key, "queries") == 0) {
        status = matrix(in, vector, vector->queries);
    } else if (strcmp(key, "values") == 0) {
        status = matrix(in, vector, vector->second);
    } else if (strcmp(key, "decoded") == 0 || strcmp(key, "answered") == 0) {
        status = numbers(in, vector->rows * vector->dim, vector->expected);
        if (status == KV_OK) check(vector, *key == 'a' ? ANSWER : CODEC, in->name);
    } else if (strcmp(key, "kept") == 0) {
        status = positions_kept(in, vector);
        if (status == KV_OK) check(vector, POLICY, in->name);
    } else if ((status = number(in, &value)) == KV_OK) {
        if (strcmp(key, "dim") == 0)
            vector->dim = value >= 1.0 && value <= 4096.0 ? (uint32_t)value : 0;
        else if (strcmp(key, "payload") == 0)
            vector->payload = (long)value;
        else if (strcmp(key, "metadata") == 0)
            vector->metadata = (long)value;
        else if (strcmp(key, "tolerance") == 0)
            vector->tolerance = value;
        else
            status = bad(in, "a word of the list above", key);
    }
    return status;
}

static int check_file(const char *folder, const char *name, struct vector *vector)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    struct reader in = {.name = name, .text = calloc(1, MOST_TEXT)};
    FILE *file = fopen(path, "r");
    if (!file || !in.text || fread(in.text, 1, MOST_TEXT - 1, file) == 0)
        printf("Bail out! %s cannot be read\n", path), exit(1);
    fclose(file);
    in.at = in.text;
    int status = KV_OK;
    for (char *key; status == KV_OK && (key = word(&in));) status = take(&in, vector, key);
    if (status != KV_OK) printf("not ok %d - %s\n", ++tests, in.err.text), failures++;
    free(in.text);
    return status;
}

static int is_vector(const struct dirent *entry)
{
    const size_t length = strlen(entry->d_name);
    return length > 4 && strcmp(entry->d_name + length - 4, ".txt") == 0;
}

int main(int argc, char **argv)
{
    struct dirent **names = NULL;
    const int n = argc == 2 ? scandir(argv[1], &names, is_vector, alphasort) : -1;
    struct vector vector = {.values = calloc(MOST_VALUES, sizeof(float)),
                            .queries = calloc(MOST_VALUES, sizeof(float)),
                            .expected = calloc(MOST_VALUES, sizeof(float)),
                            .second = calloc(MOST_VALUES, sizeof(float))};
    if (n <= 0 || !vector.values || !vector.queries || !vector.expected || !vector.second) {
        puts("Bail out! expected a folder with vectors");
        return 1;
    }
    for (int i = 0; i < n; i++) check_file(argv[1], names[i]->d_name, &vector);
    printf("1..%d\n", tests);
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
    free(vector.values);
    free(vector.queries);
    free(vector.expected);
    free(vector.second);
    return failures > 0;
}
