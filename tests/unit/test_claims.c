/* Claims of papers: reading them, their settings, and every verdict. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/claims/claims.h"

static struct kv_claim claim_of(const char *claimed, const char *tolerance, const char *direction,
                                double measured)
{
    return (struct kv_claim){.source = "paper", .claim = "figure", .claimed = (char *)claimed,
                             .tolerance = (char *)tolerance, .direction = (char *)direction,
                             .measured = measured};
}

static void expect_verdict(struct kv_claim claim, enum kv_claim_verdict verdict, const char *reason)
{
    struct kv_error err;
    cr_assert_eq(kv_claim_judge(&claim, &err), KV_OK, "%s", err.text);
    cr_expect_str_eq(kv_claim_verdict_name(claim.verdict), kv_claim_verdict_name(verdict));
    cr_expect_str_eq(claim.reason, reason);
}

Test(claims, a_figure_within_its_tolerance_is_reproduced)
{
    expect_verdict(claim_of("0.36", "1%", "", 0.3633), KV_REPRODUCED, "");
    expect_verdict(claim_of("0.36", "0.005", "", 0.3551), KV_REPRODUCED, "");
    expect_verdict(claim_of(">0.95", "0", "", 0.97), KV_REPRODUCED, "");
    expect_verdict(claim_of("<2", "10%", "", 2.15), KV_REPRODUCED, "");
}

Test(claims, a_miss_keeps_its_direction_or_not)
{
    expect_verdict(claim_of("3", "10%", ">1", 1.5), KV_DIRECTION_ONLY,
                   "off by -50 %, more than 10%; but it is >1");
    expect_verdict(claim_of("3", "10%", ">1", 0.75), KV_NOT_REPRODUCED,
                   "off by -75 %, more than 10%; nor is it >1");
    expect_verdict(claim_of("0.047", "0.0015", "", 0.0564), KV_NOT_REPRODUCED,
                   "off by +20 %, more than 0.0015");
}

Test(claims, without_a_printed_figure_only_the_direction_counts)
{
    expect_verdict(claim_of("", "", ">0.9", 0.95), KV_DIRECTION_ONLY,
                   "the paper prints no figure; but it is >0.9");
}

Test(claims, what_could_not_be_measured_keeps_its_reason)
{
    struct kv_claim claim = claim_of("3", "10%", ">1", NAN);
    strcpy(claim.reason, "needs a trace");
    expect_verdict(claim, KV_CANNOT_TEST, "needs a trace");
}

static void expect_refusal(struct kv_claim claim, const char *message)
{
    struct kv_error err;
    cr_expect_eq(kv_claim_judge(&claim, &err), KV_EINPUT);
    cr_expect_str_eq(err.text, message);
}

Test(claims, bad_fields_are_named)
{
    expect_refusal(claim_of("many", "1%", "", 2.385),
                   "paper.csv: claim figure: claimed: expected a number or a bound like >0.9, "
                   "found many");
    expect_refusal(claim_of("3", "", "", 2.385),
                   "paper.csv: claim figure: tolerance: expected a number or a share like 1%, "
                   "found nothing");
    expect_refusal(claim_of("3", "1%", "up", 2.385),
                   "paper.csv: claim figure: direction: expected a number or a bound like >0.9, "
                   "found up");
}

Test(claims, settings_are_keys_and_values)
{
    const char *setting = "spec=int:bits=2:axis=token;dim=128;share=0.25";
    char value[32];
    cr_assert(kv_setting_text(setting, "spec", value, sizeof value));
    cr_expect_str_eq(value, "int:bits=2:axis=token");
    cr_expect_eq(kv_setting_number(setting, "dim", 1), 128.0);
    cr_expect_eq(kv_setting_number(setting, "share", 1), 0.25);
    cr_expect_eq(kv_setting_number(setting, "bits", 7), 7.0);      /* inside a value: no key */
    cr_expect_not(kv_setting_text(setting, "spec", value, 4));
}

Test(claims, are_read_from_a_folder_in_order)
{
    static const char header[] = "claim,paper,table,setting,measure,metric,claimed,tolerance,"
                                 "direction,expected,note\n";
    char folder[] = "/tmp/kvbench-claims-XXXXXX", path[64];
    struct kv_claims claims;
    struct kv_error err;
    cr_assert_not_null(mkdtemp(folder));
    for (int i = 1; i >= 0; i--) {
        snprintf(path, sizeof path, "%s/%c.csv", folder, "ab"[i]);
        FILE *file = fopen(path, "w");
        fprintf(file, "%sfigure-%d,\"A, B\",Table 2,dim=8,distortion,D,0.5,1%%,<1,,\n", header, i);
        fclose(file);
    }
    cr_assert_eq(kv_claims_read(&claims, folder, &err), KV_OK, "%s", err.text);
    cr_assert_eq(claims.n, 2);
    cr_expect_str_eq(claims.claim[0].claim, "figure-0");
    cr_expect_str_eq(claims.claim[1].source, "b");
    cr_expect_str_eq(claims.claim[1].paper, "A, B");
    cr_expect_str_eq(claims.claim[0].tolerance, "1%");
    cr_expect(isnan(claims.claim[0].measured));
    kv_claims_free(&claims);

    unlink(path);                                                  /* a.csv was written last */
    FILE *file = fopen(path, "w");
    fputs("claim,paper\nx,y\n", file);
    fclose(file);
    cr_expect_eq(kv_claims_read(&claims, folder, &err), KV_EINPUT);
    cr_expect_not_null(strstr(err.text, "a.csv: expected a column table"), "%s", err.text);
    unlink(path);
    snprintf(path, sizeof path, "%s/b.csv", folder);
    unlink(path);
    rmdir(folder);
    cr_expect_eq(kv_claims_read(&claims, folder, &err), KV_EINPUT);
}
