"""From a document's plain values to a checked configuration: names, imports, settings. Called by `config`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from contest_core.config_convert import FAILED, Converter, Issue, nearest
from contest_core.config_model import (
    AuthenticatorConfiguration,
    Configuration,
    JobManagerConfiguration,
    ListenerConfiguration,
    ListenerKeys,
    PluginsSettings,
    Problem,
    Registries,
    RegistryLike,
    ServerSettings,
)
from contest_core.config_variables import Substituted
from contest_core.document import Document, Place, join
from contest_core.errors import Exposed
from contest_core.exposure import check_exposed, is_name
from contest_core.settings import Duration, dec_hook

_SECTIONS = ("server", "listeners", "job_manager", "authentication", "plugins")
_LISTENER_KEYS = tuple(field.name for field in msgspec.structs.fields(ListenerKeys))


def load_class(registry: RegistryLike, kind: str) -> tuple[Any, str | None]:
    """Imports what a name stands for: the class, whose `Settings` can be used, or None and what is wrong."""

    def action() -> Any:
        loaded = registry.load(kind)
        settings = getattr(loaded, "Settings", None)
        if not (isinstance(settings, type) and issubclass(settings, msgspec.Struct)):
            raise TypeError("its class has no Settings, a msgspec.Struct")
        # Refuses annotations that cannot be resolved, and types that msgspec does not know.
        msgspec.json.Decoder(settings)
        return loaded

    return guarded(action)


def guarded(action: Callable[[], Any]) -> tuple[Any, str | None]:
    """What a plugin's code gives, or None and what it raised."""
    try:
        return action(), None
    # The boundary between the core and other people's code: whatever an import or a constructor raises is
    # theirs, and must not hide the other problems of the file.
    except Exception as error:
        words = " ".join(str(error).split())
        return None, f"{type(error).__name__}: {words}" if words else type(error).__name__


def _decode(kind: type, value: object) -> Any:
    made = dec_hook(kind, value)
    if isinstance(made, Duration) and made.nanoseconds < 0:
        raise ValueError("a duration here cannot be negative")
    return made


class _Part(NamedTuple):
    """One `kind: settings`, and what became of it."""

    kind: str
    settings: Any
    pointer: str
    """Of the settings."""
    made_by: Any = None
    """The class."""


class _Check:
    """The `SettingsCheck` of one part."""

    def __init__(
        self, converter: Converter, part: _Part, may: Callable[[str], None], taken: dict[str, str]
    ) -> None:
        self._converter = converter
        self._part = part
        self._may = may
        """Raises `Exposed` where the part may not listen on a host."""
        self._taken = taken
        """What is taken in the whole configuration, and by which part."""
        self.incomplete = False
        """Some fields are wrong already and have their defaults here, of which nothing is said."""

    def wrong(self, field: str, message: str) -> None:
        """See `SettingsCheck`."""
        if not self.incomplete or self._is_right(field):
            self._converter.add_in(self._part.settings, self._part.pointer, field, message)

    def exposed(self, field: str, host: str) -> None:
        """See `SettingsCheck`."""
        if not is_name(host):
            try:
                self._may(host)
            except Exposed as error:
                self.wrong(field, str(error))

    def alone(self, field: str, place: str) -> None:
        """See `SettingsCheck`."""
        if self.incomplete and not self._is_right(field):
            return
        other = self._taken.setdefault(place, self._part.pointer)
        if other != self._part.pointer:
            message = f"{place} is taken already, by {other}; choose another (0 finds a free port)"
            self.wrong(field, message)

    def _is_right(self, field: str) -> bool:
        pointer = join(self._part.pointer, field)
        issues = self._converter.issues
        return field in self._part.settings and not any(issue.pointer == pointer for issue in issues)


def _anywhere(host: str) -> None:
    """Who is no listener may be anywhere."""


