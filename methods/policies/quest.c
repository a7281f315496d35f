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
    float *bounds;                   /* [n_heads][key_dim][2][pages]: minima, maxima; charged as the halves
                                      * that they are */
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
    self->bounds = kv_pool_take(setup->pool, setup->n_heads * dim * 2 * self->pages * sizeof(float));
    self->filled = kv_pool_take(setup->pool, setup->n_heads * sizeof *self->filled);
    self->scores = kv_pool_reserve(setup->pool, KV_WORKSPACE, self->pages * sizeof *self->scores);
    self->order = kv_pool_reserve(setup->pool, KV_WORKSPACE, self->pages * sizeof *self->order);
    self->fate = kv_pool_reserve(setup->pool, KV_WORKSPACE, self->pages);
    if (self->bounds && self->filled && self->scores && self->order && self->fate) return KV_OK;
    return kv_fail(err, KV_EMEMORY, "quest: out of memory for %u pages", self->pages);
}

/* All pages' minima of a channel; their maxima follow. */
static float *channel_of(const struct chooser *self, const struct kv_lane *lane, uint32_t c)
{
    return self->bounds + ((size_t)(lane->head - self->first_head) * lane->key_dim + c) * 2 * self->pages;
}

/* Takes a key into its page; a page is charged, whole, when its first key arrives. */
static void take_in(struct chooser *self, const struct kv_lane *lane, uint32_t position, const float *key)
{
    const uint32_t size = ((const struct config *)self->base.config)->page_size, dim = lane->key_dim;
    const bool first = self->filled[lane->head - self->first_head] <= position / size * size;
    if (first) kv_pool_charge(self->pool, KV_METADATA, (int64_t)(2 * dim * sizeof(uint16_t)));
    for (uint32_t c = 0; c < dim; c++) {
        float *least = channel_of(self, lane, c) + position / size, *largest = least + self->pages;
        if (first || key[c] < *least) *least = kv_half_to_float(kv_float_to_half(key[c]));
        if (first || key[c] > *largest) *largest = kv_half_to_float(kv_float_to_half(key[c]));
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

/* Scores of the first n pages; channels in ascending order. */
static void score_pages(const struct chooser *self, const struct kv_lane *lane, const float *query, uint32_t n)
{
    float *scores = self->scores;
    memset(scores, 0, n * sizeof *scores);
    for (uint32_t c = 0; c < lane->key_dim; c++) {
        const float *minima = channel_of(self, lane, c), *maxima = minima + self->pages;
        for (uint32_t page = 0; page < n; page++) {
            const float low = query[c] * minima[page], high = query[c] * maxima[page];
            scores[page] += low > high ? low : high;
        }
    }
}

/* The row behind those that lie in the page of row i. */
static uint32_t end_of_page(const struct kv_lane *lane, uint32_t i, uint32_t page_size)
{
    const uint64_t next = ((uint64_t)lane->positions[i] / page_size + 1) * page_size;
    while (i < lane->n && lane->positions[i] < next) i++;
    return i;
}

/* Marks the pages that a query does not read with KV_DROP. Only pages of which a row is held compete. */
static void choose_pages(struct chooser *self, const struct kv_lane *lane, const float *query,
                         uint32_t page_size, uint32_t wanted)
{
    uint32_t n = 0, newest = 0;
    for (uint32_t i = 0; i < lane->n; i = end_of_page(lane, i, page_size)) {
        self->order[n++] = newest = lane->positions[i] / page_size;
        self->fate[newest] = KV_STAYS;
    }
    if (n <= wanted) return;
    score_pages(self, lane, query, newest + 1);
    self->scores[newest] = INFINITY;
    kv_drop_lowest(self->scores, self->order, n, n - wanted, self->fate);
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
            for (uint32_t i = 0, end; i < lane->n; i = end) {
                end = end_of_page(lane, i, config->page_size);
                if (self->fate[lane->positions[i] / config->page_size] == KV_DROP)
                    memset(lane->reads + (size_t)g * lane->n + i, 0, end - i);
            }
        }
    }
}

const struct kv_policy kv_policy_quest = {
    .name = "quest", .summary = "each query head reads the pages that may matter; all rows stay",
    .paper = "Quest (Tang et al., arXiv 2406.10774)",
    .params = params, .config_size = sizeof(struct config), .self_size = sizeof(struct chooser),
    .arrays = arrays,
    .wants = wants, .create = create, .keep = keep, .evict = evict, .select = select};
