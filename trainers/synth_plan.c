// Templates and topics of synthesis. None of them is taken from a benchmark.
#include "synth_plan.h"

#include <stdio.h>
#include <string.h>

#include "core/sampling.h"
#include "gorgon/trainers.h"

// Streams of the generator, one per decision of a job.
enum {
    PICK_KIND,
    PICK_GREEDY,
    PICK_LENGTH,
    PICK_TEMPLATE,
    PICK_TOPIC,
    PICK_NUMBER,
    PICK_TASK,
    PICK_LANGUAGE,
    PICK_FOLLOW_UP
};

static const char *const topics[] = {
    "bees",
    "volcanoes",
    "the printing press",
    "bicycles",
    "coral reefs",
    "the moon",
    "coffee",
    "glaciers",
    "chess",
    "lighthouses",
    "the human heart",
    "recycling",
    "solar panels",
    "bread",
    "castles",
    "the ocean tides",
    "public libraries",
    "honey",
    "trains",
    "earthquakes",
    "owls",
    "the water cycle",
    "photography",
    "vaccines",
    "the Roman roads",
    "jazz",
    "tea",
    "deserts",
    "bridges",
    "penguins",
    "the telephone",
    "rainforests",
    "clocks",
    "dolphins",
    "cheese",
    "the stock market",
    "gardening",
    "the internet",
    "sleep",
    "wind turbines",
    "elephants",
    "the Silk Road",
    "mathematics in daily life",
    "paper",
    "mountain climbing",
    "spiders",
    "electric cars",
    "the violin",
    "salt",
    "rivers",
    "wolves",
    "the alphabet",
    "glass",
    "maps",
    "football",
    "the nervous system",
    "rockets",
    "soap",
    "museums",
    "the potato",
    "whales",
    "the Middle Ages",
    "cooking pasta",
    "batteries",
    "butterflies",
    "the telescope",
    "rice",
    "a small fishing village",
    "city planning",
    "hurricanes",
    "swimming",
    "the Great Wall",
    "a lost dog",
    "friendship",
    "time management",
    "money saving",
    "healthy eating",
    "meditation",
    "job interviews",
    "learning a language",
    "remote work",
    "running",
    "public speaking",
    "a birthday party",
    "moving house",
    "climate change",
    "artificial intelligence",
    "computers",
    "databases",
    "sorting algorithms",
    "Python lists",
    "web pages",
    "passwords",
    "open source",
    "the history of medicine",
    "ancient Egypt",
    "the French Revolution",
    "the Industrial Revolution",
    "democracy",
    "taxes",
    "supply and demand",
    "inflation",
    "trade",
    "insurance",
    "justice",
    "poetry",
    "theatre",
    "painting",
    "sculpture",
    "film",
    "dance",
    "fashion",
    "architecture",
    "the opera",
    "detective stories",
    "fairy tales",
    "folk music",
    "the piano",
    "drums",
    "gravity",
    "light",
    "sound",
    "magnets",
    "atoms",
    "acids",
    "enzymes",
    "DNA",
    "cells",
    "bacteria",
    "viruses",
    "evolution",
    "fossils",
    "dinosaurs",
    "minerals",
    "soil",
    "forests",
    "lakes",
    "islands",
    "the Arctic",
    "the savanna",
    "wetlands",
    "caves",
    "clouds",
    "snow",
    "lightning",
    "the seasons",
    "eclipses",
    "comets",
    "Mars",
    "galaxies",
    "black holes",
    "satellites",
    "airplanes",
    "ships",
    "submarines",
    "canals",
    "harbours",
    "markets",
    "restaurants",
    "hotels",
    "hospitals",
    "schools",
    "universities",
    "kindergartens",
    "farms",
    "vineyards",
    "bakeries",
    "factories",
    "mines",
    "power plants",
    "dams",
    "wells",
    "parks",
    "zoos",
    "aquariums",
    "camping",
    "hiking",
    "sailing",
    "skiing",
    "cycling",
    "fishing",
    "knitting",
    "pottery",
    "woodworking",
    "origami",
    "board games",
    "puzzles",
    "card tricks",
    "juggling",
    "kites",
    "cats",
    "horses",
    "rabbits",
    "parrots",
    "goldfish",
    "ants",
    "frogs",
    "turtles",
    "bears",
    "foxes",
    "eagles",
    "bats",
    "sharks",
    "octopuses",
    "apples",
    "lemons",
    "tomatoes",
    "carrots",
    "mushrooms",
    "chocolate",
    "olive oil",
    "spices",
    "soup",
    "salad",
    "breakfast",
    "picnics",
    "neighbours",
    "grandparents",
    "teachers",
    "nurses",
    "firefighters",
    "pilots",
    "farmers",
    "engineers",
    "musicians",
    "a journey by night train",
    "a storm at sea",
    "an old letter",
    "the first day at school",
    "a robot that learns to paint",
    "a village without electricity",
};
enum { N_TOPICS = sizeof topics / sizeof topics[0] };

