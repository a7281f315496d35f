/* Parameters: values, ranges, printing, and the nearest name. */
#include <criterion/criterion.h>
#include <string.h>

#include "harness/base/params.h"

struct config {
    uint32_t bits, axis;
    double decay;
    struct kv_budget budget;
    struct kv_list map;
};

static const struct kv_param params[] = {
    {"bits", KV_PARAM_U32, offsetof(struct config, bits), 4, 2, 8, NULL, "bits a code"},
    {"axis", KV_PARAM_CHOICE, offsetof(struct config, axis), 1, 0, 0, "token|channel|row",
     "of a group"},
    {"decay", KV_PARAM_REAL, offsetof(struct config, decay), 0.375, 0, 1, NULL, "of scores"},
    {"budget", KV_PARAM_BUDGET, offsetof(struct config, budget), 0.2, 1, 65536, NULL, "rows held"},
    {"map", KV_PARAM_LIST, offsetof(struct config, map), 0, 0, 99, NULL, "who reads whom"},
    {0}};

static struct config defaults(void)
{
    struct config config;
    memset(&config, 0xff, sizeof config);
    kv_params_defaults(params, &config);
    return config;
}

static int set(struct config *config, const char *key, const char *value)
{
    struct kv_error err;
    return kv_params_set(params, config, "method", key, value, &err);
}

/* The text that setting key to value gives. */
static const char *complaint(const char *key, const char *value)
{
    static struct kv_error err;
    struct config config = defaults();
    cr_assert_eq(kv_params_set(params, &config, "method", key, value, &err), KV_EUSAGE, "%s=%s",
                 key, value);
    return err.text;
}

Test(params, defaults_fill_every_field)
{
    const struct config config = defaults();
    cr_assert_eq(config.bits, 4);
    cr_assert_eq(config.axis, 1);
    cr_assert_eq(config.decay, 0.375);
    cr_assert_eq(config.budget.tokens, 0);
    cr_assert_eq(config.budget.share, 0.2);
}

Test(params, lists_are_numbers_joined_by_dashes)
{
    struct config config = defaults();
    char text[256] = "";
    cr_assert_eq(config.map.n, 0);
    kv_params_print(params, &config, text, sizeof text);
    cr_assert_null(strstr(text, "map"), "%s", text);
    cr_assert_eq(set(&config, "map", "0-0-12-99"), KV_OK);
    cr_assert_eq(config.map.n, 4);
    cr_assert_eq(config.map.at[2], 12);
    kv_params_print(params, &config, text, sizeof text);
    cr_assert_not_null(strstr(text, ":map=0-0-12-99"), "%s", text);
    static const char *const bad[] = {"", "-", "0-", "-1", "0--2", "1-x", "1-100", "1-000002"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_not_null(strstr(complaint("map", bad[i]), "joined by -, none left out"));
}

Test(params, numbers_take_suffixes)
{
    struct config config = defaults();
    cr_assert_eq(set(&config, "budget", "1.5k"), KV_OK);
    cr_assert_eq(config.budget.tokens, 1500);
    cr_assert_eq(set(&config, "budget", "2Ki"), KV_OK);
    cr_assert_eq(config.budget.tokens, 2048);
    cr_assert_eq(config.budget.share, 0);
}

Test(params, a_point_or_a_percent_sign_makes_a_share)
{
    struct config config = defaults();
    cr_assert_eq(set(&config, "budget", "12.5%"), KV_OK);
    cr_assert_eq(config.budget.share, 0.125);
    cr_assert_eq(set(&config, "budget", "1.0"), KV_OK);
    cr_assert_eq(config.budget.share, 1.0);
    cr_assert_eq(set(&config, "budget", "1"), KV_OK);
    cr_assert_eq(config.budget.tokens, 1);
    cr_assert_eq(config.budget.share, 0);
}

Test(params, a_share_is_of_the_prompt_rounded_down)
{
    cr_assert_eq(kv_budget_tokens((struct kv_budget){.share = 0.2}, 768), 153);
    cr_assert_eq(kv_budget_tokens((struct kv_budget){.share = 0.29}, 100),
                 29); /* 28.999... in doubles */
    cr_assert_eq(kv_budget_tokens((struct kv_budget){.share = 1.0}, 37), 37);
    cr_assert_eq(kv_budget_tokens((struct kv_budget){.tokens = 64}, 37), 64);
}

Test(params, bad_values_name_parameter_value_and_range)
{
    cr_assert_str_eq(complaint("bits", "9"),
                     "method: bits: expected a whole number from 2 to 8, found 9");
    cr_assert_str_eq(complaint("decay", "1.5"),
                     "method: decay: expected a number from 0 to 1, found 1.5");
    cr_assert_str_eq(complaint("axis", "chanel"),
                     "method: axis: expected one of token|channel|row, found chanel");
    cr_assert_str_eq(complaint("budget", "0"),
                     "method: budget: expected 1 to 65536 tokens, a share such as 0.2"
                     " or 20%, found 0");
}

Test(params, what_is_no_number_is_refused)
{
    static const char *const values[] = {"",    "x",   "4x",  "4.5", "-4",   "0x4",
                                         "inf", "nan", "4kk", "4 ",  "1e999"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) complaint("bits", values[i]);
    static const char *const budgets[] = {"",    "%",     "-1",    "0%",  "101%",
                                          "1.5", "65537", "0x1p3", "inf", "20%%"};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) complaint("budget", budgets[i]);
    static const char *const axes[] = {"", "|", "tok", "token|channel", "rows"};
    for (size_t i = 0; i < sizeof axes / sizeof *axes; i++) complaint("axis", axes[i]);
}