class Resolver:
    """Resolves one document. `problems` is complete when `configuration` has been called."""

    def __init__(self, document: Document, substituted: Substituted, registries: Registries) -> None:
        self._document = document
        self._substituted = substituted
        self._registries = registries
        self._value: Any = {} if substituted.value is None else substituted.value
        self._taken: dict[str, str] = {}
        self._converter = Converter(
            dec_hook=_decode, alternatives=substituted.alternatives, hidden=substituted.hidden
        )

    def problems(self) -> list[Problem]:
        """All that was found, in the order of the file."""
        unset = {issue.pointer for issue in self._substituted.issues}
        issues = [*self._substituted.issues]
        issues += [issue for issue in self._converter.issues if issue.pointer not in unset]
        found: list[tuple[Place, str, str | None]] = [
            (place, "this key is here for the second time", None) for _, place in self._document.duplicates
        ]
        found += [(self._place(issue), issue.message, issue.nearest) for issue in issues]
        return [
            Problem(
                source=self._document.source, line=place.line, column=place.column, message=text, nearest=near
            )
            for place, text, near in sorted(found, key=lambda each: each[0])
        ]

    def configuration(self, directory: Path) -> Configuration | None:
        """The whole; None where something is wrong."""
        value = self._value
        if not isinstance(value, dict):
            self._converter.convert(value, dict[str, Any], "")
            return None
        meant = self._converter.unknown_keys(value, _SECTIONS, "", allowed=_SECTIONS)
        for key in ("listeners", "job_manager"):
            if key not in value and key not in meant:
                self._converter.add("", f'the key "{key}" is missing')
        server = self._section("server", ServerSettings)
        listeners = self._listeners()
        managers = self._job_managers()
        authentication = self._authentication()
        plugins = self._section("plugins", PluginsSettings)
        self._check_disabled(plugins)
        if self._converter.issues or self._substituted.issues or self._document.duplicates:
            return None
        return Configuration(
            server=server,
            listeners=tuple(listeners),
            job_manager=managers[0],
            authentication=tuple(authentication),
            plugins=plugins,
            source=self._document.source,
            directory=directory,
        )

    def _section(self, key: str, kind: type[msgspec.Struct]) -> Any:
        value = self._value.get(key)
        return self._converter.struct({} if value is None else value, kind, join("", key))

    def _check_disabled(self, plugins: Any) -> None:
        known = sorted({info.name for info in self._registries.infos})
        for index, name in enumerate(() if plugins is FAILED else plugins.disabled):
            if name not in known:
                near = nearest(name, known)
                there_are = "" if near else f"; installed are: {', '.join(known) or 'none'}"
                message = f'unknown plugin "{name[:64]}"{there_are}'
                pointer = join("/plugins/disabled", index)
                self._converter.issues.append(Issue(pointer=pointer, message=message, nearest=near))

    def _listeners(self) -> list[ListenerConfiguration]:
        made: list[ListenerConfiguration] = []
        for part in self._list("listeners", "listener"):
            known = self._find(part, "listener", self._registries.listeners)
            common, own = self._listener_keys(part)
            keys = self._converter.struct(common, ListenerKeys, part.pointer)
            settings: Any = FAILED
            if known is not None:
                known = known._replace(settings=own)
                settings = self._settings(known, _LISTENER_KEYS)
                self._check_listener(known, settings, keys)
            if known is None or keys is FAILED or settings is FAILED:
                continue
            listener = ListenerConfiguration(
                name=keys.name or part.kind,
                kind=part.kind,
                settings=settings,
                listener_class=known.made_by,
                allow_anonymous=keys.allow_anonymous,
                trust=keys.trust,
                on_disconnect=keys.on_disconnect,
                place=self._document.key_position(part.pointer),
                hidden=self._converter.hidden_within(part.pointer),
            )
            self._check_name(listener, made, part.pointer)
            made.append(listener)
        return made

    def _check_listener(self, part: _Part, settings: Any, keys: Any) -> None:
        if keys is FAILED:
            return
        may = partial(
            check_exposed,
            listener=keys.name or part.kind,
            allow_anonymous=keys.allow_anonymous,
            authenticated=bool(self._value.get("authentication")),
        )
        self._check(part, settings, may)

    def _check(self, part: _Part, settings: Any, may: Callable[[str], None] = _anywhere) -> None:
        """Lets settings say what is wrong with them in this configuration, also where some are wrong in themselves."""
        check = _Check(self._converter, part, may, self._taken)
        if settings is FAILED:
            settings = self._converter.incomplete.get(part.pointer)
            check.incomplete = True
        if hasattr(settings, "check"):
            _, failure = guarded(lambda: settings.check(check))
            if failure is not None:
                check.wrong("", f'the settings of "{part.kind}" cannot be checked: {failure}')

    def _listener_keys(self, part: _Part) -> tuple[dict[str, Any], Any]:
        """What the core takes of a listener's keys, and what it leaves."""
        if not isinstance(part.settings, dict):
            return {}, part.settings
        common = {key: value for key, value in part.settings.items() if key in _LISTENER_KEYS}
        return common, {key: value for key, value in part.settings.items() if key not in _LISTENER_KEYS}

    def _check_name(
        self, listener: ListenerConfiguration, others: list[ListenerConfiguration], pointer: str
    ) -> None:
        other = next((other for other in others if other.name == listener.name), None)
        if other is not None:
            message = (
                f'the listener in line {other.place.line} is called "{other.name}", too: give each a "name"'
            )
            self._converter.issues.append(Issue(pointer=pointer, message=message, at_key=True))

    def _job_managers(self) -> list[JobManagerConfiguration]:
        if "job_manager" not in self._value:
            return []
        parts = self._part(self._value["job_manager"], "/job_manager", "job manager")
        return [
            JobManagerConfiguration(
                kind=part.kind,
                settings=part.settings,
                job_manager_class=part.made_by,
                place=self._document.key_position(part.pointer),
                hidden=self._converter.hidden_within(part.pointer),
            )
            for part in self._made(parts, "job manager", self._registries.job_managers)
        ]

    def _authentication(self) -> list[AuthenticatorConfiguration]:
        parts = self._list("authentication", "authenticator")
        return [
            AuthenticatorConfiguration(
                kind=part.kind,
                settings=part.settings,
                authenticator_class=part.made_by,
                place=self._document.key_position(part.pointer),
                hidden=self._converter.hidden_within(part.pointer),
            )
            for part in self._made(parts, "authenticator", self._registries.authenticators)
        ]

    def _list(self, key: str, what: str) -> Iterator[_Part]:
        value = self._value.get(key)
        if not isinstance(value, list):
            if key in self._value:
                self._converter.convert(value, list[Any], join("", key))
            return
        if not value and key == "listeners":
            self._converter.add("/listeners", "expected at least one listener")
        for index, each in enumerate(value):
            yield from self._part(each, join(join("", key), index), what)

    def _part(self, value: Any, pointer: str, what: str) -> Iterator[_Part]:
        """The one `kind: settings` that the value is, if it is one."""
        if isinstance(value, str):
            self._converter.add(pointer, f'expected a mapping: write "{value[:64]}: {{}}"')
        elif not isinstance(value, dict):
            self._converter.convert(value, dict[str, Any], pointer)
        elif len(value) != 1:
            keys = f" ({', '.join(value)})" if value else ""
            message = f"expected one {what}, got {len(value)} keys{keys}: its settings stand below its kind"
            self._converter.add(pointer, message)
        else:
            ((kind, settings),) = value.items()
            yield _Part(kind, {} if settings is None else settings, join(pointer, kind))

    def _made(self, parts: Iterator[_Part], what: str, registry: RegistryLike) -> Iterator[_Part]:
        """The parts that could be found, with their settings converted."""
        for part in parts:
            known = self._find(part, what, registry)
            settings = self._settings(known) if known else FAILED
            if known is not None:
                self._check(known, settings)
            if known is not None and settings is not FAILED:
                yield known._replace(settings=settings)

    def _find(self, part: _Part, what: str, registry: RegistryLike) -> _Part | None:
        """The part with its class; None where there is none."""
        names = registry.names()
        near = None
        if part.kind in names:
            made_by, failure = load_class(registry, part.kind)
            if failure is None:
                return part._replace(made_by=made_by)
            message = f'the {what} "{part.kind}" cannot be loaded: {failure}'
        else:
            near = nearest(part.kind, names)
            there_are = "" if near else f"; installed are: {', '.join(names) or 'none'}"
            message = f'unknown {what} "{part.kind[:64]}"{there_are}'
        self._converter.issues.append(Issue(pointer=part.pointer, message=message, at_key=True, nearest=near))
        return None

    def _settings(self, part: _Part, also_known: tuple[str, ...] = ()) -> Any:
        return self._converter.struct(
            part.settings, part.made_by.Settings, part.pointer, also_known=also_known
        )

    def _place(self, issue: Issue) -> Place:
        if issue.at_key:
            return self._document.key_position(issue.pointer)
        # A struct that is wrong as a whole is wrong where its name is, not at its first key.
        if self._document.scalar_text(issue.pointer) is None:
            return self._document.key_position(issue.pointer)
        return self._document.position(issue.pointer)
