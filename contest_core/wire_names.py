"""How a field's name is spelt on the wire: ConTest's Go names, `job_id` as `JobID`."""

from __future__ import annotations

_ACRONYMS = {"id": "ID", "ids": "IDs", "fqdn": "FQDN", "tms": "TMS", "ipv4": "IPv4", "ipv6": "IPv6"}


def wire_name(name: str) -> str:
    """The wire's spelling of a Python field name."""
    return "".join(_ACRONYMS.get(word) or word.capitalize() for word in name.split("_"))
