from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from contest_core.config import (
    EMBEDDED,
    Configuration,
    ConfigurationError,
    Problem,
    ServerSettings,
    check,
    construct,
    default_text,
    load,
    parse,
    resolve,
    state_directory,
)
from contest_core.config_schema import field_docs, schema, struct_schema
from contest_core.registry import Registry
from contest_core.settings import (
    ByteSize,
    Duration,
    InvalidSettings,
    Secret,
    SettingsCheck,
    out_of_bounds,
)

HERE = __name__


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it is encrypted."""

    certificate: str
    """A file."""
    versions: tuple[str, ...] = ("1.3",)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 80


class CarrierSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where pigeons land."""

    host: str = "127.0.0.1"
    """Where it
    listens."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """0 asks the system."""
    timeout: Duration = Duration("5s")
    max_size: ByteSize = ByteSize("16MiB")
    token: Secret | None = None
    verbose: bool = False
    mode: Literal["slow", "fast"] = "slow"
    tls: Tls | None = None
    peers: list[Peer] = []
    routes: dict[str, Peer] = {}
    sizes: set[int] = set()
    url: str = ""

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith("pigeon:"):
            raise ValueError(f"{self.url} is no address of a pigeon")


class Carrier:
    Settings: ClassVar[type[msgspec.Struct]] = CarrierSettings

    def __init__(self, settings: Any) -> None:
        self.settings = settings


class PipeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    concurrency: int = 1
    word: str = ""


class Pipe:
    Settings: ClassVar[type[msgspec.Struct]] = PipeSettings

    def __init__(self, settings: Any) -> None:
        if settings.concurrency == 13:
            raise RuntimeError("un\nlucky")
        if settings.word:
            raise RuntimeError(f"no {settings.word}")
        self.settings = settings


class PostSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str = "localhost"
    street: str = ""
    box: ByteSize = ByteSize(1)

    def __post_init__(self) -> None:
        if problems := out_of_bounds(self, {"box": ("1B", "1KiB")}):
            raise InvalidSettings(problems)

    def check(self, check: SettingsCheck) -> None:
        check.exposed("host", self.host)
        if self.street == "unlucky":
            raise RuntimeError(f"no {self.street}")
        if self.street == "nowhere":
            check.wrong("street", f"there is no street {self.street}")
        if self.street == "twice":
            check.wrong("street", "nor so")
            check.wrong("", "so not")


class Post(Pipe):
    Settings: ClassVar[type[msgspec.Struct]] = PostSettings


class LocalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    store: str


class Local(Pipe):
    Settings: ClassVar[type[msgspec.Struct]] = LocalSettings

    def __init__(self, settings: Any) -> None:
        self.settings = settings


class Bare:
    """A plugin's class that lacks its settings."""


class Info(NamedTuple):
    """A plugin that is there."""

    name: str


PLACES = {"carrier": "Carrier", "http": "Pipe", "stdio": "Pipe", "bare": "Bare", "post": "Post"}


class Installed:
    """What the loaded plugins are to the configuration."""

    def __init__(self) -> None:
        self.listeners = Registry("listener")
        self.job_managers = Registry("job manager")
        self.authenticators = Registry("authenticator")
        for name, place in PLACES.items():
            self.listeners.add(name, f"{HERE}:{place}")
        self.listeners.add("broken", "contest_no_such_module:Listener")
        self.job_managers.add("local", f"{HERE}:Local")
        self.authenticators.add("tokens", f"{HERE}:Carrier")
        self.infos = [Info("dovecote"), Info("runner"), Info("mqtt")]


class Nothing:
    """What the loaded plugins are where none is installed."""

    listeners = Registry("listener")
    job_managers = Registry("job manager")
    authenticators = Registry("authenticator")
    infos: tuple[Info, ...] = ()


