"""Checks of configuration values beyond their types. Messages never contain a value that may be a secret."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from maniac_core.masking import mask

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_AWS_KEY = re.compile(r"(AKIA|ASIA)[A-Z0-9]{12,}")
_SHORTEST_KEY = 20
_ENDS_ADDRESS = re.compile(r"[\s'\"`]")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f]")


def check_variable(field: str, name: str, example: str) -> None:
    """Refuse what is not the name of an environment variable; most often it is the secret itself.

    Raises:
        ValueError: it is not; the message does not hold it.
    """
    if not _VARIABLE.fullmatch(name) or _looks_like_a_key(name):
        raise ValueError(
            f"`{field}` must be the name of an environment variable, and its value is not one "
            f"(not shown, it may be the secret itself): put the secret into a variable, such as "
            f'{example}, and write `{field} = "{example}"`'
        )


def _looks_like_a_key(name: str) -> bool:
    """Whether a word that could name a variable is more likely a key: long, and of letters and digits at random."""
    if _AWS_KEY.fullmatch(name):
        return True
    digits = sum(character.isdigit() for character in name)
    has_lower, has_upper = name != name.upper(), name != name.lower()
    return len(name) >= _SHORTEST_KEY and has_lower and bool(digits) and (has_upper or digits > 4)


def check_url(field: str, url: str, schemes: tuple[str, ...] = ("http", "https")) -> None:
    """Refuse an address that no request could be sent to.

    Raises:
        ValueError: it is not one of these schemes with a host; secrets in it are masked.
    """
    problem = _url_problem(url, schemes)
    if problem:
        raise ValueError(f"`{field}` is {_shown(url, schemes[0])!r}, {problem}")


def check_base_url(field: str, kind: str, url: str) -> None:
    """Refuse the address of a provider that its kind could send no request to.

    Raises:
        ValueError: it is none, has a fragment, or a query that is not sent; secrets in it are masked.
    """
    check_url(field, url)
    shown = _shown(url, "http")
    if "#" in url:
        raise ValueError(
            f"`{field}` is {shown!r}, whose part from `#` on is never sent: leave it out"
        )
    if "?" in url and kind not in ("openai", "openai-responses"):
        raise ValueError(
            f"`{field}` is {shown!r}, whose query is not sent by kind `{kind}`: leave out the part from `?` on"
        )


def _shown(url: str, scheme: str) -> str:
    """Return an address without its secrets, also where a scheme is missing or a password has a blank in it."""
    if "@" in url:
        url = _ENDS_ADDRESS.sub("_", url)
    return mask(url) if "://" in url else mask(f"{scheme}://{url}").removeprefix(f"{scheme}://")


def _url_problem(url: str, schemes: tuple[str, ...]) -> str | None:
    if _UNPRINTABLE.search(url):
        return "with a blank or a control character in it: take that out"
    scheme, separator, rest = url.partition("://")
    if not separator:
        return f"which lacks its scheme: write `{schemes[0]}://` in front, followed by the host"
    if scheme.lower() not in schemes:
        known = " or ".join(f"`{known}://`" for known in schemes)
        return f"which does not begin with {known}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return (
            "whose host or port cannot be read; in a user name or password, `/`, `?`, `#`, `@` and `:` "
            "are written %2F, %3F, %23, %40 and %3A"
            if "@" in rest
            else "whose host or port cannot be read: write `HOST` or `HOST:PORT`, the port up to 65535"
        )
    return None if host else "which names no host"
