/* Numbers as people write them; see number.h. */
#include "harness/base/number.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool kv_read_digits(const char **at, uint64_t most, uint64_t *number)
{
    char *end;
    errno = 0;
    const uint64_t value = strtoull(*at, &end, 10);
    if (**at < '0' || **at > '9' || errno || value > most) return false; /* no sign, no blank */
    *at = end, *number = value;
    return true;
}

bool kv_read_whole(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
    uint64_t value;
    if (!kv_read_digits(&text, most, &value) || *text || value < least) return false;
    *number = value;
    return true;
}

bool kv_read_range(const char **at, char separator, uint32_t most, uint32_t range[2])
{
    const char *text = *at;
    uint64_t first, last;
    if (!kv_read_digits(&text, most, &first)) return false;
    last = first;
    if (*text == '-' && (text++, !kv_read_digits(&text, most, &last))) return false;
    if (last < first) return false;
    if (*text == separator && text[1])
        text++;
    else if (*text)
        return false;
    *at = text, range[0] = (uint32_t)first, range[1] = (uint32_t)last;
    return true;
}

bool kv_read_real(const char *text, double *number)
{
    static const struct {
        char suffix[3];
        double factor;
    } multiples[] = {{"", 1},    {"k", 1e3},     {"Ki", 0x1p10}, {"M", 1e6},    {"Mi", 0x1p20},
                     {"G", 1e9}, {"Gi", 0x1p30}, {"T", 1e12},    {"Ti", 0x1p40}};
    char *end;
    const size_t plain = strspn(text, "0123456789.-+eE"); /* strtod also takes 0x1p3 and inf */
    errno = 0;
    const double value = strtod(text, &end);
    if (end == text || end > text + plain || errno || !isfinite(value)) return false;
    for (size_t i = 0; i < sizeof multiples / sizeof *multiples; i++)
        if (strcmp(end, multiples[i].suffix) == 0)
            return *number = value * multiples[i].factor, true;
    return false;
}
