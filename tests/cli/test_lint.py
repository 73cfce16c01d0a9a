"""``lint``: what it finds, where, and that ``--fix`` mends for good and loses nothing."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrase_integrations.cli.lint.subjects import Surroundings, read_subject
from tests.cli.command import failed, run, said
from tests.kimi.prompt.comparison import altered, losses
from tests.kimi.prompt.prompts import OWN, corpus, own

ROOT = Path(__file__).parents[2]
SCHEMAS = sorted((ROOT / "tests/kimi/real_schemas").rglob("*.json"))
REPEATS = "You sell shoes.\n\n- Never share a password.\n- Be brief.\n- Never share a password.\n"
TOOLS = {
    "tools": [
        {
            "name": "21st.make",
            "description": "Makes a thing.",
            "inputSchema": {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}}},
        }
    ]
}


def fixed(text, kind="prompt", host=None):
    return read_subject("x", text, kind, Surroundings.of(None, host, None)).fixed()


@pytest.mark.parametrize("name", sorted(corpus()))
def test_fix_is_idempotent_and_loses_no_rule(name):
    text = corpus()[name]
    once = fixed(text)
    assert fixed(once) == once
    assert losses(text, once) == []
    assert altered(text, once) == []


# Lines of prose and layout: one line out of the middle of a JSON object says nothing by itself.
pieces = st.sampled_from(
    sorted(
        {line for text in own().values() for line in text.split("\n") if line.strip() and line.lstrip()[0] not in '"{}'}
    )
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(pieces, st.sampled_from(["\n", "\n\n"])), min_size=1, max_size=8), st.integers(1, 2))
def test_fix_of_any_prompt_of_such_lines(lines, times):
    text = "".join(line + end for line, end in lines) * times
    once = fixed(text)
    assert fixed(once) == once
    assert losses(text, once) == []


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda path: path.stem)
def test_fix_of_published_tools_leaves_no_schema_that_is_refused(file):
    text = file.read_text("utf-8")
    once = fixed(text, "tools")
    assert fixed(once, "tools") == once
    left = read_subject("x", once, "tools", Surroundings.of(None, None, None)).problems()
    assert "tool-schema" not in {problem.rule for problem in left}
    assert len(json.loads(once)["tools"]) == len(json.loads(text)["tools"])


def test_a_prompt(tmp_path):
    file = tmp_path / "system.md"
    file.write_text(REPEATS)
    printed = said(run("lint", file), status=1)
    assert f"{file}:5:3: repeated-rule: says again what line 3 says. Say it once" in printed
    assert "--fix would mend it" in printed
    assert file.read_text() == REPEATS
    assert "1 finding in" in printed
    assert "repeated-rule" not in said(run("lint", file, "--ignore", "repeated-rule"))


def test_fix_writes_the_file_once(tmp_path):
    file, clean = tmp_path / "system.md", tmp_path / "clean.md"
    file.write_text(REPEATS)
    clean.write_text("You sell shoes. Be brief.\n")
    assert "mended" in said(run("lint", "--fix", file, clean))
    assert file.read_text() == "You sell shoes.\n\n- Never share a password.\n- Be brief.\n"
    before = file.stat().st_mtime_ns
    assert "mended" not in said(run("lint", "--fix", file, clean))
    assert file.stat().st_mtime_ns == before


def test_fix_of_every_prompt_in_a_run(tmp_path):
    for path in OWN.glob("*.md"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    files = sorted(tmp_path.iterdir())
    run("lint", "--fix", *files)
    assert any(file.read_bytes() != (OWN / file.name).read_bytes() for file in files)
    once = [file.read_bytes() for file in files]
    run("lint", "--fix", *files)
    assert [file.read_bytes() for file in files] == once


def test_tools_of_an_mcp_server(tmp_path):
    file = tmp_path / "tools.json"
    file.write_text(json.dumps(TOOLS, indent=4) + "\n")
    printed = said(run("lint", file), status=1)
    assert f"{file}:4:21: tool-name: 21st.make: the host takes names" in printed
    assert "tool-schema: 21st.make: properties.kind: type is not defined. The missing type is filled in" in printed
    said(run("lint", "--fix", file), status=1)
    assert file.read_text() == json.dumps(
        {"tools": [{**TOOLS["tools"][0], "inputSchema": {"type": "object", "properties": {"kind": {"type": "string", "enum": ["a", "b"]}}}}]},
        indent=4,
    ) + "\n"  # fmt: skip


def test_another_host_has_other_rules():
    tools = {"tools": [{**TOOLS["tools"][0], "name": "make"}]}
    assert "tool-schema" in said(run("lint", "-", stdin=json.dumps(tools)), status=1)
    said(run("lint", "-", "--host", "vllm", stdin=json.dumps(tools)))


def test_from_stdin_the_mended_text_is_all_of_stdout():
    result = run("lint", "--fix", "-", stdin=REPEATS)
    assert said(result) == "You sell shoes.\n\n- Never share a password.\n- Be brief.\n"
    assert "mended" in result.stderr


def test_as_json():
    made = json.loads(said(run("lint", "-", "--json", stdin=REPEATS), status=1))
    assert [(one["rule"], one["line"], one["end_line"], one["end_column"]) for one in made["findings"]] == [
        ("repeated-rule", 5, 5, 26)
    ]
    assert "password" not in json.dumps(made), "no text of the prompt"


def test_as_sarif(tmp_path):
    file = tmp_path / "system.md"
    file.write_text(REPEATS)
    log = json.loads(said(run("lint", "--sarif", file), status=1))
    (run_,) = log["runs"]
    (result,) = run_["results"]
    assert log["version"] == "2.1.0"
    assert run_["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "repeated-rule"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == file.as_posix()
    assert place["region"] == {"startLine": 5, "startColumn": 3, "endLine": 5, "endColumn": 26}


def test_what_is_bound_beside_the_prompt_counts():
    text = "You answer questions on trains. Search the web for current prices.\n"
    assert "assumed-web" in said(run("lint", "-", stdin=text), status=1)
    assert "assumed-web" not in said(run("lint", "-", "--tools", "web_search", stdin=text))


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["nowhere.md"], "", "nowhere.md cannot be read: No such file"),
        (["."], "", "cannot be read: Is a directory"),
        (["-", "--kind", "tools"], "{", "the standard input is no JSON (line 1, column 2)"),
        (["-"], '{"a": 1}', "holds no tools"),
        (["-", "--ignore", "wordy"], "x", "--ignore wordy: no such rule; known: assumed-clock"),
        (["-", "--host", "vlm"], "x", "Did you mean 'vllm'"),
        (["-", "--fix", "--sarif"], "x", "leave --json and --sarif out"),
    ],
)
def test_what_the_user_did_wrong(arguments, stdin, words):
    assert words in failed(run("lint", *arguments, stdin=stdin))


def test_what_is_no_text(tmp_path):
    file = tmp_path / "image.md"
    file.write_bytes(b"\xff\xfe\x00")
    assert "is no UTF-8 text (byte 0)" in failed(run("lint", file))


def test_the_hooks_for_pre_commit_run_what_there_is():
    hooks = (ROOT / ".pre-commit-hooks.yaml").read_text()
    entries = [line.partition(":")[2].split()[1:] for line in hooks.splitlines() if "entry:" in line]
    assert len(entries) == 2
    for entry in entries:
        assert said(run(*entry, "--help"))
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "refrase-kimi" in scripts
