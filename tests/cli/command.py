"""``refrase-kimi`` as a user runs it: a process of its own."""

import os
import subprocess
import sys

COMMAND = (sys.executable, "-c", "from refrase_integrations.cli.app import main; main()")


def run(*arguments, stdin="", without=(), **variables):
    """Run the command outside a terminal; ``without`` names packages that are not installed."""
    hidden = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    command = [COMMAND[0], COMMAND[1], f"import sys; {hidden}{COMMAND[2]}"]
    environment = {**os.environ, "COLUMNS": "160", **variables}
    return subprocess.run(
        [*command, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=60, check=False,
        env=environment,
    )  # fmt: skip


def said(result, status=0):
    """Return what a command printed; it ended as it should, without a traceback."""
    assert result.returncode == status, result.stdout[-2000:] + result.stderr[-2000:]
    assert "Traceback" not in result.stderr
    return result.stdout


def failed(result):
    """Return the one line in which a command says what the user did wrong."""
    assert said(result, status=2) == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr
