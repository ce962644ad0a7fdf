// The registry of verification rules.
#include "verify.h"

#include <stdio.h>
#include <string.h>

#include "core/error.h"

static const gg_rule *const rules[] = {&gg_rule_exact};
enum { N_RULES = sizeof rules / sizeof rules[0] };

gorgon_status gg_rule_find(const char *name, const gg_rule **out, gorgon_error *err)
{
    char known[128] = "";
    size_t used = 0;
    for (size_t i = 0; i < N_RULES; i++) {
        if (!name || strcmp(name, rules[i]->name) == 0) {
            *out = rules[i];
            return GORGON_OK;
        }
        int n = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", rules[i]->name);
        used += n > 0 && (size_t)n < sizeof known - used ? (size_t)n : 0;
    }
    return gg_fail(err, GORGON_ERROR_ARGUMENT, "unknown rule '%s', expected one of: %s", name,
                   known);
}
