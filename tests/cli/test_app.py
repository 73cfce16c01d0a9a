"""What all commands have in common: help, completion, quick start, errors in a line."""

import re
import subprocess
import sys

import pytest

from refrase_integrations.cli.app import create_cli
from tests.cli.command import COMMAND, failed, run, said

COMMANDS = [command.name or command.callback.__name__ for command in create_cli().registered_commands]


def test_help_names_every_command():
    printed = said(run("--help"))
    assert all(re.search(rf"\b{name}\b", printed) for name in COMMANDS)
    assert "--install-completion" in printed


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("demo", "simulate")])
def test_help_of_a_command_has_examples(name):
    printed = said(run(name, "--help"))
    assert "Examples:" in printed
    assert f"refrase-kimi {name}" in printed


def test_help_starts_without_what_only_commands_need():
    script = f"import sys; sys.argv = ['refrase-kimi', '--help']\ntry:\n    {COMMAND[2]}\nexcept SystemExit: pass\n"
    script += "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    heavy = {"openai", "httpx", "pydantic", "langchain_core", "llama_index", "starlette", "tiktoken", "jsonschema"}
    assert not loaded & heavy


def test_shell_completion():
    printed = said(run("--show-completion", "bash"))
    assert "complete" in printed


def test_an_unknown_command_is_no_traceback():
    result = run("practice")
    assert result.returncode == 2
    assert "practices" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_its_extra_it_says_what_to_install():
    assert "refrase-integrations[cli]" in failed(run("models", without=["typer"]))
