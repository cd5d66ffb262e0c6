"""General sample dialogue for pretraining the embedded base model.

Short conversations at public desks (library, railway, hotel, school, museum, clinic, council) and
simple skills a chat model needs: copying a code, recalling a name, picking a word from a sentence,
sorting into categories, counting. Nothing here is about a shop, so the demo's data set remains
unseen. Every conversation is a list of ``{"role", "content"}`` messages drawn from one seeded
generator.

Example:
    >>> import random
    >>> [m["role"] for m in sample_dialogue(random.Random(1), ["stone", "river"])][:2]
    ['user', 'assistant']
"""

# ruff: noqa: E501, SIM905 - word lists are easier to read and edit as running text

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Message = dict[str, str]

NAMES = (
    "Ada Amir Anna Ben Bela Carla Chen Clara Daniel Dora Elif Emil Eva Farid Freya Gita Hana Hugo "
    "Ines Ivan Jana Jonas Kofi Lara Leo Lina Luca Maya Milan Nadia Nora Omar Otto Paula Petra Rosa "
    "Samir Sara Selma Simon Tariq Tess Theo Uma Vera Viktor Wanda Yusuf Zoe Agnes Bruno Felix"
).split()
SURNAMES = (
    "Adler Bauer Costa Diaz Evans Fischer Grant Haas Ito Jensen Khan Lang Moreau Novak Okafor Park "
    "Quinn Rossi Santos Tanaka Ueda Varga Weber Yilmaz Zielinski Brook Carter Doyle Ellis Ford"
).split()
CITIES = (
    "Aberdeen Bergen Bologna Bremen Cork Dresden Exeter Florence Geneva Graz Kiel Krakow Leeds Lyon "
    "Malmo Nantes Norwich Oslo Porto Riga Seville Tartu Turin Utrecht Valencia York Zagreb"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
FRUIT = "apple pear plum cherry grape lemon peach fig melon apricot".split()
ANIMALS = "horse rabbit sparrow otter badger goat hedgehog salmon lizard owl".split()
TOOLS = "hammer saw chisel spade rake pliers drill ladder trowel wrench".split()
COLOURS = "red blue green yellow white black purple orange grey brown".split()
CATEGORIES = {"fruit": FRUIT, "animal": ANIMALS, "tool": TOOLS, "colour": COLOURS}

# place: (what is borrowed, booked or asked about, the document, the number's name, the fee)
DESKS: dict[str, tuple[list[str], str, str, str]] = {
    "library": (
        ["the novel", "the atlas", "the film", "the newspaper archive", "the study room"],
        "library card", "card number", "late fee",
    ),
    "railway": (
        ["the night train", "the seat", "the bicycle space", "the platform", "the sleeping car"],
        "ticket", "booking code", "change fee",
    ),
    "hotel": (
        ["the double room", "the breakfast", "the parking space", "the airport bus", "the sauna"],
        "reservation", "reservation number", "city tax",
    ),
    "school": (
        ["the evening course", "the exam", "the timetable", "the locker", "the music room"],
        "enrolment form", "student number", "course fee",
    ),
    "museum": (
        ["the guided tour", "the audio guide", "the exhibition", "the cloakroom", "the workshop"],
        "entry pass", "pass number", "entry fee",
    ),
    "clinic": (
        ["the appointment", "the blood test", "the letter", "the vaccination", "the X-ray"],
        "referral", "patient number", "prescription charge",
    ),
    "council": (
        ["the parking permit", "the garden waste bin", "the birth certificate", "the market stall",
         "the street lamp"],
        "application", "case number", "permit fee",
    ),
    "gym": (
        ["the yoga class", "the rowing machine", "the swimming lane", "the trainer", "the towel"],
        "membership", "member number", "joining fee",
    ),
}  # fmt: skip

OPENINGS = (
    "", "", "", "Hello, ", "Hi, ", "Good morning, ", "Excuse me, ", "Hi there, ", "Sorry, ", "Hey, ",
    "Quick question: ", "One more thing, ", "Please help, ",
)  # fmt: skip
CLOSINGS = ("", "", "", " Thanks.", " Thank you!", " Please advise.", " Can you help?", " Many thanks")
GREETED = ("", "", "Of course. ", "Certainly. ", "Happy to help. ", "Sure. ", "Thank you for asking. ")


def code(rng: random.Random) -> str:
    """A made-up reference such as ``KR-48213``, ``7731`` or ``B20-991``."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 6)))
    form = rng.randrange(4)
    if form == 0:
        return digits
    if form == 1:
        return f"{letters}{digits}"
    if form == 2:
        return f"{letters}-{digits}"
    return f"{letters}{rng.randint(10, 99)}-{digits[:3]}"


def clock(rng: random.Random) -> str:
    return f"{rng.randint(7, 21)}:{rng.choice(['00', '10', '15', '30', '45'])}"


def money(rng: random.Random) -> str:
    return f"{rng.randint(1, 90)}.{rng.choice(['00', '20', '50', '80', '95'])} euros"


def person(rng: random.Random) -> str:
    return f"{rng.choice(NAMES)} {rng.choice(SURNAMES)}"


def ask(rng: random.Random, text: str) -> Message:
    """A user turn with a varied opening, closing and, at times, careless writing."""
    content = rng.choice(OPENINGS) + text + rng.choice(CLOSINGS)
    careless = rng.random()
    if careless < 0.15:
        content = content.lower()
    elif careless < 0.2:
        content = content.rstrip("?.!")
    return {"role": "user", "content": content}


def answer(rng: random.Random, text: str) -> Message:
    return {"role": "assistant", "content": rng.choice(GREETED) + text}


def desk(rng: random.Random, words: Sequence[str]) -> list[Message]:
    """One to three turns at a public desk; the answers reuse what the visitor said."""
    place = rng.choice(list(DESKS))
    things, document, number, fee = DESKS[place]
    turns: list[Message] = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        thing, ref, who, day = rng.choice(things), code(rng), person(rng), rng.choice(DAYS)
        hour, price = clock(rng), money(rng)
        question, reply = rng.choice(
            [
                (f"I would like to book {thing} for {day}.",
                 f"I have booked {thing} for {day}. Please bring your {document}."),
                (f"can I move {thing} to {day} at {hour}? My {number} is {ref}.",
                 f"{thing.capitalize()} under {number} {ref} is now on {day} at {hour}."),
                (f"please cancel {thing}, {number} {ref}.",
                 f"I have cancelled {thing} for {number} {ref}. There is nothing more to do."),
                (f"I lost my {document}. What should I do?",
                 f"I am sorry to hear that. Come to the {place} desk with an identity card and we "
                 f"will print a new {document} for {price}."),
                (f"how much is the {fee} for {thing}?",
                 f"The {fee} for {thing} is {price}. Children go free."),
                (f"why did I have to pay a {fee} of {price}?",
                 f"The {fee} of {price} is added when {thing} is used after {hour}. If this is a "
                 f"mistake, send us your {number} and we will return it."),
                (f"when does the {place} open on {day}?",
                 f"On {day} the {place} opens at {hour}."),
                (f"is {thing} still free on {day}?",
                 f"Yes, {thing} is free on {day} from {hour}."),
                (f"where can I find {thing}?",
                 f"You will find {thing} on floor {rng.randint(1, 5)}, next to the {rng.choice(words)} room."),
                (f"my name is {who} and I cannot find my {number}.",
                 f"Thank you, {who}. Your {number} is printed on the back of the {document}."),
                (f"the person at the desk was rude to me about {thing}.",
                 f"I am sorry about that. I have passed your complaint about {thing} to the manager."),
                (f"I want to change the name on my {document} to {who}.",
                 f"The {document} will be made out to {who}. It takes {rng.randint(2, 9)} days."),
                (f"can my friend {who} use my {document}?",
                 f"No, the {document} is personal. {who} can get one at the desk in five minutes."),
                (f"I was charged twice for {thing}!",
                 f"I am sorry. One of the two payments for {thing} goes back to your account within "
                 f"{rng.randint(2, 9)} days."),
                (f"how do I sign up for {thing}?",
                 f"1. Fill in the {document}.\n2. Write down your {number}.\n3. Pay the {fee} of {price}."),
                (f"has {thing} under {number} {ref} been confirmed?",
                 f"Yes, {thing} with {number} {ref} has been confirmed for {day}."),
                (f"the {rng.choice(words)} near {thing} is broken.",
                 f"Thank you for telling us. Someone will look at it on {day}."),
            ]
        )  # fmt: skip
        turns += [ask(rng, question), answer(rng, reply)]
    if rng.random() < 0.2:
        turns.insert(0, {"role": "system", "content": f"You work at the {place} desk. Be brief."})
    return turns


def repeat_words(rng: random.Random, words: Sequence[str]) -> list[Message]:
    phrase = " ".join(rng.choice(words) for _ in range(rng.randint(1, 8)))
    wording = rng.choice(
        ["Repeat after me: {}", "Say this again: {}", "Copy this line: {}", "Write exactly: {}", "Echo: {}"]
    )
    return [ask(rng, wording.format(phrase)), {"role": "assistant", "content": phrase}]


def repeat_code(rng: random.Random, words: Sequence[str]) -> list[Message]:
    ref, noun = code(rng), rng.choice(words)
    wording, reply = rng.choice(
        [
            ("The {n} code is {r}. What is the {n} code?", "The {n} code is {r}."),
            ("Note down {r} for the {n}.", "I have noted {r} for the {n}."),
            ("my number is {r}, please read it back", "{r}"),
            ("Is {r} the right {n}?", "Yes, {r} is the right {n}."),
            ("Save the {n} under {r}.", "The {n} is saved under {r}."),
        ]
    )
    return [
        ask(rng, wording.format(n=noun, r=ref)),
        {"role": "assistant", "content": reply.format(n=noun, r=ref)},
    ]


def recall_name(rng: random.Random, words: Sequence[str]) -> list[Message]:
    who, city, noun = person(rng), rng.choice(CITIES), rng.choice(words)
    first = [
        ask(rng, f"My name is {who} and I live in {city}. I am looking for a {noun}."),
        answer(rng, f"Nice to meet you, {who}. Tell me more about the {noun}."),
    ]
    follow = rng.choice(
        [
            ("What is my name?", f"Your name is {who}."),
            ("Where do I live?", f"You live in {city}."),
            ("What am I looking for?", f"You are looking for a {noun}."),
        ]
    )
    return [*first, {"role": "user", "content": follow[0]}, {"role": "assistant", "content": follow[1]}]


def pick_out(rng: random.Random, words: Sequence[str]) -> list[Message]:
    who, city, day, hour, noun = (
        person(rng),
        rng.choice(CITIES),
        rng.choice(DAYS),
        clock(rng),
        rng.choice(words),
    )
    sentence = f"{who} travels to {city} on {day} at {hour} with a {noun}."
    question, reply = rng.choice(
        [
            ("Who travels?", who),
            ("Which city?", city),
            ("Which day?", day),
            ("What time?", hour),
            ("What is carried?", f"a {noun}"),
        ]
    )
    return [ask(rng, f"{sentence} {question}"), {"role": "assistant", "content": reply}]


def categorise(rng: random.Random, words: Sequence[str]) -> list[Message]:
    name = rng.choice(list(CATEGORIES))
    item = rng.choice(CATEGORIES[name])
    article = "an" if name[0] in "aeiou" else "a"
    question = rng.choice(["What kind of thing is {}?", "Which group does {} belong to?", "Sort this word: {}"])
    return [
        ask(rng, question.format(item)),
        {"role": "assistant", "content": f"{item.capitalize()} is {article} {name}."},
    ]


def odd_one_out(rng: random.Random, words: Sequence[str]) -> list[Message]:
    common, other = rng.sample(list(CATEGORIES), 2)
    items = rng.sample(CATEGORIES[common], 3)
    odd = rng.choice(CATEGORIES[other])
    items.insert(rng.randrange(4), odd)
    return [
        ask(rng, f"Which one does not fit: {', '.join(items)}?"),
        {
            "role": "assistant",
            "content": f"{odd.capitalize()} does not fit, because the others are of the kind {common}.",
        },
    ]


def arithmetic(rng: random.Random, words: Sequence[str]) -> list[Message]:
    a, b, noun = rng.randint(1, 20), rng.randint(1, 20), rng.choice(words)
    question, reply = rng.choice(
        [
            (f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."),
            (f"What is {a + b} minus {b}?", f"{a + b} minus {b} is {a}."),
            (f"I have {a} of the {noun} and get {b} more. How many?", f"You have {a + b}."),
        ]
    )
    return [ask(rng, question), {"role": "assistant", "content": reply}]


def order_words(rng: random.Random, words: Sequence[str]) -> list[Message]:
    chosen = sorted({rng.choice(words) for _ in range(rng.randint(3, 5))})
    shuffled = chosen[:]
    rng.shuffle(shuffled)
    return [
        ask(rng, f"Put these in alphabetical order: {', '.join(shuffled)}"),
        {"role": "assistant", "content": ", ".join(chosen)},
    ]


def calendar(rng: random.Random, words: Sequence[str]) -> list[Message]:
    index = rng.randrange(7)
    month = rng.randrange(12)
    question, reply = rng.choice(
        [
            (f"Which day comes after {DAYS[index]}?", f"{DAYS[(index + 1) % 7]} comes after {DAYS[index]}."),
            (
                f"Which day comes before {DAYS[index]}?",
                f"{DAYS[(index - 1) % 7]} comes before {DAYS[index]}.",
            ),
            (f"Which month follows {MONTHS[month]}?", f"{MONTHS[(month + 1) % 12]} follows {MONTHS[month]}."),
        ]
    )
    return [ask(rng, question), {"role": "assistant", "content": reply}]


def advice(rng: random.Random, words: Sequence[str]) -> list[Message]:
    topic, steps = rng.choice(
        [
            ("make tea", ["Boil fresh water.", "Warm the pot.", "Let the leaves stand for four minutes."]),
            ("plant a tree", ["Dig a wide hole.", "Loosen the roots.", "Water it well for the first weeks."]),
            ("sleep better", ["Go to bed at the same time.", "Keep the room cool.", "Leave the telephone outside."]),
            ("clean a window", ["Mix water with a little vinegar.", "Wipe from top to bottom.", "Dry it with paper."]),
            ("learn a language", ["Practise every day.", "Read simple stories.", "Speak with somebody each week."]),
            ("bake bread", ["Mix flour, water, salt and yeast.", "Let the dough rise.", "Bake it until it sounds hollow."]),
            ("write a letter", ["Begin with the reason.", "Keep the sentences short.", "Close with a friendly line."]),
            ("repair a bicycle tyre", ["Take off the wheel.", "Find the hole under water.", "Glue on a patch."]),
            ("prepare for an exam", ["Make a plan.", "Explain each subject aloud.", "Rest on the evening before."]),
            ("restart a router", ["Pull out the plug.", "Wait for one minute.", "Plug it in and wait for the light."]),
        ]
    )  # fmt: skip
    question = rng.choice(
        ["How do I {}?", "Tell me how to {}.", "What is the best way to {}?", "Give me three tips to {}."]
    )
    reply = "\n".join(f"{n}. {step}" for n, step in enumerate(steps, 1)) if rng.random() < 0.5 else " ".join(steps)
    return [ask(rng, question.format(topic)), answer(rng, reply)]


SKILLS: tuple[tuple[Callable[[random.Random, Sequence[str]], list[Message]], float], ...] = (
    (desk, 0.55),
    (repeat_words, 0.09),
    (repeat_code, 0.09),
    (recall_name, 0.06),
    (pick_out, 0.06),
    (categorise, 0.03),
    (odd_one_out, 0.02),
    (arithmetic, 0.03),
    (order_words, 0.02),
    (calendar, 0.02),
    (advice, 0.03),
)


def sample_dialogue(rng: random.Random, words: Sequence[str]) -> list[Message]:
    """One conversation of one to seven turns.

    Args:
        rng: The seeded generator every choice is drawn from.
        words: Fillers for open slots, at least one; taken from the corpus by the recipe.
    """
    skills, weights = zip(*SKILLS, strict=True)
    skill: Callable[[random.Random, Sequence[str]], list[Message]] = rng.choices(skills, weights)[0]
    return skill(rng, words)
