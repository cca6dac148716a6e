"""Scripts that complete words in a shell, asked as the shell asks them."""

import shutil
import subprocess
import sys

import pytest

from dss.cli import COMMANDS, main

NAMES = {command.__name__.rpartition(".")[2] for command in COMMANDS}


@pytest.fixture
def script(capsys):
    """The script for a shell."""
    pytest.importorskip("shtab")

    def printed(shell):
        with pytest.raises(SystemExit, match="0"):
            main(["--print-completion", shell])
        return capsys.readouterr().out

    return printed


def completed(script, folder, *words):
    """What bash offers for the last of some words."""
    (folder / "dss.bash").write_text(script)
    line = " ".join(words)
    ask = f"""
source {folder}/dss.bash
COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; COMP_LINE={line!r}; COMP_POINT={len(line)}
$(complete -p dss | sed 's/.*-F \\([^ ]*\\) .*/\\1/') dss {words[-1]!r} {words[-2]!r}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    found = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=folder, check=False)
    return set(found.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_choices_and_files(script, tmp_path):
    text = script("bash")
    (tmp_path / "weights.pt").touch()
    assert completed(text, tmp_path, "dss", "") >= NAMES
    assert completed(text, tmp_path, "dss", "con") == {"connect"}
    offered = completed(text, tmp_path, "dss", "connect", "--m")
    assert {"--max-seconds", "--max-rounds", "--margin"} <= offered and "--no-json" not in offered
    assert completed(text, tmp_path, "dss", "connect", "--finder", "g") == {"greedy", "geodesic"}
    assert "weights.pt" in completed(text, tmp_path, "dss", "connect", "wei")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_reads_its_script_and_knows_the_commands(script, tmp_path):
    (tmp_path / "_dss").write_text(script("zsh"))
    ask = (
        f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -D -u; autoload +X _dss && print -l $_comps[dss]; which _dss"
    )
    found = subprocess.run(["zsh", "-f", "-c", ask], capture_output=True, text=True, check=False)
    assert found.returncode == 0 and found.stdout.split()[0] == "_dss"
    assert all(name in found.stdout for name in NAMES), found.stderr


def test_without_shtab_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    assert "dynamic-string-sampling[completion]" in capsys.readouterr().err
