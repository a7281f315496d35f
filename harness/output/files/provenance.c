/* Provenance; see provenance.h. KV_VERSION is the project's version, KV_COMMIT the build's commit. */
#include "harness/output/files/provenance.h"

#include <stdio.h>
#include <string.h>

#include "version.h"

const char *kv_code_version(void) { return KV_VERSION "-" KV_COMMIT; }

/* "model name" of /proc/cpuinfo, or the architecture. */
static const char *cpu_name(void)
{
    static char name[128];
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file && !name[0] && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon)
            snprintf(name, sizeof name, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    }
    if (file) fclose(file);
#if defined __x86_64__
    const char *architecture = "x86-64";
#elif defined __aarch64__
    const char *architecture = "aarch64";
#else
    const char *architecture = "unknown";
#endif
    return name[0] ? name : architecture;
}

void kv_provenance_fill(struct kv_results *results)
{
    results->version = KV_VERSION;
    results->compiler =
#if defined __clang__
        "clang " __clang_version__;
#else
        "gcc " __VERSION__;
#endif
    results->cpu = cpu_name();
    snprintf(results->code_version, sizeof results->code_version, "%s", kv_code_version());
}
