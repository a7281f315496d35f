/* Units of work; see tasks.h. */
#include "harness/run/tasks.h"

#include <stdlib.h>
#include <string.h>

#include "harness/base/clock.h"
#include "harness/run/answers.h"
#include "harness/run/cell_row.h"
#include "harness/run/job.h"
#include "harness/run/measure_job.h"
#include "methods/spec/spec_wants.h"

/* Of exact logits that methods share, a thread: three eighths of what 1,024 rows of 4,096 tokens take, with what
 * keeps rows apart (kv_kept_stride). All of them would save sets that multiply floats alone 5 % of a comparison of 20
 * methods, and the others nearly nothing: reading logits that are in no cache takes them as long as computing them. */
enum { SHARED_BYTES = (6 << 20) + (64 << 10) };

struct task {
    struct kv_job *job;                    /* NULL: statistics of the prompt, of first_head */
    uint32_t first_head, n_heads;
    struct kv_replay_account *accounts;    /* one a layer */
    int status;
    struct kv_error error;
    double seconds, waited;                /* waited: for the prompt's statistics, or at work on them */
};

struct task_list {
    struct task *tasks; uint32_t n;
    struct kv_replay_account *accounts;    /* not handed out yet */
};

/* All but its prompt, room for answers and deadline. */
static struct kv_replay replay_of(const struct task *task, const struct kv_open_layer *layer)
{
    const struct kv_trace_run *run = layer->run;
    const struct kv_job *job = task->job;
    return (struct kv_replay){
        .owner = layer->owner, .reader = layer->reader, .spec = job->spec, .kernels = run->kernels,
        .widens_prompt = true, .survey = kv_survey_at(&job->survey, layer->owner->info->index),
        .first_head = task->first_head, .n_heads = task->n_heads,
        .n_scored = layer->answered ? run->n_scored : 0, .scored = run->scored,
        .exact_log_sum_exp = layer->reference->log_sum_exp, .exact_logits = layer->exact_logits,
        .spans = kv_trace_run_spans(run), .seed = job->seed,
        .road = run->request->road, .audit = run->request->audit, .stop = run->request->stop,
        .exact_layer = kv_spec_is_exact_layer(job->spec, layer->owner->info->index,
                                              layer->owner->info->geometry.model_layers),
        .calibration = run->calibration ? &layer->fit.rows : NULL};
}

/* Those whose answers are swept share query rows, and what they are compared with: tells it who comes, and who
 * went. */
static void share_logits(const struct task *task, const struct kv_group_run *group,
                         void (*tell)(struct kv_exact_logits *shared, uint32_t head, bool logits))
{
    for (uint32_t m = 0; m < group->n; m++) {
        const struct kv_replay replay = replay_of(task, &group->layers[m]);
        for (uint32_t h = 0; kv_replay_sweeps(&replay) && h < task->n_heads; h++)
            tell(group->layers[m].exact_logits, task->first_head + h, kv_replay_asks_logits(&replay));
    }
}

static bool wants_statistics(const struct kv_job *job)
{
    const struct kv_wants wants = kv_spec_wants(job->spec);
    return kv_shared_prompts_wanted(&wants);
}

/* The same of the prompt's statistics. */
static void share_prompts(const struct task *task, const struct kv_group_run *group,
                          void (*tell)(struct kv_shared_prompts *shared, uint32_t head))
{
    if (!wants_statistics(task->job)) return;
    for (uint32_t m = 0; m < group->n; m++)
        for (uint32_t h = 0; h < task->n_heads; h++) tell(group->layers[m].prompts, task->first_head + h);
}

/* What the task's spec wants to know of the prompt, but for its rows. */
static int add_prompts(struct kv_replay *replay, struct task *task, const struct kv_open_layer *layer,
                       struct kv_pool *pool)
{
    const bool wanted = wants_statistics(task->job);
    const struct kv_geometry *geometry = &layer->owner->info->geometry;
    struct kv_prompt *own = kv_pool_take(pool, geometry->kv_heads * sizeof *own);
    if (!own) return kv_fail(&task->error, KV_EMEMORY, "out of memory for the prompt");
    replay->prompts = own;
    int status = KV_OK;
    const double start = kv_clock_seconds();
    for (uint32_t h = task->first_head; status == KV_OK && h < task->first_head + task->n_heads; h++) {
        own[h].n = geometry->prefill;
        if (wanted) status = kv_shared_prompts_take(layer->prompts, h, &own[h], &task->error);
    }
    task->waited += kv_clock_seconds() - start;
    return status;
}

/* The first of a job's tasks makes room for its answers. */
static int begin_job(struct kv_job *job, struct kv_group_run *group, struct kv_error *err)
{
    int status = KV_OK;
#pragma omp critical(kv_jobs)
    {
        if (!job->answers) status = kv_answers_reserve(job, group);
        if (status != KV_OK) *err = job->error;
    }
    return status;
}

