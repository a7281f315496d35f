/* Numbers that fit a column; see short_number.h. */
#include "harness/output/tables/short_number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void kv_short_real(char text[24], double value)
{
    const double size = fabs(value);
    if (isnan(value)) snprintf(text, 24, "-");
    else if (size == 0) snprintf(text, 24, "0");
    else if (size < 0.00995 || size >= 99950) snprintf(text, 24, "%.1e", value);
    else if (size < 0.9995) snprintf(text, 24, "%#.3g", value);
    else snprintf(text, 24, size < 999.5 ? "%#.3g" : "%.0f", value);
    const size_t length = strlen(text);
    if (length && text[length - 1] == '.') text[length - 1] = '\0';     /* "123." of %#.3g */
    char *zero = strstr(text, "e-0"), *plus = strstr(text, "e+");       /* 1.2e-07 says 1.2e-7 */
    if (zero) memmove(zero + 2, zero + 3, strlen(zero + 2));
    if (plus) memmove(plus + 1, plus + (plus[2] == '0' ? 3 : 2), strlen(plus + 1));
}

void kv_short_bytes(char text[24], double bytes)
{
    static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti"};
    size_t unit = 0;
    if (isnan(bytes) || bytes < 0) {
        snprintf(text, 24, "-");
        return;
    }
    for (; bytes >= 999.5 && unit < 4; unit++) bytes /= 1024;
    snprintf(text, 24, unit && bytes < 99.95 ? (bytes < 9.995 ? "%.2f%s" : "%.1f%s") : "%.0f%s",
             bytes, units[unit]);
}
