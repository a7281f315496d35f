/* Counting a method's bytes; see memory_count.h. */
#include "harness/memory/counting.h"

#include <stdlib.h>

#include "harness/replay/layout.h"
#include "methods/spec/spec_wants.h"

enum {
    CREATED_ROWS = 1
}; /* of a recording to make codecs on: what they come to hangs on their shape */

struct kv_memory_law {
    const struct kv_spec *spec;
    const struct kv_kernels *kernels;
    struct kv_memory_shape shape; /* its KV heads are the spec's caches' */
    uint32_t copies;              /* of each recorded KV head among them; 0: itself alone */
    bool direct, counted; /* no policies; policies whose rows are counted, if held_rows.h can */
    uint32_t n_patterns;
    struct counting counting[2]; /* direct or counted: one cache a pattern, made once */
};

static bool has_policies(const struct kv_spec *spec)
{
    return spec->n_caches > 1 || spec->caches[0].n_policies > 0;
}

void kv_memory_law_go_through(struct kv_memory_law *law)
{
    law->counted = false;
}

bool kv_memory_is_direct(const struct kv_spec *spec)
{
    return !has_policies(spec);
}

static const struct kv_stage *chain_of(const struct kv_spec *spec, uint32_t cache, int side)
{
    return kv_chain(&spec->caches[cache], side ? KV_VALUES : KV_KEYS);
}

static bool is_fitted(const struct kv_spec *spec)
{
    if (spec->caches[0].answer) return false; /* its size is what create charged */
    for (uint32_t c = 0; c < spec->n_caches; c++)
        for (int side = 0; side < 2; side++)
            for (const struct kv_stage *stage = chain_of(spec, c, side); stage; stage = stage->rest)
                if (stage->codec->fit) return true;
    return false;
}

static uint32_t unit_heads(const struct kv_spec *spec, const struct kv_memory_shape *shape)
{
    for (uint32_t c = 0; c < spec->n_caches; c++)
        if (kv_cache_joins_heads(&spec->caches[c])) return shape->kv_heads;
    return 1;
}

static int open_counting(struct counting *counting, const struct kv_memory_law *law,
                         enum pattern pattern, uint32_t tokens, uint32_t decode,
                         struct kv_error *err)
{
    const struct kv_memory_shape *shape = &law->shape;
    const uint32_t prefill = kv_counting_prompt(tokens, decode);
    *counting = (struct counting){.layers = shape->layers,
                                  .n_layers = shape->n_layers,
                                  .spec = law->spec,
                                  .kernels = law->kernels,
                                  .pattern = pattern,
                                  .unit_heads = unit_heads(law->spec, shape),
                                  .pool = kv_pool_create(0)};
    if (!counting->pool) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    counting->geometry =
        (struct kv_geometry){.layer = shape->layers[0],
                             .model_layers = shape->model_layers,
                             .q_heads = shape->q_heads,
                             .kv_heads = shape->kv_heads,
                             .group = shape->q_heads / shape->kv_heads,
                             .copies = law->copies,
                             .key_dim = shape->key_dim,
                             .value_dim = shape->value_dim ? shape->value_dim : shape->latent_dim,
                             .values_in_keys = shape->value_dim == 0,
                             .tokens = tokens,
                             .prefill = prefill,
                             .question_start = prefill,
                             .element_bits = shape->element_bits,
                             .scale = 1.0};
    int status = kv_counting_record(counting, err);
    if (status == KV_OK && law->spec->caches[0].answer)
        return kv_counting_create_state(counting, err);
    if (status == KV_OK) status = kv_counting_create(counting, err);
    return status;
}

/* For n rows of caches that were made once. */
static int ask(struct kv_memory_law *law, uint32_t p, uint32_t tokens, uint32_t decode,
               struct kv_memory_bytes *bytes)
{
    const struct counting *counting = &law->counting[p];
    if (law->spec->caches[0].answer) {
        kv_counting_add_states(bytes, counting, &law->shape);
        return KV_OK;
    }
    for (uint32_t m = 0; m < counting->n_layers; m++)
        for (uint32_t b = 0; b < counting->main[m]->n_banks; b++)
            kv_bank_count_rows(&counting->main[m]->banks[b], tokens,
                               kv_counting_prompt(tokens, decode));
    kv_counting_add(bytes, counting, &law->shape, false);
    return KV_OK;
}

