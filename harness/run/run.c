/* A run; see run.h. */
#include "harness/run/run.h"

#include <malloc.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "harness/base/clock.h"
#include "harness/run/calibration.h"
#include "harness/run/cell_row.h"
#include "harness/run/layer_groups.h"
#include "harness/replay/prompt_statistics.h"
#include "harness/output/provenance.h"
#include "harness/replay/question.h"
#include "harness/run/read_ahead.h"
#include "harness/replay/reference.h"
#include "harness/output/row.h"
#include "harness/run/scored.h"
#include "harness/run/survey.h"
#include "methods/spec_wants.h"

/* Tasks that a thread should have to choose from: enough to level out, few enough to bound memory. */
enum { TASKS_PER_THREAD = 8 };
/* Of answers that are kept until all methods of a batch have given theirs, a thread. */
enum { ANSWER_BYTES = 4 << 20 };
/* Of exact logits that methods share, a thread: a quarter of what 1,024 rows of 4,096 tokens take costs 2 %
 * of a comparison of 20 methods and keeps it inside two layers, 4 MiB and a method's state. */
enum { SHARED_BYTES = 4 << 20 };
#define NO_LAYER UINT32_MAX
#define LARGE_LAYER (UINT64_C(128) << 20)   /* bytes; not read ahead */
#define SMALL_LAYER (UINT64_C(4) << 20)     /* bytes; its methods' memory is not worth giving back */
enum { WHOLE_LAYER = KV_READ_GRADIENTS | KV_READ_PROJECTION };

struct job {                           /* one cell under way */
    struct kv_cell *cell;
    const struct kv_spec *spec;
    uint64_t seed;
    struct kv_layer_part *parts;       /* [n_layers] */
    struct kv_layer_groups groups;     /* of the layers that are run */
    struct kv_answer_arrays *answers;  /* [layers of the group at hand] */
    uint64_t *digests;                 /* [n_layers] of the answers */
    int status;                        /* first failure */
    struct kv_error error;
    double started;
    struct kv_layer_survey survey;     /* when the spec wants one */
};

struct task { struct job *job; uint32_t first_head, n_heads; struct kv_replay_account *accounts;
              int status; struct kv_error error; double seconds; };   /* accounts: one a layer */

struct trace_run {                     /* what the layers of one trace share */
    const struct kv_run_request *request;
    const struct kv_kernels *kernels;
    int threads;
    struct kv_trace *trace;
    struct kv_trace_summary *summary;
    struct kv_profile *profile;
    uint32_t *layers, n_layers;        /* indices into trace->layers */
    bool *audited;                     /* [n_layers] the reference is, by a batch before */
    uint32_t *scored, n_scored;
    uint32_t (*spans)[2], n_spans;
    struct kv_calibration *calibration;    /* NULL: fits see the prompt */
    struct kv_cell *cells;             /* of this trace, spec-major */
    uint32_t n_cells, n_done;
    double progress_base, progress_share;
    struct kv_read_ahead *ahead;       /* of the whole run */
    const char *next_path;             /* the trace after this; NULL: none */
    uint32_t next_layer;               /* read after the one at hand, an index into layers; or NO_LAYER */
    bool last_batch;
    struct kv_layer *held;             /* the layer that was worked on last and comes next, */
    struct kv_reference *held_reference;   /* with its exact answers; NULL: there is none */
    uint32_t held_layer;               /* an index into layers */
};

/* -- the layers of a group ---------------------------------------------------------------------- */

struct layer_run {
    struct trace_run *run;
    uint32_t l;                        /* index into run->layers */
    bool stays;                        /* it is the next one, too: a trace of one layer, methods in batches */
    bool answered;                     /* false: replayed only for the layer beside it */
    struct kv_layer *owner, *reader;
    struct kv_trace_layer hidden[2];   /* descriptions of both, where the question is not known */
    struct kv_fit_layer fit;           /* calibration rows */
    struct kv_reference *reference;
    struct kv_scored scored;
    struct kv_exact_logits *exact_logits;  /* while tasks run */
    struct kv_prompt *prompts;         /* [kv_heads] */
    struct kv_pool **prompt_pools;     /* [kv_heads] */
};

static struct kv_wants wants_of_jobs(struct job *const *jobs, uint32_t n)
{
    struct kv_wants all = {0};
    for (uint32_t j = 0; j < n; j++) {
        const struct kv_wants one = kv_spec_wants(jobs[j]->spec);
        kv_wants_merge(&all, &one);
    }
    return all;
}

/* Adds the time since *start to a stage; *start becomes now. */
static void spend(struct trace_run *run, enum kv_stage_of_run stage, double *start)
{
    const double now = kv_clock_seconds();
    run->profile->seconds[stage] += now - *start;
    *start = now;
}

/* All but the rows themselves, which each task makes for its own heads (add_rows): floats of a whole layer
 * would be twice the layer. */
static int compute_prompts(struct layer_run *layer, const struct kv_wants *wants, struct kv_error *err)
{
    struct kv_wants shared = *wants;
    shared.prompt_rows = shared.queries = false;
    const uint32_t heads = layer->owner->info->geometry.kv_heads;
    int worst = KV_OK;
    layer->prompts = calloc(heads, sizeof *layer->prompts);
    layer->prompt_pools = calloc(heads, sizeof *layer->prompt_pools);
    if (!layer->prompts || !layer->prompt_pools)
        return kv_fail(err, KV_EMEMORY, "out of memory for prompt statistics");
#pragma omp parallel for schedule(dynamic, 1) num_threads(layer->run->threads)
    for (uint32_t head = 0; head < heads; head++) {
        struct kv_error own = {{0}};
        struct kv_pool *pool = layer->prompt_pools[head] = kv_pool_create(0);
        const int status = pool ? kv_prompt_compute(&layer->prompts[head], layer->owner, head, &shared,
                                                    layer->run->kernels, pool, &own)
                                : kv_fail(&own, KV_EMEMORY, "out of memory for prompt statistics");
#pragma omp critical
        if (status != KV_OK) worst = status, *err = own;
    }
    return worst;
}