// {t} topic, {u} another topic, {n} {m} numbers.
static const char *const instructions[] = {
    "Tell me about {t}.",
    "Explain {t} to a ten-year-old.",
    "What are the most important facts about {t}?",
    "Write a short story about {t}.",
    "Write a poem about {t}.",
    "List {n} interesting things about {t}.",
    "Compare {t} and {u}.",
    "Why does {t} matter?",
    "What is the history of {t}?",
    "Write an email to a friend about {t}.",
    "Give me {n} tips about {t}.",
    "What are the advantages and disadvantages of {t}?",
    "Describe {t} in one paragraph.",
    "Write a dialogue between two people who talk about {t}.",
    "How does {t} work?",
    "Imagine you are a guide and introduce {t} to visitors.",
    "Write a blog post about {t} with headings.",
    "What questions would a beginner ask about {t}? Answer them.",
    "Write a product description connected with {t}.",
    "Make a table with facts about {t}.",
    "Explain step by step how to learn more about {t}.",
    "Is it true that {t} and {u} have something in common?",
    "Write a news report about {t}.",
    "Who would be interested in {t}, and why?",
    "Give three examples that have to do with {t}.",
    "Write a speech of one minute about {t}.",
    "What happened to {t} over the last hundred years?",
    "Where can I see or experience {t}?",
    "Invent a quiz of {n} questions about {t} with answers.",
    "Write a Python function that has to do with {t}. Explain it.",
    "Write a C program that prints a line about {t}.",
    "Write the HTML of a small page about {t}.",
    "A shop sells {n} boxes a day for {m} dollars each. How much does it earn in a week?",
    ("Anna has {m} coins and gives away {n}. Then she finds twice as many as she gave away. How "
     "many "
     "does she have now? Think step by step."),
    ("A train needs {n} hours for {m} kilometres. How fast is it on average, and how far does it "
     "get "
     "in {n} more hours at half that speed?"),
    "What is {m} plus {n} times {n}? Show your work.",
    "A recipe for {n} people needs {m} grams of flour. How much do I need for twice as many "
    "people?",
    "Solve for x: {n}x + {m} = {m} + {n}. Explain each step.",
    "There are {m} children in a class; a third of them likes {t}. About how many is that?",
    "How many minutes are there in {n} days? Explain.",
    "Who invented or discovered things related to {t}?",
    "When did people first learn about {t}?",
    "What is the difference between {t} and {u}?",
    "Which country is best known for {t}?",
    "Name the parts of {t} and what they do.",
    "Pretend to be a pirate and tell me about {t}.",
    "You are a doctor. A patient worries about {t}. What do you say?",
    "Argue for and against {t} as a school subject.",
    "Correct the grammar: {t} is been liked by much people because it make them happy.",
    "Extract the nouns from this sentence: People who enjoy {t} often read about {u} as well.",
    "Classify these words into two groups: {t}, {u}, water, iron.",
    "Continue the story: It was late, and nobody had expected {t} to change everything.",
    "Rewrite in a formal tone: hey, {t} is super cool, you gotta check it out!",
    "Write {n} sentences that use the words {t} and {u}.",
    "Plan a day around {t}.",
    "What would the world be like without {t}?",
};
enum { N_INSTRUCTIONS = sizeof instructions / sizeof instructions[0] };

