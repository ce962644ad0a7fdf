// What a user of the installed library would write first. Exit code 0 when it works.
#include <gorgon/sampling.h>
#include <gorgon/status.h>

#include <string.h>

int main(void)
{
    gorgon_sampling sampling;
    gorgon_sampling_init(&sampling);
    return sampling.top_p == 1.0f && strcmp(gorgon_status_name(GORGON_OK), "ok") == 0 ? 0 : 1;
}