static void drop_held(struct trace_run *run)
{
    kv_layer_free(run->held);
    kv_reference_free(run->held_reference);
    run->held = NULL, run->held_reference = NULL;
}

/* Its rows and exact answers stay for the batch after this, which has them for nothing. */
static void hold_layer(struct layer_run *layer)
{
    struct trace_run *run = layer->run;
    drop_held(run);
    run->held = layer->reader, run->held_reference = layer->reference, run->held_layer = layer->l;
    run->held->info = &run->trace->layers[run->layers[layer->l]];
    run->held_reference->seconds = run->held_reference->audit_seconds = 0;
    layer->owner = layer->reader = NULL, layer->reference = NULL;
}

static void close_layer(struct layer_run *layer)
{
    const uint32_t heads = layer->owner ? layer->owner->info->geometry.kv_heads : 0;
    for (uint32_t h = 0; layer->prompt_pools && h < heads; h++) kv_pool_destroy(layer->prompt_pools[h]);
    free(layer->prompt_pools);
    free(layer->prompts);
    if (layer->reference && layer->stays) hold_layer(layer);
    kv_reference_free(layer->reference);
    kv_fit_layer_free(&layer->fit);
    if (layer->owner != layer->reader) kv_layer_free(layer->owner);
    kv_layer_free(layer->reader);
}

static uint32_t find_layer(const struct kv_trace *trace, uint32_t index)
{
    uint32_t i = 0;
    while (i + 1 < trace->n_layers && trace->layers[i].index != index) i++;
    return i;
}

static struct kv_spans spans_of(const struct trace_run *run)
{
    return (struct kv_spans){.n = run->n_spans, .range = (const uint32_t (*)[2])run->spans};
}

static unsigned open_flags(const struct trace_run *run)
{
    return run->request->no_verify ? KV_NO_VERIFY : 0;
}

/* Bytes of a layer's Q, K and V. */
static uint64_t layer_bytes(const struct kv_trace_layer *layer)
{
    const struct kv_geometry *geometry = &layer->geometry;
    const uint64_t columns = (uint64_t)(geometry->q_heads + geometry->kv_heads) * geometry->key_dim +
                             (uint64_t)geometry->kv_heads * geometry->value_dim;
    return geometry->tokens * columns * kv_dtype_bytes(layer->dtype);
}

/* Bytes of the layer that is read while this one is worked on, or 0. Work grows faster than bytes do: for
 * large layers waiting is a small part, and one in memory is enough. */
static uint64_t ahead_bytes(const struct layer_run *at)
{
    const struct trace_run *run = at->run;
    if (run->next_layer == NO_LAYER || at->stays) return 0;
    const uint64_t bytes = layer_bytes(&run->trace->layers[run->layers[run->next_layer]]);
    return bytes > LARGE_LAYER ? 0 : bytes;
}

static void read_on(const struct layer_run *at)
{
    struct trace_run *run = at->run;
    if (ahead_bytes(at))
        kv_read_ahead_layer(run->ahead, run->trace, run->layers[run->next_layer], WHOLE_LAYER);
    else if (run->next_layer == NO_LAYER && run->next_path)
        kv_read_ahead_trace(run->ahead, run->next_path, open_flags(run));
}

/* The held one, or read by now, or read here. */
static int take_layer(struct layer_run *layer, struct kv_error *err)
{
    struct trace_run *run = layer->run;
    if (run->held && run->held_layer == layer->l) {
        layer->reader = run->held, layer->reference = run->held_reference;
        run->held = NULL, run->held_reference = NULL;
        return KV_OK;
    }
    drop_held(run);
    return kv_read_ahead_take_layer(run->ahead, &layer->reader, run->trace, run->layers[layer->l],
                                    WHOLE_LAYER, err);
}

/* `spec` stands for all that run together: they agree on whether the question is known. */
static int open_layer(struct layer_run *layer, struct trace_run *run, uint32_t l,
                      const struct kv_spec *spec, const struct kv_wants *wants, struct kv_error *err)
{
    const uint32_t i = run->layers[l];
    const struct kv_trace_layer *info = &run->trace->layers[i];
    double start = kv_clock_seconds();
    *layer = (struct layer_run){.run = run, .l = l, .answered = true};
    layer->stays = run->next_layer == l && info->kv_source == info->index;
    int status = take_layer(layer, err);
    if (status != KV_OK) return status;
    layer->owner = layer->reader;
    if (info->kv_source != info->index) {
        layer->owner = NULL;
        status = kv_trace_read_layer(&layer->owner, run->trace, find_layer(run->trace, info->kv_source),
                                     KV_READ_GRADIENTS | (wants->output_norms ? KV_READ_PROJECTION : 0), err);
        if (status != KV_OK) return status;
    }
    if (run->calibration) {
        status = kv_calibration_read(&layer->fit, run->calibration, layer->owner, err);
        if (status != KV_OK) return status;
    }
    read_on(layer);
    kv_question_hide(spec, layer->reader, &layer->hidden[0]);
    if (layer->owner != layer->reader) kv_question_hide(spec, layer->owner, &layer->hidden[1]);
    spend(run, KV_STAGE_READ, &start);
    const struct kv_reference_input input = {
        .layer = layer->reader, .kernels = run->kernels, .n_scored = run->n_scored,
        .scored = run->scored, .spans = spans_of(run),
        .content_hash = run->trace->verified ? run->trace->content_hash : NULL,
        .version = kv_code_version(), .threads = run->threads, .audited = run->audited[l]};
    layer->scored = (struct kv_scored){layer->reader, run->kernels, run->n_scored, run->scored};
    if (!layer->reference) status = kv_reference_get(&layer->reference, &input, err);
    spend(run, KV_STAGE_REFERENCE, &start);
    if (status != KV_OK) return status;
    run->audited[l] = true;
    run->profile->seconds[KV_STAGE_REFERENCE] -= layer->reference->audit_seconds;
    run->profile->seconds[KV_STAGE_AUDIT] += layer->reference->audit_seconds;
    status = compute_prompts(layer, wants, err);
    spend(run, KV_STAGE_PROMPT, &start);
    return status;
}

