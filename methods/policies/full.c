/* full: every token stays. The policy that a spec without a policy has. */
#include "methods/policy.h"

const struct kv_policy kv_policy_full = {
    .name = "full", .summary = "every token stays", .paper = "-"};
