"""Completion of the ``nmfnet`` command in a shell, out of its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator


def words_after(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """For every command, ``""`` first: what may follow it, each with its help."""
    following: list[tuple[str, str]] = []
    deeper: list[tuple[str, argparse.ArgumentParser]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            following += [(name, helps.get(name, "")) for name in action.choices]
            deeper += list(action.choices.items())
        else:
            names = action.option_strings or [str(one) for one in action.choices or ()]
            told = action.help if action.option_strings else ""
            following += [(name, told or "") for name in names]
    yield "", following
    for name, inner in deeper:
        for path, words in words_after(inner):
            yield f"{name} {path}".strip(), words


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The lines that a shell evaluates: after each command its words, and files everywhere."""
    table = list(words_after(parser))
    if shell == "fish":
        return "\n".join(_fish(parser.prog, table))
    cases = [
        f'    "{path}") words="{" ".join(word for word, _ in after)}" ;;' for path, after in table
    ]
    known = "|".join(f'"{path}"' for path, _ in table if path)
    start = ["autoload -U +X bashcompinit && bashcompinit"] if shell == "zsh" else []
    return "\n".join(
        [
            *start,
            f"_{parser.prog}() {{",
            '  local path="" next="" words="" i word="${COMP_WORDS[COMP_CWORD]}"',
            "  for ((i = 1; i < COMP_CWORD; i++)); do",
            '    next="${path:+$path }${COMP_WORDS[i]}"',
            f'    case "$next" in {known}) path="$next" ;; esac',
            "  done",
            '  case "$path" in',
            *cases,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "}",
            f"complete -o default -F _{parser.prog} {parser.prog}",
        ]
    )


def _fish(prog: str, table: list[tuple[str, list[tuple[str, str]]]]) -> Iterator[str]:
    for path, after in table:
        commands = path.split()
        names = [word for word, _ in after if not word.startswith("-")]
        seen = [f"__fish_seen_subcommand_from {name}" for name in commands]
        if not commands:
            seen = ["__fish_use_subcommand"]
        elif names:
            seen.append(f"not __fish_seen_subcommand_from {' '.join(names)}")
        for word, told in after:
            kind = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            if word.startswith("-") and not word.startswith("--"):
                kind = f"-s {word[1:]}"
            quoted = told.replace("\\", "\\\\").replace("'", "\\'")
            yield f"complete -c {prog} -n '{'; and '.join(seen)}' {kind} -d '{quoted}'"
