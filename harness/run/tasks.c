/* Units of work; see tasks.h. */
#include "harness/run/tasks.h"

#include <stdlib.h>
#include <string.h>

#include "harness/base/clock.h"
#include "harness/replay/prompt_statistics.h"
#include "harness/run/cell_row.h"
#include "harness/run/job.h"
#include "methods/spec_wants.h"

/* Of exact logits that methods share, a thread: a quarter of what 1,024 rows of 4,096 tokens take costs 2 %
 * of a comparison of 20 methods and keeps it inside two layers, 4 MiB and a method's state. */
enum { SHARED_BYTES = 4 << 20 };

struct task { struct kv_job *job; uint32_t first_head, n_heads; struct kv_replay_account *accounts;
              int status; struct kv_error error; double seconds; };   /* accounts: one a layer */

static struct kv_replay replay_of(const struct task *task, const struct kv_open_layer *layer, uint32_t m)
{
    const struct kv_trace_run *run = layer->run;
    const struct kv_job *job = task->job;
    const double limit = run->request->timeout_seconds;
    return (struct kv_replay){
        .owner = layer->owner, .reader = layer->reader, .spec = job->spec, .kernels = run->kernels,
        .prompts = layer->prompts,
        .survey = kv_survey_at(&job->survey, layer->owner->info->index),
        .first_head = task->first_head, .n_heads = task->n_heads,
        .n_scored = layer->answered ? run->n_scored : 0, .scored = run->scored,
        .exact_log_sum_exp = layer->reference->log_sum_exp, .exact_logits = layer->exact_logits,
        .spans = kv_trace_run_spans(run), .seed = job->seed,
        .road = run->request->road, .audit = run->request->audit, .stop = run->request->stop,
        .exact_layer = kv_spec_is_exact_layer(job->spec, layer->owner->info->index,
                                              layer->owner->info->geometry.model_layers),
        .calibration = run->calibration ? &layer->fit.rows : NULL,
        .deadline = limit > 0.0 ? job->started + limit : 0.0, .answers = job->answers[m]};
}

/* Those whose answers are swept share what they are compared with: tells it who comes, and who went. */
static void share_logits(const struct task *task, const struct kv_group_run *group,
                         void (*tell)(struct kv_exact_logits *shared, uint32_t head))
{
    for (uint32_t m = 0; m < group->n; m++) {
        const struct kv_replay replay = replay_of(task, &group->layers[m], m);
        for (uint32_t h = 0; kv_replay_sweeps(&replay) && h < task->n_heads; h++)
            tell(group->layers[m].exact_logits, task->first_head + h);
    }
}

/* The prompt's rows of the task's heads, where its spec reads them; they live as long as the pool. */
static int add_rows(struct kv_replay *replay, struct task *task, const struct kv_open_layer *layer,
                    struct kv_pool *pool)
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

static void run_task(struct task *task, const struct kv_group_run *group)
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
                           const struct kv_group_run *group)
{
    const struct kv_geometry *geometry = &group->layers->owner->info->geometry;
    uint32_t n = 0;
    for (uint32_t h = 0; h < geometry->kv_heads; h++)
        for (uint32_t j = 0; j < group->n_jobs; j++) {
            struct kv_job *job = group->jobs[j];
            const uint32_t heads = kv_replay_unit_heads(job->spec, geometry);
            if (job->status != KV_OK || h % heads) continue;
            tasks[n] = (struct task){.job = job, .first_head = h, .n_heads = heads,
                                     .accounts = accounts + (size_t)n * group->n};
            share_logits(&tasks[n++], group, kv_exact_logits_expect);
        }
    return n;
}

/* Sums the units' accounts in head order. */
static void gather_tasks(const struct task *tasks, uint32_t n, const struct kv_group_run *group)
{
    for (uint32_t i = 0; i < n; i++) {
        struct kv_job *job = tasks[i].job;
        if (tasks[i].status != KV_OK && job->status == KV_OK)
            job->status = tasks[i].status, job->error = tasks[i].error;
        for (uint32_t m = 0; m < group->n; m++)
            if (group->layers[m].answered)
                kv_account_add(&job->parts[group->layers[m].l].account, &tasks[i].accounts[m]);
        job->cell->replay_seconds += tasks[i].seconds;
    }
}

static void share_exact_logits(struct kv_group_run *group)
{
    for (uint32_t m = 0; m < group->n; m++) {
        struct kv_open_layer *layer = &group->layers[m];
        layer->exact_logits = kv_exact_logits_create(
            &layer->scored, (size_t)SHARED_BYTES * (size_t)group->run->threads / group->n);
    }
}

static void forget_exact_logits(struct kv_group_run *group)
{
    uint64_t most = 0;
    for (uint32_t m = 0; m < group->n; m++) {
        most += kv_exact_logits_most(group->layers[m].exact_logits);
        kv_exact_logits_free(group->layers[m].exact_logits);
    }
    kv_profile_note(group->run->profile, KV_MEMORY_LOGITS, most);
}

int kv_tasks_run(struct kv_group_run *group, struct kv_error *err)
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
