"""The answers of a run that has ended: the chips that count, in few bytes each."""

import tracemalloc

from chip_classifier.answers import NO_CLASS, AnsweredBatch, Answers
from chip_classifier.review.final_chips import final_chips


def test_chips_that_count_have_their_answers() -> None:
    answers = Answers()
    answers.names.extend(f"chips/{name}.png" for name in ("a", "b", "a", "link", "lost"))
    classes = [1, NO_CLASS, 2, NO_CLASS, NO_CLASS]
    answers.add(AnsweredBatch(0, classes, [0.1, 0, 0.3, 0, 0], {1: "bad"}))
    answers.links = {3: "chips/a.png", 4: "chips/nothing.png"}
    chips = final_chips(answers)
    assert chips.numbers.tolist() == [1, 2, 3, 4]
    assert [chips.name(row) for row in range(4)] == ["b", "a", "link", "lost"]
    assert chips.answering.tolist() == [1, 2, 2, -1]
    assert chips.classes.tolist() == [NO_CLASS, 2, 2, NO_CLASS]
    assert chips.certainties.tolist() == [0, 0.3, 0.3, 0]


def test_names_of_many_chips_are_not_listed() -> None:
    """Else ten million of them would take a gigabyte at the end of a run."""
    count, answers = 50_000, Answers()
    answers.names.extend(f"chips/{number:040}.png" for number in range(count))
    answers.add(AnsweredBatch(0, [0] * count, [0.5] * count))
    answers.chip_names()
    tracemalloc.start()
    chips = final_chips(answers)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / count < 40  # 28 of them in the arrays, which grow by an eighth at a time
    assert chips.name(count - 1) == f"{count - 1:040}"