static size_t answer_floats(const struct kv_geometry *geometry, const struct trace_run *run)
{
    return (size_t)geometry->q_heads * run->n_scored * (geometry->value_dim + 4 + run->n_spans);
}

static int reserve_answers(struct kv_answer_arrays *answers, const struct layer_run *layer)
{
    const struct kv_geometry *geometry = &layer->reader->info->geometry;
    const size_t rows = (size_t)geometry->q_heads * layer->run->n_scored;
    float *memory = calloc(answer_floats(geometry, layer->run), sizeof *memory);
    *answers = (struct kv_answer_arrays){
        .outputs = memory, .log_sum_exp = memory + rows * geometry->value_dim};
    if (!memory) return KV_EMEMORY;
    answers->divergence = answers->log_sum_exp + rows;
    answers->held_mass = answers->divergence + rows;
    answers->drift = answers->held_mass + rows;
    answers->span_mass = answers->drift + rows;
    return KV_OK;
}

struct group_run {                     /* the layers that one object may serve, open at once */
    struct trace_run *run;
    struct layer_run *layers;
    uint32_t n, n_jobs;
    struct job **jobs;
};

static int reserve_job(struct job *job, const struct group_run *group)
{
    int status = KV_OK;
    job->answers = calloc(group->n, sizeof *job->answers);
    if (!job->answers) status = KV_EMEMORY;
    for (uint32_t m = 0; status == KV_OK && m < group->n; m++)
        if (group->layers[m].answered) status = reserve_answers(&job->answers[m], &group->layers[m]);
    return status == KV_OK ? KV_OK : kv_fail(&job->error, KV_EMEMORY, "out of memory for answers");
}

static void release_job(struct job *job, const struct group_run *group)
{
    for (uint32_t m = 0; job->answers && m < group->n; m++) free(job->answers[m].outputs);
    free(job->answers);
    job->answers = NULL;
}

static struct kv_replay replay_of(const struct task *task, const struct layer_run *layer, uint32_t m)
{
    const struct trace_run *run = layer->run;
    const struct job *job = task->job;
    const double limit = run->request->timeout_seconds;
    return (struct kv_replay){
        .owner = layer->owner, .reader = layer->reader, .spec = job->spec, .kernels = run->kernels,
        .prompts = layer->prompts,
        .survey = kv_survey_at(&job->survey, layer->owner->info->index), .first_head = task->first_head, .n_heads = task->n_heads,
        .n_scored = layer->answered ? run->n_scored : 0, .scored = run->scored,
        .exact_log_sum_exp = layer->reference->log_sum_exp, .exact_logits = layer->exact_logits,
        .spans = spans_of(run), .seed = job->seed,
        .road = run->request->road, .audit = run->request->audit, .stop = run->request->stop,
        .exact_layer = kv_spec_is_exact_layer(job->spec, layer->owner->info->index,
                                              layer->owner->info->geometry.model_layers),
        .calibration = run->calibration ? &layer->fit.rows : NULL,
        .deadline = limit > 0.0 ? job->started + limit : 0.0, .answers = job->answers[m]};
}

/* Those whose answers are swept share what they are compared with: tells it who comes, and who went. */
static void share_logits(const struct task *task, const struct group_run *group,
                         void (*tell)(struct kv_exact_logits *shared, uint32_t head))
{
    for (uint32_t m = 0; m < group->n; m++) {
        const struct kv_replay replay = replay_of(task, &group->layers[m], m);
        for (uint32_t h = 0; kv_replay_sweeps(&replay) && h < task->n_heads; h++)
            tell(group->layers[m].exact_logits, task->first_head + h);
    }
}

/* The prompt's rows of the task's heads, where its spec reads them; they live as long as the pool. */
static int add_rows(struct kv_replay *replay, struct task *task, const struct layer_run *layer, struct kv_pool *pool)
{
    const struct kv_wants wants = kv_spec_wants(replay->spec);
    const size_t bytes = layer->owner->info->geometry.kv_heads * sizeof *layer->prompts;
    if (!wants.prompt_rows && !wants.queries) return KV_OK;
    struct kv_prompt *own = kv_pool_take(pool, bytes);
    if (!own) return kv_fail(&task->error, KV_EMEMORY, "out of memory for rows of the prompt");
    memcpy(own, layer->prompts, bytes);
    replay->prompts = own;
    int status = KV_OK;
    for (uint32_t h = task->first_head; status == KV_OK && h < task->first_head + task->n_heads; h++)
        status = kv_prompt_rows(&own[h], layer->owner, h, &wants, replay->kernels, pool, &task->error);
    return status;
}

static void run_task(struct task *task, const struct group_run *group)
{
    const double start = kv_clock_seconds();
    struct kv_replay *replays = calloc(group->n, sizeof *replays);
    struct kv_pool *pool = kv_pool_create(0);
    task->status = replays && pool ? KV_OK : kv_fail(&task->error, KV_EMEMORY, "out of memory for a layer group");
    for (uint32_t m = 0; task->status == KV_OK && m < group->n; m++) {
        replays[m] = replay_of(task, &group->layers[m], m);
        task->status = add_rows(&replays[m], task, &group->layers[m], pool);
    }
    if (task->status == KV_OK)
        task->status = kv_replay_group(replays, group->n, task->accounts, &task->error);
    kv_pool_destroy(pool);
    free(replays);
    share_logits(task, group, kv_exact_logits_leave);
    task->seconds = kv_clock_seconds() - start;
}

