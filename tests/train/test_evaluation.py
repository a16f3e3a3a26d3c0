"""The progress bar of an evaluation."""

import io
import types

import pytest

from flaxseg.train import evaluation


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("has_scored", "first"), [(False, "evaluate, compiling:"), (True, "evaluate:")])
def test_the_bar_of_the_first_evaluation_says_that_its_functions_are_compiled(has_scored, first, monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(evaluation, "standard_error", lambda: shown)
    monkeypatch.setattr(evaluation, "_batch_logits", lambda *given: 2.0)
    monkeypatch.setattr(evaluation, "predictions", lambda *given: [])
    during = []

    class Score:
        def __call__(self, logits, labels):
            during.append(shown.getvalue())
            return logits * labels["label"]

    score = Score()
    score.has_scored = has_scored
    data = types.SimpleNamespace(eval_batches=[{"image": 0, "label": 1}, {"image": 0, "label": 3}], iterate=iter)
    run, compiled = types.SimpleNamespace(data=data), types.SimpleNamespace(score=score)
    scores = list(evaluation._score_batches(run, compiled, None, [], [], lambda: False))
    assert scores == [2.0, 6.0]
    assert during[0].startswith(f"\r{first}   0%")
    assert "compiling" not in shown.getvalue().removeprefix(during[0])
