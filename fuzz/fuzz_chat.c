// Fuzz target: whatever a chat template says, parsing and rendering it must stay inside its memory
// and its limits of work.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const gorgon_message messages[] = {
        {"system", "Be kind."}, {"user", " \xf0\x9f\x98\x80 Hi? "}, {"assistant", "<t>x</t>\n\ny"}};
    const gg_jinja_input input = {.messages = messages,
                                  .n_messages = 3,
                                  .add_generation_prompt = true,
                                  .bos = "<s>",
                                  .bos_length = 3,
                                  .eos = "</s>",
                                  .eos_length = 4};
    gorgon_error err = {0};
    gg_jinja *jinja = NULL;
    char *text = NULL;
    gorgon_status status = gg_jinja_parse((const char *)data, size, &jinja, &err);
    if ((status == GORGON_OK) != (jinja != NULL) || status != err.status)
        abort();
    if (!jinja)
        return 0;
    status = gg_jinja_render(jinja, &input, &text, &err);
    if ((status == GORGON_OK) != (text != NULL) || status != err.status)
        abort();
    if (text) {
        size_t bad, n = strlen(text);
        if (memchr(data, 0, size) == NULL && !gorgon_utf8_valid(text, n, &bad))
            abort();
    }
    gorgon_free(text);
    gg_jinja_free(jinja);
    return 0;
}