/* Head by head, so that what the methods of a head share need not be there for long. */
static uint32_t list_tasks(struct task *tasks, struct kv_replay_account *accounts,
                           const struct group_run *group)
{
    const struct kv_geometry *geometry = &group->layers->owner->info->geometry;
    uint32_t n = 0;
    for (uint32_t h = 0; h < geometry->kv_heads; h++)
        for (uint32_t j = 0; j < group->n_jobs; j++) {
            struct job *job = group->jobs[j];
            const uint32_t heads = kv_replay_unit_heads(job->spec, geometry);
            if (job->status != KV_OK || h % heads) continue;
            tasks[n] = (struct task){.job = job, .first_head = h, .n_heads = heads,
                                     .accounts = accounts + (size_t)n * group->n};
            share_logits(&tasks[n++], group, kv_exact_logits_expect);
        }
    return n;
}

static void measure(struct job *job, const struct layer_run *layer,
                    const struct kv_answer_arrays *answers, struct kv_layer_part *part)
{
    const struct trace_run *run = layer->run;
    const struct kv_layer *read = layer->reader;
    struct kv_gradient_view label = {read->label.tensor, read->label.unit}, fisher[64];
    const uint32_t n_fisher = run->trace->n_fisher < 64 ? run->trace->n_fisher : 64;
    for (uint32_t s = 0; read->fisher && s < n_fisher; s++)
        fisher[s] = (struct kv_gradient_view){read->fisher[s].tensor, read->fisher[s].unit};
    bool reads_all = !job->spec->caches[0].answer;   /* without rows nothing is known of masses */
    for (uint32_t c = 0; c < job->spec->n_caches; c++)
        for (uint32_t p = 0; p < job->spec->caches[c].n_policies; p++) {
            const struct kv_policy *policy = job->spec->caches[c].policies[p]->policy;
            reads_all = reads_all && !policy->score && !policy->select;
        }
    const struct kv_replay_account *account = &part->account;
    const struct kv_measured measured = {
        .geometry = &read->info->geometry, .n_scored = run->n_scored, .scored = run->scored,
        .exact = layer->reference->outputs, .answer = answers->outputs,
        .divergence = answers->divergence, .held_mass = answers->held_mass,
        .drift = answers->drift, .exact_log_sum_exp = layer->reference->log_sum_exp,
        .reads_all = reads_all, .n_spans = run->n_spans, .span_exact = layer->reference->span_mass,
        .span_answer = answers->span_mass, .w_o = read->w_o, .hidden = read->hidden,
        .exact_projected2 = *layer->reference->projected2, .x2 = read->x2,
        .attn_post_norm = read->info->attn_post_norm, .n_windows = run->trace->n_windows,
        .windows = (const uint32_t (*)[2])run->trace->windows,
        .label = read->label.tensor.data ? &label : NULL,
        .n_fisher = read->fisher ? n_fisher : 0, .fisher = fisher,
        .key_error2 = account->key_error2, .key_norm2 = account->key_norm2,
        .value_error2 = account->value_error2, .value_norm2 = account->value_norm2};
    const double start = kv_clock_seconds();
    if (kv_measure_layer(&part->measures, &measured) != KV_OK)
        job->status = kv_fail(&job->error, KV_EMEMORY, "out of memory for measures");
    part->measured = job->status == KV_OK;
    job->cell->measure_seconds += kv_clock_seconds() - start;
}

/* Sums the units' accounts in head order. */
static void gather_tasks(const struct task *tasks, uint32_t n, const struct group_run *group)
{
    for (uint32_t i = 0; i < n; i++) {
        struct job *job = tasks[i].job;
        if (tasks[i].status != KV_OK && job->status == KV_OK)
            job->status = tasks[i].status, job->error = tasks[i].error;
        for (uint32_t m = 0; m < group->n; m++)
            if (group->layers[m].answered)
                kv_account_add(&job->parts[group->layers[m].l].account, &tasks[i].accounts[m]);
        job->cell->replay_seconds += tasks[i].seconds;
    }
}

static void share_exact_logits(struct group_run *group)
{
    for (uint32_t m = 0; m < group->n; m++) {
        struct layer_run *layer = &group->layers[m];
        layer->exact_logits = kv_exact_logits_create(
            &layer->scored, (size_t)SHARED_BYTES * (size_t)group->run->threads / group->n);
    }
}

static void note_most(struct kv_profile *profile, enum kv_memory_of_run kind, uint64_t bytes)
{
    if ((int64_t)bytes > profile->bytes[kind]) profile->bytes[kind] = (int64_t)bytes;
}

static void forget_exact_logits(struct group_run *group)
{
    uint64_t most = 0;
    for (uint32_t m = 0; m < group->n; m++) {
        most += kv_exact_logits_most(group->layers[m].exact_logits);
        kv_exact_logits_free(group->layers[m].exact_logits);
    }
    note_most(group->run->profile, KV_MEMORY_LOGITS, most);
}

static int run_tasks(struct group_run *group, struct kv_error *err)
{
    const size_t most = (size_t)group->n_jobs * group->layers->owner->info->geometry.kv_heads;
    struct task *tasks = calloc(most, sizeof *tasks);
    struct kv_replay_account *accounts = calloc(most * group->n, sizeof *accounts);
    if (!tasks || !accounts) {
        free(tasks);
        free(accounts);
        return kv_fail(err, KV_EMEMORY, "out of memory for tasks");
    }
    share_exact_logits(group);
    const uint32_t n_tasks = list_tasks(tasks, accounts, group);
#pragma omp parallel for schedule(dynamic, 1) num_threads(group->run->threads)
    for (uint32_t i = 0; i < n_tasks; i++) run_task(&tasks[i], group);
    gather_tasks(tasks, n_tasks, group);
    forget_exact_logits(group);
    free(tasks);
    free(accounts);
    return KV_OK;
}

