"""Texts that a model of English alone does not know: told by their commonest words and letters."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

LOOKED_AT = 1000  # texts: the first ones of a corpus
BEGINNING = 1000  # characters of a text
FEW = 0.02  # of the texts that were looked at; of fewer nothing is said
WORDS = re.compile(r"[^\W\d_]+")
LATIN = 0x250  # letters from here on are of other scripts, or of phonetics

ENGLISH_WORDS = (
    "the of and to in is that for with on are by this from it be as at was which not a an or but "
    "if so no do does did i my me we us our you your he she they them can will would should has "
    "have had were been how what where when who why there here than then into over about its am"
)
# The commonest words of others; those that English has too tell nothing.
COMMON = {
    "German": "der die das und ist nicht mit von den des dem ein eine einer zu auf für im wie ich",
    "French": "le la les et des est une du pour dans que qui sur pas avec au par sont ce vous",
    "Spanish": "el los las del que una por con para es su al como más pero se lo y sus está",
    "Italian": "il di che è per una della con sono del gli nel alla le dei si non anche da ed",
    "Dutch": "het een van niet en dat voor met zijn aan er op te ook door bij naar worden maar om",
    "Portuguese": "o os das dos uma com não para que em ao na por mais como são foi pelo à é",
    "Polish": "się nie na jest że z do i w to jak dla od przez są oraz po ale czy jego",
}
ENGLISH = frozenset(ENGLISH_WORDS.split())
OTHERS = {name: frozenset(words.split()) - ENGLISH for name, words in COMMON.items()}


@dataclass(slots=True)
class Languages:
    """Looks at the first `most` texts of a corpus for those that are not English."""

    most: int = LOOKED_AT
    seen: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def look(self, _first: int, texts: list[str | None]) -> None:
        """Look at rows, as long as few were looked at."""
        for text in texts[: max(0, self.most - self.seen)]:
            self.seen += 1
            if text and (name := foreign(text)):
                self.found[name] += 1

    def note(self) -> str | None:
        """Return what to tell whoever embeds these with a model of English; None: nothing."""
        count = sum(self.found.values())
        if count < max(1, FEW * self.seen):
            return None
        names = [name for name, _ in self.found.most_common(3)]
        of = "texts" if self.seen < self.most else "first texts"
        return (
            f"{count:,} of the {self.seen:,} {of} look {' or '.join(names)}; the embedded model "
            "knows English, and its vectors of other languages mean little: "
            "`batchembed providers` lists other models"
        )


def foreign(text: str) -> str | None:
    """Return the language or script of a text that is not English; None: English, or no telling."""
    beginning = text[:BEGINNING]
    letters = [letter for letter in beginning if letter.isalpha()]
    if sum(ord(letter) >= LATIN for letter in letters) * 2 > len(letters):
        return "of another script"
    words = WORDS.findall(beginning.lower())
    english = sum(word in ENGLISH for word in words)
    name, most = max(
        ((name, sum(word in known for word in words)) for name, known in OTHERS.items()),
        key=lambda pair: pair[1],
    )
    return name if most > max(1, english) else None
