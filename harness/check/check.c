/* The conformance kit; see check.h. Each invariant is one function and one row of the table below. */
#include "harness/check/check.h"

#include <string.h>

#include "harness/check/check_budgets.h"
#include "harness/check/check_changes.h"
#include "harness/check/check_laws.h"
#include "harness/check/check_losses.h"
#include "harness/check/check_repeats.h"
#include "harness/check/check_shapes.h"
#include "harness/check/check_stored.h"

static enum kv_verdict canonical_spec(struct kv_check *check)
{
    struct kv_spec_list list;
    if (kv_spec_parse(&list, check->spec->text, &check->why) != KV_OK) return KV_FAIL;
    const bool same = list.n == 1 && strcmp(list.specs[0].text, check->spec->text) == 0;
    if (!same) kv_fail(&check->why, 0, "%s came back as %s", check->spec->text, list.specs[0].text);
    kv_spec_free(&list);
    return same ? KV_PASS : KV_FAIL;
}

static const struct { struct kv_invariant_text text; enum kv_verdict (*run)(struct kv_check *); } invariants[] = {
    {{"canonical_spec_parses_to_itself", "the printed spec is accepted back, unchanged"},
     canonical_spec},
    {{"accounts_balance_at_every_step", "every byte count is recounted from the lists, every step"},
     kv_check_accounts},
    {{"same_bytes_twice", "two runs give the same bits"}, kv_check_twice},
    {{"order_of_units_does_not_matter", "heads may be replayed in any order"}, kv_check_unit_order},
    {{"both_roads_agree", "sweeping lines and going token by token give the same answers"},
     kv_check_roads},
    {{"generic_kernels_agree", "the SIMD kernels answer like the generic ones"},
     kv_check_kernel_sets},
    {{"seed_matters_only_where_it_is_said", "the seed changes random methods and no others"},
     kv_check_seed},
    {{"future_tokens_do_not_matter", "later tokens change no earlier answer"}, kv_check_future},
    {{"swapping_heads_swaps_answers", "no head is special"}, kv_check_swapped_heads},
    {{"split_between_prompt_and_steps_does_not_matter", "rows stored at once or one by one are the same"},
     kv_check_prompt_end},
    {{"stores_less_than_recorded", "stored (or read) bytes are below the recorded ones"},
     kv_check_stores_less},
    {{"garbled_codes_change_the_answers", "answers come from the codes"}, kv_check_garbled},
    {{"nothing_lost_answers_exactly", "a lossless store gives an error of exactly 0"},
     kv_check_lossless},
    {{"full_budget_answers_exactly", "with room for everything nothing is lost"},
     kv_check_full_budget},
    {{"holds_no_more_than_its_budget", "held rows stay within the budget"}, kv_check_held_budget},
    {{"positions_ascend_within_the_budget_at_every_step",
      "budgets of 1, 2, below sinks + recent, the prompt, above the length"},
     kv_check_edge_budgets},
    {{"a_budget_of_nothing_is_refused", "0 rows, or a share of the prompt that is no row"},
     kv_check_no_budget},
    {{"a_budget_in_bits_is_kept", "what is stored is no more than was asked"}, kv_check_stored_budget},
    {{"among_equals_the_lower_position_stays", "equal scores: the earlier of the unprotected rows"},
     kv_check_ties},
    {{"a_question_not_known_changes_no_choice", "query=agnostic: the prompt rows kept are the same"},
     kv_check_question},
    {{"runs_on_a_prompt_shorter_than_its_window", "a prompt of 8 tokens"}, kv_check_short_prompt},
    {{"bytes_are_those_of_the_formula", "what is resident is what `memory` counts without a recording"},
     kv_check_bytes},
    {{"rows_on_the_host_are_the_same_rows", "where=host changes no answer, and moves bytes without changing their sum"},
     kv_check_host},
    {{"error_falls_with_bits", "more bits, no larger error"}, kv_check_bits},
    {{"error_falls_with_rank", "more directions, channels or heads, no larger error"}, kv_check_rank},
    {{"what_was_projected_stays", "a row of the kept directions is read as it is"}, kv_check_projection},
    {{"differs_from_exact_attention", "the method did something, and still answers"}, kv_check_differs}};

enum { N_INVARIANTS = sizeof invariants / sizeof *invariants };

const struct kv_invariant_text *kv_check_list(void)
{
    static struct kv_invariant_text list[N_INVARIANTS + KV_CHECK_SHAPES + 1];
    int n = 0;
    for (int i = 0; i < N_INVARIANTS; i++) list[n++] = invariants[i].text;
    for (int i = 0; i < KV_CHECK_SHAPES; i++) list[n++] = kv_check_shapes[i].text;
    return list;
}

struct report { FILE *out; bool quiet; struct kv_check_counts *counts; };

static void tell(const struct report *report, const struct kv_check *check, const char *name, enum kv_verdict verdict)
{
    static const char *const words[] = {"ok", "FAILED", "skipped"};
    struct kv_check_counts *counts = report->counts;
    counts->passed += verdict == KV_PASS, counts->failed += verdict == KV_FAIL;
    counts->skipped += verdict == KV_SKIP;
    if (report->quiet && verdict != KV_FAIL) return;
    fprintf(report->out, "%-8s %s: %s%s%s\n", words[verdict], check->spec->text, name,
            verdict == KV_PASS ? "" : ": ", verdict == KV_PASS ? "" : check->why.text);
}

void kv_check_spec(const struct kv_spec *spec, const char *isa, bool quiet, FILE *out,
                   struct kv_check_counts *counts)
{
    const struct report report = {out, quiet, counts};
    struct kv_check check = {.spec = spec};
    struct kv_error err;
    if (kv_kernels_fill(&check.kernels, isa, &err) != KV_OK ||
        kv_kernels_fill(&check.generic, "generic", &err) != KV_OK) {
        fprintf(out, "FAILED   %s: %s\n", spec->text, err.text);
        counts->failed++;
        return;
    }
    for (int i = 0; i < N_INVARIANTS; i++) {
        check.why.text[0] = 0;
        tell(&report, &check, invariants[i].text.name, invariants[i].run(&check));
    }
    for (const struct kv_shape_invariant *shape = kv_check_shapes; shape < kv_check_shapes + KV_CHECK_SHAPES; shape++) {
        check.why.text[0] = 0;
        tell(&report, &check, shape->text.name, kv_check_on_shape(&check, &shape->change));
    }
}