/* When the task's cell has had its time, which is that of its own tasks: of the layers before, and from now on;
 * 0: it has all there is. */
static double deadline_of(const struct task *task, const struct kv_group_run *group)
{
    const double limit = group->run->request->timeout_seconds;
    return limit > 0 ? kv_clock_seconds() + limit - task->job->cell->replay_seconds : 0;
}

/* `pool` is for what the task asks, `states` for the methods' own memory. */
static void replay_task(struct task *task, struct kv_group_run *group, struct kv_pool *pool,
                        struct kv_pool *states)
{
    struct kv_replay *replays = kv_pool_take(pool, group->n * sizeof *replays);
    const double deadline = deadline_of(task, group);
    task->status = replays ? begin_job(task->job, group, &task->error)
                           : kv_fail(&task->error, KV_EMEMORY, "out of memory for a layer group");
    for (uint32_t m = 0; task->status == KV_OK && m < group->n; m++) {
        replays[m] = replay_of(task, &group->layers[m]);
        replays[m].answers = task->job->answers[m];
        replays[m].deadline = deadline;
        task->status = add_prompts(&replays[m], task, &group->layers[m], pool);
    }
    if (task->status == KV_OK)
        task->status = kv_replay_group(replays, group->n, task->accounts, states, &task->error);
    kv_pool_empty(states);
}

/* Sums the accounts of a job's tasks in head order. */
static void gather_tasks(const struct task_list *list, struct kv_job *job, const struct kv_group_run *group)
{
    for (uint32_t i = 0; i < list->n; i++) {
        const struct task *task = &list->tasks[i];
        if (task->job != job) continue;
        if (task->status != KV_OK && job->status == KV_OK) job->status = task->status, job->error = task->error;
        for (uint32_t m = 0; m < group->n; m++)
            if (group->layers[m].answered)
                kv_account_add(&job->parts[group->layers[m].l].account, &task->accounts[m]);
        job->cell->replay_seconds += task->seconds;
    }
}

/* Behind the last of a job's tasks its answers are measured, and go. */
static void end_job(const struct task_list *list, struct kv_job *job, struct kv_group_run *group)
{
    bool last;
#pragma omp critical(kv_jobs)
    last = --job->heads_left == 0;
    if (!last) return;
    gather_tasks(list, job, group);
    kv_job_measure(job, group);
#pragma omp critical(kv_jobs)
    kv_answers_release(job, group);
}

static void run_task(const struct task_list *list, struct task *task, struct kv_group_run *group,
                     struct kv_pool *states)
{
    const double start = kv_clock_seconds();
    struct kv_pool *pool = task->job ? kv_pool_create(0) : NULL;
    for (uint32_t m = 0; !task->job && m < group->n; m++)
        kv_shared_prompts_compute(group->layers[m].prompts, task->first_head);
    if (pool && states) replay_task(task, group, pool, states);
    else if (task->job) task->status = kv_fail(&task->error, KV_EMEMORY, "out of memory for a layer group");
    kv_pool_destroy(pool);
    if (task->job) {
        share_prompts(task, group, kv_shared_prompts_leave);
        share_logits(task, group, kv_exact_logits_leave);
    }
    task->seconds = kv_clock_seconds() - start - task->waited;
    if (task->job) end_job(list, task->job, group);
}

/* Heads whose statistics a method of the first head reads: its own, or those of all. */
static uint32_t heads_at_once(const struct kv_group_run *group, const struct kv_geometry *geometry)
{
    for (uint32_t j = 0; j < group->n_jobs; j++)
        if (wants_statistics(group->jobs[j]) && kv_replay_unit_heads(group->jobs[j]->spec, geometry) > 1)
            return geometry->kv_heads;
    return 1;
}

static void list_job(struct task_list *list, const struct kv_group_run *group, struct kv_job *job, uint32_t head)
{
    const uint32_t heads = kv_replay_unit_heads(job->spec, &group->layers->owner->info->geometry);
    if (job->status != KV_OK || head % heads) return;
    struct task *task = &list->tasks[list->n++];
    *task = (struct task){.job = job, .first_head = head, .n_heads = heads, .accounts = list->accounts};
    list->accounts += group->n;
    job->heads_left++;
    share_prompts(task, group, kv_shared_prompts_expect);
    share_logits(task, group, kv_exact_logits_expect);
}

/* Statistics of heads first .. end - 1, ahead of what was listed from task `at` on: with several threads so much
 * earlier that mostly nobody waits for them. */
static void list_statistics(struct task_list *list, uint32_t at, uint32_t first, uint32_t end, int threads)
{
    enum { AHEAD = 16 };           /* methods, some of which take about as long */
    const uint32_t early = AHEAD * (uint32_t)(threads - 1), n = end - first;
    at = at > early ? at - early : 0;
    memmove(list->tasks + at + n, list->tasks + at, (list->n - at) * sizeof *list->tasks);
    for (uint32_t h = first; h < end; h++) list->tasks[at + h - first] = (struct task){.first_head = h, .n_heads = 1};
    list->n += n;
}

