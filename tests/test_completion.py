"""The shells' lines complete the commands of the parser."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from nmfnet.commands import make_parser
from nmfnet.settings.completion import script, words_after


def completed(shell: str, *typed: str) -> list[str]:
    """What bash offers for the last word."""
    words = " ".join(f"'{word}'" for word in ("nmfnet", *typed))
    lines = (
        f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _nmfnet; printf '%s\\n' ${{COMPREPLY[@]}}"
    )
    code = f"{script(make_parser(), shell)}\n{lines}"
    return subprocess.run(
        ["bash", "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()


def test_bash_completes_commands_their_actions_and_options() -> None:
    assert completed("bash", "da") == ["data", "dashboard"]
    assert completed("bash", "data", "") == ["-h", "--help", "list", "info", "get"]
    assert completed("bash", "export", "runs/nmf/1", "--t") == ["--to", "--trust"]
    assert completed("bash", "export", "folder", "--t") == ["--to", "--trust"]
    assert completed("bash", "completion", "z") == ["zsh"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_commands_and_their_actions() -> None:
    for typed, offered in (("nmfnet da", ["dashboard", "data"]), ("nmfnet data g", ["get"])):
        code = f"{script(make_parser(), 'fish')}\ncomplete -C '{typed}'"
        lines = subprocess.run(["fish", "-c", code], check=True, capture_output=True, text=True)
        assert [line.split("\t")[0] for line in lines.stdout.splitlines()] == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_word_of_the_parser_is_in_the_lines(shell: str) -> None:
    text = script(make_parser(), shell)
    words = {word for _, after in words_after(make_parser()) for word, _ in after}
    assert {"data", "list", "sweep", "resume", "--to", "fish"} <= words
    assert all(word.lstrip("-") in text for word in words)
    if found := shutil.which(shell):
        subprocess.run([found, "-n", "-c", text], check=True)
