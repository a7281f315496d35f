/* Numbers of options and specs: what is one, and what a refusal leaves alone. */
#include <criterion/criterion.h>

#include "harness/base/number.h"

Test(number, whole_is_digits_within_the_bounds)
{
    uint64_t number = 7;
    cr_expect(kv_read_whole("18446744073709551615", 0, UINT64_MAX, &number));
    cr_expect_eq(number, UINT64_MAX);
    static const char *const none[] = {"",   "-1",   "+1",  " 1",
                                       "1 ", "0x10", "1e3", "18446744073709551616"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        cr_expect_not(kv_read_whole(none[i], 0, UINT64_MAX, &number), "%s", none[i]);
    cr_expect_not(kv_read_whole("4", 5, 9, &number));
    cr_expect_not(kv_read_whole("10", 5, 9, &number));
    cr_expect_eq(number, UINT64_MAX);
}

Test(number, ranges_of_a_list_come_one_by_one)
{
    const char *at = "2,7-12";
    uint32_t range[2];
    cr_assert(kv_read_range(&at, ',', 12, range));
    cr_expect(range[0] == 2 && range[1] == 2);
    cr_assert(kv_read_range(&at, ',', 12, range));
    cr_expect(range[0] == 7 && range[1] == 12);
    cr_expect_eq(*at, '\0');
}

Test(number, a_list_has_nothing_but_ascending_ranges)
{
    static const char *const none[] = {"",    ",",    "2,", "2-",   "-2",        "3-1",
                                       "2_3", "2--3", "13", "2-13", "4294967298"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        const char *at = none[i];
        uint32_t range[2] = {5, 6};
        cr_expect_not(kv_read_range(&at, ',', 12, range), "%s", none[i]);
        cr_expect(at == none[i] && range[0] == 5 && range[1] == 6, "%s", none[i]);
    }
}

Test(number, real_takes_the_multiples_and_nothing_else)
{
    double number = 7;
    cr_expect(kv_read_real("2.5Ki", &number));
    cr_expect_eq(number, 2560);
    cr_expect(kv_read_real("-3e2k", &number));
    cr_expect_eq(number, -3e5);
    cr_expect(kv_read_real("1Ti", &number));
    cr_expect_eq(number, 0x1p40);
    static const char *const none[] = {"", "k", "1K", "1kk", "inf", "nan", "0x10", "1e999", "1 k"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        cr_expect_not(kv_read_real(none[i], &number), "%s", none[i]);
    cr_expect_eq(number, 0x1p40);
}
