"""Options files: what a folder records repeats its command, what is typed goes first, and what is wrong is told in one sentence."""

import pytest
from safetensors.torch import load_file
from test_cli import connect

from dss.cli import COMMANDS, main, read
from dss.cli.config import as_toml

QUESTION = ["task", "threshold", "seed", "lr", "max_rounds", "finder", "grid", "shorten"]


def given(tmp_path, text, *words, command="connect"):
    """The options of a command with an options file."""
    file = tmp_path / "run.toml"
    file.write_text(text)
    return read([command, *words, "--config", str(file)])


def test_a_run_folder_repeats_itself(tiny, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(connect(tiny, first, "--seed", "5", "--prove", "never", threshold="9x")) in (0, 1)
    assert main(["connect", "--config", str(first), "--out", str(second)]) in (0, 1)
    assert (first / "path.safetensors").read_bytes() == (second / "path.safetensors").read_bytes()
    assert load_file(first / "path.safetensors").keys() == load_file(second / "path.safetensors").keys()
    records = [(folder / "options.toml").read_text() for folder in (first, second)]
    assert records[0].replace(str(first), str(second)) == records[1]
    # In place it is told from a resumed run as ever.
    assert main(["connect", "--config", str(first)]) == 2
    assert main(["connect", "--config", str(first / "options.toml"), "--resume"]) in (0, 1)


@pytest.mark.parametrize("name", ["shorten", "tree", "compare"])
def test_other_folders_record_their_command_too(name, tiny, tmp_path):
    ends, task = [f"{tiny}/a.pt", f"{tiny}/b.safetensors"], ["--task", f"{tiny}/task.py:task"]
    if name == "shorten":
        assert main(connect(tiny, tmp_path / "run", "--prove", "never")) == 0
        words = [str(tmp_path / "run"), "--prove", "never"]
    elif name == "tree":
        words = [*ends, *task, "--no-pages", "--prove", "never", "--finder", "straight"]
    else:
        words = [*ends, *task, "--threshold", "9x", "--finders", "straight", "--allow", "one.Thing", "--allow", "other.Thing"]
    assert main([name, *words, "--out", str(tmp_path / "out")]) in (0, 1)
    typed, recorded = read([name, *words, "--out", str(tmp_path / "out")]), read([name, "--config", str(tmp_path / "out")])
    assert as_toml(typed) == as_toml(recorded) and vars(typed).keys() == vars(recorded).keys()


@pytest.mark.parametrize("command", [command.__name__.rpartition(".")[2] for command in COMMANDS])
def test_every_command_takes_an_options_file(command, tmp_path):
    text = "".join(
        f'{key} = ["x", "x"]\n' if key in ("points",) else f'{key} = "9"\n'
        for key in {
            "align": ("start", "end", "task", "out"), "barrier": ("start", "end", "task"), "certify": ("run_or_path",),
            "check": ("points", "task"), "compare": ("start", "end", "task", "threshold", "out"),
            "connect": ("start", "end", "task", "threshold", "out"), "demo": (), "export": ("folder", "out"),
            "figure": ("folder", "out"), "plane": ("a", "b", "c", "task", "out"), "shorten": ("folder",), "show": ("folder",),
            "tasks": (), "train": ("task", "out"), "tree": ("points", "task", "out"),
        }[command]
    )  # fmt: skip
    text += {"export": "bead = 1\n", "figure": 'which = "loss"\n'}.get(command, "")
    options = given(tmp_path, text + "quiet = true\n", command=command)
    assert options.quiet and options.run.__module__ == f"dss.cli.{command}"
    again = given(tmp_path, as_toml(options), command=command)
    assert as_toml(again) == as_toml(options)


FULL = 'a = "x.pt"\nb = "y.pt"\ntask = "digits"\nthreshold = 0.4\nout = "runs/x"\n'


def test_what_is_typed_goes_before_the_file(tmp_path):
    text = FULL + 'seed = 7\nmax_seconds = 5\nshorten = true\nalign = "weights"\nonly = "head.*"\nresume = true\n'
    plain = given(tmp_path, text)
    assert (str(plain.start), plain.seed, plain.max_seconds, plain.shorten, plain.resume) == ("x.pt", 7, 5.0, True, True)
    typed = given(tmp_path, text, "p.pt", "q.pt", "--seed", "0", "--no-shorten", "--max-seconds=9", "--overwrite")
    assert (str(typed.start), str(typed.end), typed.seed, typed.shorten, typed.max_seconds) == ("p.pt", "q.pt", 0, False, 9.0)
    # --overwrite excludes --resume, and is what was typed.
    assert typed.overwrite and not typed.resume and typed.only == "head.*"


def test_options_go_by_their_other_names_and_arguments_by_the_names_in_help(tmp_path):
    assert given(tmp_path, FULL + "points = 12\n").grid == 12
    assert given(tmp_path, FULL.replace("a =", "start =") + "grid = 12\n").grid == 12
    assert given(tmp_path, 'run = "runs/x"\ntolerance = 1e-2\n', command="certify").tolerance == 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tresh = 1\n", "has no option tresh; did you mean threshold"),
        ("config = 'x'\n", "has no option config"),
        ("seed = 'one'\n", "seed must be a whole number, got 'one'"),
        ("seed = 1.5\n", "seed must be a whole number, got 1.5"),
        ("seed = true\n", "seed must be a whole number, got True"),
        ("max-seconds = 'x'\n", "max-seconds must be a number"),
        ("shorten = 1\n", "shorten must be true or false, got 1"),
        ("only = 3\n", "only must be text, got 3"),
        ("allow = 'one.Thing'\n", "allow must be a list"),
        ("finder = 'gredy'\n", "finder must be one of fastest, bend, greedy"),
        ("task = ['a']\n", "task must be text"),
        ("[connect]\nseed = 1\n", "has no option connect"),
        ("threshold = 'low'\n", "1.1x, is needed, got 'low'"),
        ("resume = true\noverwrite = true\n", "resume and overwrite, which exclude each other"),
        ("grid = 4\npoints = 4\n", "twice"),
        ("max-seconds = 1\nmax_seconds = 1\n", "twice"),
        ("command = 'tree'\n", "options of dss tree, not of dss connect"),
        ("seed = \n", "is no options file"),
        ("seed = 1\nseed = 2\n", "is no options file"),
        ("\xff", "is no options file"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(text, message, tmp_path, capsys):
    (tmp_path / "run.toml").write_bytes(text.encode("latin-1"))
    assert main(["connect", "--config", str(tmp_path / "run.toml"), "a.pt", "b.pt"]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1 and "run.toml" in said


def test_a_file_that_is_not_there_and_a_folder_without_one_are_named(tmp_path, capsys):
    for place in (tmp_path / "none.toml", tmp_path):
        assert main(["connect", "--config", str(place)]) == 2
        assert "there is no options file" in capsys.readouterr().err


def test_values_of_any_letters_come_back(tmp_path):
    odd = 'tab\t "quoted" back\\slash \x7f é 🎈 line\nend'
    options = read(["connect", "x.pt", "y.pt", "--task", odd, "--threshold", "1.1x", "--out", "o", "--max-seconds", "inf"])
    again = given(tmp_path, as_toml(options))
    assert again.task == odd and again.max_seconds == float("inf") and str(again.threshold) == "1.1x"
    lost = as_toml(read(["connect", "\udcff.pt", "y.pt", "--task", "t", "--threshold", "1", "--out", "o"]))
    assert "# start has a value that is not UTF-8" in lost and '"y.pt"' in lost


def test_an_unknown_option_beside_a_file_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        given(tmp_path, FULL, "--tresh", "1")
    assert "unrecognized arguments: --tresh" in capsys.readouterr().err
