"""Puts `${VAR}` and `${VAR:-default}` into the values of a document. Called by `config`.

Only in scalar values, not in keys; `$${` stands for `${` itself; a default is also for a variable that is
empty, as in a shell. What comes out is typed anew: `port: ${PORT}` is a number where PORT is one.
Within `{ }` YAML needs quotes around `${PORT}`, so a quoted one may become a number, too, where its setting
wants one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from contest_core.config_convert import Hidden, Issue
from contest_core.document import Document, join, resolve_plain
from contest_core.settings import Secret

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")


class Substituted:
    """A document's value with the variables put in."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self.issues: list[Issue] = []
        self.alternatives: dict[str, object] = {}
        """By pointer: the other thing that a value may be taken for, text or number."""
        self.hidden: dict[str, list[Hidden]] = {}
        """By pointer: what came from the environment."""
        self._document = document
        self._environ = environ
        self.value = self._walk(document.value, "")

    def _walk(self, value: Any, pointer: str) -> Any:
        if isinstance(value, dict):
            return {key: self._walk(each, join(pointer, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._walk(each, join(pointer, index)) for index, each in enumerate(value)]
        return self._scalar(value, pointer) if isinstance(value, str) and "${" in value else value

    def _scalar(self, value: str, pointer: str) -> object:
        text = _VARIABLE.sub(lambda match: self._variable(match, pointer), value)
        if pointer not in self.hidden:
            return text
        # The whole first: a part alone would leave the rest of it in sight.
        self.hidden[pointer].insert(0, Hidden(Secret(text), value))
        try:
            typed: object = resolve_plain(text)
        except ValueError:
            typed = text
        if isinstance(typed, str):
            return text
        plain = self._document.is_plain(pointer)
        self.alternatives[pointer] = text if plain else typed
        return typed if plain else text

    def _variable(self, match: re.Match[str], pointer: str) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            message = "expected ${NAME} or ${NAME:-default}; write $${ for ${ itself"
            self.issues.append(Issue(pointer=pointer, message=message))
            return ""
        found = self._environ.get(name)
        self.hidden.setdefault(pointer, [])
        if found:
            self.hidden[pointer].append(Hidden(Secret(found), f"${{{name}}}"))
            return found
        if default is None and found is None:
            message = f"the environment has no {name}, and there is no default (${{{name}:-default}})"
            self.issues.append(Issue(pointer=pointer, message=message))
        return default or ""
