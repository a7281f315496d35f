/* Invariants of the conformance kit on policies that break them: a law that cannot fail is none. */
#include <criterion/criterion.h>
#include <string.h>

#include "harness/check/check_changes.h"
#include "harness/check/check_stored.h"

static struct kv_check check_of(struct kv_spec_list *list, const char *text)
{
    struct kv_check check = {0};
    struct kv_error err = {{0}};
    cr_assert_eq(kv_kernels_fill(&check.kernels, "generic", &err), KV_OK);
    cr_assert_eq(kv_spec_parse(list, text, &err), KV_OK, "%s: %s", text, err.text);
    check.generic = check.kernels, check.spec = &list->specs[0];
    return check;
}

static enum kv_verdict verdict_of(const char *text, enum kv_verdict (*invariant)(struct kv_check *),
                                  struct kv_error *why)
{
    struct kv_spec_list list;
    struct kv_check check = check_of(&list, text);
    const enum kv_verdict verdict = invariant(&check);
    *why = check.why;
    kv_spec_free(&list);
    return verdict;
}

/* The verdict once the first policy's create is another. */
static enum kv_verdict stored_budget(const char *text,
                                     int (*create)(struct kv_chooser *, const struct kv_setup *,
                                                   struct kv_error *),
                                     struct kv_error *why)
{
    struct kv_spec_list list;
    struct kv_check check = check_of(&list, text);
    struct kv_stage *stage = check.spec->caches[0].policies[0];
    struct kv_policy changed = *stage->policy;
    if (create) changed.create = create, stage->policy = &changed;
    const enum kv_verdict verdict = kv_check_stored_budget(&check);
    *why = check.why;
    kv_spec_free(&list);
    return verdict;
}

/* The first layers take a tenth more than was asked, and no layer gives it up. */
static int take_more(struct kv_chooser *self, const struct kv_setup *setup, struct kv_error *err)
{
    (void)err;
    if (setup->geometry->layer < 3) self->trim.budget.bits *= 1.1;
    return KV_OK;
}

static int take_more_everywhere(struct kv_chooser *self, const struct kv_setup *setup,
                                struct kv_error *err)
{
    (void)setup, (void)err;
    self->trim.budget.bits *= 1.1;
    return KV_OK;
}

Test(check, a_budget_of_all_layers_is_kept_by_all_together)
{
    static const char *const sharing[] = {"pyramidkv", "cake", "h2o:layer_budget=inverted",
                                          "pyramidkv+int:bits=8"};
    struct kv_error why;
    for (size_t i = 0; i < sizeof sharing / sizeof *sharing; i++) {
        cr_expect_eq(stored_budget(sharing[i], NULL, &why), KV_PASS, "%s: %s", sharing[i],
                     why.text);
        cr_expect_eq(stored_budget(sharing[i], take_more, &why), KV_FAIL, "%s", sharing[i]);
        cr_expect(strstr(why.text, "all layers together store"), "%s: %s", sharing[i], why.text);
    }
}

Test(check, a_budget_of_one_layer_is_kept_by_it)
{
    struct kv_error why;
    cr_expect_eq(stored_budget("snapkv", NULL, &why), KV_PASS, "%s", why.text);
    cr_expect_eq(stored_budget("snapkv", take_more_everywhere, &why), KV_FAIL);
}

/* Half won and half of an equal share: two heads may have the same claim on a row (test_trim.c). */
Test(check, an_equal_claim_of_two_heads_is_no_failure)
{
    struct kv_error why;
    cr_expect_eq(verdict_of("h2o:pooled_heads=1", kv_check_swapped_heads, &why), KV_PASS, "%s",
                 why.text);
    cr_expect_eq(verdict_of("h2o:pooled_heads=1:floor_percent=50", kv_check_swapped_heads, &why),
                 KV_SKIP, "%s", why.text);
    cr_expect(strstr(why.text, "equal claims"), "%s", why.text);
}