/* Through all rows. */
static int run(struct kv_memory_law *law, uint32_t p, uint32_t tokens, uint32_t decode,
               struct kv_memory_bytes *bytes, struct kv_error *err)
{
    struct counting own, *counting = &own;
    if (tokens > KV_MOST_COUNTED)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "an eviction is gone through row by row, up to %d of them", KV_MOST_COUNTED);
    int status = open_counting(counting, law, p ? RANDOM : FLAT, tokens, decode, err);
    if (status == KV_OK) status = kv_counting_settle(counting, err);
    if (status == KV_OK) status = kv_cache_prefill(counting->main[0], err);
    if (status == KV_OK) status = kv_counting_run_steps(counting, err);
    if (status == KV_OK) kv_counting_add(bytes, counting, &law->shape, true);
    kv_pool_destroy(counting->pool);
    counting->pool = NULL;
    return status;
}

static int bytes_of(struct kv_memory_law *law, uint32_t tokens, uint32_t decode, bool through,
                    struct kv_memory_bytes *bytes, struct kv_error *err)
{
    struct kv_memory_bytes each[2] = {{0}};
    bool known = law->direct || law->counted;
    int status = KV_OK;
    *bytes = (struct kv_memory_bytes){0};
    for (uint32_t p = 0; status == KV_OK && tokens > 0 && known && p < law->n_patterns; p++)
        status = law->direct ? ask(law, p, tokens, decode, &each[p])
                             : kv_counting_by_rule(&law->counting[p], &law->shape, tokens, decode,
                                                   through, &each[p], &known, err);
    if (status == KV_OK && !known && !through)
        return kv_fail(err, KV_EUNSUPPORTED, "an eviction is gone through row by row");
    for (uint32_t p = 0; status == KV_OK && tokens > 0 && !known && p < 2; p++) {
        status = run(law, p, tokens, decode, &each[p], err);
        each[p].sampled = 1;
    }
    const uint32_t n = known ? law->n_patterns : 2;
    const bool second = n > 1 && each[1].total > each[0].total;
    const struct kv_memory_bytes *other = &each[n > 1 ? !second : second];
    *bytes = each[second];
    if (other->least < bytes->least) bytes->least = other->least;
    if (other->offloaded > bytes->offloaded) bytes->offloaded = other->offloaded;
    if (other->offloaded_least < bytes->offloaded_least)
        bytes->offloaded_least = other->offloaded_least;
    if (other->offloaded_most > bytes->offloaded_most)
        bytes->offloaded_most = other->offloaded_most;
    return status;
}

int kv_memory_law_bytes(struct kv_memory_law *law, uint32_t tokens, uint32_t decode,
                        struct kv_memory_bytes *bytes, struct kv_error *err)
{
    return bytes_of(law, tokens, decode, true, bytes, err);
}

int kv_memory_law_count(struct kv_memory_law *law, uint32_t tokens, uint32_t decode,
                        struct kv_memory_bytes *bytes, struct kv_error *err)
{
    return bytes_of(law, tokens, decode, false, bytes, err);
}

/* layout=query-heads (harness/replay/layout.h). */
static int lay_out(struct kv_memory_law *law, struct kv_error *err)
{
    struct kv_memory_shape *shape = &law->shape;
    if (!law->spec->query_heads) return KV_OK;
    if (!shape->value_dim) return kv_layout_refuse_latent(shape->layers[0], err);
    law->copies = shape->q_heads / shape->kv_heads;
    shape->kv_heads = shape->q_heads;
    return KV_OK;
}

int kv_memory_law_create(struct kv_memory_law **out, const struct kv_spec *spec,
                         const struct kv_memory_shape *shape, const struct kv_kernels *kernels,
                         struct kv_error *err)
{
    static const struct kv_spec exact = {.n_caches = 1}; /* what layers= leaves out */
    const bool left_out = kv_spec_is_exact_layer(spec, shape->layers[0], shape->model_layers);
    struct kv_memory_law *law = calloc(1, sizeof *law);
    if (!law) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    *law = (struct kv_memory_law){
        .spec = left_out ? &exact : spec, .kernels = kernels, .shape = *shape};
    law->direct = kv_memory_is_direct(law->spec);
    law->counted = !law->direct && !law->spec->caches[0].answer;
    law->n_patterns = !is_fitted(law->spec) ? 1 : 2;
    int status = lay_out(law, err);
    for (uint32_t p = 0; (law->direct || law->counted) && status == KV_OK && p < law->n_patterns;
         p++)
        status = open_counting(&law->counting[p], law, p ? RANDOM : FLAT, CREATED_ROWS, 0, err);
    if (status != KV_OK)
        kv_memory_law_free(law);
    else
        *out = law;
    return status;
}

void kv_memory_law_free(struct kv_memory_law *law)
{
    for (int p = 0; law && p < 2; p++) kv_pool_destroy(law->counting[p].pool);
    free(law);
}