class Files:
    """Writes configurations, loads and checks them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "file.yaml"
        self.plugins = Installed()

    def load(self, text: str, **environ: str) -> Configuration:
        self.path.write_text(text, "utf-8")
        return load(self.path, plugins=self.plugins, environ=environ)

    def problems(self, text: str, **environ: str) -> list[str]:
        """What is wrong, without the folder."""
        self.path.write_text(text, "utf-8")
        found = check(self.path, plugins=self.plugins, environ=environ)
        return [str(problem).removeprefix(f"{self.path}:") for problem in found]

    def carrier(self, text: str, **environ: str) -> CarrierSettings:
        """The settings of one carrier, of which the lines below `- carrier:` are given."""
        configuration = self.load(with_carrier(text), **environ)
        assert isinstance(configuration.listeners[0].settings, CarrierSettings)
        return configuration.listeners[0].settings

    def carrier_problems(self, text: str, **environ: str) -> list[str]:
        return self.problems(with_carrier(text), **environ)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


MANAGER = "job_manager: {local: {store: s}}\n"


def with_carrier(text: str) -> str:
    """The carrier's settings begin in line 4, column 7."""
    indented = "".join(f"      {line}\n" for line in text.splitlines())
    return f"{MANAGER}listeners:\n  - carrier:\n{indented}"


def test_a_whole_file_becomes_typed_settings(files: Files) -> None:
    configuration = files.load("""
server: {id: lab-1, event_timeout: 1500ms, in_flight: 7, grace: 0, on_terminate: drain}
listeners:
  - carrier: {port: 8080, max_size: 1KB, token: hunter2, allow_anonymous: true, trust: true}
  - stdio:
  - stdio: {name: second, concurrency: 4, on_disconnect: cancel}
job_manager:
  local: {store: "sqlite:///contest.db"}
authentication:
  - tokens: {host: h}
plugins: {disabled: [mqtt]}
""")
    assert configuration.server == ServerSettings(
        id="lab-1",
        event_timeout=Duration("1.5s"),
        in_flight=7,
        grace=Duration(),
        on_terminate="drain",
    )
    carrier, first, second = configuration.listeners
    assert (carrier.name, carrier.kind, carrier.allow_anonymous, carrier.trust) == (
        "carrier",
        "carrier",
        True,
        True,
    )
    assert carrier.settings == CarrierSettings(port=8080, max_size=ByteSize(1000), token=Secret("hunter2"))
    assert (first.name, first.on_disconnect, first.settings) == ("stdio", "drain", PipeSettings())
    assert (second.name, second.on_disconnect, second.settings) == (
        "second",
        "cancel",
        PipeSettings(concurrency=4),
    )
    assert configuration.job_manager.settings == LocalSettings(store="sqlite:///contest.db")
    assert [each.kind for each in configuration.authentication] == ["tokens"]
    assert configuration.plugins.disabled == ("mqtt",)
    assert (configuration.source, configuration.directory) == (str(files.path), files.path.parent.resolve())
    assert "hunter2" not in repr(configuration)


def test_a_whole_json_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(
        '{"listeners": [{"stdio": {}}],\n\t"job_manager": {"local": {"store": "s", "store": "t"}}}'
    )
    (problem,) = check(path, plugins=Installed())
    assert (problem.line, problem.column) == (2, 42)
    assert "second time" in problem.message


def test_all_errors_of_a_file_are_shown_at_once_in_their_order(files: Files) -> None:
    assert files.problems("""
serverr: {}
listeners:
  - carrier: {prot: 8080, timeout: 3, hots: x, verbose: yes}
  - htpp: {}
  - broken: {nmae: x}
  - bare: {}
job_manager:
  local: {}
authentication:
  - tokens: {port: 70000, mode: fats}
plugins: {disabled: websocket}
""") == [
        '2:1: unknown key "serverr", did you mean "server"?',
        '4:15: unknown key "prot", did you mean "port"?',
        "4:36: a duration needs a unit: write 3s for three seconds (ns, us, ms, s, m, h)",
        '4:39: unknown key "hots", did you mean "host"?',
        "4:57: expected true or false, got text; only true and false (without quotes) are booleans",
        '5:5: unknown listener "htpp", did you mean "http"?',
        "6:5: the listener \"broken\" cannot be loaded: ModuleNotFoundError: No module named 'contest_no_such_module'",
        '7:5: the listener "bare" cannot be loaded: TypeError: its class has no Settings, a msgspec.Struct',
        '9:3: the key "store" is missing',
        "11:20: expected a whole number <= 65535",
        '11:33: "fats" is none of: slow, fast, did you mean "fast"?',
        "12:21: expected a list, got text",
    ]


