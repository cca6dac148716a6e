"""Options files: the options of a command as TOML, written beside what the command makes, and read back with `--config`.

    command = "connect"         # optional: of which command the options are
    start = "a.pt"              # arguments go by name
    threshold = "1.1x"
    max-seconds = 60            # options by their long names
    shorten = true              # flags as true or false; --no-shorten on the command line turns it off again

What is typed goes before what the file says; arguments that are typed replace all arguments of the file.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from dss.base.errors import InputError
from dss.base.quoting import shown
from dss.cli.common import OF_EVERY_COMMAND
from dss.runs.layout import OPTIONS

# What says how a command is to run this time, not what it is to do.
UNRECORDED = (*OF_EVERY_COMMAND, "help", "resume", "overwrite")
LISTS = ("+", "*")


def file_named(words: Sequence[str]) -> str | None:
    """The options file that a command line names."""
    alone = argparse.ArgumentParser(add_help=False, prog="dss")
    alone.add_argument("--config")
    return alone.parse_known_args(words)[0].config


def completed(words: Sequence[str], parser: argparse.ArgumentParser, scratch: argparse.ArgumentParser, file: str) -> list[str]:
    """The words of a command line with the arguments of an options file, whose options become the parser's defaults.

    Args:
        words: after the command's name.
        parser: the command's; it is changed.
        scratch: another one of the same command, to be spoiled.

    Raises:
        InputError: the file cannot be read, or says what the command does not take.
    """
    where = Path(file) / OPTIONS if Path(file).is_dir() else Path(file)
    command = parser.prog.split()[-1]
    found = _values(_read(where), parser, where, command)
    typed, some_arguments = _typed(words, scratch)
    _check_groups(parser, found, where)
    _give_way(parser, found, typed)
    arguments: list[str] = []
    for action in parser._actions:
        if action.dest not in found:
            continue
        if action.option_strings:
            action.default, action.required = found[action.dest], False
        elif not some_arguments:
            value = found[action.dest]
            arguments += [str(each) for each in (value if isinstance(value, list) else [value])]
    # First of all, so that no option before them takes them for its own.
    return [*arguments, *words]


def as_toml(options: argparse.Namespace) -> str:
    """The options of a command as a file that `--config` reads; a name that TOML cannot hold is left out, and said so."""
    lines = [f'command = "{options.parser.prog.split()[-1]}"']
    for action in options.parser._actions:
        value = getattr(options, action.dest, None)
        if action.dest in UNRECORDED or action.help == argparse.SUPPRESS or is_left_out(value):
            continue
        name = _names(action)[0]
        try:
            lines.append(f"{name} = {_toml(value)}")
        except UnicodeEncodeError:
            lines.append(f"# {name} has a value that is not UTF-8")
    return "\n".join(lines) + "\n"


def is_left_out(value: Any) -> bool:
    """Whether an option has no value, or is a flag that is off."""
    return value is None or value is False or value == []


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, (int, float)):
        return repr(value)
    text = str(value)
    text.encode()
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no options file {file}; name a TOML file, or a folder with {OPTIONS}") from error
    except (OSError, ValueError) as error:  # TOML's errors and those of UTF-8 are ValueErrors
        raise InputError(f"{file} is no options file: {shown(error, 200)}; TOML with lines such as seed = 0 is needed") from error


def _names(action: argparse.Action) -> list[str]:
    """What an options file may call it, as it is written first."""
    long = [flag[2:] for flag in action.option_strings if flag.startswith("--")]
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return long or [action.dest.replace("_", "-"), metavar.lower()]


def _values(found: Mapping[str, Any], parser: argparse.ArgumentParser, where: Path, command: str) -> dict[str, Any]:
    """What the file says by the names of options in the program."""
    if (meant := found.get("command", command)) != command:
        raise InputError(f"{where} holds options of dss {shown(meant)}, not of dss {command}")
    hidden = ("config", "help")
    actions = [action for action in parser._actions if action.dest not in hidden and action.help != argparse.SUPPRESS]
    known = {name: action for action in actions for name in _names(action)}
    values: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("_", "-")
        if key == "command":
            continue
        if name not in known:
            raise InputError(f"{where}: dss {command} has no option {shown(key)}{_meant(name, known)}")
        if known[name].dest in values:
            raise InputError(f"{where} says {shown(key)} twice, once by another name; leave one of them out")
        values[known[name].dest] = _converted(known[name], value, f"{where}: {shown(key)}")
    return values


def _meant(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"; did you mean {close[0]}?"
        if close
        else f"; dss ... --help lists what there is: {', '.join(sorted(filter(None, known)))}"
    )


def _converted(action: argparse.Action, value: Any, where: str) -> Any:
    """A value of the file as the command line would have it."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise InputError(f"{where} must be true or false, got {_said(value)}")
        return value
    if action.nargs in LISTS or isinstance(action, argparse._AppendAction):
        if not isinstance(value, list) or (action.nargs == "+" and not value):
            raise InputError(f'{where} must be a list, such as ["one", "two"], got {_said(value)}')
        return [_scalar(action, each, where) for each in value]
    return _scalar(action, value, where)


def _scalar(action: argparse.Action, value: Any, where: str) -> Any:
    kind: Any = action.type or str
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int and not (number and isinstance(value, int)):
        raise InputError(f"{where} must be a whole number, got {_said(value)}")
    if kind is float and not number:
        raise InputError(f"{where} must be a number, got {_said(value)}")
    if kind not in (int, float) and not isinstance(value, str) and (not number or kind in (str, Path)):
        raise InputError(f"{where} must be text, got {_said(value)}")
    try:
        made = kind(value if kind in (int, float) else str(value))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise InputError(f"{where}: {error}") from error
    if action.choices is not None and made not in action.choices:
        raise InputError(f"{where} must be one of {', '.join(map(str, action.choices))}, got {_said(value)}")
    return made


def _said(value: Any) -> str:
    return shown(repr(value))


def _typed(words: Sequence[str], scratch: argparse.ArgumentParser) -> tuple[set[str], bool]:
    """The options that a command line gives, and whether it has arguments."""
    for action in list(scratch._actions):
        action.default, action.required = argparse.SUPPRESS, False
        if not action.option_strings:
            scratch._actions.remove(action)
    for group in scratch._mutually_exclusive_groups:
        group.required = False
    scratch._defaults.clear()
    given, rest = scratch.parse_known_args(list(words))
    # With an option that is not known, nobody can tell what its value is: the parser is to name it.
    return set(vars(given)), bool(rest) and not any(word.startswith("-") for word in rest)


def _check_groups(parser: argparse.ArgumentParser, found: Mapping[str, Any], where: Path) -> None:
    """Options that exclude each other must not both be in the file."""
    for group in parser._mutually_exclusive_groups:
        both = [_names(action)[0] for action in group._group_actions if found.get(action.dest) not in (None, False)]
        if len(both) > 1:
            raise InputError(f"{where} gives {' and '.join(both)}, which exclude each other; leave one of them out")


def _give_way(parser: argparse.ArgumentParser, found: dict[str, Any], typed: set[str]) -> None:
    """What excludes a typed option is dropped: what is typed goes first."""
    for group in parser._mutually_exclusive_groups:
        members = {action.dest for action in group._group_actions}
        for dest in members - typed if members & typed else ():
            found.pop(dest, None)
