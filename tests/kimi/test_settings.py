from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from refrase_integrations import Practices as PublicPractices
from refrase_integrations.errors import ConfigurationError
from refrase_integrations.kimi.practice import Practice
from refrase_integrations.kimi.practices import (
    ORDER,
    known_ids,
    ordered,
    register_practice,
    unregister_practice,
)
from refrase_integrations.kimi.settings import Practices
from tests.conversations import exchange

BY_ID = {practice.id: practice for practice in ORDER}
HELLO = [("user", "Hello.")]


def mode(settings: Practices, practice_id: str) -> str:
    return settings.mode(BY_ID[practice_id])


@pytest.fixture
def house_style() -> Iterator[Practice]:
    practice = Practice(id="house-style", statement="Ours.", sources=(), default="warn")
    register_practice(practice, after="system-prompt")
    yield practice
    unregister_practice("house-style")


class TestForms:
    def test_nothing_is_each_practices_own_default(self) -> None:
        nothing: tuple[Any, ...] = (None, {}, Practices())
        for value in nothing:
            settings = Practices.of(value)
            assert {practice.id: settings.mode(practice) for practice in ORDER} == {
                practice.id: practice.default for practice in ORDER
            }
        assert mode(Practices(), "context-window") == "error"
        assert mode(Practices(), "temperature") == "apply"

    def test_every_practice_is_a_field(self) -> None:
        for practice_id in BY_ID:
            assert practice_id.replace("-", "_") in Practices.model_fields

    def test_off_turns_all_off(self) -> None:
        settings = Practices.of("off")
        assert {settings.mode(practice) for practice in ORDER} == {"off"}

    @pytest.mark.parametrize("key", ["tool_ids", "tool-ids"])
    def test_a_dict_takes_both_spellings(self, key: str) -> None:
        settings = Practices.of({key: "warn"})
        assert mode(settings, "tool-ids") == "warn"
        assert mode(settings, "tool-names") == "apply"

    def test_settings_stay_the_same_object(self) -> None:
        settings = Practices(temperature="off")
        assert Practices.of(settings) is settings
        assert PublicPractices is Practices

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ({"temprature": "off"}, "unknown practice 'temprature'; known: .*temperature"),
            ({"temperature": "loud"}, "temperature: .*'apply', 'warn', 'error' or 'off'"),
            ({"temperature": True}, "temperature"),
            ({"extra_calls": -1}, "extra_calls"),
            ({"extra_calls": 11}, "extra_calls"),
            ({"tool_repair": "always"}, "tool_repair"),
            ({"everything": "on"}, "everything"),
            ("warn", "must be Practices, a dict or 'off', not str"),
            (["temperature"], "not list"),
            (True, "not bool"),
        ],
    )
    async def test_what_cannot_be_read(self, value: Any, words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            Practices.of(value)
        with pytest.raises((ConfigurationError, ValidationError)):
            await exchange("invoke", HELLO, practices=value)

    def test_a_wrong_keyword_is_an_error_too(self) -> None:
        with pytest.raises(ValidationError, match="unknown practice 'temprature'"):
            Practices(temprature="off")

    def test_they_are_frozen(self) -> None:
        with pytest.raises(ValidationError):
            Practices().temperature = "off"  # type: ignore[misc]


class TestMerging:
    def test_key_by_key_the_nearest_first(self) -> None:
        merged = Practices(temperature="off").over(
            Practices(temperature="warn", sampling="error"), Practices(sampling="off", tool_ids="warn")
        )
        assert (mode(merged, "temperature"), mode(merged, "sampling"), mode(merged, "tool-ids")) == (
            "off",
            "error",
            "warn",
        )
        assert mode(merged, "thinking") == "apply"

    def test_only_keys_really_given_count(self) -> None:
        lower = Practices(extra_calls=0, tool_repair="off", temperature="off")
        assert Practices().over(lower) == lower
        assert Practices(temperature="warn").over(lower).extra_calls == 0

    def test_none_asks_for_the_default(self) -> None:
        assert mode(Practices(temperature=None).over(Practices(temperature="off")), "temperature") == "apply"

    def test_off_above_covers_what_is_below_and_names_beside_it_win(self) -> None:
        merged = Practices(everything="off").over(Practices(temperature="warn"))
        assert mode(merged, "temperature") == "off"
        merged = Practices(everything="off", temperature="warn").over(Practices(sampling="apply"))
        assert (mode(merged, "temperature"), mode(merged, "sampling")) == ("warn", "off")

    def test_a_name_above_wins_over_off_below(self) -> None:
        merged = Practices(temperature="apply").over(Practices.of("off"))
        assert (mode(merged, "temperature"), mode(merged, "sampling")) == ("apply", "off")

    layers = st.lists(
        st.builds(
            lambda chosen, everything: Practices(**chosen, **everything),
            st.dictionaries(
                st.sampled_from(["temperature", "sampling", "tool_ids"]),
                st.sampled_from(["apply", "warn", "error", "off"]),
            ),
            st.sampled_from([{}, {}, {"everything": "off"}]),
        ),
        min_size=1,
        max_size=4,
    )

    @given(layers)
    def test_merging_is_associative_and_follows_the_nearest(self, layers: list[Practices]) -> None:
        merged = layers[0].over(*layers[1:])
        folded = layers[-1]
        for layer in reversed(layers[:-1]):
            folded = layer.over(folded)
        for practice_id in ("temperature", "sampling", "tool-ids", "thinking"):
            expected = "apply"
            for layer in layers:
                name = practice_id.replace("-", "_")
                if name in layer.model_fields_set:
                    expected = getattr(layer, name)
                    break
                if layer.everything == "off":
                    expected = "off"
                    break
            assert mode(merged, practice_id) == mode(folded, practice_id) == expected

    async def test_the_call_wins_over_the_model(self) -> None:
        model: dict[str, Any] = {"temperature": 0.3, "model": "moonshotai/Kimi-K2-Instruct-0905", "persona": "vllm"}
        practices = {"temperature": "error", "system_prompt": "off", "fresh_data": "off"}
        _, (body,) = await exchange(
            "invoke", HELLO, practices=practices, bind={"practices": {"temperature": "off"}}, **model
        )
        assert body["temperature"] == 0.3
        assert [message["role"] for message in body["messages"]] == ["user"], "the model's own key still counts"
        _, (body,) = await exchange("invoke", HELLO, practices=practices, bind={"practices": "off"}, **model)
        assert body["temperature"] == 0.3
        assert "max_tokens" not in body


class TestRegistered:
    def test_it_is_a_key(self, house_style: Practice) -> None:
        assert Practices().mode(house_style) == "warn"
        for value in ({"house-style": "off"}, {"house_style": "off"}):
            assert Practices.of(value).mode(house_style) == "off"
        assert Practices.of("off").mode(house_style) == "off"
        assert Practices(house_style="error").over(Practices(house_style="off")).mode(house_style) == "error"
        assert "house-style" in known_ids()

    def test_its_mode_is_checked(self, house_style: Practice) -> None:
        with pytest.raises(ConfigurationError, match="house_style: mode must be one of apply, warn, error, off"):
            Practices.of({"house-style": "loud"})

    def test_its_place(self, house_style: Practice) -> None:
        ids = [practice.id for practice in ordered()]
        assert ids[ids.index("system-prompt") + 1] == "house-style"
        assert house_style not in ordered("messages"), "its scope is the request"

    def test_gone_it_is_unknown_again(self, house_style: Practice) -> None:
        unregister_practice("house-style")
        try:
            with pytest.raises(ConfigurationError, match="unknown practice 'house_style'"):
                Practices.of({"house-style": "off"})
            with pytest.raises(ConfigurationError, match="house-style"):
                unregister_practice("house-style")
        finally:
            register_practice(house_style, after="system-prompt")

    def test_a_taken_id(self, house_style: Practice) -> None:
        with pytest.raises(ConfigurationError, match="'house-style' is taken"):
            register_practice(house_style, after="system-prompt")
        with pytest.raises(ConfigurationError, match="'temperature' is taken"):
            register_practice(BY_ID["temperature"], after="system-prompt")

    def test_an_unknown_place(self) -> None:
        with pytest.raises(ConfigurationError, match="after='nowhere' is unknown"):
            register_practice(Practice(id="x", statement="x", sources=()), after="nowhere")
        assert "x" not in known_ids()

    def test_a_built_in_one_stays(self) -> None:
        with pytest.raises(ConfigurationError, match="temperature"):
            unregister_practice("temperature")
        assert "temperature" in known_ids()