def test_every_nested_value_has_its_own_error(files: Files) -> None:
    assert files.carrier_problems("""\
tls: {versions: [1.3, "1.2", 2]}
peers:
  - {host: a, port: x}
  - {prot: 1}
  - {host: 1}
routes: {a: {host: [1]}, b: 3}
""") == [
        '4:7: the key "certificate" is missing',
        "4:24: expected text, got a number; put quotes around it",
        "4:36: expected text, got a whole number; put quotes around it",
        "6:27: expected a whole number, got text",
        '7:11: the key "host" is missing',
        '7:12: unknown key "prot", did you mean "port"?',
        "8:18: expected text, got a whole number; put quotes around it",
        "9:20: expected text, got a list",
        "9:35: expected a mapping, got a whole number",
    ]


def test_a_misspelt_key_is_not_reported_as_missing_too(files: Files) -> None:
    text = "listeners: [{stdio: {}}]\njob_manager:\n  local: {stoer: x}\n"
    assert files.problems(text) == ['3:11: unknown key "stoer", did you mean "store"?']


def test_what_concerns_two_fields_is_reported_at_the_struct(files: Files) -> None:
    assert files.carrier_problems("url: crow:x") == ["3:5: crow:x is no address of a pigeon"]


def test_what_concerns_one_field_is_reported_at_it_whatever_else_is_wrong(files: Files) -> None:
    text = (
        f"{MANAGER}listeners: [{{stdio: }}]\nserver:\n  event_timeout: 0\n  grace: 1000h\n  in_flight: many\n"
    )
    assert files.problems(text + f"  id: {'é' * 40}\n") == [
        '4:18: "event_timeout" has to be at least 1ms',
        '5:10: "grace" may be 24h at the most',
        "6:14: expected a whole number, got text",
        '7:7: the "id" is too long: 80 > 64 bytes',
    ]