/* Head by head, so that what the methods of a head share need not be there for long: first come those that
 * want no statistics of the prompt, and are done with the exact logits when statistics take memory. */
static void list_tasks(struct task_list *list, const struct kv_group_run *group)
{
    const struct kv_geometry *geometry = &group->layers->owner->info->geometry;
    const uint32_t at_once = heads_at_once(group, geometry);
    for (uint32_t h = 0; h < geometry->kv_heads; h++) {
        for (uint32_t j = 0; j < group->n_jobs; j++)
            if (!wants_statistics(group->jobs[j])) list_job(list, group, group->jobs[j], h);
        const uint32_t first_to_want = list->n;
        for (uint32_t j = 0; j < group->n_jobs; j++)
            if (wants_statistics(group->jobs[j])) list_job(list, group, group->jobs[j], h);
        if (list->n == first_to_want || (h > 0 && at_once > 1)) continue;
        list_statistics(list, first_to_want, h, at_once > 1 ? at_once : h + 1, group->run->threads);
    }
}

/* What is kept of a layer's exact logits: more, by half of the room of a layer that could be read ahead, where
 * none is. */
static size_t shared_bytes(const struct kv_group_run *group, const struct kv_open_layer *layer)
{
    const size_t bytes = (size_t)SHARED_BYTES * (size_t)group->run->threads;
    const bool alone = group->n == 1 && layer->owner == layer->reader && !kv_open_layer_ahead(layer);
    return bytes / group->n + (alone ? (size_t)kv_layer_bytes(layer->reader->info) / 2 : 0);
}

/* Logits only save time, and may be missing. */
static int begin_sharing(struct kv_group_run *group, struct kv_error *err)
{
    bool done = true;
    for (uint32_t m = 0; m < group->n; m++) {
        struct kv_open_layer *layer = &group->layers[m];
        layer->exact_logits = kv_exact_logits_create(&layer->scored, shared_bytes(group, layer));
        layer->prompts = kv_shared_prompts_create(layer->owner, &group->wants, group->run->kernels);
        done = done && layer->prompts;
    }
    return done ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for prompt statistics");
}

/* What the threads spent among the methods on something else is a stage of its own. */
static void move_stage(const struct kv_group_run *group, enum kv_stage_of_run stage, double seconds)
{
    double *stages = group->run->profile->seconds;
    stages[stage] += seconds / group->run->threads;
    stages[KV_STAGE_REPLAY] -= seconds / group->run->threads;
}

static void end_sharing(struct kv_group_run *group)
{
    struct kv_profile *profile = group->run->profile;
    uint64_t logits = 0, prompts = 0;
    for (uint32_t m = 0; m < group->n; m++) {
        struct kv_open_layer *layer = &group->layers[m];
        logits += kv_exact_logits_most(layer->exact_logits);
        profile->logits_again += kv_exact_logits_again(layer->exact_logits);
        prompts += kv_shared_prompts_most(layer->prompts);
        move_stage(group, KV_STAGE_PROMPT, kv_shared_prompts_seconds(layer->prompts));
        kv_exact_logits_free(layer->exact_logits);
        kv_shared_prompts_free(layer->prompts);
        layer->exact_logits = NULL, layer->prompts = NULL;
    }
    kv_profile_note(profile, KV_MEMORY_LOGITS, logits);
    kv_profile_note(profile, KV_MEMORY_PROMPT, prompts);
}

static double measure_seconds(const struct kv_group_run *group)
{
    double seconds = 0;
    for (uint32_t j = 0; j < group->n_jobs; j++) seconds += group->jobs[j]->cell->measure_seconds;
    return seconds;
}

int kv_tasks_run(struct kv_group_run *group, struct kv_error *err)
{
    const size_t heads = group->layers->owner->info->geometry.kv_heads, most = group->n_jobs * heads;
    struct task_list list = {.tasks = calloc(most + heads, sizeof *list.tasks)};
    struct kv_replay_account *accounts = list.accounts = calloc(most * group->n, sizeof *accounts);
    const double measured = measure_seconds(group);
    int status = list.tasks && accounts ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for tasks");
    if (status == KV_OK) status = begin_sharing(group, err);
    if (status == KV_OK) {
        list_tasks(&list, group);
#pragma omp parallel num_threads(group->run->threads)
        {
            struct kv_pool *states = kv_pool_create(0);
#pragma omp for schedule(dynamic, 1) nowait
            for (uint32_t i = 0; i < list.n; i++) run_task(&list, &list.tasks[i], group, states);
            kv_pool_destroy(states);
        }
    }
    move_stage(group, KV_STAGE_MEASURE, measure_seconds(group) - measured);
    end_sharing(group);
    free(list.tasks);
    free(accounts);
    return status;
}
