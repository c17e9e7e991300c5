"""The dialects of the Ably SDKs: how each one writes the params of an auth request."""

from __future__ import annotations

import ast
import base64
import re
import warnings
from collections.abc import Iterable, Mapping, Sized
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

from ..capability import ALL, MAX_RESOURCES, NOTHING, Capability, strict_json
from ..errors import BadRequest, InvalidCapability
from ..tokens import MAX_TTL

if TYPE_CHECKING:
    from yarl import URL

S = TypeVar("S", bound=Sized)
Params = dict[str, list[object]]
"""The values of each param, in the order in which they were sent."""

MAX_PARAMS = 4096
_REMEMBERED = 500
_NOTHING_IN_PARTICULAR = Capability({ALL: ALL})

ABSENT: tuple[object, ...] = (None, "", "undefined", "null")
"""How SDKs write a value that is missing: browsers send the string `undefined`."""

# ably-php and hand-written clients append `?a=1` to a URL that already has a query.
_SECOND_QUERY = re.compile(r"(?<!\[)\?(?=[\w.\-%]+=)")
# `capability[chat:1][]=publish`, as ably-ruby nests it in a query.
_NESTED = re.compile(r"capability\[(?P<resource>.*)\]\[\]", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
_TIMEDELTA = re.compile(
    r"((?P<days>[0-9]{1,6}) days?, )?"
    r"(?P<hours>[0-9]{1,2}):(?P<minutes>[0-9]{2}):(?P<seconds>[0-9]{2}(\.[0-9]{1,6})?)"
)


def read_query(url: URL) -> Params:
    """The query of `url`. yarl decodes invalid percent-encoding leniently, so such a query is parsed here."""
    params: Params = {}
    raw, query = url.raw_query_string, url.query
    if "?" in raw or not raw.isascii() or len(query) > MAX_PARAMS:
        return _read_pairs(_SECOND_QUERY.sub("&", raw), "query")
    for name, value in query.items():
        if "%" in value or "\ufffd" in value or "%" in name or "\ufffd" in name:
            return _read_pairs(raw, "query")
        params.setdefault(name, []).append(value)
    return params


def read_form(body: bytes) -> Params:
    """An `application/x-www-form-urlencoded` body."""
    try:
        return _read_pairs(body.decode("ascii"), "form")
    except UnicodeDecodeError:
        raise BadRequest("the form body must be percent-encoded UTF-8") from None


def read_json(body: bytes) -> Params:
    """A JSON body: an object whose members are the params."""
    try:
        members = strict_json.loads(body)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(members, dict):
        raise BadRequest('the JSON body must be an object such as {"capability":{"chat:1":["publish"]}}')
    return {name: [value] for name, value in members.items()}


def _read_pairs(text: str, where: str) -> Params:
    params: Params = {}
    if not text:
        return params
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMS)
    except UnicodeDecodeError:
        raise BadRequest(f"the {where} is not percent-encoded UTF-8") from None
    except ValueError:
        raise BadRequest(f"the {where} has more than {MAX_PARAMS} fields") from None
    for name, value in pairs:
        params.setdefault(name, []).append(value)
    return params


def read_capability(params: Params) -> Capability:
    """The requested capability: `capability` in any dialect (TK2b), and `channel` with `operations`.

    `{"*":["*"]}`, which some SDKs send by default, requests nothing in particular. Raises InvalidCapability.
    """
    requested = parse_capability(last(params, "capability")) if "capability" in params else NOTHING
    nested: dict[str, list[object]] = {}
    for name, values in params.items():
        if (
            "[" in name
            and (match := _NESTED.fullmatch(name))
            and (named := [one for one in values if one != ""])
        ):
            nested[match["resource"]] = named
    if nested:
        requested = _limited(requested | Capability.parse(nested))
    if "channel" in params and (channels := _names(params, "channel")):
        operations = _names(params, "operations", split=True) or [ALL]
        requested = _limited(requested | Capability.parse(dict.fromkeys(channels, operations)))
    return requested


