/* Trim and shared budgets, worked by hand: who goes among equals, and of budgets below what is protected. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "methods/trim.h"

enum { HEADS = 2, ROWS = 8 };

static struct heads {
    float scores[HEADS][ROWS];
    uint8_t fates[HEADS][ROWS];
    uint32_t scratch[HEADS][ROWS], positions[ROWS];
    struct kv_lane lanes[HEADS];
} heads;

/* Two heads of eight rows each. */
static struct heads *make_heads(const float scores[HEADS][ROWS], uint32_t budget)
{
    heads = (struct heads){0};
    for (uint32_t i = 0; i < ROWS; i++) heads.positions[i] = i;
    memcpy(heads.scores, scores, sizeof heads.scores);
    for (uint32_t h = 0; h < HEADS; h++)
        heads.lanes[h] = (struct kv_lane){.head = h,
                                          .n = ROWS,
                                          .budget = budget,
                                          .positions = heads.positions,
                                          .score = heads.scores[h],
                                          .fate = heads.fates[h],
                                          .scratch = heads.scratch[h]};
    return &heads;
}

/* "#" stays, "." goes. */
static void expect_rows(const struct heads *of, uint32_t head, const char *expected)
{
    char found[ROWS + 1] = {0};
    for (uint32_t i = 0; i < ROWS; i++) found[i] = of->fates[head][i] == KV_DROP ? '.' : '#';
    cr_expect_str_eq(found, expected, "head %u: expected %s, found %s", head, expected, found);
}

static struct heads *trim(const struct kv_trim *rule, bool prompt, uint32_t budget,
                          const float scores[HEADS][ROWS])
{
    struct heads *of = make_heads(scores, budget);
    struct kv_kernels kernels;
    struct kv_error err;
    cr_assert_eq(kv_kernels_fill(&kernels, "auto", &err), KV_OK, "%s", err.text);
    const struct kv_step step = {.kernels = &kernels, .prompt = prompt, .token = ROWS - 1};
    kv_trim_apply(rule, &step, of->lanes, HEADS);
    return of;
}

static const float equal[HEADS][ROWS] = {{0.625f, 0.625f, 0.625f, 0.625f, 0.625f, 0.625f, 0.625f, 0.625f},
                                         {0.625f, 0.625f, 0.625f, 0.625f, 0.625f, 0.625f, 0.625f, 0.625f}};

/* At a step a single row goes, the newest left out: NaN before any number, zeros are equal, and of equal
 * ones the latest. */
Test(trim, the_single_row_that_goes_is_the_last_of_the_lowest)
{
    static const float scores[][HEADS][ROWS] = {
        {{3, 2.385f, 5, 2.385f, 4, 9, 3, 0}, {-1.5f, 8, -2.5f, 8, 8, -0.5f, 8, -7}},
        {{1, 0.0f, 2, -0.0f, 2, 2, 2, 0}, {1, -0.0f, 2, 0.0f, 2, 2, 2, 0}},
        {{-INFINITY, NAN, -1, NAN, 2, -9, 7, 0}, {INFINITY, -INFINITY, 1, 2, 3, -3e38f, 7, 0}},
        {{1e-45f, -1e-45f, 0, 1, 2, 3, 4, 0}, {INFINITY, INFINITY, INFINITY, 3e38f, 3e38f, 3e38f, 4e37f, 0}}};
    static const char *const expected[][HEADS] = {{"###.####", "##.#####"}, {"###.####", "###.####"},
                                                  {"###.####", "#.######"}, {"#.######", "######.#"}};
    const struct kv_trim rule = {0};
    for (size_t s = 0; s < sizeof scores / sizeof *scores; s++)
        for (uint32_t h = 0; h < HEADS; h++)
            expect_rows(trim(&rule, false, ROWS - 1, scores[s]), h, expected[s][h]);
}

/* Whether row a goes before row b, said as the header says it. */
static bool goes_before(const float *score, uint32_t a, uint32_t b)
{
    if (isnan(score[a]) || isnan(score[b])) return isnan(score[a]) && (!isnan(score[b]) || a > b);
    return score[a] < score[b] || (score[a] == score[b] && a > b);
}