static void measure_job(struct job *job, const struct group_run *group)
{
    for (uint32_t m = 0; m < group->n; m++) {
        const struct layer_run *layer = &group->layers[m];
        struct kv_layer_part *part = &job->parts[layer->l];
        const struct kv_geometry *geometry = &layer->reader->info->geometry;
        if (!layer->answered) continue;
        if (job->status == KV_OK) {
            job->digests[layer->l] = XXH3_64bits(
                job->answers[m].outputs, (size_t)geometry->q_heads * group->run->n_scored *
                                             geometry->value_dim * sizeof(float));
            measure(job, layer, &job->answers[m], part);
        }
        if (part->reads_shared) part->account = (struct kv_replay_account){0};
    }
}

static void note_reference(struct kv_trace_summary *summary, const struct kv_reference *reference)
{
    summary->reference_seconds += reference->seconds;
    summary->reference_cached &= reference->from_disk;
    if (summary->audit_bound == 0.0 || reference->worst_deviation * summary->audit_bound >
                                           summary->audit_deviation * reference->worst_bound)
        summary->audit_deviation = reference->worst_deviation,
        summary->audit_bound = reference->worst_bound;
}

/* What is held while the jobs of a group run. */
static void note_memory(const struct group_run *group)
{
    const struct trace_run *run = group->run;
    uint64_t layers = ahead_bytes(group->layers), reference = 0, prompt = 0, answers = 0;
    for (uint32_t m = 0; m < group->n; m++) {
        const struct layer_run *layer = &group->layers[m];
        const struct kv_geometry *geometry = &layer->reader->info->geometry;
        layers += layer_bytes(layer->reader->info);
        if (layer->owner != layer->reader) layers += layer_bytes(layer->owner->info);
        reference += kv_pool_reserved(layer->reference->pool);
        for (uint32_t h = 0; h < layer->owner->info->geometry.kv_heads; h++)
            prompt += kv_pool_reserved(layer->prompt_pools[h]);
        if (layer->answered)
            answers += group->n_jobs * answer_floats(geometry, run) * sizeof(float);
    }
    note_most(run->profile, KV_MEMORY_LAYERS, layers);
    note_most(run->profile, KV_MEMORY_REFERENCE, reference);
    note_most(run->profile, KV_MEMORY_PROMPT, prompt);
    note_most(run->profile, KV_MEMORY_ANSWERS, answers);
}

static int replay_group(struct group_run *group, struct kv_error *err)
{
    note_memory(group);
    for (uint32_t j = 0; j < group->n_jobs; j++) {
        struct job *job = group->jobs[j];
        for (uint32_t m = 0; m < group->n; m++) {
            struct layer_run *layer = &group->layers[m];
            if (!layer->answered) continue;
            job->parts[layer->l].info = &group->run->trace->layers[group->run->layers[layer->l]];
            job->parts[layer->l].reads_shared = layer->owner != layer->reader;
        }
        if (job->status == KV_OK) job->status = reserve_job(job, group);
    }
    double start = kv_clock_seconds();
    const int status = run_tasks(group, err);
    spend(group->run, KV_STAGE_REPLAY, &start);
#pragma omp parallel for schedule(dynamic, 1) num_threads(group->run->threads)
    for (uint32_t j = 0; j < group->n_jobs; j++) {
        if (status == KV_OK) measure_job(group->jobs[j], group);
        release_job(group->jobs[j], group);
    }
    spend(group->run, KV_STAGE_MEASURE, &start);
    return status;
}

/* Opens the layers of a group and takes jobs that join layers in the same way through it. */
static int run_group(struct trace_run *run, struct job **jobs, uint32_t n_jobs,
                     const struct kv_layer_group *of, struct kv_error *err)
{
    const struct kv_wants wants = wants_of_jobs(jobs, n_jobs);
    struct group_run group = {.run = run, .jobs = jobs, .n_jobs = n_jobs,
                              .layers = calloc(of->n, sizeof *group.layers)};
    int status = group.layers ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for layers");
    const uint32_t after = run->next_layer;
    for (; status == KV_OK && group.n < of->n; group.n++) {
        struct layer_run *layer = &group.layers[group.n];
        run->next_layer = group.n + 1 < of->n ? of->layers[group.n + 1] : after;
        status = open_layer(layer, run, of->layers[group.n], jobs[0]->spec, &wants, err);
        layer->answered = !of->reads_shared || group.n == of->reader;
    }
    if (status == KV_OK) status = replay_group(&group, err);
    for (uint32_t m = 0; m < group.n; m++) {
        if (status == KV_OK && group.layers[m].answered)
            note_reference(run->summary, group.layers[m].reference);
        close_layer(&group.layers[m]);
    }
    free(group.layers);
    return status;
}

/* -- one trace ---------------------------------------------------------------------------------- */

static bool stopped(const struct trace_run *run) { return run->request->stop && *run->request->stop; }

static int finish_job(struct trace_run *run, struct job *job, struct kv_error *err)
{
    const struct kv_cell_facts facts = {
        .trace = run->trace, .summary = run->summary, .spec = job->spec, .isa = run->kernels->isa,
        .seed = job->seed, .n_scored = run->n_scored, .scored = run->scored,
        .n_layers = run->n_layers, .parts = job->parts, .groups = &job->groups,
        .full_metrics = run->request->full_metrics,
        .calibrated_as = run->calibration ? kv_calibration_kind(run->calibration) : NULL};
    int status = KV_OK;
    if (job->status == KV_OK) status = kv_cell_fill(job->cell, &facts, err);
    else {
        status = kv_cell_name(job->cell, &facts);
        kv_cell_failed(job->cell, job->status, &job->error);
    }
    job->cell->answer_digest = XXH3_64bits(job->digests, run->n_layers * sizeof *job->digests);
    job->cell->seconds = job->cell->replay_seconds + job->cell->measure_seconds;
    if (status == KV_OK && job->cell->done && run->request->finished)
        status = run->request->finished(run->request->context, job->cell, err);
    return status;
}

static void tell_progress(const struct trace_run *run, double batch_share)
{
    if (!run->request->progress) return;
    run->request->progress(run->request->context,
                           run->progress_base + run->progress_share *
                               ((double)run->n_done + batch_share) / run->n_cells);
}

