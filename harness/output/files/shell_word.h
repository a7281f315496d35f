/* One argument in a line of them, as a POSIX shell reads it: what the manifest says to repeat, and what
 * --resume takes back. */
#ifndef KVBENCH_HARNESS_SHELL_WORD_H
#define KVBENCH_HARNESS_SHELL_WORD_H

#include <stdio.h>

/* In single quotes where it must be, a blank before it. */
void kv_shell_word(FILE *out, const char *word);

/* The first word of *rest, unquoted in place, or NULL; *rest is left behind it. */
char *kv_shell_next(char **rest);

#endif
