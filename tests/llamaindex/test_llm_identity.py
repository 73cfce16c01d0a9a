"""What an LLM tells about itself: never its key, in no form; and what it is built from."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.function_calling import FunctionCallingLLM

from refrase_integrations import Practices
from refrase_integrations.errors import CatalogueError, ConfigurationError, MissingKey, WrongKey
from refrase_integrations.llamaindex import Kimi
from refrase_integrations.simulator import KimiSimulator
from tests.llamaindex.exchanges import bodies, kimi

CANARY = "sk-canary-4711"
SECRET = {"Authorization-Extra": "canary-header"}


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOONSHOT_API_KEY", "KIMI_API_KEY", "MOONSHOT_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def secretive(**fields: Any) -> Kimi:
    return Kimi(api_key=CANARY, default_headers=SECRET, default_query={"token": "canary-query"}, **fields)


@pytest.mark.parametrize(
    "form",
    [
        repr,
        str,
        lambda llm: str(llm.to_dict()),
        lambda llm: llm.to_json(),
        lambda llm: llm.model_dump_json(),
        lambda llm: str(getattr(llm, "to_payload", llm.to_dict)()),  # since llama-index-core 0.14.23
        lambda llm: str(llm.metadata),
        lambda llm: str(llm.dict()),
        lambda llm: str(llm.as_structured_llm(Practices).to_dict()),
    ],
)
def test_no_form_shows_a_secret(form: Any) -> None:
    assert "canary" not in form(secretive())


def test_no_log_and_no_error_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with KimiSimulator("moonshot", api_key="sk-right") as simulator:
        llm = secretive(host="moonshot", base_url=simulator.base_url)
        llm.default_query = None  # the HTTP library writes addresses into its own log
        with pytest.raises(WrongKey) as caught:
            llm.chat([ChatMessage(role="user", content="secret words")])
    assert "canary" not in caplog.text + str(caught.value) + repr(caught.value)
    assert "secret words" not in caplog.text + str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"api_base": "http://localhost:8000/v1"}, "did you mean"),
        ({"min_q": 1}, "extra_body"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_retries": -1}, "max_retries"),
        ({"practices": {"telepathy": "apply"}}, "telepathy"),
        ({"base_url": "localhost"}, "base_url"),
    ],
)
def test_wrong_fields_are_named_without_values(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Kimi(api_key=CANARY, **fields)
    assert "canary" not in str(caught.value)


def test_an_unknown_host_and_a_missing_key() -> None:
    with pytest.raises(CatalogueError, match="nowhere"):
        Kimi(host="nowhere", api_key="sk")
    with pytest.raises(MissingKey, match="MOONSHOT_API_KEY"):
        Kimi()
    assert Kimi(host="vllm", base_url="http://localhost:8000/v1").api_key is None


def test_from_dict_gives_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = secretive(
        model="kimi-k2-thinking",
        temperature=0.5,
        practices=Practices(history="warn"),
        tokenizer="/x",
        system_prompt="S.",
    )
    data = json.loads(llm.to_json())
    with pytest.raises(MissingKey):
        Kimi.from_dict(data)
    monkeypatch.setenv("MOONSHOT_API_KEY", "sk-from-environment")
    again = Kimi.from_dict(data)
    assert again.to_dict() == llm.to_dict()
    assert again.api_key is None
    assert Practices.of(again.practices).history == "warn"
    assert (again.model, again.temperature, again.tokenizer_path, again.system_prompt) == (
        "kimi-k2-thinking",
        0.5,
        "/x",
        "S.",
    )


def test_a_pickle_carries_no_key_and_finds_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with KimiSimulator("moonshot", api_key="sk-from-environment", script=["Yes."] * 3) as simulator:
        llm = Kimi(host="moonshot", base_url=simulator.base_url, api_key=CANARY, http_client=None)
        frozen = pickle.dumps(llm)
        assert CANARY.encode() not in frozen
        assert llm.api_key is not None, "the pickled one is not changed"
        assert llm.api_key.get_secret_value() == CANARY
        with pytest.raises(MissingKey, match="MOONSHOT_API_KEY"):
            pickle.loads(frozen).complete("Hello")
        monkeypatch.setenv("MOONSHOT_API_KEY", "sk-from-environment")
        thawed = pickle.loads(frozen)
        assert thawed.complete("Hello").text == "Yes."
        assert thawed.to_dict() == llm.to_dict()


def test_what_cannot_be_pickled_stays_in_the_original() -> None:
    from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler

    handler = LlamaDebugHandler(print_trace_on_end=False)
    handler.lock = __import__("threading").Lock()  # type: ignore[attr-defined]
    llm = secretive(callback_manager=CallbackManager([handler]))
    pickle.dumps(llm)
    assert llm.callback_manager.handlers == [handler]


def test_copies_keep_the_key() -> None:
    llm = secretive()
    for other in (copy.copy(llm), copy.deepcopy(llm), llm.model_copy(update={"temperature": 0.1})):
        assert other.api_key is not None
        assert other.api_key.get_secret_value() == CANARY
        assert other.default_headers == SECRET


def test_it_is_what_llamaindex_looks_for() -> None:
    llm = secretive()
    assert isinstance(llm, FunctionCallingLLM)
    assert Kimi.class_name() == "refrase_kimi"
    assert llm.model == llm.metadata.model_name


async def test_the_settings_of_llamaindex_use_it() -> None:
    from llama_index.core import Settings

    with KimiSimulator("moonshot", script=["Yes."]) as simulator:
        before = Settings._llm
        try:
            Settings.llm = kimi(simulator)
            assert str(Settings.llm.complete("Hello")) == "Yes."
        finally:
            Settings._llm = before
        assert len(bodies(simulator)) == 1


def test_importing_and_building_load_no_sdk() -> None:
    script = (
        "import sys\n"
        "import refrase_integrations.llamaindex\n"
        "assert not [name for name in sys.modules if name.startswith('llama_index')], 'lazy'\n"
        "from refrase_integrations.llamaindex import Kimi\n"
        "Kimi(api_key='sk-test').metadata\n"
        "print('openai' in sys.modules, 'langchain_core' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_without_llamaindex_the_error_names_the_extra() -> None:
    script = (
        "import sys\n"
        "sys.modules['llama_index'] = None\n"
        "import refrase_integrations.llamaindex as house\n"
        "try:\n    house.Kimi\n"
        "except ImportError as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "MissingExtra" in done.stdout
    assert "refrase-integrations[llamaindex]" in done.stdout