def test_settings_say_what_is_wrong_with_them_in_this_configuration(files: Files) -> None:
    text = MANAGER + "listeners:\n  - post: {box: 1B, street: '${S}'}\n"
    assert files.problems(text, S="nowhere") == ["3:29: there is no street ${S}"]
    assert files.problems(text, S="twice") == ["3:5: so not", "3:29: nor so"]
    assert files.problems(text, S="unlucky") == [
        '3:5: the settings of "post" cannot be checked: RuntimeError: no ${S}'
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", '"::"', '"[2001:db8::1]:80"'])
def test_a_listener_that_anybody_could_reach_is_reported_unless_it_may(files: Files, host: str) -> None:
    text = MANAGER + f"listeners:\n  - post: {{box: 1B, name: north, host: {host}"
    (problem,) = files.problems(text + "}\n")
    assert problem.startswith("3:40: listener 'north' would take anonymous requests on ")
    assert "allow_anonymous: true" in problem
    assert files.problems(text + ", allow_anonymous: true}\n") == []
    assert files.problems(text + "}\nauthentication: [{tokens: {}}]\n") == []


@pytest.mark.parametrize("host", ["127.0.0.1", '"::1"', "localhost", "/run/post.sock", "lab.example.org"])
def test_a_listener_on_this_machine_or_under_a_name_is_not_reported(files: Files, host: str) -> None:
    assert files.problems(MANAGER + f"listeners: [{{post: {{box: 1B, host: {host}}}}}]\n") == []


def test_what_is_right_in_itself_is_checked_though_another_field_is_wrong(files: Files) -> None:
    for wrong, column in (("box: 0B", "58"), ("box: many", "58"), ("bux: 0B, box: 1B", "53")):
        text = MANAGER + f"listeners: [{{post: {{host: 0.0.0.0, street: nowhere, {wrong}}}}}]\n"
        problems = files.problems(text)
        assert [problem.split(":")[1] for problem in problems] == ["27", "44", column], problems
    (problem,) = files.problems(MANAGER + "listeners: [{post: {host: [], box: 1B}}]\n")
    assert problem == "2:21: expected text, got a list"


def test_a_plugin_to_disable_has_to_be_there(files: Files) -> None:
    text = MANAGER + "listeners: [{stdio: }]\nplugins: {disabled: [mqtt, runer, xyz]}\n"
    assert files.problems(text) == [
        '3:28: unknown plugin "runer", did you mean "runner"?',
        '3:35: unknown plugin "xyz"; installed are: dovecote, mqtt, runner',
    ]


def test_negative_durations_are_refused_everywhere(files: Files) -> None:
    assert files.carrier_problems("timeout: -1s") == ["4:16: a duration here cannot be negative"]


@pytest.mark.parametrize(
    "key", ["server: {on_terminate: pause}", "listeners: [{stdio: {on_disconnect: pause}}]"]
)
def test_pause_is_said_to_come_later(files: Files, key: str) -> None:
    rest = "" if key.startswith("listeners") else "listeners: [{stdio: }]\n"
    (problem,) = files.problems(f"{MANAGER}{rest}{key}")
    assert problem.endswith('"pause" comes later: choose cancel or drain')


def test_two_listeners_of_one_name_are_refused(files: Files) -> None:
    text = f"{MANAGER}listeners:\n  - stdio:\n  - stdio: {{}}\n  - http: {{name: stdio}}\n"
    assert files.problems(text) == [
        '4:5: the listener in line 3 is called "stdio", too: give each a "name"',
        '5:5: the listener in line 3 is called "stdio", too: give each a "name"',
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ['1:1: the key "listeners" is missing', '1:1: the key "job_manager" is missing']),
        ("- a", ["1:1: expected a mapping, got a list"]),
        ("listeners: []", ['1:1: the key "job_manager" is missing', "1:1: expected at least one listener"]),
        (f"{MANAGER}listeners: stdio", ["2:12: expected a list, got text"]),
        (f"{MANAGER}listeners: [stdio]", ['2:13: expected a mapping: write "stdio: {}"']),
        (f"{MANAGER}listeners: [3]", ["2:13: expected a mapping, got a whole number"]),
        (
            f"{MANAGER}listeners:\n  - http:\n    port: 1\n",
            ["3:5: expected one listener, got 2 keys (http, port): its settings stand below its kind"],
        ),
        (f"{MANAGER}listeners: [{{stdio: [1]}}]", ["2:14: expected a mapping, got a list"]),
        ("job_manager: local\nlisteners: [{stdio: }]", ['1:14: expected a mapping: write "local: {}"']),
        (
            "job_manager: {qqq: }\nlisteners: [{stdio: }]",
            ['1:15: unknown job manager "qqq"; installed are: local'],
        ),
        (f"{MANAGER}listeners: [{{stdio: }}]\nserver: 5", ["3:9: expected a mapping, got a whole number"]),
        (f"{MANAGER}listeners: [{{stdio: }}]\nserver:\nplugins:\nauthentication: []\n", []),
    ],
)
def test_a_wrong_shape_is_explained(files: Files, text: str, says: list[str]) -> None:
    assert files.problems(text) == says


def test_a_syntax_error_names_line_column_and_what_was_expected(files: Files) -> None:
    (problem,) = files.problems("listeners:\n  - http: {port: 1\njob_manager:\n")
    assert problem.startswith("3:12: ")
    assert "expected" in problem
    assert "begins in line 2" in problem


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigurationError) as caught:
            load(path, plugins=Installed())
        assert str(caught.value).startswith(f"{path}: cannot be read: ")
        assert caught.value.exit_code == 2
        assert caught.value.problems[0].line is None


def test_variables_are_put_in_and_typed_anew(files: Files) -> None:
    text = """\
host: "${HOST}"
port: ${PORT}
timeout: ${T:-7s}
verbose: ${V:-true}
mode: ${MODE:-fast}
url: pigeon:${HOST}/$${PORT}
"""
    carrier = files.carrier(text, HOST="12", PORT="8080", MODE="")
    assert (carrier.host, carrier.port, carrier.timeout) == ("12", 8080, Duration("7s"))
    assert (carrier.verbose, carrier.mode, carrier.url) == (True, "fast", "pigeon:12/${PORT}")