static const char *const passage_requests[] = {
    "Write a detailed article about {t}.",
    "Write a long encyclopedia entry about {t}.",
    "Write a newspaper article about {t} with names, places and numbers.",
    "Write several paragraphs about {t} and {u}.",
    "Write a report about {t} for a company, with figures.",
    "Write a short biography of a fictional person who loved {t}.",
    "Schreibe einen Text auf Deutsch ueber {t}.",
    "Write a text about {t} in {l}.",
    "Write {n} short sentences about {t} in {l}.",
    "Write the transcript of an interview about {t}.",
};
enum { N_PASSAGES = sizeof passage_requests / sizeof passage_requests[0] };

// {p} the passage the model wrote.
static const char *const tasks[] = {
    "Summarize the following text:\n\n{p}",
    "{p}\n\nSummarize the text above in {n} sentences.",
    "Summarize: {p}\nTL;DR:",
    "Translate the following text into English: {p}",
    "Translate to {l}: {p}",
    "Translate this into English.\n\n{p}",
    "Read the text and answer the question. Text: {p}\n\nQuestion: What is the main idea?",
    "Use the following passage to answer. Passage: {p}\n\nQuestion: What does it say about {t}?",
    "Here are some notes:\n\n{p}\n\nBased on these notes, who or what is mentioned, and why?",
    "Extract all names, places and numbers from this text as a list:\n\n{p}",
    "Make a list of the key points of this text.\n\n{p}",
    "{p}\n\nWrite {n} questions about this text and answer them.",
    "Rewrite this text in simpler words:\n\n{p}",
    "Correct the mistakes in this text:\n\n{p}",
    "Give this text a title and a one-line summary.\n\n{p}",
    "Continue this text:\n\n{p}",
    "Document 1: {p}\n\nAnswer from the document only: when, where and how did it happen?",
    "Turn this text into an email to a colleague:\n\n{p}",
};
enum { N_TASKS = sizeof tasks / sizeof tasks[0] };

static const char *const follow_ups[] = {
    "Can you give an example?",
    "Please explain that in more detail.",
    "Now make it shorter.",
    "Rewrite your answer as a list.",
    "What about {t}?",
    "Why is that so?",
    "Translate your answer into {l}.",
    "Can you say that in simpler words?",
    "What are the exceptions?",
    "Summarize what you said in two sentences.",
    "Rewrite it and mention {t}.",
    "Thank you. What should I read next?",
    "Are you sure? Check it step by step.",
    "Give me {n} more.",
    "What would somebody who disagrees say?",
};
enum { N_FOLLOW_UPS = sizeof follow_ups / sizeof follow_ups[0] };

static const char *const languages[] = {"German",  "French",     "Spanish",
                                        "Italian", "Portuguese", "Dutch"};
enum { N_LANGUAGES = sizeof languages / sizeof languages[0] };

static uint64_t bits(const gg_plan *plan, uint64_t stream, uint64_t draw)
{
    return gg_random_bits(plan->seed, plan->index, stream, draw);
}

static size_t pick(const gg_plan *plan, uint64_t stream, uint64_t draw, size_t n)
{
    return (size_t)(bits(plan, stream, draw) % n);
}

