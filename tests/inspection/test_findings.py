"""Long lists in the text of a finding."""

from flaxseg.inspection.findings import abbreviate


def test_abbreviate_lists_at_most_ten():
    assert abbreviate(["a", "b"]) == "a, b"
    assert abbreviate([str(i) for i in range(13)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more"
