"""The examples run, and learn."""

import runpy


def test_custom_loop_learns(capsys):
    main = runpy.run_path("examples/custom_loop.py")["main"]
    untrained, trained = main(steps=1), main(steps=40)
    assert trained > untrained + 0.05
    assert "after 40 steps: {'loss':" in capsys.readouterr().out