gg_plan gg_plan_make(uint64_t seed, uint64_t index, double greedy_share)
{
    static const gg_plan_kind kinds[20] = {
        GG_PLAN_INSTRUCTION, GG_PLAN_INSTRUCTION, GG_PLAN_INSTRUCTION, GG_PLAN_INSTRUCTION,
        GG_PLAN_INSTRUCTION, GG_PLAN_OWN_TURN,    GG_PLAN_OWN_TURN,    GG_PLAN_OWN_TURN,
        GG_PLAN_OWN_TURN,    GG_PLAN_OWN_TURN,    GG_PLAN_PASSAGE,     GG_PLAN_PASSAGE,
        GG_PLAN_PASSAGE,     GG_PLAN_PASSAGE,     GG_PLAN_PASSAGE,     GG_PLAN_PASSAGE,
        GG_PLAN_PASSAGE,     GG_PLAN_TURNS,       GG_PLAN_TURNS,       GG_PLAN_TURNS};
    gg_plan plan = {.seed = seed, .index = index, .n_turns = 1};
    plan.kind = kinds[pick(&plan, PICK_KIND, 0, 20)];
    plan.greedy = gg_random_uniform(seed, index, PICK_GREEDY, 0) < greedy_share;
    plan.answer_tokens = 96 + pick(&plan, PICK_LENGTH, 0, 4) * 96;
    plan.passage_tokens = 100 + pick(&plan, PICK_LENGTH, 1, 8) * 50;
    if (plan.kind == GG_PLAN_TURNS)
        plan.n_turns = 2 + pick(&plan, PICK_LENGTH, 2, 2);
    return plan;
}

typedef struct filler {
    const gg_plan *plan;
    const char *passage;
    uint64_t draw; // which message of the job: numbers and topics differ between them
} filler;

// Text of the placeholder {letter}; number is its scratch.
static const char *placeholder(const filler *f, char letter, char number[16])
{
    switch (letter) {
    case 't':
        return topics[pick(f->plan, PICK_TOPIC, f->draw, N_TOPICS)];
    case 'u':
        return topics[pick(f->plan, PICK_TOPIC, f->draw + 100, N_TOPICS)];
    case 'l':
        return languages[pick(f->plan, PICK_LANGUAGE, f->draw, N_LANGUAGES)];
    case 'n':
        snprintf(number, 16, "%zu", 3 + pick(f->plan, PICK_NUMBER, f->draw, 7));
        return number;
    case 'm':
        snprintf(number, 16, "%zu", 20 + pick(f->plan, PICK_NUMBER, f->draw + 100, 400));
        return number;
    default:
        return f->passage ? f->passage : "";
    }
}

static bool fill(const filler *f, const char *text, char *out)
{
    size_t n = 0;
    while (*text) {
        char number[16];
        const char *piece = text;
        size_t length = 1;
        if (text[0] == '{' && text[1] && text[2] == '}') {
            piece = placeholder(f, text[1], number);
            length = strlen(piece);
            text += 3;
        } else {
            text++;
        }
        if (n + length >= GG_PLAN_MAX_MESSAGE) {
            out[n] = '\0';
            return false;
        }
        memcpy(out + n, piece, length);
        n += length;
    }
    out[n] = '\0';
    return true;
}

void gg_plan_opening(const gg_plan *plan, char *out)
{
    filler f = {plan, NULL, 0};
    const char *text = plan->kind == GG_PLAN_PASSAGE
                           ? passage_requests[pick(plan, PICK_TEMPLATE, 0, N_PASSAGES)]
                           : instructions[pick(plan, PICK_TEMPLATE, 0, N_INSTRUCTIONS)];
    fill(&f, text, out);
}

bool gg_plan_task_on(const gg_plan *plan, const char *passage, char *out)
{
    filler f = {plan, passage, 0};
    return fill(&f, tasks[pick(plan, PICK_TASK, 0, N_TASKS)], out);
}

void gg_plan_follow_up(const gg_plan *plan, size_t turn, char *out)
{
    filler f = {plan, NULL, turn};
    fill(&f, follow_ups[pick(plan, PICK_FOLLOW_UP, turn, N_FOLLOW_UPS)], out);
}

_Static_assert((int)GORGON_OPENING_BYTES >= (int)GG_PLAN_MAX_MESSAGE, "room for a message");

void gorgon_synth_opening(uint64_t seed, uint64_t index, char text[GORGON_OPENING_BYTES])
{
    const gg_plan plan = gg_plan_make(seed, index, 1.0);
    gg_plan_opening(&plan, text);
}
