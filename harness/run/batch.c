/* A batch; see batch.h. */
#include "harness/run/batch.h"

#include <stdlib.h>
#include <string.h>

#include "harness/replay/layout.h"
#include "harness/run/answers.h"
#include "harness/run/group_run.h"
#include "harness/run/job.h"

/* Tasks that a thread should have to choose from: enough to level out, few enough to bound memory. */
enum { TASKS_PER_THREAD = 8 };
/* Of answers that are held at once, a thread. */
enum { ANSWER_BYTES = 4 << 20 };
/* Methods that run together where few of them hold answers at once: the first cell is journaled with the last. */
enum { MOST_TOGETHER = 32 };

static void tell_progress(const struct kv_trace_run *run, double batch_share)
{
    if (!run->request->progress) return;
    run->request->progress(run->request->context,
                           run->progress_base + run->progress_share *
                               ((double)run->n_done + batch_share) / run->n_cells);
}

/* Whether the spec's caches of the l-th layer hold copies. */
static bool repeats_at(const struct kv_trace_run *run, const struct kv_spec *spec, uint32_t l)
{
    return kv_layout_repeats(spec, &run->trace->layers[run->layers[l]]);
}

/* Whether both see the layers of the trace alike. */
static bool see_alike(const struct kv_trace_run *run, const struct kv_spec *a, const struct kv_spec *b)
{
    bool alike = a->query_agnostic == b->query_agnostic;
    for (uint32_t l = 0; l < run->n_layers; l++) alike = alike && repeats_at(run, a, l) == repeats_at(run, b, l);
    return alike;
}

static bool sees_copies(const struct kv_trace_run *run, const struct kv_spec *spec)
{
    bool copies = false;
    for (uint32_t l = 0; l < run->n_layers; l++) copies = copies || repeats_at(run, spec, l);
    return copies;
}

/* How many jobs like this one may run together: no more than keep the threads busy where the answers of a whole
 * group of layers are in memory, and where a head that was counted as one is many. */
static uint32_t most_alike(const struct kv_trace_run *run, const struct kv_job *job, uint32_t n)
{
    if (job->groups.n < run->n_layers) return 2 * (uint32_t)run->threads;
    return sees_copies(run, job->spec) ? TASKS_PER_THREAD * (uint32_t)run->threads : n;
}

/* Moves jobs that join and see layers as the first does to the front. */
static uint32_t gather_class(const struct kv_trace_run *run, struct kv_job **jobs, uint32_t n)
{
    const struct kv_layer_groups *groups = &jobs[0]->groups;
    const uint32_t most = most_alike(run, jobs[0], n);
    uint32_t same = 1;
    for (uint32_t j = 1; j < n && same < most; j++) {
        if (!kv_layer_groups_same(groups, &jobs[j]->groups) ||
            !see_alike(run, jobs[j]->spec, jobs[0]->spec))
            continue;
        struct kv_job *job = jobs[j];
        memmove(jobs + same + 1, jobs + same, (j - same) * sizeof(struct kv_job *));
        jobs[same++] = job;
    }
    return same;
}

static int run_classes(struct kv_trace_run *run, struct kv_job **jobs, uint32_t n, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t done = 0, class; status == KV_OK && done < n; done += class) {
        class = gather_class(run, jobs + done, n - done);
        const struct kv_layer_groups *groups = &jobs[done]->groups;
        const bool last = done + class == n && run->last_batch;
        for (uint32_t g = 0; status == KV_OK && g < groups->n && !kv_trace_run_stopped(run); g++) {
            /* What comes after this class most likely begins as it did. */
            run->next_layer = g + 1 < groups->n ? groups->groups[g + 1].layers[0]
                              : last            ? KV_NO_LAYER
                                                : groups->groups[0].layers[0];
            status = kv_group_run_layers(run, jobs + done, class, &groups->groups[g], err);
            tell_progress(run, done + (double)class * (g + 1) / groups->n);
        }
    }
    return status;
}

int kv_batch_run(struct kv_trace_run *run, struct kv_job *jobs, uint32_t n, struct kv_error *err)
{
    struct kv_job **able = calloc(n, sizeof(struct kv_job *));
    uint32_t n_able = 0;
    if (!able) return kv_fail(err, KV_EMEMORY, "out of memory for cells");
    for (uint32_t j = 0; j < n; j++) {
        kv_job_survey(run, &jobs[j]);
        if (jobs[j].status == KV_OK) able[n_able++] = &jobs[j];
    }
    run->last_batch = run->n_done + n == run->n_cells;
    int status = run_classes(run, able, n_able, err);
    free(able);
    for (uint32_t j = 0; j < n; j++) {
        if (kv_trace_run_stopped(run) && jobs[j].status == KV_OK)
            jobs[j].status = kv_fail(&jobs[j].error, KV_EINTERRUPTED, "interrupted");
        if (status == KV_OK) status = kv_job_finish(run, &jobs[j], err);
        kv_job_free(run, &jobs[j]);
    }
    run->n_done += n;
    return status;
}

/* As many as have room for their answers. */
static uint64_t room_for(const struct kv_trace_run *run)
{
    const uint64_t room = (uint64_t)ANSWER_BYTES * (uint32_t)run->threads;
    uint64_t cells = UINT64_MAX;
    for (uint32_t l = 0; l < run->n_layers; l++) {
        const struct kv_geometry *geometry = &run->trace->layers[run->layers[l]].geometry;
        const uint64_t bytes = kv_answer_bytes(geometry, run);
        uint64_t fit = bytes ? room / bytes : run->n_cells;
        if (fit < MOST_TOGETHER && kv_answers_at_once(run, geometry->kv_heads, MOST_TOGETHER) < MOST_TOGETHER)
            fit = MOST_TOGETHER;
        if (fit < cells) cells = fit;
    }
    return cells;
}

/* Specs that run together share the reference and the prompt's statistics: as many as give every thread
 * enough tasks, or as have room for their answers, so that memory stays bounded and cells finish (and are
 * journaled) one after the other; all at once where reading the trace again would cost more. */
uint32_t kv_batch_size(const struct kv_trace_run *run)
{
    uint32_t heads = 1;
    uint64_t bytes = 0;
    for (uint32_t l = 0; l < run->n_layers; l++) {
        const struct kv_trace_layer *layer = &run->trace->layers[run->layers[l]];
        if (l == 0 || layer->geometry.kv_heads < heads) heads = layer->geometry.kv_heads;
        bytes += kv_layer_bytes(layer);
    }
    const uint64_t streamed = UINT64_C(1) << 30, fit = room_for(run);
    if (bytes > streamed) return run->n_cells;
    const uint32_t busy = (uint32_t)(TASKS_PER_THREAD * run->threads) / heads;
    const uint32_t batch = fit > busy ? (uint32_t)(fit < run->n_cells ? fit : run->n_cells) : busy;
    return batch > 0 ? batch : 1;
}
