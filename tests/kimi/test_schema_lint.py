"""What the linter finds in the tools of a request."""

from typing import Any

from refrase_integrations.kimi.schema import lint_tools


def tool(name: Any = "look_up", parameters: Any = None, description: str = "Looks something up.") -> dict[str, Any]:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def messages(*tools: Any, **settings: Any) -> list[str]:
    return [f"{finding.tool} {finding.path}: {finding.message}" for finding in lint_tools(tools, **settings)]


def test_good_tools_give_no_finding() -> None:
    builtin = {"type": "builtin_function", "function": {"name": "$web_search"}}
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    assert lint_tools([tool(parameters=schema), tool("other"), builtin]) == ()


def test_names() -> None:
    found = messages(tool("21st_magic"), tool("ab"), tool("a" * 65), tool(""), tool("same"), tool("same"))
    assert [line.partition(":")[0].strip() for line in found] == ["21st_magic", "ab", "a" * 65, "tools[3]", "same"]
    assert "used twice" in found[-1]
    assert messages(tool("21st_magic"), pattern=r"[\w.-]{1,128}") == []


def test_number_and_description() -> None:
    assert "129 tools" in messages(*(tool(f"tool_{n}") for n in range(129)))[0]
    assert messages(*(tool(f"tool_{n}") for n in range(129)), limit=200) == []
    assert messages(tool(description="")) == ["look_up : no description"]


def test_schemas_with_what_is_done_about_them() -> None:
    schema = {"type": "object", "properties": {"when": {"type": "string", "format": "date-time"}, "x": {}}}
    found = lint_tools([tool(parameters=schema)])
    assert [(finding.path, finding.message, finding.fix) for finding in found] == [
        ("properties.when", "unsupported keywords: format", "format is told in the description"),
        ("properties.x", "type is not defined", "the missing type is filled in"),
    ]
    assert lint_tools([tool(parameters=schema)], flavour="json") == ()


def test_what_no_host_can_take() -> None:
    cycle: dict[str, Any] = {"type": "object", "properties": {}}
    cycle["properties"]["self"] = cycle
    nan = {"type": "object", "properties": {"x": {"type": "number", "default": float("nan")}}}
    for flavour in ("mfjs", "json"):
        found = lint_tools([tool(parameters=cycle), tool("other", nan)], flavour=flavour)  # type: ignore[arg-type]
        assert [(finding.tool, finding.path) for finding in found] == [
            ("look_up", "properties.self"),
            ("other", "properties.x.default"),
        ]
        assert all("cannot be rewritten" in finding.fix for finding in found)


def test_not_even_a_function() -> None:
    assert "OpenAI form" in lint_tools([{"type": "function"}])[0].fix
    assert [
        finding.message for finding in lint_tools([tool(parameters={"anyOf": [{"type": "object"}, {"type": "null"}]})])
    ] == ["the parameters are not of type object"]
