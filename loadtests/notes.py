"""Synthetic clinical text of a wanted length, made fast: it is cut from one long text that is made once.

No patient is behind it. Tokens are estimated from words; the probe before a run says how many tokens a word is here.
"""

from random import Random

COMPLAINTS = ("chest pain on exertion", "a dry cough", "swollen ankles", "dizziness on standing", "a painful knee")
PROBLEMS = ("hypertension", "type 2 diabetes", "atrial fibrillation", "asthma", "chronic kidney disease", "gout")
DRUGS = ("lisinopril 10 mg daily", "metformin 500 mg twice daily", "apixaban 5 mg twice daily", "atorvastatin 20 mg")
QUESTIONS = (
    "Which medications does the patient take?",
    "Summarise the visit in one sentence.",
    "List the problems in this note.",
    "What was the blood pressure?",
)
_VISITS = 400


def visit(rng: Random) -> str:
    """One visit, about 50 words."""
    return (
        f"A {rng.randint(20, 89)}-year-old {rng.choice(('woman', 'man'))} has had {rng.choice(COMPLAINTS)} for "
        f"{rng.randint(2, 28)} days. History of {' and '.join(rng.sample(PROBLEMS, 2))}. Takes "
        f"{' and '.join(rng.sample(DRUGS, 2))}. No known allergies. Blood pressure {rng.randint(105, 175)}/"
        f"{rng.randint(60, 99)}, heart rate {rng.randint(52, 110)}, sodium {rng.randint(132, 146)}. Review in "
        f"{rng.randint(2, 12)} weeks."
    )


class Notes:
    """Text by length. tokens_per_word: of the model that will read it."""

    def __init__(self, seed: str, tokens_per_word: float) -> None:
        self.seed = seed
        self._seen: set[int] = set()
        rng = Random(f"notes/{seed}")
        self._words = " ".join(visit(rng) for _ in range(_VISITS)).split()
        self._tokens_per_word = tokens_per_word

    def text(self, tokens: float, rng: Random, *, nonce: bool = True) -> str:
        """About so many tokens. With a nonce at its head no prefix cache knows it."""
        count = max(1, round(tokens / self._tokens_per_word))
        head = [f"Visit {rng.getrandbits(32):08x}."] if nonce else []
        count -= 2 * len(head)
        begin = rng.randrange(len(self._words))
        words = self._words[begin : begin + count]
        while len(words) < count:
            words += self._words[: count - len(words)]
        return " ".join(head + words[: max(0, count)])

    def is_new(self, document: int) -> bool:
        """Whether this is the first question about a document; from then on it is not."""
        new = document not in self._seen
        self._seen.add(document)
        return new
