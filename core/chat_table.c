// Chat templates by name, for checkpoints that have none or a wrong one: what the templates of
// these families do with system, user and assistant messages.
#include "chat.h"

#define BOS "{{ bos_token | default('') }}"
#define EOS "(eos_token | default(''))"

// Splits a system message off the others: `system` and `rest`.
#define SPLIT_SYSTEM                                                                               \
    "{% if messages and messages[0].role == 'system' %}"                                           \
    "{% set system = messages[0].content %}{% set rest = messages[1:] %}"                          \
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"

#define REFUSE_OTHERS                                                                              \
    "{{ raise_exception('expected the roles system, user and assistant, got ' ~ message.role) }}"

#define CHATML_TURN                                                                                \
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
#define CHATML_PROMPT "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
#define CHATML_DEFAULT(text)                                                                       \
    "{% if not messages or messages[0].role != 'system' %}"                                        \
    "{{ '<|im_start|>system\\n" text "<|im_end|>\\n' }}{% endif %}"                                \
    "{% for message in messages %}" CHATML_TURN "{% endfor %}" CHATML_PROMPT

// What an assistant thought before its answers, up to the last question, is left out.
#define QWEN3(prompt)                                                                              \
    "{% set ns = namespace(last=messages | length) %}"                                             \
    "{% for message in messages %}{% if message.role == 'user' %}"                                 \
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"                                       \
    "{% for message in messages %}"                                                                \
    "{% if message.role == 'assistant' and '</think>' in message.content %}"                       \
    "{% set answer = message.content.split('</think>')[-1].lstrip('\\n') %}"                       \
    "{% set thought = message.content.split('</think>')[0].rstrip('\\n')"                          \
    ".split('<think>')[-1].strip('\\n') %}"                                                        \
    "{{ '<|im_start|>assistant\\n' }}{% if loop.index0 > ns.last %}"                               \
    "{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}"                                \
    "{{ answer + '<|im_end|>\\n' }}{% else %}" CHATML_TURN "{% endif %}{% endfor %}"               \
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n" prompt "' }}{% endif %}"

// Instructions in brackets; `open` and `close` differ in spaces only. The system text stands before
// the first question, or as the later formats have it before the last.
#define MISTRAL(open, close, answer, place)                                                        \
    SPLIT_SYSTEM "{% set lead = system + '\\n\\n' if system else '' %}"                            \
                 "{% set ns = namespace(first=-1, last=-1) %}{% for message in rest %}"            \
                 "{% if message.role == 'user' %}{% if ns.first < 0 %}"                            \
                 "{% set ns.first = loop.index0 %}{% endif %}"                                     \
                 "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}" BOS                      \
                 "{% for message in rest %}{% if message.role == 'user' %}"                        \
                 "{{ '" open "' + (lead if loop.index0 == ns." place                               \
                 " else '') + message.content + '" close "' }}"                                    \
                 "{% elif message.role == 'assistant' %}"                                          \
                 "{{ '" answer "' + message.content + " EOS " }}"                                  \
                 "{% else %}" REFUSE_OTHERS "{% endif %}{% endfor %}"

// A line with the role, then the text.
#define ZEPHYR                                                                                     \
    "{% for message in messages %}"                                                                \
    "{{ '<|' + message.role + '|>\\n' + message.content + " EOS " + '\\n' }}{% endfor %}"          \
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"

const gg_named_chat gg_named_chats[] = {
    {"chatml", "{% for message in messages %}" CHATML_TURN "{% endfor %}" CHATML_PROMPT},
    {"smollm2", CHATML_DEFAULT("You are a helpful AI assistant named SmolLM, trained by Hugging "
                               "Face")},
    {"qwen2", CHATML_DEFAULT("You are a helpful assistant.")},
    {"qwen3", QWEN3("")},
    {"qwen3-nothink", QWEN3("<think>\\n\\n</think>\\n\\n")},
    {"llama2", SPLIT_SYSTEM
     "{% for message in rest %}{% if message.role == 'user' %}"
     "{% set text = message.content %}{% if loop.first and system %}"
     "{% set text = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + text %}{% endif %}" BOS
     "{{ '[INST] ' + text | trim + ' [/INST]' }}{% elif message.role == 'assistant' %}"
     "{{ ' ' + message.content | trim + ' ' + " EOS " }}"
     "{% else %}" REFUSE_OTHERS "{% endif %}{% endfor %}"},
    {"llama3", BOS "{% for message in messages %}"
                   "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n'"
                   " + message.content | trim + '<|eot_id|>' }}{% endfor %}"
                   "{% if add_generation_prompt %}"
                   "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"},
    {"mistral-v1", MISTRAL("[INST] ", " [/INST]", " ", "first")},
    {"mistral-v3", MISTRAL("[INST] ", "[/INST]", " ", "last")},
    {"mistral-tekken", MISTRAL("[INST]", "[/INST]", "", "last")},
    {"gemma", SPLIT_SYSTEM BOS
     "{% for message in rest %}"
     "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n'"
     " + (system + '\\n\\n' if loop.first and system else '') + message.content | trim"
     " + '<end_of_turn>\\n' }}{% endfor %}"
     "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"},
    {"phi3", "{% for message in messages %}"
             "{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}"
             "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}"
             "{% else %}{{ " EOS " }}{% endif %}"},
    {"vicuna", SPLIT_SYSTEM BOS
     "{{ (system or 'A chat between a curious user and an artificial intelligence assistant. "
     "The assistant gives helpful, detailed, and polite answers to the user\\'s questions.')"
     " + ' ' }}{% for message in rest %}{% if message.role == 'user' %}"
     "{{ 'USER: ' + message.content + ' ' }}{% elif message.role == 'assistant' %}"
     "{{ 'ASSISTANT: ' + message.content + " EOS " }}{% else %}" REFUSE_OTHERS
     "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"},
    {"zephyr", ZEPHYR},
    {"tinyllama", ZEPHYR},
};
const size_t gg_named_chats_n = sizeof gg_named_chats / sizeof gg_named_chats[0];
