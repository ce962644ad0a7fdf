// Fuzz target: a file of prompts, as `bench --prompts` and `batch` read it, is refused with a line
// or gives prompts that can be decoded. The readers print: run it with -close_fd_mask=2.
#define _GNU_SOURCE // mkdtemp
#include "prompts.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

// The embedded model, whose tokenizer and chat template the prompts go through.
static const gorgon_model *get_model(void)
{
    static gorgon_model *model;
    if (!model)
        require(gorgon_model_open(GG_SOURCE_DIR "/models/tiny/tiny.gguf", 1, &model, NULL) ==
                GORGON_OK);
    return model;
}

static void check_prompt(const gorgon_model *model, const cli_common *common, const cli_prompt *p)
{
    const size_t n_vocab = gorgon_tokenizer_size(gorgon_model_tokenizer(model));
    const cli_common *s = &p->settings;
    require(p->category && p->n_ids > 0 && p->n_ids <= cli_context(model, common));
    for (size_t i = 0; i < p->n_ids; i++)
        require(p->ids[i] >= 0 && (size_t)p->ids[i] < n_vocab);
    require(s->tokens >= 1 && s->temperature >= 0 && s->top_p > 0 && s->top_p <= 1);
    require(s->min_p >= 0 && s->min_p <= 1 && s->stop.n <= CLI_MAX_LIST);
    for (size_t i = 0; i < s->stop.n; i++)
        require(s->stop.values[i] && s->stop.values[i][0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const gorgon_model *model = get_model();
    cli_common common;
    cli_common_init(&common);
    scratch_begin();
    scratch_write("prompts.jsonl", data, size);
    for (int chat = 0; chat < 2; chat++) {
        cli_prompts prompts = {0};
        if (cli_prompts_read(scratch_path("prompts.jsonl"), model, &common, chat, &prompts)) {
            require(prompts.n > 0);
            for (size_t i = 0; i < prompts.n; i++)
                check_prompt(model, &common, &prompts.items[i]);
        }
        cli_prompts_clear(&prompts);
    }
    return 0;
}