def test_a_variable_becomes_what_its_setting_wants(files: Files) -> None:
    carrier = files.carrier(
        '{host: "${A}", port: "${A}", token: "${A}", peers: [{host: x, port: "${A}"}]}', A="80"
    )
    assert (carrier.host, carrier.port, carrier.peers[0].port) == ("80", 80, 80)
    assert carrier.token == Secret("80")
    carrier = files.carrier("host: ${A}\ntoken: ${A}", A="1e5")
    assert (carrier.host, carrier.token) == ("1e5", Secret("1e5"))


def test_each_value_of_a_set_is_taken_for_what_is_wanted(files: Files) -> None:
    assert files.carrier("sizes: ['${A}', '${B}']", A="1", B="2").sizes == {1, 2}
    assert files.carrier_problems("sizes: ['${A}', '${B}']", A="1", B="x") == [
        "4:23: expected a whole number, got text"
    ]


def test_keys_are_not_substituted(files: Files) -> None:
    assert files.carrier_problems("${A}: 1", A="port")[0].startswith('4:7: unknown key "${A}"')


def test_a_variable_that_is_not_set_is_one_problem_with_its_place(files: Files) -> None:
    problems = files.carrier_problems("port: ${PORT}\nhost: ${\nmode: a ${1x} b", HOME="x")
    assert problems == [
        "4:13: the environment has no PORT, and there is no default (${PORT:-default})",
        "5:13: expected ${NAME} or ${NAME:-default}; write $${ for ${ itself",
        "6:13: expected ${NAME} or ${NAME:-default}; write $${ for ${ itself",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "mode: ${PW}",
        "port: ${PW}",
        "timeout: ${PW}",
        "max_size: ${PW}",
        "verbose: ${PW}",
        "tls: ${PW}",
        "peers: [x, '${PW}']",
        "url: ${PW}",
        "url: 'crow://${PW}@host'",
        "url: crow${PW}x",
        "url: 'crow://${PW}'\nport: ${PW}",
        "token: [hunter2]",
        "token: {hunter2: hunter2}",
        "token: *hunter2",
        "token: !hunter2",
        "on_disconnect: ${PW}",
        "name: ${PW}/x",
    ],
)
def test_no_error_shows_what_came_from_the_environment_or_a_secret(files: Files, text: str) -> None:
    problems = files.carrier_problems(text, PW="hunter2")
    assert problems
    assert "hunter2" not in "".join(problems)


def test_the_embedded_default_is_http_on_loopback_and_a_store_in_the_state_directory(tmp_path: Path) -> None:
    parsed = parse(None, environ={"XDG_STATE_HOME": str(tmp_path)})
    assert parsed.document.source == EMBEDDED
    assert parsed.directory == tmp_path / "contest"
    assert parsed.document.value == {
        "listeners": [{"http": {"host": "127.0.0.1", "port": 8080}}],
        "job_manager": {"local": {"store": "sqlite:///contest.db"}},
    }
    assert parsed.document.text == default_text()


def test_the_state_directory_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    expected = Path("/home/somebody/.local/state/contest")
    assert state_directory({}) == state_directory({"XDG_STATE_HOME": "relative"}) == expected


def test_what_is_disabled_is_known_before_plugins_are_loaded(files: Files) -> None:
    files.path.write_text("plugins: {disabled: [a, '${B:-b}', 3]}\nlisteners: [{stdio: }]\n" + MANAGER)
    parsed = parse(files.path, environ={})
    assert parsed.disabled == ("a", "b")
    with pytest.raises(ConfigurationError, match="expected text"):
        resolve(parsed, files.plugins)
    for text in ("[]", "plugins: 3", "plugins: {disabled: {}}", ""):
        files.path.write_text(text)
        assert parse(files.path).disabled == ()


