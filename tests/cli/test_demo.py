"""``refrase-kimi demo`` as a user runs it, with both frameworks, with one, and with none."""

import os
import subprocess
import sys

import pytest

RUN = "from refrase_integrations.cli.app import main; main()"


def run(without=()):
    """Run the demo on the simulator, in a terminal of 200 columns, where some packages are not installed."""
    hidden = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    environment = {**os.environ, "COLUMNS": "200", "MOONSHOT_API_KEY": "sk-never-used"}
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {hidden}sys.argv = ['refrase-kimi', 'demo', '--simulate']; {RUN}"],
        capture_output=True, text=True, timeout=120, check=False, env=environment,
    )  # fmt: skip


def test_both_parts_do_the_same_task():
    done = run()
    assert done.returncode == 0, done.stderr[-2000:]
    for part in ("LangGraph agent", "LlamaIndex FunctionAgent"):
        assert sum(part in line for line in done.stdout.splitlines()) == 2, "an instruct and a thinking model"
    answers = [line for line in done.stdout.splitlines() if line.startswith(("days_between: ", "calculate: "))]
    assert answers == ["days_between: 500", "calculate: 258.0"] * 4
    assert done.stdout.count("Practices applied") == 4
    assert done.stdout.count("temperature None -> 0.6") == 2
    assert done.stdout.count("\nthinking  The user asks") == 6, "the thinking model thinks before each call"
    assert "Left out" not in done.stdout
    assert "sk-never-used" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("package", "extra", "kept"),
    [("langchain", "langgraph", "LlamaIndex FunctionAgent"), ("llama_index", "llamaindex", "LangGraph agent")],
)
def test_a_framework_that_is_not_there_is_left_out_in_one_line(package, extra, kept):
    done = run(without=[package])
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Left out: the {extra} part. To see it: pip install 'refrase-integrations[{extra}]'\n" in done.stdout
    assert done.stdout.count("Practices applied") == 2
    assert kept in done.stdout


def test_without_any_framework_the_extras_are_named():
    done = run(without=["langchain", "llama_index"])
    assert done.returncode == 2
    assert done.stderr == "Error: the demo needs an optional part: pip install 'refrase-integrations[langgraph,llamaindex]'\n"  # fmt: skip