def parse_capability(value: object) -> Capability:
    """One capability: an object, JSON, or the repr of a Python dict."""
    if isinstance(value, str):
        return _parsed(value) if len(value) <= _REMEMBERED else _parsed.__wrapped__(value)
    if isinstance(value, Mapping):
        return _in_particular(Capability.parse(value))
    if value is None:
        return NOTHING
    raise InvalidCapability("capability must be a JSON object, or a string that contains one")


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Capability:
    """A capability as JSON or a Python repr. Short ones are cached: clients repeat them at each renewal."""
    if text in ABSENT:
        return NOTHING
    if text == "[object Object]":
        raise InvalidCapability(
            "capability arrived as '[object Object]': send JSON.stringify(capability) in authParams, or pass"
            " it to authorize() as a token param"
        )
    literal = _python_literal(text) if text.startswith(("{'", '{"')) and "'" in text else None
    return _in_particular(Capability.parse(text if literal is None else literal))


def _in_particular(requested: Capability) -> Capability:
    return NOTHING if requested == _NOTHING_IN_PARTICULAR else requested


def _python_literal(text: str) -> dict[str, object] | None:
    """The dict that `text` is the repr of, as ably-python sends it; None when it is not a dict."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            tree = ast.parse(text, mode="eval").body
            if not isinstance(tree, ast.Dict):
                return None
            pairs = [
                (key.value, ast.literal_eval(value))
                for key, value in zip(tree.keys, tree.values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if len(pairs) != len(tree.keys):
        return None
    if len(dict(pairs)) != len(pairs):
        raise InvalidCapability("capability names a resource twice")
    return dict(pairs)


def read_ttl(params: Params, *, seconds: bool) -> int | None:
    """The requested lifetime of the token in milliseconds (TK2a); None when there is none.

    `seconds` says that the SDK sends seconds. A number of seconds over Ably's 24 hours is taken for
    milliseconds: ably-cocoa's documentation tells its users to give them.
    """
    value = last(params, "ttl")
    if value in ABSENT:
        return None
    text = str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
    if _NUMBER.fullmatch(text):
        number = float(text)
        return int(number * 1000 if seconds and number * 1000 <= MAX_TTL else number) or None
    if match := _TIMEDELTA.fullmatch(text):
        days, hours, minutes = (int(match[unit] or 0) for unit in ("days", "hours", "minutes"))
        return int((((days * 24 + hours) * 60 + minutes) * 60 + float(match["seconds"])) * 1000)
    raise BadRequest(f"ttl {text[:50]!r} is not a number of milliseconds such as 3600000")


def read_client_id(params: Params, header: str | None) -> str | None:
    """The client id that the client claims, under any of its names; None when it claims none.

    `header` is X-Ably-ClientId, in base64: ably-java sends it beside the params (RSA7e2). Raises BadRequest
    when two names have different values.
    """
    requested: str | None = None
    for name in ("clientId", "client_id"):
        if name in params:
            requested = _same(requested, params[name][-1])
    return _same(requested, _from_base64(header)) if header else requested


def _same(requested: str | None, value: object) -> str | None:
    if value in ABSENT or value == requested:
        return requested
    if not isinstance(value, str):
        raise BadRequest("clientId must be a string")
    if requested is not None:
        raise BadRequest("clientId and client_id (or X-Ably-ClientId) differ; send one client id")
    return value


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        raise BadRequest("X-Ably-ClientId must be a client id in base64") from None


def read_drop(params: Params) -> tuple[str, ...]:
    """The released resources: `drop` once or repeated, or a JSON list of them."""
    return _limited(tuple(dict.fromkeys(_names(params, "drop"))))


def _limited(resources: S) -> S:
    if len(resources) > MAX_RESOURCES:
        raise BadRequest(f"more than {MAX_RESOURCES} resources are requested or dropped at once")
    return resources


def last(params: Params, name: str) -> object:
    """The value of `name` that counts, the last: token params follow auth params and win (RSA8c2)."""
    return params[name][-1] if name in params else None


def _names(params: Params, name: str, *, split: bool = False) -> list[str]:
    names: list[str] = []
    for value in params.get(name, ()):
        for one in _listed(value, name):
            if not isinstance(one, str):
                raise BadRequest(f"{name} must be a string, or a list of strings")
            names += [part.strip() for part in one.split(",")] if split else [one]
    return [one for one in names if one]


def _listed(value: object, name: str) -> Iterable[object]:
    if value in ABSENT:
        return ()
    if isinstance(value, str) and value.startswith('["'):
        try:
            value = strict_json.loads(value)
        except ValueError as error:
            raise BadRequest(f'{name} is not a JSON list such as ["chat:1","chat:2"]: {error}') from None
    return value if isinstance(value, list) else (value,)
