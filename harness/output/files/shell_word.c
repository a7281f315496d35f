/* Words for a shell; see shell_word.h. */
#include "harness/output/files/shell_word.h"

#include <stdbool.h>
#include <string.h>

void kv_shell_word(FILE *out, const char *word)
{
    if (word[0] && !strpbrk(word, " \t\n'\"\\$`*?[]{}()<>|&;#!~=%,")) {
        fprintf(out, " %s", word);
        return;
    }
    fputs(" '", out);
    for (; *word; word++) {
        if (*word == '\'') fputs("'\\''", out);
        else fputc(*word, out);
    }
    fputc('\'', out);
}

char *kv_shell_next(char **rest)
{
    char *from = *rest + strspn(*rest, " "), *word = from, *to = from;
    if (!*from) return NULL;
    for (bool quoted = false; *from && (quoted || *from != ' '); from++) {
        if (*from == '\'') quoted = !quoted;
        else if (*from == '\\' && !quoted && from[1]) *to++ = *++from;
        else *to++ = *from;
    }
    *rest = *from ? from + 1 : from;
    *to = '\0';
    return word;
}