/* Every number of rows, of scores many of which are equal, or close, or no numbers. */
Test(trim, the_lowest_go_and_of_equal_ones_the_latest)
{
    enum { MANY = 97 };
    static const float kinds[] = {NAN,  -INFINITY, -3e38f, -2.385f, -2.3850002f, -1e-45f, -0.0f,    0.0f,
                                  1e-45f, 1e-38f,  0.25f,  2.385f,  2.3850002f,  3e38f,   INFINITY, -0.25f};
    float score[MANY];
    uint32_t word = 1;
    for (uint32_t i = 0; i < MANY; i++, word = word * 1664525 + 1013904223)
        score[i] = word >> 31 ? kinds[word >> 27 & 15] : (float)(word >> 8 & 1023) - 500;
    for (uint32_t m = 0; m <= MANY - 10; m++) {
        uint32_t candidates[MANY];
        uint8_t fate[MANY] = {0};
        for (uint32_t c = 0; c < MANY - 10; c++) candidates[c] = c + 3;
        kv_drop_lowest(score, candidates, MANY - 10, m, fate);
        for (uint32_t i = 0; i < MANY; i++) {
            const bool open = i >= 3 && i < MANY - 7;
            uint32_t before = 0;
            for (uint32_t j = 3; j < MANY - 7; j++) before += j != i && goes_before(score, j, i);
            cr_expect_eq(fate[i], open && before < m ? KV_DROP : KV_STAYS, "row %u of %u that go", i, m);
        }
    }
}

Test(trim, of_equal_scores_the_earlier_row_stays)
{
    const struct kv_trim rule = {.prompt_only = 1};
    const struct heads *of = trim(&rule, true, 3, equal);
    expect_rows(of, 0, "###.....");
    expect_rows(of, 1, "###.....");
}

/* Six rows for two heads: all of them the first one's; of ten it has all its eight. */
Test(trim, of_equal_scores_of_two_heads_the_earlier_heads_rows_stay)
{
    const struct kv_trim rule = {.prompt_only = 1, .pooled_heads = 1};
    const struct heads *of = trim(&rule, true, 3, equal);
    expect_rows(of, 0, "######..");
    expect_rows(of, 1, "........");
    of = trim(&rule, true, 5, equal);
    expect_rows(of, 0, "########");
    expect_rows(of, 1, "##......");
}

/* Where steps are trimmed a head has its newest row at least, and the protected rows of each. */
Test(trim, heads_that_win_nothing_keep_what_is_protected)
{
    const struct kv_trim rule = {.pooled_heads = 1, .sinks = 1};
    const struct heads *of = trim(&rule, true, 4, equal);
    expect_rows(of, 0, "#####..#");
    expect_rows(of, 1, "#......#");
}

/* Six rows; the best of all are three of the first head's and three of the second's but for 2.385 and
 * 1.5: won 4 and 2, equal shares 3 and 3. Half and half is 3.5 and 2.5: the whole row that both have an
 * equal claim on is the earlier head's. */
Test(trim, of_equal_remainders_the_earlier_head_gets_the_row)
{
    static const float scores[HEADS][ROWS] = {{9, 8, 7, 2.385f, 0, 0, 0, 0}, {9, 8, 1.5f, 1, 0, 0, 0, 0}};
    static const float exchanged[HEADS][ROWS] = {{9, 8, 1.5f, 1, 0, 0, 0, 0}, {9, 8, 7, 2.385f, 0, 0, 0, 0}};
    const struct kv_trim rule = {.prompt_only = 1, .pooled_heads = 1, .floor_percent = 50};
    const struct heads *of = trim(&rule, true, 3, scores);
    cr_expect_eq(of->lanes[0].budget, 4);
    cr_expect_eq(of->lanes[1].budget, 2);
    of = trim(&rule, true, 3, exchanged);
    cr_expect_eq(of->lanes[0].budget, 3);
    cr_expect_eq(of->lanes[1].budget, 3);
}

/* Four sinks and three recent rows. Of a budget below them recent rows go first, the oldest of them,
 * then sinks, the latest of them; at a step the newest row stays before any. Scores say the opposite. */
Test(trim, budgets_below_what_is_protected)
{
    static const float against[HEADS][ROWS] = {{1, 2, 3, 4, 50, 6, 7, 8}, {8, 7, 6, 5, 40, 3, 2, 1}};
    static const struct {
        uint32_t budget;
        const char *prompt, *step;
    } of_budgets[] = {{6, "####..##", "####..##"}, {4, "####....", "###....#"}, {2, "##......", "#......#"},
                      {1, "#.......", ".......#"}};
    for (size_t b = 0; b < sizeof of_budgets / sizeof *of_budgets; b++)
        for (uint32_t pooled = 0; pooled < 2; pooled++)
            for (uint32_t h = 0; h < HEADS; h++) {
                struct kv_trim rule = {.sinks = 4, .recent = 3, .pooled_heads = pooled, .prompt_only = 1};
                expect_rows(trim(&rule, true, of_budgets[b].budget, against), h, of_budgets[b].prompt);
                rule.prompt_only = 0;
                expect_rows(trim(&rule, true, of_budgets[b].budget, against), h, of_budgets[b].step);
                expect_rows(trim(&rule, false, of_budgets[b].budget, against), h, of_budgets[b].step);
            }
}