def test_the_objects_are_made_and_every_constructor_that_raises_is_named(files: Files) -> None:
    parts = construct(files.load(f"{MANAGER}listeners: [{{stdio: }}, {{http: {{name: b}}}}]"))
    assert [type(listener).__name__ for listener in parts.listeners.values()] == ["Pipe", "Pipe"]
    assert list(parts.listeners) == ["stdio", "b"]
    assert type(parts.job_manager).__name__ == "Local"
    bad = files.load(f"{MANAGER}listeners:\n  - stdio: {{concurrency: 13}}\n  - http: {{concurrency: 13}}\n")
    with pytest.raises(ConfigurationError) as caught:
        construct(bad)
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [(3, 5), (4, 5)]
    assert str(caught.value).count("un lucky") == 2
    secret = files.load(f"{MANAGER}listeners: [{{stdio: {{word: 'p:${{PW}}'}}}}]", PW="hunter2")
    with pytest.raises(ConfigurationError, match=r"no p:\$\{PW\}$"):
        construct(secret)
    assert "hunter2" not in repr(secret).replace(repr(secret.listeners[0].settings), "")


def test_a_problem_reads_like_a_compilers() -> None:
    problem = Problem(source="file.yaml", line=12, column=5, message='unknown key "prot"', nearest="port")
    assert str(problem) == 'file.yaml:12:5: unknown key "prot", did you mean "port"?'


def test_the_docstrings_of_fields_are_read_from_the_source() -> None:
    class Child(PipeSettings, frozen=True, kw_only=True):
        more: int = 0
        """Said here."""

    assert field_docs(CarrierSettings) == {"host": "Where it listens.", "port": "0 asks the system."}
    assert field_docs(Child) == {"more": "Said here."}
    assert set(field_docs(ServerSettings)) == {field.name for field in msgspec.structs.fields(ServerSettings)}
    assert field_docs(msgspec.defstruct("Made", ["x"])) == {}


def test_the_schema_accepts_what_is_accepted_and_refuses_what_is_refused() -> None:
    made = schema(Installed())
    json.dumps(made)
    Draft202012Validator.check_schema(made)
    Draft202012Validator.check_schema(schema(Nothing()))
    validator = Draft202012Validator(made)
    good = {
        "server": {"event_timeout": "3s"},
        "listeners": [{"carrier": {"port": 1, "name": "x", "tls": {"certificate": "c"}}}, {"stdio": None}],
        "job_manager": {"local": {"store": "s"}},
    }
    assert validator.is_valid(good)
    wrong: tuple[dict[str, object], ...] = (
        {"port": -1},
        {"prot": 1},
        {"timeout": "3"},
        {"tls": {}},
        {"mode": "x"},
        {"on_disconnect": "pause"},
        {"peers": [{}]},
    )
    for bad in wrong:
        assert not validator.is_valid(good | {"listeners": [{"carrier": bad}]})
    assert not validator.is_valid(good | {"job_manager": {"local": None}})


def test_the_schema_describes_fields_and_shows_defaults_but_for_secrets() -> None:
    made = schema(Installed())
    kinds = {
        next(iter(each["properties"])): each for each in made["properties"]["listeners"]["items"]["oneOf"]
    }
    carrier = kinds["carrier"]["properties"]["carrier"]
    assert carrier["description"] == "Where pigeons land."
    assert carrier["properties"]["host"]["description"] == "Where it listens."
    assert carrier["properties"]["timeout"]["default"] == "5s"
    assert carrier["properties"]["max_size"]["default"] == "16MiB"
    assert carrier["properties"]["name"]["description"]
    assert made["$defs"]["listener.carrier.Tls"]["properties"]["versions"]["default"] == ["1.3"]
    assert made["$defs"]["listener.carrier.Tls"]["properties"]["certificate"]["description"] == "A file."
    assert "contest_no_such_module" in kinds["broken"]["properties"]["broken"]["description"]
    hidden = struct_schema(msgspec.defstruct("S", [("token", Secret, Secret("hunter2"))]))
    assert "hunter2" not in json.dumps(hidden)


KEYS = (
    "server listeners job_manager plugins disabled carrier stdio local store name port tls peers routes host id"
    " grace tokens authentication"
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["${A}", "3s", "pause"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS.split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, VALUES)
def test_any_document_is_a_configuration_or_placed_problems(
    files: Files, listener: object, whole: object
) -> None:
    for value in (whole, {"listeners": [{"carrier": listener}], "job_manager": {"local": {"store": "s"}}}):
        files.path.write_text(json.dumps(value), "utf-8")
        problems = check(files.path, plugins=files.plugins, environ={})
        assert all(problem.line is not None for problem in problems)
