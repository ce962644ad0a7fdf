// gorgon convert: heads from the format of one trainer or engine into that of another, and base
// models from Hugging Face's into GGUF.
#include <string.h>

#include "cli.h"

typedef struct convert_flags {
    const char *to, *model;
    size_t set;
    bool base, json;
} convert_flags;

static bool convert_base(const convert_flags *f, const char *in, const char *out)
{
    gorgon_error err = {0};
    cli_common common;
    cli_common_init(&common);
    if (strcmp(f->to, "gguf") != 0)
        return cli_complain("convert: --to is %s, expected gguf: %s is a base model", f->to, in);
    return gorgon_model_convert(in, out, &err) == GORGON_OK
               ? cli_report_model(out, f->json, &common)
               : cli_fail(&err);
}

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
        .summary = "heads from the format of one trainer or engine into that of another, a Hugging "
                   "Face directory into GGUF; IN is a file or directory that `gorgon info` knows",
        .positional = "IN OUT",
        .min_positional = 2,
        .max_positional = 2,
        .examples = "  gorgon convert medusa_lm_head.pt heads.gguf --to gguf --model model.gguf\n"
                    "  gorgon convert heads.gguf vllm-heads --to vllm --model model.gguf\n"
                    "  gorgon convert vllm-heads medusa-heads --to fasterdecoding --json\n"
                    "  gorgon convert Qwen2.5-0.5B-Instruct model.gguf --to gguf\n",
    };
    cli_add_string(&spec, "to", 0, &flags.to, "FORMAT",
                   "gguf (a file), fasterdecoding, fasterdecoding-v2 or vllm (directories)");
    cli_add_string(&spec, "model", 0, &flags.model, "MODEL",
                   "the base: its fingerprint for gguf, its output matrix where heads have none");
    cli_add_size(&spec, "set", 0, &flags.set, 0, 31, "which set, for formats that hold one");
    cli_add_flag(&spec, "base", &flags.base, "of a checkpoint merged with heads: the base model");
    cli_add_flag(&spec, "json", &flags.json, "one JSON object on stdout");
    cli_parsed parsed = cli_parse(&spec, argc, argv, paths, &n);
    if (parsed != CLI_PARSED)
        return parsed == CLI_PARSED_HELP ? CLI_OK : CLI_BAD;
    if (!flags.to) {
        cli_complain("convert: missing --to FORMAT; see gorgon convert --help");
        return CLI_BAD;
    }
    const bool base = flags.base || !gorgon_heads_probe(paths[0]);
    const bool good =
        base ? convert_base(&flags, paths[0], paths[1]) : convert_heads(&flags, paths[0], paths[1]);
    return good ? CLI_OK : CLI_BAD;
}
