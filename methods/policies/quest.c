/* quest: every query head reads the pages whose keys may matter to it (Tang et al., arXiv 2406.10774).
 *
 * A page is `page_size` consecutive positions. Kept per page and KV head: minimum m and maximum M of
 * its keys, per channel, as halves. Page score for a query: sum_c max(q_c m_c, q_c M_c), an upper
 * bound of q.k (to the rounding of the halves). Each query head reads its best
 * max(3, budget / page_size) pages; the page of the newest row is always read and counts (published
 * code reads it because it scores it; here it cannot be missed). The first `dense_layers` layers of
 * the model read everything. Nothing is dropped: reads are saved, not memory. Behind an evictor
 * (RocketKV) only pages of which a row is held compete, and boxes are those of the prompt rows left. */
#include "methods/policy.h"
#include "methods/trim.h"

#include <math.h>
#include <string.h>

#include "harness/base/half.h"

struct config { struct kv_budget budget; uint32_t page_size, dense_layers; };

static const struct kv_param params[] = {
    {"budget", KV_PARAM_BUDGET, offsetof(struct config, budget), 128, 1, 1 << 30, NULL,
     "rows read per query head and step, in whole pages"},
    {"page_size", KV_PARAM_U32, offsetof(struct config, page_size), 16, 1, 4096, NULL,
     "positions in a page"},
    {"dense_layers", KV_PARAM_U32, offsetof(struct config, dense_layers), 2, 0, 1000, NULL,
     "first layers of the model that read everything"},
    {0}};

struct chooser {
    struct kv_chooser base;
    struct kv_pool *pool;
    uint16_t *bounds;                /* [n_heads][pages][2][key_dim]: minima, maxima */
    uint32_t *filled;                /* [n_heads] positions taken in so far */
    float *scores;                   /* [pages] */
    uint32_t *order; uint8_t *fate;  /* [pages] */
    uint32_t pages, first_head;
};

static void wants(const void *config, struct kv_wants *wants) { wants->prompt_rows = true; }

static int create(struct kv_chooser *base, const struct kv_setup *setup, struct kv_error *err)
{
    struct chooser *self = (struct chooser *)base;
    const struct config *config = setup->config;
    const size_t dim = setup->geometry->key_dim;
    self->pool = setup->pool;
    self->first_head = setup->head;
    self->pages = (setup->geometry->tokens + config->page_size - 1) / config->page_size;
    self->bounds = kv_pool_take(setup->pool, setup->n_heads * self->pages * 2 * dim * sizeof(uint16_t));
    self->filled = kv_pool_take(setup->pool, setup->n_heads * sizeof *self->filled);
    self->scores = kv_pool_reserve(setup->pool, KV_WORKSPACE, self->pages * sizeof *self->scores);
    self->order = kv_pool_reserve(setup->pool, KV_WORKSPACE, self->pages * sizeof *self->order);
    self->fate = kv_pool_reserve(setup->pool, KV_WORKSPACE, self->pages);
    if (self->bounds && self->filled && self->scores && self->order && self->fate) return KV_OK;
    return kv_fail(err, KV_EMEMORY, "quest: out of memory for %u pages", self->pages);
}

static uint16_t *page_of(const struct chooser *self, const struct kv_lane *lane, uint32_t page)
{
    return self->bounds + ((size_t)(lane->head - self->first_head) * self->pages + page) * 2 * lane->key_dim;
}

/* Takes a key into its page; a page is charged, whole, when its first key arrives. */
static void take_in(struct chooser *self, const struct kv_lane *lane, uint32_t position, const float *key)
{
    const uint32_t size = ((const struct config *)self->base.config)->page_size, dim = lane->key_dim;
    uint16_t *minima = page_of(self, lane, position / size), *maxima = minima + dim;
    const bool first = self->filled[lane->head - self->first_head] <= position / size * size;
    if (first) kv_pool_charge(self->pool, KV_METADATA, (int64_t)(2 * dim * sizeof *minima));
    for (uint32_t c = 0; c < dim; c++) {
        if (first || key[c] < kv_half_to_float(minima[c])) minima[c] = kv_float_to_half(key[c]);
        if (first || key[c] > kv_half_to_float(maxima[c])) maxima[c] = kv_float_to_half(key[c]);
    }
    self->filled[lane->head - self->first_head] = position + 1;
}

static void keep(struct kv_chooser *base, const struct kv_step *step, struct kv_lane *lanes,
                 uint32_t n_lanes)
{
    struct chooser *self = (struct chooser *)base;
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++) {   /* another policy may have dropped some */
            const uint32_t t = lanes[l].positions[i];
            take_in(self, &lanes[l], t, lanes[l].prompt->keys + (size_t)t * lanes[l].key_dim);
        }
}

static void evict(struct kv_chooser *base, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++)
        take_in((struct chooser *)base, &lanes[l], step->token, lanes[l].key);
}

static int64_t arrays(const void *config, const struct kv_geometry *geometry, uint32_t tokens)
{
    const uint32_t size = ((const struct config *)config)->page_size;
    return (int64_t)((tokens + size - 1) / size) * 2 * geometry->key_dim * (int64_t)sizeof(uint16_t);
}

static float bound(const uint16_t *minima, const float *query, uint32_t dim)
{
    float sum = 0.0f;
    for (uint32_t c = 0; c < dim; c++) {
        const float low = query[c] * kv_half_to_float(minima[c]);
        const float high = query[c] * kv_half_to_float(minima[dim + c]);
        sum += low > high ? low : high;
    }
    return sum;
}

/* Marks the pages that a query does not read with KV_DROP. Only pages of which a row is held compete. */
static void choose_pages(struct chooser *self, const struct kv_lane *lane, const float *query,
                         uint32_t page_size, uint32_t wanted)
{
    uint32_t n = 0, newest = 0;
    for (uint32_t i = 0; i < lane->n; i++) {
        const uint32_t page = lane->positions[i] / page_size;
        if (n > 0 && page == newest) continue;
        self->scores[page] = bound(page_of(self, lane, page), query, lane->key_dim);
        self->order[n++] = newest = page;
        self->fate[page] = KV_STAYS;
    }
    self->scores[newest] = INFINITY;
    if (n > wanted) kv_drop_lowest(self->scores, self->order, n, n - wanted, self->fate);
}

static void select(struct kv_chooser *base, const struct kv_step *step, struct kv_lane *lanes,
                   uint32_t n_lanes)
{
    struct chooser *self = (struct chooser *)base;
    const struct config *config = base->config;
    if (step->geometry->layer < config->dense_layers) return;
    uint32_t wanted = kv_budget_tokens(config->budget, step->geometry->prefill) / config->page_size;
    if (wanted < 3) wanted = 3;
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        for (uint32_t g = 0; g < lane->group; g++) {
            choose_pages(self, lane, lane->queries + (size_t)g * lane->key_dim,
                         config->page_size, wanted);
            for (uint32_t i = 0; i < lane->n; i++)
                if (self->fate[lane->positions[i] / config->page_size] == KV_DROP)
                    lane->reads[(size_t)g * lane->n + i] = 0;
        }
    }
}

const struct kv_policy kv_policy_quest = {
    .name = "quest", .summary = "each query head reads the pages that may matter; all rows stay",
    .paper = "Quest (Tang et al., arXiv 2406.10774)",
    .params = params, .config_size = sizeof(struct config), .self_size = sizeof(struct chooser),
    .arrays = arrays,
    .wants = wants, .create = create, .keep = keep, .evict = evict, .select = select};
