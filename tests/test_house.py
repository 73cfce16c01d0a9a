"""The floors of the house: who may import whom, and what an import may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "refrase_integrations"
NAME = "refrase_integrations"
MODULE, TEST = "refrase_integrations/kimi/practices/{}.py", "tests/kimi/practices/test_{}.py"
FRAMEWORKS = ("langchain", "langgraph", "llama_index")
HTTP = ("openai", "httpx", "httpx2", "requests", "aiohttp", "urllib.request", "http.client")
SERVERS = ("starlette", "uvicorn", "fastapi")
TERMINAL = ("typer", "rich")

UI = (*SERVERS, *TERMINAL)


def _floors(*names: str) -> tuple[str, ...]:
    return tuple(f"{NAME}.{name}" for name in names)


FORBIDDEN: dict[str, tuple[str, ...]] = {
    "errors.py": (*_floors("kimi", "client", "langchain"), *FRAMEWORKS, *HTTP, *UI),
    "__init__.py": (*FRAMEWORKS, *HTTP, *UI),
    "kimi": (
        *_floors("client", "langchain", "llamaindex", "batch", "simulator", "cli"),
        *(*FRAMEWORKS, *HTTP, *UI),
        *("random", "secrets", "time", "uuid", "socket", "asyncio"),
    ),
    "client": (*_floors("langchain", "llamaindex", "batch", "simulator", "cli"), *FRAMEWORKS, "httpx", "httpx2", *UI),
    "batch": (
        *_floors("langchain", "llamaindex", "simulator", "cli"),
        *FRAMEWORKS,
        "httpx",
        "httpx2",
        *SERVERS,
        "typer",
    ),
    "doctor": (*_floors("langchain", "llamaindex", "batch", "simulator", "cli"), *FRAMEWORKS, "httpx", "httpx2", *UI),
    "langchain": (*_floors("llamaindex", "simulator", "cli"), "llama_index", *UI),
    "llamaindex": (*_floors("langchain", "simulator", "cli"), "langchain", "langgraph", *UI),
    "simulator": (
        *_floors("client", "langchain", "llamaindex", "batch", "cli"),
        *_floors(*(f"kimi.{room}" for room in ("practices", "schema", "tokenformat", "prepare", "stream", "turn"))),
        *_floors(
            *(f"kimi.{room}" for room in ("dialect", "tokens", "usage", "messages", "practice", "settings", "wire"))
        ),
        *(*FRAMEWORKS, *HTTP, *TERMINAL),
    ),
}
"""Per floor: modules that no file of it may import, at the top or inside a function (types aside)."""


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything that runs as an import; what stands under TYPE_CHECKING does not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        else:
            yield from _imports(node)


def wrong_arrows(package: Path) -> list[str]:
    wrong = []
    for floor, forbidden in FORBIDDEN.items():
        place = package / floor
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            for line, name in _imports(ast.parse(file.read_text("utf-8"))):
                if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden):
                    wrong.append(f"{file.relative_to(package)}:{line} imports {name}")
    return wrong


def test_imports_point_down() -> None:
    assert wrong_arrows(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("kimi/x.py", "import openai"),
        ("kimi/x.py", "def f():\n    from langchain_core import messages\n    import langchain.agents"),
        ("kimi/x.py", f"from {NAME} import client"),
        ("client/x.py", "import httpx"),
        ("langchain/x.py", f"import {NAME}.llamaindex"),
        ("batch/x.py", f"from {NAME} import langchain"),
        ("batch/x.py", "import llama_index.core"),
        ("simulator/x.py", f"from {NAME}.kimi import schema"),
        ("__init__.py", "import openai"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, file: str, line: str) -> None:
    for floor in FORBIDDEN:
        if not floor.endswith(".py"):
            (tmp_path / floor).mkdir()
    for name in ("errors.py", "__init__.py"):
        (tmp_path / name).write_text("")
    (tmp_path / file).write_text(line)
    assert wrong_arrows(tmp_path)


def _loaded_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys; print(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_loads_no_framework_and_no_sdk() -> None:
    heavy = {
        "openai",
        "httpx",
        "httpx2",
        "langchain_core",
        "langchain",
        "langgraph",
        "llama_index",
        "tiktoken",
        "jsonschema",
    }
    assert not _loaded_after(f"import {NAME}") & heavy
    assert "pydantic" not in _loaded_after(f"import {NAME}")


def test_building_a_model_loads_no_sdk_and_no_tls_context() -> None:
    statement = (
        "import ssl\n"
        "def no_context(*a, **k): raise AssertionError('a TLS context was built')\n"
        "ssl.SSLContext.__init__ = no_context; ssl.create_default_context = no_context\n"
        "import socket\n"
        "def no_socket(*a, **k): raise AssertionError('a connection was opened')\n"
        "socket.socket.connect = no_socket\n"
        f"from {NAME}.langchain import ChatKimi\n"
        "ChatKimi(api_key='sk-test'); ChatKimi(host='vllm', base_url='http://localhost:8000/v1')"
    )
    assert "openai" not in _loaded_after(statement)


def test_every_practice_has_its_module_test_and_settings_field() -> None:
    from refrase_integrations import Practices
    from refrase_integrations.kimi.practices import ORDER

    names = [practice.id.replace("-", "_") for practice in ORDER]
    files = [ROOT / form.format(name) for name in names for form in (MODULE, TEST)]
    missing = [str(file.relative_to(ROOT)) for file in files if not file.is_file()]
    missing += [f"Practices.{name}" for name in names if name not in Practices.model_fields]
    missing += [f"sources of {practice.id}" for practice in ORDER if not practice.sources]
    assert missing == []


def test_adapter_files_stay_small() -> None:
    adapters = [*(PACKAGE / "langchain").rglob("*.py"), *(PACKAGE / "llamaindex").rglob("*.py")]
    assert [file.name for file in adapters if len(file.read_text("utf-8").splitlines()) > 400] == []
