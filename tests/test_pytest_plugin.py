"""The pytest fixture as a user's project meets it: in a pytest run of its own, found by its entry point."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = "refrase_integrations.pytest_plugin"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A place that says what installing this checkout says of its entry points."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]["pytest11"]
    place = tmp_path / "installed"
    info = place / "refrase_integrations_checkout-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: refrase-integrations-checkout\nVersion: 0\n")
    points = "".join(f"{name} = {value}\n" for name, value in declared.items())
    (info / "entry_points.txt").write_text(f"[pytest11]\n{points}")
    return place


def run(
    project: Path, installed: Path, test: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a user's test file in a project without settings of its own."""
    project.mkdir(exist_ok=True)
    (project / "test_it.py").write_text(textwrap.dedent(test))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MOONSHOT", "PYTEST"))}
    path = os.pathsep.join([str(ROOT), str(installed)])
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "-rs", *arguments]
    return subprocess.run(
        command,
        cwd=project,
        env={**clean, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_agent_without_settings_reaches_it(tmp_path: Path, installed: Path) -> None:
    done = run(
        tmp_path / "project",
        installed,
        """
        import httpx, os, pytest

        pytestmark = pytest.mark.kimi_simulator(faults="overloaded=1", seed=1)

        def ask():
            url, key = os.environ["MOONSHOT_BASE_URL"], os.environ["MOONSHOT_API_KEY"]
            body = {"model": "kimi-k2.6", "messages": [{"role": "user", "content": "Hi"}]}
            return httpx.post(url + "/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})

        def test_faults_of_the_module(kimi_simulator):
            assert ask().status_code == 429
            assert [request.faults for request in kimi_simulator.requests] == [("overloaded",)]

        @pytest.mark.kimi_simulator("moonshot-cn", faults="none", script=["Hello."], api_key="k1")
        def test_the_nearest_marker_wins(kimi_simulator):
            assert kimi_simulator.host.persona.id == "moonshot-cn"
            assert ask().json()["choices"][0]["message"]["content"] == "Hello."
            assert len(kimi_simulator.requests) == 1

        @pytest.mark.kimi_simulator(persona="vllm")
        def test_other_hosts_have_no_such_variables(kimi_simulator):
            assert "MOONSHOT_BASE_URL" not in os.environ
            assert httpx.get(kimi_simulator.base_url + "/models").status_code == 200
        """,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_its_marker_is_listed_and_wrong_arguments_are_said(tmp_path: Path, installed: Path) -> None:
    test = """
        import pytest

        @pytest.mark.kimi_simulator(faults="caos")
        def test_it(kimi_simulator):
            pass
        """
    done = run(tmp_path / "project", installed, test)
    assert "did you mean chaos?" in done.stdout
    assert "1 error" in done.stdout
    listed = run(tmp_path / "project", installed, test, "--markers").stdout
    assert "@pytest.mark.kimi_simulator(persona='moonshot', **options)" in listed
    assert "A running `KimiSimulator`" in run(tmp_path / "project", installed, test, "--fixtures").stdout


def test_where_the_extra_is_not_installed_a_test_is_skipped_and_all_others_run(tmp_path: Path, installed: Path) -> None:
    done = run(
        tmp_path / "project",
        installed,
        """
        import sys
        sys.modules["uvicorn"] = None  # as where it is not installed

        def test_it(kimi_simulator):
            raise AssertionError("it ran")

        def test_another():
            pass
        """,
    )
    assert "1 passed, 1 skipped" in done.stdout, done.stdout
    assert "pip install 'refrase-integrations[simulator]'" in done.stdout


def test_a_run_that_does_not_use_it_loads_nothing(tmp_path: Path, installed: Path) -> None:
    done = run(
        tmp_path / "project",
        installed,
        """
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.startswith("refrase_integrations")}
            assert ours == {"refrase_integrations", "refrase_integrations.pytest_plugin"}
            assert not {"pydantic", "uvicorn", "starlette", "openai", "asyncio.runners"} & set(sys.modules)
        """,
        "-p",
        PLUGIN,
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",  # other packages' plugins load much
    )
    assert "1 passed" in done.stdout, done.stdout


def test_the_readmes_test_runs(tmp_path: Path, installed: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    (snippet,) = [part for part in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "def test_" in part]
    done = run(tmp_path / "project", installed, snippet)
    assert "1 passed" in done.stdout, done.stdout
