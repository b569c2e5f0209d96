"""Class names as people have them: typed, printed by Python, numpy and pandas, or in JSON."""

import json

import pytest

from chip_classifier.class_names import parse_classes, write_classes
from chip_classifier.errors import TaskError

AS_PEOPLE_HAVE_THEM = {
    "a": ("a",),
    "No Buildings, Buildings": ("No Buildings", "Buildings"),
    " é , 'b' ": ("é", "'b'"),
    "'A', 'B'": ("A", "B"),
    "A\nB": ("A", "B"),
    "['A', 'B']": ("A", "B"),
    "('A (x)', 'B')": ("A (x)", "B"),
    "[A, B]": ("A", "B"),
    "[1, 2.5]": ("1", "2.5"),
    "[\"it's\", 'B']": ("it's", "B"),
    "['A' 'B']": ("A", "B"),
    "array(['A', 'B'], dtype='<U1')": ("A", "B"),
    "Index(['A', 'B'], dtype='object')": ("A", "B"),
    "dict_keys(['A', 'B'])": ("A", "B"),
    "{'Water': 2, 'Forest': 0, 'Road': 1}": ("Forest", "Road", "Water"),
    "{1: 'B', 0: 'A'}": ("A", "B"),
    '{"1": "B", "0": "A"}': ("A", "B"),
    "{'1': 0, '0': 1}": ("1", "0"),
    "{'7': 1, '5': 0}": ("5", "7"),
    "OrderedDict([('B', 1), ('A', 0)])": ("A", "B"),
    '["Developed, Low", "Water"]': ("Developed, Low", "Water"),
    '"Developed, Low", Water': ("Developed, Low", "Water"),
    "'Developed, Low', 'Water'": ("Developed, Low", "Water"),
    '"a ""x"", b", c': ('a "x", b', "c"),
    '7" pipe, "A" zone': ('7" pipe', '"A" zone'),
    "(A), (B)": ("(A)", "(B)"),
    "[a], [b]": ("[a]", "[b]"),
    "Water (deep), Land": ("Water (deep)", "Land"),
    "Water: 2, Forest: 0, Road: 1": ("Forest", "Road", "Water"),
    "'B': 1, 'A': 0": ("A", "B"),
    "0: A\n1: B": ("A", "B"),
    "B=1,A=0": ("A", "B"),
    "zone: 1, zone: 2": ("zone: 1", "zone: 2"),
    "zone: 1, zone: 0": ("zone: 1", "zone: 0"),
    "type: a, type: b": ("type: a", "type: b"),
    "\ufeffA, B": ("A", "B"),
}


@pytest.mark.parametrize("text", AS_PEOPLE_HAVE_THEM)
def test_names_are_taken_in_the_order_of_the_outputs(text: str) -> None:
    names = AS_PEOPLE_HAVE_THEM[text]
    assert parse_classes(text) == names
    assert parse_classes(write_classes(names)) == names
    assert parse_classes(json.dumps(names)) == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (",", "empty name"),
        ("a,", "empty name"),
        (",a", "empty name"),
        ("a, ,b", "empty name"),
        ("[]", "empty name"),
        ("['A', '']", "empty name"),
        ("A, B, A", "'A' twice"),
        ("A, \ud800", "not Unicode"),
        ("{'A': 1, 'B': 2}", "an index of 0 to 1"),
        ("{'A': 0, 'B': 0}", "an index of 0 to 1"),
        ("{'A': 0.0, 'B': 1.0}", "an index of 0 to 1"),
        ("{'A': True, 'B': False}", "an index of 0 to 1"),
        ('{"1": "2", "0": "1", "2": "0"}', "an index of 0 to 2"),
        ("{'A', 'B'}", "no list or dict that can be read"),
        ("{A: 0, B: 1}", "no list or dict that can be read"),
        ("['A', 'B'", "no list or dict that can be read"),
        ("['A' 'B' ... 'Y' 'Z']", "no list or dict that can be read"),
        ("['A', ..., 'Z']", "more than names"),
        ("[['A'], ['B']]", "more than names"),
        ("[None, 'A']", "more than names"),
        ('"A, B', "not closed"),
    ],
)
def test_what_may_mean_something_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        parse_classes(text)