Test(params, what_is_stored_can_be_said_in_bytes_or_bits)
{
    static const struct {
        const char *value, *printed;
        double bytes, bits;
    } rows[] = {{"256KiB", "256KiB", 262144, 0},   {"1048576B", "1MiB", 1048576, 0},
                {"1500B", "1500B", 1500, 0},       {"2kB", "2000B", 2000, 0},
                {"1.5MiB", "1536KiB", 1572864, 0}, {"2.5b", "2.5b", 0, 2.5},
                {"100b", "100b", 0, 100},          {"0.1b", "0.1b", 0, 0.1}};
    struct kv_param stored[2] = {params[3], {0}};
    stored[0].type |= KV_PARAM_STORED;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct config config = defaults();
        struct kv_error err;
        char text[64];
        cr_assert_eq(kv_params_set(stored, &config, "m", "budget", rows[i].value, &err), KV_OK);
        cr_assert_eq(config.budget.bytes, rows[i].bytes);
        cr_assert_eq(config.budget.bits, rows[i].bits);
        cr_assert(kv_budget_is_stored(config.budget));
        cr_assert_eq(kv_budget_tokens(config.budget, 768), 0);
        kv_budget_print(text, &config.budget);
        cr_assert_str_eq(text, rows[i].printed);
    }
}

Test(params, bytes_and_bits_are_refused_where_nothing_is_stored_and_when_they_are_none)
{
    complaint("budget", "256KiB");
    complaint("budget", "2.5b");
    struct kv_param stored[2] = {params[3], {0}};
    stored[0].type |= KV_PARAM_STORED;
    static const char *const values[] = {"0B", "0b",    "-1b",  "0.5B", "KiB",
                                         "b",  "1e20B", "2KB", "2%b"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct config config = defaults();
        struct kv_error err;
        cr_assert_eq(kv_params_set(stored, &config, "m", "budget", values[i], &err), KV_EUSAGE,
                     "%s", values[i]);
    }
}

Test(params, an_unknown_name_gives_the_nearest)
{
    cr_assert_str_eq(complaint("bit", "4"), "method: unknown parameter bit; did you mean bits?");
    cr_assert_str_eq(complaint("quux", "4"), "method: unknown parameter quux");
}

Test(params, a_refused_value_changes_nothing)
{
    struct config config = defaults();
    set(&config, "bits", "3");
    set(&config, "bits", "77");
    cr_assert_eq(config.bits, 3);
}

Test(params, printed_values_read_back_the_same)
{
    static const char *const budgets[] = {"0.1", "33%", "100%", "512", "0.30000000000000004"};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        struct config config = defaults(), again;
        char text[256] = "", second[256] = "";
        set(&config, "budget", budgets[i]);
        set(&config, "decay", "0.1");
        set(&config, "axis", "row");
        kv_params_print(params, &config, text, sizeof text);
        kv_params_defaults(params, &again);
        char copy[256], *save = NULL;
        strcpy(copy, text);
        for (char *pair = strtok_r(copy, ":", &save); pair; pair = strtok_r(NULL, ":", &save)) {
            char *value = strchr(pair, '=');
            *value++ = 0;
            cr_assert_eq(set(&again, pair, value), KV_OK, "%s=%s", pair, value);
        }
        kv_params_print(params, &again, second, sizeof second);
        cr_assert_str_eq(text, second);
        cr_assert_eq(again.budget.share, config.budget.share);
    }
}

Test(params, print_tells_the_length_that_it_would_need)
{
    const struct config config = defaults();
    char text[256] = "int", small[9] = "int";
    const size_t length = kv_params_print(params, &config, text, sizeof text);
    cr_assert_str_eq(text, "int:bits=4:axis=channel:decay=0.375:budget=0.2");
    cr_assert_eq(length, strlen(text));
    cr_assert_eq(kv_params_print(params, &config, small, sizeof small), length);
    cr_assert_str_eq(small, "int:bits");
}

Test(hint, is_within_half_the_word)
{
    static const char *const names[] = {"kivi", "h2o", "turboquant", NULL};
    cr_assert_str_eq(kv_hint("kivy", names).text, "; did you mean kivi?");
    cr_assert_str_eq(kv_hint("turboquent", names).text, "; did you mean turboquant?");
    cr_assert_str_eq(kv_hint("palu", names).text, "");
    cr_assert_str_eq(kv_hint("", names).text, "");
}
