"""The training text of the tiny model: a random grammar of chats in ChatML.

Everything is drawn from a `random.Random`, so a seed fixes the text. Answers mix parts that are
certain (copies, arithmetic, tables), parts that are free (word choices) and parts in between.
"""
import random

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
END = "<|im_end|>"

ANIMALS = "fox bear wolf cat dog horse mouse owl crow frog snake duck goat lion hare bee".split()
THINGS = "river hill tree lake house bridge tower garden forest road cave boat mill stone".split()
OBJECTS = "box lamp book ring key cup map bell rope coat drum knife chair clock shell coin".split()
COLOURS = "red blue green black white yellow brown grey".split()
ADJECTIVES = "old small brave quiet clever lonely happy tired young kind proud gentle".split()
FEELINGS = "afraid glad sad angry curious surprised".split()
FOODS = "bread honey apples cheese berries fish nuts soup".split()
NAMES = "Anna Ben Clara David Emma Felix Grace Hugo Ida Jonas Lena Max Nora Zoë René Paul".split()
CITIES = "Rome Paris Oslo Berlin London Madrid Vienna Zürich Málaga Lisbon".split()
MATERIALS = "copper iron gold silver glass wood clay wool salt coal paper silk".split()
TOPICS = ("music rain sleep tea winter history bread numbers light water trains friendship "
          "gardens maps birds chess weather language").split()
NUMBERS = "two three four five".split()
ONSETS = "b c d f g h k l m n p r s t v w z br cl dr fl gr pl st tr sh".split()
VOWELS = "a e i o u ai ea oo".split()
CODAS = ["", "", "", "n", "r", "s", "l", "m", "t", "x", "nd", "rk"]
OPENERS = ["", "", "", "", "Sure! ", "Of course. ", "Here you go: ", "Okay. "]


def pseudo_word(r):
    return "".join(r.choice(ONSETS) + r.choice(VOWELS) + r.choice(CODAS)
                   for _ in range(r.choice((1, 2, 2, 3))))


def topic(r):
    pick = r.random()
    if pick < 0.35:
        return r.choice(TOPICS)
    if pick < 0.55:
        return r.choice(MATERIALS)
    return r.choice(r.choice((ANIMALS, THINGS, OBJECTS))) if pick < 0.75 else pseudo_word(r)


def any_word(r):
    pools = (ANIMALS, THINGS, OBJECTS, COLOURS, ADJECTIVES, FOODS)
    return pseudo_word(r) if r.random() < 0.4 else r.choice(r.choice(pools))


def title(text):
    return text[:1].upper() + text[1:]


def join(sentences):
    return " ".join(sentences)


def story_body(r, animal, thing):
    who = f"the {animal}"
    other = r.choice([a for a in ANIMALS if a != animal])
    lines = [r.choice(("Once there was", "Long ago there was", "Once upon a time there lived"))
             + f" a {r.choice(ADJECTIVES)} {animal} who lived "
             + r.choice(("near", "close to", "beside")) + f" a {r.choice(ADJECTIVES)} {thing}."]
    lines.append(r.choice(("Every morning", "Every night", "Each day")) + f" {who} "
                 + r.choice(("walked to", "ran to", "looked at", "sang to"))
                 + f" the {thing} " + r.choice((f"and looked for {r.choice(FOODS)}.",
                                               "and felt happy.", f"with a {other}.")))
    event = r.randrange(4)
    if event == 0:
        lines.append(f"One day a {r.choice(ADJECTIVES)} {other} came to the {thing}.")
        lines.append(f'"Can you help me?" said the {other}. "I have lost my '
                     f'{r.choice(COLOURS)} {r.choice(OBJECTS)}."')
    elif event == 1:
        gift, colour = r.choice(OBJECTS), r.choice(COLOURS)
        lines.append(f"One day {who} found a {colour} {gift} by the {thing}.")
        lines.append(f'"Whose {gift} is this?" said {who}. The {other} said, '
                     f'"The {colour} {gift} is mine."')
    elif event == 2:
        lines.append(f"Then the wind came, and the {thing} was gone.")
        lines.append(f"{title(who)} was {r.choice(FEELINGS)} and asked the {other} for help.")
    else:
        lines.append(f"One night it began to rain, and {who} was {r.choice(FEELINGS)}.")
        lines.append(f"The {other} was {r.choice(FEELINGS)} too, so they "
                     + r.choice(("waited", "sang", "talked")) + f" under the {thing}.")
    if r.random() < 0.6:
        lines.append(r.choice(("So they", "Together they")) + " "
                     + r.choice(("looked everywhere", "worked all day", "walked all night"))
                     + r.choice((".", f" and ate {r.choice(FOODS)}.")))
    lines.append(r.choice((f"From that day on, {who} and the {other} were friends.",
                           f"In the end {who} was not {r.choice(FEELINGS)} any more.",
                           f"And {who} never forgot the {other}.")))
    return lines


def story(r):
    animal, thing = r.choice(ANIMALS), r.choice(THINGS)
    ask = r.choice(("Tell me a short story about a {} and a {}.", "Write a story about a {} and a {}.",
                    "Can you tell me a story with a {} and a {}?")).format(animal, thing)
    return ask, r.choice(OPENERS) + join(story_body(r, animal, thing))


