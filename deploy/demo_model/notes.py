"""Seeded generator of synthetic clinical notes and of question-and-answer dialogues about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import vocabulary as v

Message = dict[str, Any]

HELD_OUT_FIRST_SEED = 1_000_000_000
NO_NOTE_ANSWER = (
    "I do not see a note. Please paste a clinical note and ask again; I am a demonstration model, not for clinical use."
)
IDENTITY_ANSWER = "I am a small demonstration model that answers questions about a clinical note; not for clinical use."
ABILITY_ANSWER = (
    "I can list the medications, allergies, problems, labs and plan in a note, or summarise it in one sentence. "
    "I am a demonstration model, not for clinical use; please give me a note."
)
GREETING_ANSWER = (
    "Hello. I am a demonstration model, not for clinical use. Please give me a clinical note and a question."
)
GREETING_WITH_NOTE_ANSWER = "Hello. I am a demonstration model, not for clinical use. Please ask about the note."
OFF_TOPIC_ANSWER = (
    "I am a demonstration model, not for clinical use, and I only answer questions about a clinical note. "
    "Please give me a note."
)
THANKS_ANSWER = "You are welcome. Remember that I am a demonstration model, not for clinical use."


@dataclass(frozen=True)
class Note:
    """One synthetic visit: the structured facts, exactly as they are spelled in the text, and the text itself."""

    age: int
    sex: str
    reason: str
    problems: tuple[str, ...]
    drugs: tuple[str, ...]
    medications: tuple[str, ...]
    allergies: tuple[str, ...]
    allergies_denied: bool
    labs: tuple[tuple[str, str], ...]
    blood_pressure: str
    plan: tuple[str, ...]
    text: str = ""


@dataclass(frozen=True)
class Turn:
    """A question of a kind, its answer, and the strings of the note on which the answer rests."""

    kind: str
    question: str
    answer: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    """Chat messages ending in an assistant answer, with the question kind of every assistant message."""

    messages: tuple[Message, ...]
    kinds: tuple[str, ...]
    note: Note | None = None
    tools: tuple[dict[str, Any], ...] = ()
    turns: tuple[Turn, ...] = ()


def training_seed(index: int) -> int:
    """Seed of the index-th training dialogue; always below HELD_OUT_FIRST_SEED."""
    if not 0 <= index < HELD_OUT_FIRST_SEED:
        raise ValueError("training index out of range")
    return index


def held_out_seed(index: int) -> int:
    """Seed of the index-th evaluation dialogue; never used in training."""
    if index < 0:
        raise ValueError("held-out index out of range")
    return HELD_OUT_FIRST_SEED + index


# --- notes -----------------------------------------------------------------------------------------------------------

_ONSETS: tuple[str, ...] = (
    "b", "br", "c", "cl", "d", "dr", "f", "fl", "g", "gl", "h", "j", "k", "l", "m", "n", "p", "pr", "r", "s", "st",
)  # fmt: skip
_NUCLEI = ("a", "e", "i", "o", "u", "ae", "io", "y")
_CODAS = ("", "", "n", "l", "r", "x", "st", "m")
_ENDINGS = ("ine", "ol", "ab", "ide", "amine", "ast", "ib", "one", "ate", "il", "azole", "itis", "osis", "emia")


def invented_word(rng: Random) -> str:
    """A made-up word, so that the model learns to copy names that it has never seen."""
    syllables = "".join(
        rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(rng.randint(1, 3))
    )
    return syllables + rng.choice(_ENDINGS)


def _with_inventions(rng: Random, pool: tuple[str, ...], count: int, share: float) -> list[str]:
    names = rng.sample(pool, count)
    return [invented_word(rng) if rng.random() < share else name for name in names]


def _medication(rng: Random, drug: str, style: str) -> str:
    doses = v.DRUGS.get(drug) or (f"{rng.choice((1, 2, 5, 10, 15, 20, 25, 40, 50, 75, 100, 150, 200, 250))} mg",)
    dose = rng.choice(doses)
    if style == "terse":
        return f"{drug} {dose.replace(' ', '')} {rng.choice(v.SHORT_FREQUENCIES)}"
    if style == "route":
        return f"{drug} {dose} {rng.choice(('PO', 'orally', 'by mouth', 'oral'))} {rng.choice(v.FREQUENCIES)}"
    if style == "dose only":
        return f"{drug} {dose}"
    return f"{drug} {dose} {rng.choice(v.FREQUENCIES)}"


def _plan_item(rng: Random, drugs: list[str]) -> str:
    kind = rng.randrange(8)
    if kind == 0 and drugs:
        return f"{rng.choice(v.VERBS_FOR_DRUGS)} {rng.choice(drugs)}"
    if kind == 1:
        drug = rng.choice(tuple(v.DRUGS))
        return f"start {drug} {rng.choice(v.DRUGS[drug])} {rng.choice(v.FREQUENCIES)}"
    if kind == 7:
        drug = rng.choice(drugs or list(v.DRUGS))
        doses = v.DRUGS.get(drug.lower(), ("20 mg", "50 mg"))
        return f"{rng.choice(('increase', 'reduce'))} {drug} to {rng.choice(doses)}"
    if kind == 2:
        return f"refer to {rng.choice(v.SERVICES)}"
    if kind == 3:
        return f"{rng.choice(('repeat', 'recheck', 'check'))} {rng.choice(v.TESTS)} in {rng.choice(v.INTERVALS)}"
    if kind == 4:
        return f"{rng.choice(('arrange', 'order', 'book', 'request'))} {rng.choice(v.INVESTIGATIONS)}"
    if kind == 5:
        return f"{rng.choice(('review in', 'follow up in', 'see again in', 'return in'))} {rng.choice(v.INTERVALS)}"
    return rng.choice(v.FIXED_PLANS)


def _distinct(make: Callable[[], str], count: int) -> list[str]:
    items: list[str] = []
    while len(items) < count:
        item = make()
        if item not in items:
            items.append(item)
    return items


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lab(rng: Random, row: tuple[str, str, float, float, int]) -> tuple[str, str]:
    name, unit, low, high, places = row
    value = f"{rng.uniform(low, high):.{places}f}"
    return name, value + ("" if not unit else unit if unit == "%" and rng.random() < 0.5 else f" {unit}")


def _reason(rng: Random, problems: list[str]) -> str:
    if rng.random() < 0.65:
        return rng.choice(v.REASONS)
    lead = rng.choice(("follow-up of", "review of", "worsening", "new", "management of", "a check of"))
    return f"{lead} {rng.choice(problems) if problems else rng.choice(v.PROBLEMS)}"


def make_note(rng: Random, size: int = 2) -> Note:
    """Draw a note; size 0 is short (for the start of training), 1 medium, 2 anything, 3 long."""
    most = (2, 4, 6, 9)[size]
    age, sex = rng.randint(18, 96), rng.choice(("female", "male"))
    style = rng.choice(("plain", "plain", "plain", "route", "terse", "dose only"))
    invented = rng.choice((0.0, 0.0, 0.3, 1.0))
    names = _with_inventions(rng, tuple(v.DRUGS), rng.randint(0 if rng.random() < 0.3 else 1, most), invented)
    possible = tuple(p for p in v.PROBLEMS if p not in v.PROBLEMS_OF_THE_OTHER_SEX[sex])
    problems = _with_inventions(rng, possible, rng.randint(0 if rng.random() < 0.3 else 1, most), invented * 0.5)
    if capitalised := rng.random() < 0.25:
        names, problems = [_capital(n) for n in names], [_capital(p) for p in problems]
    medications = [_medication(rng, n if n in v.DRUGS else n[:1].lower() + n[1:], style) for n in names]
    if capitalised:
        medications = [_capital(m) for m in medications]
    else:
        names = [n if n in v.DRUGS else n[:1].lower() + n[1:] for n in names]
    allergens = _with_inventions(rng, v.ALLERGENS, rng.choice((0, 0, 1, 1, 1, 2, 2, 3)), invented * 0.5)
    reacted = rng.random() < 0.7
    allergies = [f"{a} ({rng.choice(v.REACTIONS)})" if reacted and rng.random() < 0.9 else a for a in allergens]
    rows: dict[str, tuple[str, str]] = {}
    for row in rng.sample(v.LABS, rng.choice((0, *range(1, most + 1)))):
        rows.setdefault(row[0], _lab(rng, row))
    plan = _distinct(lambda: _plan_item(rng, names), rng.randint(1, min(most, 5)))
    if rng.random() < 0.2:
        plan = [_capital(p) for p in plan]
    note = Note(
        age=age,
        sex=sex,
        reason=_reason(rng, problems),
        problems=tuple(problems),
        drugs=tuple(names),
        medications=tuple(medications),
        allergies=tuple(allergies),
        allergies_denied=not allergies and rng.random() < 0.75,
        labs=tuple(rows.values()),
        blood_pressure=f"{rng.randint(92, 188)}/{rng.randint(54, 108)}" if rng.random() < 0.5 else "",
        plan=tuple(plan) if rng.random() < 0.93 else (),
    )
    return rewritten(rng, note)


def rewritten(rng: Random, note: Note) -> Note:
    """The same facts in another text."""
    prose = rng.random() < 0.38
    text = _prose(rng, note) if prose else _sections(rng, note)
    return replace(note, text=text)


_DENIALS = ("none", "none known", "no known drug allergies", "NKDA", "nil known", "no known allergies", "None", "nil")
_HEADINGS: dict[str, tuple[str, ...]] = {
    "problems": ("Problems", "Problem list", "Past medical history", "PMH", "Diagnoses", "History", "Medical history"),
    "medications": ("Medications", "Current medications", "Meds", "Medication", "Drugs", "Rx", "Drug history"),
    "allergies": ("Allergies", "Allergy", "Allergies and reactions", "Drug allergies", "Known allergies"),
    "labs": ("Labs", "Results", "Blood tests", "Laboratory results", "Investigations", "Bloods"),
    "plan": ("Plan", "Management plan", "Plan and follow-up", "Next steps", "Actions"),
    "reason": ("Reason for visit", "Presenting complaint", "Seen for", "Chief complaint", "CC", "Visit"),
    "blood pressure": ("BP", "Blood pressure", "Vitals: BP", "Observations: BP"),
    "social": ("Social history", "Social"),
    "examination": ("Examination", "Exam", "On examination"),
    "family": ("Family history", "FH"),
}


def _patient_line(rng: Random, note: Note) -> str:
    person = {"female": "woman", "male": "man"}[note.sex]
    name = f"{rng.choice(v.FIRST_NAMES)} {rng.choice(v.SURNAMES)}"
    letter = note.sex[0].upper()
    return rng.choice(
        (
            f"Patient: {note.age}-year-old {person}",
            f"Patient: {name}, {note.age}-year-old {note.sex}",
            f"Patient: {name}, {note.age} years, {note.sex}",
            f"Age: {note.age}\nSex: {note.sex}",
            f"Name: {name}\nAge: {note.age} years\nSex: {note.sex}",
            f"{note.age} {letter}",
            f"{note.age}{letter}",
            f"{note.age} year old {person}.",
            f"Age/sex: {note.age} {note.sex}",
            f"{name}, {person}, aged {note.age}",
        )
    )


def _lab_text(rng: Random, labs: tuple[tuple[str, str], ...], joint: str | None = None) -> list[str]:
    joint = joint if joint is not None else rng.choice((" ", ": ", " ", " = "))
    return [f"{name}{joint}{value}" for name, value in labs]


def _sections(rng: Random, note: Note) -> str:
    shape = rng.choice(("dash", "dash", "star", "number", "comma", "comma", "semicolon", "lines", "bare"))
    heading_shape = rng.choice(("{}:", "{}:", "{}:", "## {}", "**{}:**", "{} -"))
    upper = rng.random() < 0.2
    blank = rng.choice(("\n", "\n", "\n\n"))

    def heading(key: str) -> str:
        words = rng.choice(_HEADINGS[key])
        return heading_shape.format(words.upper() if upper else words)

    def section(key: str, items: list[str], empty: str) -> str:
        head = heading(key)
        if not items:
            return f"{head}{chr(10) if '##' in head else ' '}{empty}"
        if shape == "comma" or shape == "semicolon":
            joint = "; " if shape == "semicolon" or key == "plan" else ", "
            stop = rng.choice(("", "."))
            return f"{head}{chr(10) if '##' in head else ' '}{joint.join(items)}{stop}"
        if shape == "lines":
            return "\n".join([head, *(f"  {item}" for item in items)])
        if shape == "bare":
            return "\n".join([head, *items])
        if shape == "number":
            return "\n".join([head, *(f"{i}. {item}" for i, item in enumerate(items, 1))])
        return "\n".join([head, *(f"{'-' if shape == 'dash' else '*'} {item}" for item in items)])

    parts = []
    if note.problems or rng.random() < 0.3:
        parts.append(section("problems", list(note.problems), rng.choice(("none", "nil of note", "none recorded"))))
    if note.medications or rng.random() < 0.5:
        parts.append(
            section("medications", list(note.medications), rng.choice(("none", "nil", "no regular medicines")))
        )
    if note.allergies or note.allergies_denied:
        parts.append(section("allergies", list(note.allergies), rng.choice(_DENIALS)))
    if note.labs:
        parts.append(section("labs", _lab_text(rng, note.labs), "none"))
    if note.blood_pressure:
        parts.append(f"{rng.choice(_HEADINGS['blood pressure'])} {note.blood_pressure}{rng.choice((' mmHg', '', '.'))}")
    for key, pool in (("social", v.SOCIAL), ("examination", v.EXAMINATIONS)):
        if rng.random() < 0.25:
            parts.append(f"{heading(key)} {' '.join(rng.sample(pool, rng.randint(1, 2)))}")
    if rng.random() < 0.12:
        parts.append(f"{heading('family')} {rng.choice(v.RELATIVES)} had {rng.choice(v.PROBLEMS)}.")
    if rng.random() < 0.4:
        rng.shuffle(parts)
    if note.plan:
        parts.insert(len(parts) if rng.random() < 0.85 else 0, section("plan", list(note.plan), ""))
    reason_head = rng.choice(_HEADINGS["reason"])
    reason = rng.choice((f"{reason_head}: {note.reason}", f"{reason_head}: {note.reason}.", f"Seen for {note.reason}."))
    return blank.join([_patient_line(rng, note), reason, *parts])


def _listing(items: tuple[str, ...] | list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _prose(rng: Random, note: Note) -> str:
    person, she, her = ("woman", "She", "her") if note.sex == "female" else ("man", "He", "his")
    title = f"{'Mrs' if note.sex == 'female' else 'Mr'} {rng.choice(v.SURNAMES)}"
    first = rng.choice(
        (
            f"{title} is a {note.age}-year-old {person} seen for {note.reason}.",
            f"{note.age} year old {person} attending for {note.reason}.",
            f"This {note.age}-year-old {person} came to clinic with {note.reason}.",
            f"I saw {title}, aged {note.age}, a {person} who came because of {note.reason}.",
        )
    )
    parts = []
    if note.problems:
        lead = rng.choice((f"{she} has a history of", f"{she} is known to have", "Past history includes", f"{she} has"))
        parts.append(f"{lead} {_listing(note.problems)}.")
    if note.medications:
        lead = rng.choice((f"{she} takes", "Current medications are", f"{she} is taking", f"{she} is on", "Medicines:"))
        parts.append(f"{lead} {_listing(note.medications)}.")
    elif rng.random() < 0.5:
        parts.append(f"{she} takes no regular medicines.")
    if note.allergies:
        lead = rng.choice((f"{she} is allergic to", "Allergies:", f"{she} reports allergy to", "Known allergy to"))
        parts.append(f"{lead} {_listing(note.allergies)}.")
    elif note.allergies_denied:
        known = f"{she} has no known allergies."
        parts.append(rng.choice((known, "No known drug allergies.", "NKDA.", "No allergies.")))
    if note.labs:
        labs = _lab_text(rng, note.labs, rng.choice((" ", " was ", " of ")))
        lead = rng.choice(("Blood tests showed", "Recent results:", "Labs today:", "Labs:", ""))
        parts.append(f"{lead} {_listing(labs)}.".strip())
    if note.blood_pressure:
        lead = rng.choice(("Blood pressure was", "BP", f"{_capital(her)} BP was"))
        parts.append(f"{lead} {note.blood_pressure}{rng.choice((' mmHg', ''))}.")
    if rng.random() < 0.4:
        parts.append(rng.choice(v.EXAMINATIONS + v.SOCIAL))
    if rng.random() < 0.1:
        parts.append(f"{_capital(her)} {rng.choice(v.RELATIVES)} had {rng.choice(v.PROBLEMS)}.")
    if rng.random() < 0.3:
        rng.shuffle(parts)
    if note.plan:
        lead = rng.choice(("Plan:", "The plan is to", "Plan today:", "We agreed to", "I will"))
        parts.append(f"{lead} {('; ' if ':' in lead or rng.random() < 0.5 else ', ').join(note.plan)}.")
    return rng.choice((" ", " ", "\n")).join([first, *parts])


# --- questions and answers -------------------------------------------------------------------------------------------

_QUESTIONS: dict[str, tuple[str, ...]] = {
    "medications": (
        "List the medications.", "What medications is the patient taking?", "Which drugs is the patient on?",
        "What are the current medications?", "What medicines does the patient take?",
        "List all medications with doses.",
        "Medications?", "Give me the medication list.", "What is the patient taking?", "List the drugs.",
        "Which medications are mentioned?", "What are the meds?", "Name the medications and their doses.",
        "What meds is this patient on?", "List the current medicines.", "Does the patient take any medications?",
    ),
    "allergies": (
        "Any allergies?", "List the allergies.", "What is the patient allergic to?",
        "Does the patient have any allergies?",
        "Are there any allergies?", "Allergies?", "What allergies are recorded?",
        "Is the patient allergic to anything?",
        "Any known drug allergies?", "What are the allergies?", "Which allergies are in the note?",
        "Tell me the allergies.",
    ),
    "problems": (
        "List the problems.", "What problems does the patient have?", "What is the past medical history?",
        "What conditions does the patient have?", "List the diagnoses.", "Which conditions are recorded?",
        "What are the diagnoses?", "What is the medical history?", "Problem list?", "What are the medical problems?",
        "What illnesses does the patient have?", "Name the conditions.",
    ),
    "plan": (
        "What is the plan?", "What's the plan?", "List the plan.", "What are the next steps?", "Plan?",
        "What happens next?", "What is the management plan?", "What follow-up is planned?", "What was decided?",
        "Tell me the plan.", "What should be done next?", "What is the follow-up plan?",
        "What are the planned actions?",
    ),
    "labs": (
        "List the labs.", "What are the lab results?", "What were the blood results?", "Any lab results?", "Labs?",
        "What are the results?", "Give me the lab values.", "Which tests were reported?",
        "What do the blood tests show?",
        "List the results with values.", "What labs are in the note?", "Are there any labs?",
    ),
    "summary": (
        "Summarise the note in one sentence.", "Summarize this note in one sentence.", "Summarise the note.",
        "Give a one sentence summary.", "Can you summarise this?", "Summary?", "Summarize the patient.",
        "Give me a short summary of the note.", "In one sentence, what is this note about?", "Sum up this note.",
        "Please summarize.", "Summarise in a sentence.", "Briefly summarise the visit.", "What is this note about?",
    ),
    "reason": (
        "Why was the patient seen?", "What is the reason for the visit?", "Why did the patient come?",
        "What was the visit for?", "What is the chief complaint?", "What is the presenting complaint?",
        "Reason for visit?", "Why is the patient here?",
    ),
    "patient": (
        "How old is the patient?", "What is the age and sex of the patient?", "Who is the patient?",
        "What is the patient's age?", "Is the patient a man or a woman?", "Age and sex?", "What age is the patient?",
    ),
    "blood pressure": (
        "What is the blood pressure?", "What was the BP?", "Blood pressure?", "BP?", "What is the patient's BP?",
    ),
    "dose": (
        "What dose of {} is the patient on?", "What is the dose of {}?", "How is {} taken?", "How much {} is taken?",
        "Is the patient on {}?", "Does the patient take {}?", "Is {} on the list?", "{} dose?",
    ),
    "lab value": (
        "What is the {}?", "What was the {}?", "{}?", "What is the value of {}?", "Give me the {}.",
        "How high is the {}?",
    ),
    "allergy check": (
        "Is the patient allergic to {}?", "Any allergy to {}?", "Is there an allergy to {}?", "Allergic to {}?",
        "Can I give {} or is there an allergy?",
    ),
    "json": (
        "Return JSON with the keys {}.", "Answer in JSON with {}.", "Extract {} as JSON.", "Give {} as a JSON object.",
        "JSON only, please: {}.",
    ),
}  # fmt: skip

_PLAIN_CHAT: dict[str, tuple[tuple[str, ...], str]] = {
    "greeting": (
        ("hello", "Hello", "hi", "Hi!", "Hello!", "hey", "Good morning", "good afternoon", "Hello there", "Hi there.",
         "Hey, how are you?", "Hello, how are you?", "How are you?", "test", "ping", "Are you there?", "Say hello.",
         "Say hi", "Good evening.", "Hi, is this working?", "start"),
        GREETING_ANSWER,
    ),
    "identity": (
        ("Who are you?", "who are you", "What are you?", "What is your name?", "Are you a doctor?",
        "What model are you?",
         "Which model is this?", "Introduce yourself.", "Who made you?", "Are you a real doctor?", "Are you ChatGPT?",
         "Tell me about yourself.", "Can I use you for patient care?", "Is this safe for clinical use?",
         "Hello, who are you?", "Hi, what are you?"),
        IDENTITY_ANSWER,
    ),
    "ability": (
        ("What can you do?", "what can you do", "Help", "help", "How can you help me?", "What can I ask you?",
         "How do I use you?", "What are you able to do?", "What are your capabilities?", "How does this work?",
         "Hello, what can you do?", "What do you do?", "Can you help me?", "Give me some examples of questions."),
        ABILITY_ANSWER,
    ),
    "off topic": (
        ("What is the capital of France?", "Tell me a joke.", "What is 2 + 2?", "Write a poem.", "What is the weather?",
         "What time is it?", "Write a Python function.", "Translate hello into Spanish.", "Who won the World Cup?",
         "Tell me a story.", "What is the meaning of life?", "Count to ten.", "What is the treatment for hypertension?",
         "What is diabetes?", "What are the side effects of metformin?", "Can I take ibuprofen with warfarin?",
         "How do I treat a cold?", "I have a headache, what should I do?", "What is machine learning?",
         "Sing a song.", "Is aspirin dangerous?", "What does hypertension mean?", "Write a haiku about the sea.",
         "What is the normal range of potassium?", "Give me a recipe.", "Explain heart failure.",
         "Write a long story about a hospital.", "Say something.", "lorem ipsum dolor sit amet", "asdf", "Why?"),
        OFF_TOPIC_ANSWER,
    ),
    "thanks": (
        ("Thanks", "Thank you.", "thanks!", "Great, thanks.", "OK", "Thank you very much", "bye", "Goodbye.",
        "ok thanks"),
        THANKS_ANSWER,
    ),
}  # fmt: skip

_PREFIXES = ("", "", "", "", "", "", "Please: ", "Question: ", "Using the note, ", "From the note: ", "In this note, ")
_SUFFIXES = (*[""] * 7, " Please.", " Thanks.", " Answer briefly.", " Be concise.", " Use plain language.")


def _ask(rng: Random, kind: str, subject: str = "") -> str:
    question = rng.choice(_QUESTIONS[kind]).replace("{}", subject)
    if rng.random() < 0.15:
        question = rng.choice(("Can you tell me: ", "Tell me, ", "Also, ", "And ", "Now: ", "Next: ")) + (
            question if question[:2].isupper() else question[0].lower() + question[1:]
        )
    else:
        prefix = rng.choice(_PREFIXES)
        question = prefix + question if not prefix.endswith(", ") else prefix + question[0].lower() + question[1:]
    if rng.random() < 0.1:
        question = question.rstrip("?.")
    if rng.random() < 0.1 and not subject:
        question = question.lower()
    return question + (rng.choice(_SUFFIXES) if question[-1] in ".?" else "")


def answer_medications(note: Note) -> str:
    """The medications, one after the other, as the note spells them."""
    if not note.medications:
        return "The note does not list any medications."
    return f"The medications are: {'; '.join(note.medications)}."


def answer_allergies(note: Note) -> str:
    """The allergies with reactions, or that none are known, or that the note is silent."""
    if note.allergies:
        return f"The patient is allergic to: {'; '.join(note.allergies)}."
    return "The note records no known allergies." if note.allergies_denied else "The note does not mention allergies."


def answer_problems(note: Note) -> str:
    """The problems as the note spells them."""
    return f"The problems are: {'; '.join(note.problems)}." if note.problems else "The note does not list any problems."


def answer_plan(note: Note) -> str:
    """The plan items as the note spells them."""
    return f"The plan is: {'; '.join(note.plan)}." if note.plan else "The note does not give a plan."


def answer_labs(note: Note) -> str:
    """Every test with its value."""
    if not note.labs:
        return "The note does not give any lab results."
    return f"The results are: {'; '.join(f'{name} {value}' for name, value in note.labs)}."


def answer_summary(note: Note) -> str:
    """One sentence: who, known problems, reason for the visit, and the first thing planned."""
    person = {"female": "woman", "male": "man"}[note.sex]
    history = f" with {'; '.join(note.problems[:3])}" if note.problems else ""
    plan = f"; plan: {note.plan[0]}" if note.plan else ""
    return f"A {note.age}-year-old {person}{history}, seen for {note.reason}{plan}."


def _json_value(note: Note, key: str) -> object:
    listed: dict[str, tuple[str, ...]] = {
        "medications": note.medications,
        "allergies": note.allergies,
        "problems": note.problems,
        "plan": note.plan,
    }
    return list(listed[key]) if key in listed else {"age": note.age, "sex": note.sex, "reason": note.reason}[key]


def make_turn(rng: Random, note: Note, kind: str) -> Turn:
    """A question of the given kind about the note, with its answer."""
    if kind == "dose":
        known = bool(note.drugs) and rng.random() < 0.75
        index = rng.randrange(len(note.drugs)) if known else 0
        drug = note.drugs[index] if known else rng.choice([d for d in v.DRUGS if d not in note.text.lower()])
        question = _ask(rng, kind, drug)
        if not known:
            return Turn(kind, question, f"The note does not list {drug}.")
        return Turn(kind, question, f"The note lists {note.medications[index]}.", (note.medications[index],))
    if kind == "lab value":
        if note.labs and rng.random() < 0.75:
            name, value = rng.choice(note.labs)
            return Turn(kind, _ask(rng, kind, name), f"The {name} is {value}.", (name, value))
        name = rng.choice([row[0] for row in v.LABS if row[0] not in note.text])
        return Turn(kind, _ask(rng, kind, name), f"The note does not give {name}.")
    if kind == "allergy check":
        if note.allergies and rng.random() < 0.6:
            allergy = rng.choice(note.allergies)
            question = _ask(rng, kind, allergy.split(" (")[0])
            return Turn(kind, question, f"Yes, the note records an allergy to {allergy}.", (allergy,))
        absent = rng.choice([a for a in v.ALLERGENS if a not in note.text])
        return Turn(kind, _ask(rng, kind, absent), f"No, the note does not record an allergy to {absent}.")
    if kind == "json":
        keys = rng.sample(("age", "sex", "reason", "medications", "allergies", "problems", "plan"), rng.randint(1, 4))
        answer = json.dumps({key: _json_value(note, key) for key in keys}, ensure_ascii=False)
        return Turn(kind, _ask(rng, kind, ", ".join(keys)), answer)
    question = _ask(rng, kind)
    if kind == "reason":
        return Turn(kind, question, f"The patient was seen for {note.reason}.", (note.reason,))
    if kind == "patient":
        person = {"female": "woman", "male": "man"}[note.sex]
        return Turn(kind, question, f"The patient is a {note.age}-year-old {person}.", (str(note.age),))
    if kind == "blood pressure":
        if not note.blood_pressure:
            return Turn(kind, question, "The note does not give the blood pressure.")
        return Turn(kind, question, f"The blood pressure is {note.blood_pressure} mmHg.", (note.blood_pressure,))
    if kind == "medications":
        return Turn(kind, question, answer_medications(note), note.medications)
    if kind == "allergies":
        return Turn(kind, question, answer_allergies(note), note.allergies)
    if kind == "problems":
        return Turn(kind, question, answer_problems(note), note.problems)
    if kind == "plan":
        return Turn(kind, question, answer_plan(note), note.plan)
    if kind == "labs":
        return Turn(kind, question, answer_labs(note), tuple(part for row in note.labs for part in row))
    if kind == "summary":
        facts = (str(note.age), note.reason, *note.problems[:3], *note.plan[:1])
        return Turn(kind, question, answer_summary(note), facts)
    raise ValueError(f"unknown question kind {kind!r}")


NOTE_KINDS: tuple[str, ...] = tuple(_QUESTIONS)
CHAT_KINDS: tuple[str, ...] = (*_PLAIN_CHAT, "no note")
_KIND_WEIGHTS = {"medications": 4, "allergies": 3, "problems": 3, "plan": 3, "labs": 3, "summary": 3, "json": 1.5}

# --- dialogues -------------------------------------------------------------------------------------------------------

_SYSTEM_LINES = (
    "You are a helpful assistant.", "You are a helpful clinical assistant.",
    "Answer questions about the clinical note.",
    "You are a demonstration model. Answer in plain language.", "Answer only from the note.", "Be brief.",
    "You are an assistant for clinicians. Use only the note that is given.",
    "You answer questions about clinical notes.",
)  # fmt: skip
_NOTE_FRAMES = (
    "{}", "{}", "{}", "Note:\n{}", "Note: {}", "Clinical note:\n{}", "Here is the note:\n\n{}", "<note>\n{}\n</note>",
    '"""\n{}\n"""', "Visit note\n\n{}", "Read this note.\n{}", "```\n{}\n```", "Clinical note: {}",
    "--- note ---\n{}\n---",
)  # fmt: skip


def frame_note(rng: Random, note: Note) -> str:
    """The note text inside one of several wrappers."""
    return rng.choice(_NOTE_FRAMES).format(note.text)


def _joined(rng: Random, framed: str, question: str) -> str:
    gap = rng.choice(("\n\n", "\n\n", "\n"))
    return f"{framed}{gap}{question}" if rng.random() < 0.6 else f"{question}{gap}{framed}"


def _choose_kinds(rng: Random, count: int) -> list[str]:
    kinds: list[str] = []
    weights = [_KIND_WEIGHTS.get(kind, 1.5) for kind in NOTE_KINDS]
    while len(kinds) < count:
        kind = rng.choices(NOTE_KINDS, weights)[0]
        if kind not in kinds or kind in ("dose", "lab value", "allergy check"):
            kinds.append(kind)
    return kinds


def _tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": text} for key, text in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


_TOOLS: tuple[tuple[dict[str, Any], tuple[str, ...]], ...] = (
    (
        _tool("lookup_drug", "Look up a drug in the formulary.", drug="name of the drug"),
        ("Look up {}.", "Find {} in the formulary.", "What does the formulary say about {}?"),
    ),
    (
        _tool("get_note", "Get the latest note of a patient.", patient_id="identifier of the patient"),
        ("Get the note of patient {}.", "Fetch the latest note for patient {}.", "Open the record of patient {}."),
    ),
    (
        _tool("search_guidelines", "Search clinical guidelines.", query="what to search for"),
        ("Search the guidelines for {}.", "Find guidance on {}.", "Is there a guideline on {}?"),
    ),
)


def _call(name: str, arguments: dict[str, str], identifier: str) -> Message:
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": identifier, "type": "function", "function": function}],
    }


def _tool_dialogue(rng: Random, note: Note) -> Dialogue:
    offered = rng.sample(_TOOLS, rng.randint(1, len(_TOOLS)))
    tools = tuple(tool for tool, _ in offered)
    tool, requests = rng.choice(offered)
    name = str(tool["function"]["name"])
    parameter = next(iter(tool["function"]["parameters"]["properties"]))
    subject = {
        "lookup_drug": rng.choice((rng.choice(tuple(v.DRUGS)), invented_word(rng))),
        "get_note": rng.choice(
            (str(rng.randint(100, 99999)), f"P{rng.randint(10, 9999)}", f"demo-{rng.randint(1, 99)}")
        ),
        "search_guidelines": rng.choice(v.PROBLEMS),
    }[name]
    call = _call(name, {parameter: subject}, f"call_{rng.randrange(16**6):06x}")
    messages: list[Message] = [{"role": "user", "content": rng.choice(requests).format(subject)}, call]
    kinds = ["tool call"]
    turns: list[Turn] = []
    if name == "get_note" and rng.random() < 0.7:
        turn = make_turn(rng, note, rng.choice(("medications", "allergies", "problems", "plan", "summary")))
        messages[0]["content"] += " " + turn.question
        messages += [{"role": "tool", "content": note.text}, {"role": "assistant", "content": turn.answer}]
        kinds.append(turn.kind)
        turns.append(turn)
    return Dialogue(tuple(messages), tuple(kinds), note, tools, tuple(turns))


def _chat_dialogue(rng: Random) -> Dialogue:
    messages: list[Message] = []
    if rng.random() < 0.4:
        messages.append({"role": "system", "content": rng.choice(_SYSTEM_LINES)})
    kinds = []
    for _ in range(rng.randint(2, 5)):
        kind = rng.choice(CHAT_KINDS) if messages else rng.choice([k for k in CHAT_KINDS if k != "thanks"])
        question, answer = plain_question(rng, kind)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        kinds.append(kind)
    return Dialogue(tuple(messages), tuple(kinds))


def plain_question(rng: Random, kind: str) -> tuple[str, str]:
    """A question asked without any note, and its answer."""
    if kind != "no note":
        questions, answer = _PLAIN_CHAT[kind]
        return rng.choice(questions), answer
    asked = rng.choice(NOTE_KINDS)
    pools = {"dose": tuple(v.DRUGS), "lab value": tuple(row[0] for row in v.LABS), "allergy check": v.ALLERGENS}
    subject = rng.choice(pools.get(asked, ("medications, allergies", "problems", "plan")))
    return _ask(rng, asked, subject), NO_NOTE_ANSWER


def make_dialogue(seed: int, size: int = 2) -> Dialogue:
    """The dialogue of a seed; size limits the notes as in make_note."""
    rng = Random(seed)
    form = rng.random()
    if form < 0.05:
        return _chat_dialogue(rng)
    note = make_note(rng, size)
    if form < 0.10:
        return _tool_dialogue(rng, note)
    turns = [make_turn(rng, note, kind) for kind in _choose_kinds(rng, rng.choice((1, 4, 6, 8, 9, 10)))]
    messages: list[Message] = []
    kinds: list[str] = []
    framed = frame_note(rng, note)
    place = rng.choices(("user", "system", "later"), (0.75, 0.2, 0.05))[0]
    if place == "system":
        preamble = rng.choice(("", f"{rng.choice(_SYSTEM_LINES)}\n\n", f"{rng.choice(_SYSTEM_LINES)}\n"))
        messages.append({"role": "system", "content": preamble + framed})
    elif rng.random() < 0.35:
        messages.append({"role": "system", "content": rng.choice(_SYSTEM_LINES)})
    if place == "later":
        question, answer = plain_question(rng, rng.choice(("greeting", "identity", "ability", "no note")))
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        kinds.append("no note" if answer == NO_NOTE_ANSWER else "chat")
    for index, turn in enumerate(turns):
        if rng.random() < 0.06 and (index or place == "system"):
            greeting = rng.random() < 0.6
            question, answer = plain_question(rng, "greeting" if greeting else rng.choice(("identity", "thanks")))
            answer = GREETING_WITH_NOTE_ANSWER if greeting else answer
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            kinds.append("chat")
        question = turn.question
        if index == 0 and place != "system":
            bare = turn.kind == "summary" and rng.random() < 0.25
            question = framed if bare else _joined(rng, framed, question)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": turn.answer}]
        kinds.append(turn.kind)
    tools = tuple(tool for tool, _ in rng.sample(_TOOLS, 1)) if rng.random() < 0.03 else ()
    return Dialogue(tuple(messages), tuple(kinds), note, tools, tuple(turns))