/* Moves jobs that join layers and know the question as the first does to the front; where layers are joined, no more of
 * them than keep the threads busy, since the answers of a whole group are in memory. */
static uint32_t gather_class(const struct trace_run *run, struct job **jobs, uint32_t n)
{
    const struct kv_layer_groups *groups = &jobs[0]->groups;
    const uint32_t most = groups->n < run->n_layers ? 2 * (uint32_t)run->threads : n;
    uint32_t same = 1;
    for (uint32_t j = 1; j < n && same < most; j++) {
        if (!kv_layer_groups_same(groups, &jobs[j]->groups) ||
            jobs[j]->spec->query_agnostic != jobs[0]->spec->query_agnostic)
            continue;
        struct job *job = jobs[j];
        memmove(jobs + same + 1, jobs + same, (j - same) * sizeof(struct job *));
        jobs[same++] = job;
    }
    return same;
}

static int run_classes(struct trace_run *run, struct job **jobs, uint32_t n, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t done = 0, class; status == KV_OK && done < n; done += class) {
        class = gather_class(run, jobs + done, n - done);
        const struct kv_layer_groups *groups = &jobs[done]->groups;
        const bool last = done + class == n && run->last_batch;
        for (uint32_t g = 0; status == KV_OK && g < groups->n && !stopped(run); g++) {
            /* What comes after this class most likely begins as it did. */
            run->next_layer = g + 1 < groups->n ? groups->groups[g + 1].layers[0]
                              : last            ? NO_LAYER
                                                : groups->groups[0].layers[0];
            status = run_group(run, jobs + done, class, &groups->groups[g], err);
            tell_progress(run, done + (double)class * (g + 1) / groups->n);
        }
    }
    return status;
}

static void take_survey(const struct trace_run *run, struct job *job)
{
    if (job->status != KV_OK || !kv_survey_wanted(job->spec) || stopped(run)) return;
    kv_read_ahead_wait(run->ahead);
    job->status = kv_survey_take(&job->survey, job->spec, run->trace, run->layers, run->n_layers,
                                 run->kernels, &job->error);
}

static void free_job(const struct trace_run *run, struct job *job)
{
    for (uint32_t l = 0; l < run->n_layers; l++) kv_layer_measures_free(&job->parts[l].measures);
    kv_layer_groups_free(&job->groups);
    kv_survey_free(&job->survey);
    free(job->parts);
    free(job->digests);
}

static int run_batch(struct trace_run *run, struct job *jobs, uint32_t n, struct kv_error *err)
{
    struct job **able = calloc(n, sizeof(struct job *));
    uint32_t n_able = 0;
    if (!able) return kv_fail(err, KV_EMEMORY, "out of memory for cells");
    for (uint32_t j = 0; j < n; j++) {
        take_survey(run, &jobs[j]);
        if (jobs[j].status == KV_OK) able[n_able++] = &jobs[j];
    }
    run->last_batch = run->n_done + n == run->n_cells;
    int status = run_classes(run, able, n_able, err);
    free(able);
    for (uint32_t j = 0; j < n; j++) {
        if (stopped(run) && jobs[j].status == KV_OK)
            jobs[j].status = kv_fail(&jobs[j].error, KV_EINTERRUPTED, "interrupted");
        if (status == KV_OK) status = finish_job(run, &jobs[j], err);
        free_job(run, &jobs[j]);
    }
    run->n_done += n;
    return status;
}

/* Of a layer's answers and what is measured of each, for one of the specs that run together; at most. */
static uint64_t answer_bytes(const struct trace_run *run)
{
    uint64_t most = 0;
    for (uint32_t l = 0; l < run->n_layers; l++) {
        const struct kv_geometry *geometry = &run->trace->layers[run->layers[l]].geometry;
        const uint64_t bytes = answer_floats(geometry, run) * sizeof(float);
        if (bytes > most) most = bytes;
    }
    return most;
}

/* Specs that run together share the reference and the prompt's statistics: as many as give every thread
 * enough tasks, or as have room for their answers, so that memory stays bounded and cells finish (and are
 * journaled) one after the other; all at once where reading the trace again would cost more. */
static uint32_t batch_size(const struct trace_run *run)
{
    uint32_t heads = 1;
    uint64_t bytes = 0;
    for (uint32_t l = 0; l < run->n_layers; l++) {
        const struct kv_trace_layer *layer = &run->trace->layers[run->layers[l]];
        if (l == 0 || layer->geometry.kv_heads < heads) heads = layer->geometry.kv_heads;
        bytes += layer_bytes(layer);
    }
    const uint64_t streamed = UINT64_C(1) << 30, answers = answer_bytes(run);
    if (bytes > streamed) return run->n_cells;
    const uint32_t busy = (uint32_t)(TASKS_PER_THREAD * run->threads) / heads;
    const uint64_t fit = (uint64_t)ANSWER_BYTES * (uint32_t)run->threads / (answers ? answers : 1);
    const uint32_t batch = fit > busy ? (uint32_t)(fit < run->n_cells ? fit : run->n_cells) : busy;
    return batch > 0 ? batch : 1;
}

static int start_job(struct trace_run *run, struct job *job, struct kv_cell *cell,
                     const struct kv_spec *spec, uint64_t seed, struct kv_error *err)
{
    *job = (struct job){.cell = cell, .spec = spec, .seed = seed, .started = kv_clock_seconds()};
    job->parts = calloc(run->n_layers, sizeof *job->parts);
    job->digests = calloc(run->n_layers, sizeof *job->digests);
    if (!job->parts || !job->digests) return kv_fail(err, KV_EMEMORY, "out of memory for a cell");
    job->status = kv_question_check(spec, run->trace->question_start, run->trace->prefill, &job->error);
    if (job->status == KV_OK)
        job->status = kv_layer_groups_form(&job->groups, run->trace, run->layers, run->n_layers, spec,
                                           &job->error);
    return KV_OK;
}