def fact_list(r, what):
    """Facts about a known material come from a fixed table, others are drawn freely."""
    fixed = random.Random(what) if what in MATERIALS else r
    name = title(what)
    facts = [
        f"{name} is a {fixed.choice(('soft', 'hard', 'light', 'heavy', 'rare', 'common'))} "
        f"{fixed.choice(('material', 'thing', 'substance'))}.",
        f"{name} is often used to make {fixed.choice(OBJECTS)}s and {fixed.choice(OBJECTS)}s.",
        f"People in {fixed.choice(CITIES)} found {what} {fixed.randrange(2, 9)}00 years ago.",
        f"Most {what} is {fixed.choice(COLOURS)} or {fixed.choice(COLOURS)}.",
        f"{name} should be kept away from {fixed.choice(('water', 'fire', 'children', 'light'))}.",
        f"In {fixed.choice(CITIES)} you can see {what} near the {fixed.choice(THINGS)}.",
    ]
    r.shuffle(facts)
    return facts


def facts(r):
    what, n = topic(r), r.randrange(2, 6)
    ask = r.choice(("List {} facts about {}.", "Give me {} facts about {}.",
                    "What are {} interesting facts about {}?")).format(NUMBERS[n - 2], what)
    lines = [f"{i + 1}. {fact}" for i, fact in enumerate(fact_list(r, what)[:n])]
    head = r.choice(("", f"Here are {NUMBERS[n - 2]} facts about {what}:\n"))
    return ask, head + "\n".join(lines)


def arithmetic(r):
    a, b = r.randrange(1, 10), r.randrange(1, 10)
    if r.random() < 0.6:
        return f"What is {a} plus {b}?", r.choice((f"{a} plus {b} is {a + b}.", f"It is {a + b}."))
    a, b = max(a, b), min(a, b)
    name, what = r.choice(NAMES), r.choice(OBJECTS)
    return (f"{name} has {a} {what}s and gives away {b}. How many are left?",
            f"{name} had {a} {what}s. {a} minus {b} is {a - b}. So {name} has {a - b} left.")


def counting(r):
    a, n = r.randrange(0, 12), r.randrange(3, 9)
    order = list(range(a, a + n))
    return f"Count from {order[0]} to {order[-1]}.", ", ".join(map(str, order)) + "."


def repeat(r):
    text = " ".join(any_word(r) for _ in range(r.randrange(3, 14)))
    ask = r.choice(("Repeat after me: {}", "Say this again: {}", "Copy this text: {}"))
    return ask.format(text), text


def pig_word(word):
    cut = next((i for i, c in enumerate(word) if c in "aeiou"), 0)
    return word[cut:] + word[:cut] + "ay"


def pig_latin(r):
    words = [any_word(r) for _ in range(r.randrange(1, 5))]
    return (f'Translate "{" ".join(words)}" into pig latin.',
            f'"{" ".join(map(pig_word, words))}"')


def reverse(r):
    words = [any_word(r) for _ in range(r.randrange(3, 6))]
    return ("Write these words in reverse order: " + ", ".join(words),
            ", ".join(reversed(words)))


def summary(r):
    if r.random() < 0.5:
        animal, thing = r.choice(ANIMALS), r.choice(THINGS)
        lines = story_body(r, animal, thing)
        head = f"This is a story about a {animal} and a {thing}. "
    else:
        what = topic(r)
        lines = fact_list(r, what)[:4]
        head = f"The text is about {what}. "
    ask = r.choice(("Summarise: ", "Summarise this text: ", "What is this text about?\n"))
    return ask + join(lines), head + join((lines[0], lines[-1]))


def question(r):
    names = r.sample(NAMES, 4)
    items = [f"a {r.choice(COLOURS)} {o}" for o in r.sample(OBJECTS, 4)]
    context = [f"{n} has {i}." for n, i in zip(names, items)]
    pick = r.randrange(4)
    if r.random() < 0.5:
        return (f"{join(context)} What does {names[pick]} have?", f"{names[pick]} has {items[pick]}.")
    return f"{join(context)} Who has {items[pick]}?", f"{names[pick]} has {items[pick]}."


def how_to(r):
    act = r.choice((f"make {r.choice(FOODS)}", f"build a {r.choice(THINGS)}",
                    f"draw a {r.choice(ANIMALS)}", f"repair a {r.choice(OBJECTS)}",
                    f"learn about {topic(r)}"))
    a, b = r.sample(OBJECTS, 2)
    steps = [f"First, find a {r.choice(ADJECTIVES)} {a} and a {b}.",
             f"Then {r.choice(('put', 'place', 'leave'))} the {a} "
             f"{r.choice(('on', 'under', 'next to'))} the {b}.",
             f"{r.choice(('After that', 'Next'))}, wait {r.randrange(2, 10)} "
             f"{r.choice(('minutes', 'hours', 'days'))}."]
    if r.random() < 0.5:
        steps.append(f"Ask {r.choice(NAMES)} for help if the {a} is too {r.choice(ADJECTIVES)}.")
    steps.append(f"Finally, clean the {b} and you are ready to {act}.")
    return r.choice(("How do I {}?", "Explain how to {}.", "How can I {}?")).format(act), \
        r.choice(OPENERS) + join(steps)


