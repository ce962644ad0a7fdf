// gorgon convert: heads from the format of one trainer or engine into that of another.
#include <string.h>

#include "cli.h"

typedef struct convert_flags {
    const char *to, *model;
    size_t set;
    bool json;
} convert_flags;

static bool convert_heads(const convert_flags *f, const char *in, const char *out)
{
    gorgon_error err = {0};
    gorgon_heads *heads = NULL;
    gorgon_model *model = NULL;
    gorgon_convert_options options = {.to = f->to, .set = f->set};
    bool good = gorgon_heads_open(in, &heads, &err) == GORGON_OK &&
                (!f->model || gorgon_model_open(f->model, 0, &model, &err) == GORGON_OK);
    for (size_t i = 0; good && gorgon_heads_warning(heads, i); i++)
        cli_complain("warning: %s", gorgon_heads_warning(heads, i));
    options.model = model;
    good = good && gorgon_heads_convert(heads, &options, out, &err) == GORGON_OK;
    gorgon_heads_free(heads);
    gorgon_model_free(model);
    return good ? cli_report_heads(out, f->json, NULL) : cli_fail(&err);
}

int cmd_convert(int argc, char **argv)
{
    convert_flags flags = {0};
    const char *paths[2];
    size_t n = 0;
    cli_spec spec = {
        .command = "convert",
        .summary = "heads from the format of one trainer or engine into that of another; IN is a "
                   "file or directory of any that `gorgon info` knows",
        .positional = "IN OUT",
        .min_positional = 2,
        .max_positional = 2,
        .examples = "  gorgon convert medusa_lm_head.pt heads.gguf --to gguf --model model.gguf\n"
                    "  gorgon convert heads.gguf vllm-heads --to vllm --model model.gguf\n"
                    "  gorgon convert vllm-heads medusa-heads --to fasterdecoding --json\n",
    };
    cli_add_string(&spec, "to", 0, &flags.to, "FORMAT",
                   "gguf (a file), fasterdecoding, fasterdecoding-v2 or vllm (directories)");
    cli_add_string(&spec, "model", 0, &flags.model, "MODEL",
                   "the base: its fingerprint for gguf, its output matrix where heads have none");
    cli_add_size(&spec, "set", 0, &flags.set, 0, 31, "which set, for formats that hold one");
    cli_add_flag(&spec, "json", &flags.json, "one JSON object on stdout");
    cli_parsed parsed = cli_parse(&spec, argc, argv, paths, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    if (!flags.to) {
        cli_complain("convert: missing --to FORMAT; see gorgon convert --help");
        return CLI_BAD;
    }
    return convert_heads(&flags, paths[0], paths[1]) ? CLI_OK : CLI_BAD;
}
