"""The messages that a user reads: one line, printable, not too long, with a suggestion."""

from __future__ import annotations

from workbench.errors import (
    MAX_LENGTH,
    WorkbenchError,
    WorkbenchWarning,
    missing_extra,
    unknown_name,
)


def test_a_message_is_one_printable_line_of_limited_length():
    assert str(WorkbenchError("a\nb\x1b[2J\udcff")) == r"a\nb\x1b[2J\udcff"
    long = str(WorkbenchError("begin " + "x" * 5000 + " end"))
    assert len(long) == MAX_LENGTH
    assert long.startswith("begin ")
    assert long.endswith(" end")
    assert str(WorkbenchWarning("a\nb")) == r"a\nb"


def test_an_unknown_name_suggests_the_nearest_one():
    message = str(unknown_name("loss", "ArcFase", ["cosface", "arcface"]))
    assert message == "unknown loss 'ArcFase': did you mean 'arcface'? known: arcface, cosface"
    assert str(unknown_name("loss", "x", [])) == "unknown loss 'x': known: none"


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    message = str(missing_extra("onnx", "onnx", "reading an ONNX file"))
    assert message == "reading an ONNX file needs onnx: pip install 'margin-workbench[onnx]'"