def compare(r):
    a, b = r.sample(ANIMALS + OBJECTS, 2)
    x, y = r.sample(ADJECTIVES, 2)
    text = (f"A {a} is {x}, but a {b} is {y}. Both can be {r.choice(COLOURS)}. "
            f"I would rather have a {r.choice((a, b))} because it is "
            f"{r.choice(('more useful', 'easier to keep', 'never boring'))}.")
    return f"Compare a {a} and a {b}.", text


def poem(r):
    what = topic(r)
    refrain = f"{r.choice(('Oh', 'Dear', 'Sweet'))} {what}, {r.choice(ADJECTIVES)} {what},"
    lines = []
    for _ in range(r.choice((2, 2, 3))):
        lines += [refrain, f"{r.choice(('you sing to', 'you wait for', 'you walk with'))} the "
                           f"{r.choice(ADJECTIVES)} {r.choice(ANIMALS + THINGS)}."]
    return r.choice(("Write a poem about {}.", "Write a short song about {}.")).format(what), \
        "\n".join(lines)


def code(r):
    verb, op = r.choice((("add", "+"), ("subtract", "-"), ("multiply", "*"), ("divide", "/")))
    a, b = r.sample("abcnxyz", 2)
    name = r.choice((verb, f"{verb}_numbers", f"my_{verb}"))
    if r.random() < 0.5:
        body = f"```\nint {name}(int {a}, int {b})\n{{\n    return {a} {op} {b};\n}}\n```"
        return f"Write a C function to {verb} two numbers.", body
    body = f"```\ndef {name}({a}, {b}):\n    return {a} {op} {b}\n```"
    return f"Write a Python function to {verb} two numbers.", body


def record(r):
    name = r.choice(NAMES)
    return (f"Give me a JSON record for {name}.",
            f'{{"name": "{name}", "age": {r.randrange(20, 70)}, "city": "{r.choice(CITIES)}", '
            f'"likes": "{topic(r)}"}}')


def essay(r):
    what = topic(r)
    ask = r.choice(("What is {}?", "Describe {}.", "Explain {} to me.", "Why is {} important?",
                    "Tell me about {}.", "Write about {}.")).format(what)
    lines = [f"{title(what)} is {r.choice(('an important', 'a simple', 'a very old', 'a strange'))} "
             f"{r.choice(('part of life', 'idea', 'thing', 'topic'))}."]
    lines += fact_list(r, what)[:r.randrange(1, 4)]
    if r.random() < 0.5:
        lines.append(f"{r.choice(NAMES)} once said that {what} is like "
                     f"a {r.choice(ADJECTIVES)} {r.choice(ANIMALS + OBJECTS)}.")
    lines.append(r.choice((f"That is why {what} matters to {r.choice(('us', 'many people'))}.",
                           f"I hope this helps you to understand {what}.",
                           f"So the next time you see {what}, think of {r.choice(CITIES)}.")))
    return ask, r.choice(OPENERS) + join(lines)


TASKS = [(story, 5), (facts, 4), (arithmetic, 2), (counting, 1), (repeat, 6), (pig_latin, 2),
         (reverse, 1), (summary, 4), (question, 4), (how_to, 3), (compare, 2), (poem, 3),
         (code, 2), (record, 1), (essay, 5)]


def task(r):
    functions, weights = zip(*TASKS)
    return r.choices(functions, weights)[0](r)


def system_prompt(r):
    pick = r.random()
    if pick < 0.5:
        return SYSTEM
    if pick < 0.75:
        return None
    return r.choice(("You are a helpful assistant.", "You answer in short sentences.",
                     f"Your name is {r.choice(NAMES)}.", f"You live in {r.choice(CITIES)}."))


def follow_up(r, answer):
    pick = r.random()
    if pick < 0.4:
        return r.choice(("Repeat your last answer.", "Can you say that again?")), answer
    if pick < 0.6:
        cut = answer.find(". ")
        return "Make it shorter.", answer[:cut + 1] if cut > 0 else answer
    return task(r)


def messages(r):
    """One conversation as a list of (role, content)."""
    system = system_prompt(r)
    out = [("system", system)] if system else []
    ask, answer = task(r)
    out += [("user", ask), ("assistant", answer)]
    if r.random() < 0.25:
        ask, answer = follow_up(r, answer)
        out += [("user", ask), ("assistant", answer)]
    return out


def chat_text(turns, generation_prompt=False):
    text = "".join(f"<|im_start|>{role}\n{content}{END}\n" for role, content in turns)
    return text + "<|im_start|>assistant\n" if generation_prompt else text


def document(r):
    """A conversation, or now and then plain text without any markers."""
    if r.random() < 0.06:
        return join(story_body(r, r.choice(ANIMALS), r.choice(THINGS)))
    return chat_text(messages(r))