static uint32_t seeds_of(const struct kv_run_request *request, const struct kv_spec *spec)
{
    return spec->random && request->seeds > 1 ? request->seeds : 1;
}

static void note_budget(struct kv_cell *cell, const struct kv_spec *spec, uint32_t prompt)
{
    for (uint32_t c = 0; c < spec->n_caches; c++)
        for (uint32_t p = 0; p < spec->caches[c].n_policies; p++) {
            const struct kv_stage *stage = spec->caches[c].policies[p];
            if (!stage->policy->score || cell->asked_budget[0]) continue;
            const struct kv_budget budget = stage->trim.budget;
            char text[64];
            kv_budget_print(text, &budget);
            if (budget.share > 0.0)
                snprintf(cell->asked_budget, sizeof cell->asked_budget, "%g%% = %u",
                         100.0 * budget.share, kv_budget_tokens(budget, prompt));
            else snprintf(cell->asked_budget, sizeof cell->asked_budget, "%.31s", text);
        }
}

static int run_cells(struct trace_run *run, struct kv_error *err)
{
    const uint32_t limit = batch_size(run);
    struct job *jobs = calloc(limit, sizeof *jobs);
    if (!jobs) return kv_fail(err, KV_EMEMORY, "out of memory for cells");
    uint32_t n = 0, at = 0;
    int status = KV_OK;
    for (uint32_t s = 0; s < run->request->specs->n; s++) {
        const struct kv_spec *spec = &run->request->specs->specs[s];
        for (uint32_t k = 0; k < seeds_of(run->request, spec); k++) {
            struct kv_cell *cell = &run->cells[at++];
            const uint64_t seed = run->request->seed + k;
            const struct kv_cell_facts facts = {.summary = run->summary, .spec = spec,
                                                .isa = run->kernels->isa, .seed = seed};
            if (status == KV_OK && kv_cell_name(cell, &facts) != KV_OK)
                status = kv_fail(err, KV_EMEMORY, "out of memory for rows");
            note_budget(cell, spec, kv_question_prefill(spec, run->trace->question_start, run->trace->prefill));
            if (status != KV_OK || stopped(run)) {
                const struct kv_error why = {"interrupted"};
                kv_cell_failed(cell, KV_EINTERRUPTED, &why);
                continue;
            }
            if (run->request->restore && run->request->restore(run->request->context, cell)) {
                run->n_done++;
                continue;
            }
            status = start_job(run, &jobs[n++], cell, spec, seed, err);
            if (status == KV_OK && n == limit) status = run_batch(run, jobs, n, err), n = 0;
        }
    }
    if (status == KV_OK && n > 0) status = run_batch(run, jobs, n, err);
    free(jobs);
    if (status == KV_OK && kv_mark_same_answers(run->cells, run->n_cells) != KV_OK)
        status = kv_fail(err, KV_EMEMORY, "out of memory for flags");
    return status;
}

static int choose_layers(struct trace_run *run, struct kv_error *err)
{
    const struct kv_run_request *request = run->request;
    run->layers = calloc(run->trace->n_layers, sizeof *run->layers);
    run->audited = calloc(run->trace->n_layers, sizeof *run->audited);
    run->scored = calloc(run->trace->tokens, sizeof *run->scored);
    if (!run->layers || !run->audited || !run->scored) return kv_fail(err, KV_EMEMORY, "out of memory for a trace");
    for (uint32_t w = 0; w < request->n_layers; w++) {
        const uint32_t i = find_layer(run->trace, request->layers[w]);
        if (run->trace->layers[i].index != request->layers[w])
            return kv_fail(err, KV_EUSAGE, "%s: --layers %u: expected a recorded layer, found none of that index",
                           run->trace->path, request->layers[w]);
    }
    for (uint32_t i = 0; i < run->trace->n_layers; i++) {
        bool wanted = request->n_layers == 0;
        for (uint32_t w = 0; w < request->n_layers; w++)
            wanted |= request->layers[w] == run->trace->layers[i].index;
        if (wanted) run->layers[run->n_layers++] = i;
    }
    run->n_scored = kv_choose_scored(run->trace->prefill, run->trace->tokens, request->queries, run->scored);
    if (!run->calibration) return KV_OK;
    const int status = kv_calibration_enter(run->calibration, run->trace, err);
    if (status == KV_OK) run->n_scored = kv_calibration_spare(run->calibration, run->scored, run->n_scored);
    if (status == KV_OK && !run->n_scored)
        return kv_fail(err, KV_EUSAGE, "%s: --calibrate %s: expected decode steps left to score, found none",
                       run->trace->path, request->calibrate);
    return status;
}

static int list_spans(struct trace_run *run, struct kv_error *err)
{
    uint32_t n = 0;
    for (uint32_t s = 0; s < run->trace->n_spans; s++) n += run->trace->spans[s].n;
    run->spans = calloc(n ? n : 1, sizeof *run->spans);
    if (!run->spans) return kv_fail(err, KV_EMEMORY, "out of memory for spans");
    for (uint32_t s = 0; s < run->trace->n_spans; s++)
        for (uint32_t i = 0; i < run->trace->spans[s].n; i++, run->n_spans++)
            memcpy(run->spans[run->n_spans], run->trace->spans[s].range[i], sizeof *run->spans);
    return KV_OK;
}

static char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const size_t length = strlen(name);
    return strndup(name, length > 3 && strcmp(name + length - 3, ".h5") == 0 ? length - 3 : length);
}

