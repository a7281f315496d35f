/* The measures that a claim may name; see claims.h. */
#include "harness/claims/claims.h"

#include <string.h>

static const struct { const char *name; kv_claim_measure *measure; const char *meaning; } measures[] = {
    {"distortion", kv_claim_distortion, "mean |x - x_hat|^2 of random unit vectors"},
    {"normal_error", kv_claim_normal_error, "NMSE of independent normal values, or over that of "
                                            "`against`"},
    {"inner_product", kv_claim_inner_product, "dim * mean <y, x - x_hat>^2 of random unit pairs"},
    {"softmax_ratio", kv_claim_softmax_ratio, "attention KL of `spec` over that of `against`, "
                                              "random unit keys"},
    {"axis_ratio", kv_claim_axis_ratio, "error of `spec` over that of `against` on recorded rows"},
    {"sketch_hurts", kv_claim_sketch_hurts, "share of KV heads where `spec` has the larger "
                                            "attention KL than `against`"},
    {"row_ratio", kv_claim_row_ratio, "`column` of `spec` over that of `against`, as run prints it"},
    {"atom_bits", kv_claim_atom_bits, "bits an element of a codec's atom, all-in or its codes"},
    {"sparse_layers", kv_claim_sparse_layers, "share of layers whose attention is sparser than "
                                              "`above`"},
    {"sparsity", kv_claim_sparsity, "share of visible weights below `threshold` of their row's "
                                    "largest"},
    {"power_law", kv_claim_power_law, "R^2 of log accumulated score on log rank, mean over heads"},
    {"overlap", kv_claim_overlap, "share of the prompt's heavy tokens still heavy in decode"},
    {"memory", kv_claim_memory, "bytes of a model's cache, or a ratio of two"},
    {"serving", kv_claim_serving, "what an engine allocates, or a ratio"},
    {"value", kv_claim_value, "an expression of numbers and elements a token"},
    {"words", kv_claim_words, "nothing: why no arithmetic decides"},
    {"sink_mass", kv_claim_sink_mass, "weight that decode queries give the `first` tokens; with `above`, "
                                      "share of layers (`from` .. `until`) above it"},
    {"persistence", kv_claim_persistence, "pivotal tokens of the second half that were pivotal before"},
    {"heavy_mass", kv_claim_heavy_mass, "weight on the heaviest `share` of the keys"},
    {"idle_share", kv_claim_idle_share, "share of the keys that is not needed for `mass` of the weight"},
    {"hit_rate", kv_claim_hit_rate, "rows that generation looks at most, among those that a window of "
                                    "the prompt voted for"},
    {"recall", kv_claim_recall, "of the `top` weightiest rows of a step, how many `spec` reads"},
    {"recency", kv_claim_recency, "share of the held rows that a window of as many would hold"},
    {"first_kept", kv_claim_first_kept, "share of KV heads that hold token 0 to the end"},
    {"score_correlation", kv_claim_score_correlation, "rank correlation of a policy's scores with the "
                                                      "attention that its rows get later"},
    {"error_rank", kv_claim_error_rank, "place of `spec` among itself and the specs `against`, joined by |"},
    {NULL, NULL, NULL},
};

int kv_claim_test(struct kv_claim *claim, const struct kv_measuring *measuring,
                  struct kv_error *err)
{
    for (size_t i = 0; measures[i].name; i++) {
        if (strcmp(measures[i].name, claim->measure) != 0) continue;
        claim->reason[0] = '\0';
        const int status = measures[i].measure(&claim->measured, claim->setting,
                                                        measuring, claim->reason, err);
        return status == KV_OK ? kv_claim_judge(claim, err) : status;
    }
    return kv_fail(err, KV_EINPUT, "%s.csv: claim %s: expected a known measure, found %s",
                   claim->source, claim->claim, claim->measure);
}
