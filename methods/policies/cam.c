/* cam: what is dropped leaves its value with the rows after it (CaM, Zhang et al., ICML 2024).
 *
 * Rows are chosen as by h2o (base=h2o: accumulated weights and the newest half) or as by streaming
 * (base=streaming, with sinks=4 and recent_percent=0: the oldest that is no sink). A = accumulated weights. When
 * row j is dropped at a decode step, the next merge = 16 rows that stay (m of them where fewer follow) get
 * v_n += b v_j / m, where b is 1 with probability p = clamp(A_j / mean of their A, 0, 1), else 0;
 * draw=expected adds p v_j / m instead and needs no chance. Keys do not change; the accumulated weight of j
 * is gone. A changed value is a new row at its old position: it is exact until the codec comes to it again.
 * Departures: rows dropped at the end of the prompt are not merged (kvpress merges in decoding, too; the
 * authors' evaluation edits values that earlier queries see); one draw a KV head, from its group's weights. */
#include "harness/base/rng.h"
#include "methods/parts/evidence.h"

struct config { uint32_t base, merge, draw; };

enum { BASE_H2O, BASE_STREAMING };
enum { DRAW_BERNOULLI, DRAW_EXPECTED };
enum { STREAM = 0x43414d31 };   /* "CAM1": apart from other users of the seed */

static const struct kv_param params[] = {
    {"base", KV_PARAM_CHOICE, offsetof(struct config, base), 0, 0, 0, "h2o|streaming", "which rows go"},
    {"merge", KV_PARAM_U32, offsetof(struct config, merge), 16, 1, 4096, NULL,
     "rows that a dropped value is spread over"},
    {"draw", KV_PARAM_CHOICE, offsetof(struct config, draw), 0, 0, 0, "bernoulli|expected",
     "a value is merged by chance, or by its probability"},
    {0}};

static void wants(const void *config, struct kv_wants *wants)
{
    wants->column_sum = true;
    wants->state_floats = 1;
}

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    const struct config *config = self->config;
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++)
            lanes[l].score[i] = config->base == BASE_STREAMING ? (float)i : lanes[l].state[i];
}

static double draw(const struct config *config, const struct kv_step *step, const struct kv_lane *lane,
                   uint32_t row, double probability)
{
    const uint32_t key[2] = {(uint32_t)step->seed, (uint32_t)(step->seed >> 32)};
    uint32_t words[4];
    if (config->draw == DRAW_EXPECTED) return probability;
    kv_philox(key, (uint32_t[4]){lane->positions[row], step->geometry->layer, lane->head, STREAM}, words);
    return words[0] * 0x1p-32 < probability ? 1.0 : 0.0;
}

/* Rows [first, *end) of which m stay, behind the dropped row; returns the mean of their weights. */
static double mean_weight(const struct kv_lane *lane, uint32_t row, uint32_t most, uint32_t *m)
{
    double sum = 0.0;
    *m = 0;
    for (uint32_t i = row + 1; i < lane->n && *m < most; i++)
        if (lane->fate[i] == KV_STAYS) sum += lane->state[i], ++*m;
    return *m ? sum / *m : 0.0;
}

static void spread(struct kv_lane *lane, uint32_t row, uint32_t m, double share)
{
    const float *value = lane->values + (size_t)row * lane->value_dim;
    for (uint32_t i = row + 1; m > 0; i++) {
        if (lane->fate[i] == KV_DROP) continue;
        float *heir = lane->values + (size_t)i * lane->value_dim;
        for (uint32_t c = 0; c < lane->value_dim; c++) heir[c] += (float)(share * value[c]);
        lane->changed[i] = 1;
        m--;
    }
}

static uint32_t heirs(const void *config) { return ((const struct config *)config)->merge; }

static void merge(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    const struct config *config = self->config;
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++) {
            uint32_t m;
            if (lanes[l].fate[i] == KV_STAYS) continue;
            const double mean = mean_weight(&lanes[l], i, config->merge, &m), own = lanes[l].state[i];
            const double probability = own >= mean ? (own > 0.0 ? 1.0 : 0.0) : own / mean;
            const double merged = draw(config, step, &lanes[l], i, probability);
            if (merged > 0.0) spread(&lanes[l], i, m, merged / m);
        }
}

static bool is_random(const void *config) { return ((const struct config *)config)->draw == DRAW_BERNOULLI; }

const struct kv_policy kv_policy_cam = {
    .name = "cam", .summary = "like h2o, and dropped values are merged into the rows after them",
    .paper = "CaM (Zhang et al., ICML 2024)",
    .params = params, .config_size = sizeof(struct config),
    .trim = {.budget = {.share = 0.2}, .recent_percent = 50},
    .wants = wants, .keep = kv_evidence_keep, .score = score, .observe = kv_evidence_observe,
    .merge = merge, .merges = KV_MERGES_VALUES, .heirs = heirs, .random = is_random};