static int summarise(struct trace_run *run, struct kv_error *err)
{
    const struct kv_trace *trace = run->trace;
    struct kv_trace_summary *summary = run->summary;
    *summary = (struct kv_trace_summary){
        .name = base_name(trace->path), .path = strdup(trace->path), .hash = strdup(trace->content_hash),
        .model = strdup(trace->model), .text = strdup(trace->text), .tokens = trace->tokens,
        .prefill = trace->prefill, .n_layers = run->n_layers, .model_layers = trace->model_layers,
        .n_windows = trace->n_windows, .window_tokens = trace->window_tokens,
        .n_fisher = trace->n_fisher, .element_bits = trace->layers[run->layers[0]].geometry.element_bits,
        .verified = trace->verified, .reference_cached = true};
    summary->has_probes = trace->n_windows > 0 && trace->n_fisher > 0;
    for (uint32_t l = 0; l < run->n_layers; l++) {
        summary->has_w_o |= trace->layers[run->layers[l]].has_w_o;
        summary->has_x2 |= trace->layers[run->layers[l]].has_x2;
        summary->has_probes = summary->has_probes && trace->layers[run->layers[l]].has_gradients;
    }
    if (summary->name && summary->path && summary->hash && summary->model && summary->text) return KV_OK;
    return kv_fail(err, KV_EMEMORY, "out of memory for a trace");
}

/* Blocks that one method needs and the next one does not go back to the system at once. By itself glibc
 * raises this size to 32 MiB as it sees blocks go, and then keeps what fits nowhere: 9 MiB of a comparison
 * of 20 methods over 6 MiB a layer, 44 of eight over 100. It costs time in pages: 2 to 4 % there, 12 % of a
 * run over layers of 2 MiB, which would save 3 MiB by it. */
static void give_memory_back(const struct trace_run *run)
{
#ifdef M_MMAP_THRESHOLD
    uint64_t largest = 0;
    for (uint32_t l = 0; l < run->n_layers; l++) {
        const uint64_t bytes = layer_bytes(&run->trace->layers[run->layers[l]]);
        if (bytes > largest) largest = bytes;
    }
    if (largest > SMALL_LAYER) mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

static int run_trace(struct trace_run *run, const char *path, struct kv_error *err)
{
    double start = kv_clock_seconds();
    int status = kv_read_ahead_take_trace(run->ahead, &run->trace, path, open_flags(run), err);
    spend(run, KV_STAGE_OPEN, &start);
    if (status == KV_OK) status = choose_layers(run, err);
    if (status == KV_OK) give_memory_back(run);
    if (status == KV_OK) status = list_spans(run, err);
    if (status == KV_OK) status = summarise(run, err);
    if (status == KV_OK) status = run_cells(run, err);
    drop_held(run);
    free(run->layers);
    free(run->audited);
    free(run->scored);
    free(run->spans);
    kv_read_ahead_leave(run->ahead, run->trace);
    kv_trace_close(run->trace);
    return status;
}

/* -- the whole ---------------------------------------------------------------------------------- */

static int reserve_results(const struct kv_run_request *request, struct kv_results *results,
                           uint32_t per_trace, struct kv_error *err)
{
    results->traces = calloc(request->n_traces, sizeof *results->traces);
    results->cells = calloc((size_t)request->n_traces * per_trace, sizeof *results->cells);
    results->specs = calloc(request->specs->n, sizeof *results->specs);
    if (!results->traces || !results->cells || !results->specs)
        return kv_fail(err, KV_EMEMORY, "out of memory for results");
    for (uint32_t c = 0; c < request->n_traces * per_trace; c++) kv_cell_init(&results->cells[c]);
    for (uint32_t s = 0; s < request->specs->n; s++, results->n_specs++)
        if (!(results->specs[s] = strdup(request->specs->specs[s].text)))
            return kv_fail(err, KV_EMEMORY, "out of memory for results");
    return KV_OK;
}

static int worst_cell(const struct kv_results *results, struct kv_error *err)
{
    uint32_t bad = 0;
    for (uint32_t c = 0; c < results->n_cells; c++) {
        const char *status = results->cells[c].row.status;
        bad += !status || strcmp(status, "ok") != 0;
    }
    if (!bad) return KV_OK;
    return kv_fail(err, KV_ECELL, "%u of %u cells have no result; their rows say why", bad,
                   results->n_cells);
}

int kv_run(const struct kv_run_request *request, struct kv_results *results, struct kv_error *err)
{
    struct kv_kernels kernels;
    int status = kv_kernels_fill(&kernels, request->isa, err);
    if (status != KV_OK) return status;
    uint32_t per_trace = 0;
    for (uint32_t s = 0; s < request->specs->n; s++)
        per_trace += seeds_of(request, &request->specs->specs[s]);
    status = reserve_results(request, results, per_trace, err);
    if (status != KV_OK) return status;
    const double start = kv_clock_seconds();
    results->isa = kernels.isa;
    results->threads = request->threads > 0 ? request->threads : omp_get_num_procs();
    results->seed = request->seed;
    results->per_layer = request->per_layer;
    struct kv_calibration *calibration = NULL;
    struct kv_read_ahead ahead = {0};
    if (request->calibrate) {
        status = kv_calibration_open(&calibration, request->calibrate,
                                     request->no_verify ? KV_NO_VERIFY : 0, err);
        if (status != KV_OK) return status;
    }
    for (uint32_t t = 0; status == KV_OK && t < request->n_traces; t++) {
        struct trace_run run = {.request = request, .kernels = &kernels, .threads = results->threads,
                                .summary = &results->traces[t], .profile = &results->profile,
                                .cells = results->cells + results->n_cells,
                                .n_cells = per_trace, .progress_share = 1.0 / request->n_traces,
                                .calibration = calibration, .ahead = &ahead,
                                .next_path = t + 1 < request->n_traces ? request->traces[t + 1] : NULL,
                                .progress_base = (double)t / request->n_traces};
        status = run_trace(&run, request->traces[t], err);
        if (!run.summary->name) break;           /* the trace never opened */
        results->n_traces++;
        results->n_cells += per_trace;
    }
    kv_read_ahead_drop(&ahead);
    kv_calibration_close(calibration);
    results->wall_seconds = kv_clock_seconds() - start;
    results->interrupted = request->stop && *request->stop;
    if (results->interrupted) return kv_fail(err, KV_EINTERRUPTED, "interrupted: finished cells are kept");
    return status == KV_OK ? worst_cell(results, err) : status;
}
