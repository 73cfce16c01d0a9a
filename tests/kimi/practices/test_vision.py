from __future__ import annotations

import pytest
from inline_snapshot import snapshot
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from refrase_integrations.errors import RequestRefused, VisionUnsupported
from refrase_integrations.langchain import ChatKimi
from refrase_integrations.simulator import KimiSimulator
from tests.conversations import MODES, OPENAPI, ask, exchange, sent, violations_of_openapi

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
LOOK = [("system", "Be brief."), ("user", [{"type": "text", "text": "What is this?"}, PICTURE])]
VLLM = {"persona": "vllm", "model": "moonshotai/Kimi-K2-Instruct-0905"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_model_that_sees_gets_the_image(mode: str) -> None:
    body = await sent(mode, LOOK, model="kimi-k2.6")
    assert body["messages"] == snapshot(
        [
            {
                "role": "system",
                "content": """\
Be brief.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                ],
            },
        ]
    )
    assert not OPENAPI.exists() or violations_of_openapi(body) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["kimi-k2-0905-preview", "kimi-k2-thinking"])
async def test_a_text_only_model_is_an_error_before_any_request(mode: str, model: str) -> None:
    with KimiSimulator() as simulator:
        chat = ChatKimi(model=model, host="moonshot", base_url=simulator.base_url, api_key="sk-test")
        with pytest.raises(VisionUnsupported, match=r"1 image\(s\).*kimi-k2\.6") as raised:
            await ask(mode, chat, LOOK)
        assert simulator.requests == []
    assert raised.value.practice == "vision"
    assert "What is this" not in str(raised.value)


@pytest.mark.parametrize("mode", MODES)
async def test_apply_puts_a_placeholder_in_its_place(mode: str) -> None:
    body = await sent(mode, LOOK, practices={"vision": "apply"}, **VLLM)
    assert body["messages"] == snapshot(
        [
            {
                "role": "system",
                "content": """\
Be brief.

Freshness rule: you have no live data beyond this conversation. If an answer may have changed since your training, say so rather than guess.\
""",
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "text", "text": "[image left out: this model reads text only]"},
                ],
            },
        ]
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("setting", ["off", "warn"])
async def test_off_and_warn_let_it_through(mode: str, setting: str) -> None:
    body = await sent(mode, LOOK, practices={"vision": setting}, strict=False, **VLLM)
    assert body["messages"][1]["content"][1] == PICTURE


@pytest.mark.parametrize("mode", MODES)
async def test_the_error_names_place_and_models_of_this_host_and_the_fix(mode: str) -> None:
    earlier = [*LOOK, ("assistant", "A cat."), ("user", [PICTURE, PICTURE])]
    chat = ChatKimi(model="kimi-k2-thinking", host="moonshot", base_url="http://127.0.0.1:9/v1", api_key="sk-test")
    with pytest.raises(VisionUnsupported) as raised:
        await ask(mode, chat, earlier)
    assert raised.value.details == snapshot(
        (
            "3 image(s) in messages[1, 3]: this model reads text only; these see: "
            "kimi-k2.6, kimi-k2.7-code-highspeed, kimi-k2.7-code, kimi-k3.1-pro, kimi-k3",
        )
    )
    assert "practices={'vision': 'apply'" in str(raised.value)
    assert "A cat" not in str(raised.value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("setting", "action"), [("apply", "drop"), ("warn", "advise")])
async def test_the_report_says_what_became_of_it(mode: str, setting: str, action: str) -> None:
    reply, _ = await exchange(mode, LOOK, practices={"vision": setting}, strict=False, **VLLM)
    lines = [line for line in reply.response_metadata["refrase"]["changes"] if line["practice"] == "vision"]
    assert [line["action"] for line in lines] == [action]
    assert lines[0]["detail"].startswith("1 image(s) in messages[1]: this model reads text only; these see: ")
    assert lines[0]["source"] == "platform.kimi.ai/docs/guide/use-kimi-vision-model"
    assert "What is this" not in str(reply.response_metadata)
    assert "iVBORw0KGgo" not in str(reply.response_metadata)


@pytest.mark.parametrize("mode", MODES)
async def test_an_image_in_a_tool_result_counts_too(mode: str) -> None:
    thread = [
        HumanMessage("Take a screenshot."),
        AIMessage("", tool_calls=[{"name": "screenshot", "args": {}, "id": "call_1"}]),
        ToolMessage([PICTURE], tool_call_id="call_1"),
    ]
    with pytest.raises(VisionUnsupported, match=r"messages\[2\]"):
        await sent(mode, thread, model="kimi-k2-0905-preview")


@pytest.mark.parametrize("mode", MODES)
async def test_moonshot_refuses_without_the_practice(mode: str) -> None:
    with pytest.raises(RequestRefused, match="contains an invalid part type: image_url"):
        await sent(mode, LOOK, model="kimi-k2-0905-preview", practices={"vision": "off"})
    body = await sent(mode, LOOK, model="kimi-k2-0905-preview", practices={"vision": "apply"})
    assert not OPENAPI.exists() or violations_of_openapi(body) == []


PUBLIC = {"type": "image_url", "image_url": {"url": "https://example.com/secret-cat.png"}}
UPLOADED = {"type": "image_url", "image_url": {"url": "ms://cat-1"}}
FILM = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}


def look(*parts: dict[str, object]) -> list[object]:
    return [("system", "Be brief."), ("user", [{"type": "text", "text": "What is this?"}, *parts])]


@pytest.mark.parametrize("mode", MODES)
class TestPublicAddresses:
    """facts P19: Moonshot takes base64 data and ms:// files only; other hosts fetch an address."""

    async def test_are_an_error_before_any_request(self, mode: str) -> None:
        with KimiSimulator() as simulator:
            chat = ChatKimi(model="kimi-k2.6", host="moonshot", base_url=simulator.base_url, api_key="sk-test")
            with pytest.raises(VisionUnsupported) as raised:
                await ask(mode, chat, look(PICTURE, PUBLIC))
            assert simulator.requests == []
        assert raised.value.details == snapshot(
            (
                "1 image(s) by address in messages[1]: this host does not fetch addresses; "
                "give the data itself or a file (data: or ms://)",
            )
        )
        assert "secret-cat" not in str(raised.value)

    async def test_the_host_refuses_them_without_the_practice(self, mode: str) -> None:
        with pytest.raises(RequestRefused, match="only base64 data and ms:// file ids are supported"):
            await sent(mode, look(PUBLIC), model="kimi-k2.6", practices={"vision": "off"})

    async def test_apply_puts_a_placeholder_in_their_place(self, mode: str) -> None:
        body = await sent(mode, look(PICTURE, PUBLIC), model="kimi-k2.6", practices={"vision": "apply"})
        assert body["messages"][1]["content"][1:] == snapshot(
            [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                {"type": "text", "text": "[image left out: this host does not fetch addresses]"},
            ]
        )

    async def test_a_file_of_the_host_goes_out(self, mode: str) -> None:
        body = await sent(mode, look(UPLOADED), model="kimi-k2.6")
        assert body["messages"][1]["content"][1] == UPLOADED

    async def test_another_host_fetches_them(self, mode: str) -> None:
        body = await sent(mode, look(PUBLIC), persona="vllm", model="moonshotai/Kimi-K2.6", strict=False)
        assert body["messages"][1]["content"][1] == PUBLIC


@pytest.mark.parametrize("mode", MODES)
async def test_video_goes_to_a_model_that_sees_it_and_to_no_other(mode: str) -> None:
    body = await sent(mode, look(FILM), model="kimi-k2.6")
    assert body["messages"][1]["content"][1] == FILM
    with pytest.raises(VisionUnsupported) as raised:
        await sent(mode, look(FILM), model="kimi-k3.1-pro")
    assert raised.value.details == snapshot(
        (
            "1 video(s) in messages[1]: this model sees no video; these see: "
            "kimi-k2.6, kimi-k2.7-code-highspeed, kimi-k2.7-code, kimi-k3",
        )
    )
    with pytest.raises(RequestRefused, match="invalid part type: video_url"):
        await sent(mode, look(FILM), model="kimi-k3.1-pro", practices={"vision": "off"})


@pytest.mark.parametrize("model", ["kimi-k2.6", "moonshotai/Kimi-K2.6"])
def test_the_profile_tells_what_is_taken(model: str) -> None:
    host = "vllm" if "/" in model else "moonshot"
    profile = ChatKimi(model=model, host=host, base_url="http://127.0.0.1:9/v1", api_key="sk-test").profile
    assert (profile["image_inputs"], profile["video_inputs"]) == (True, True)
    assert profile["image_url_inputs"] is (host == "vllm")
