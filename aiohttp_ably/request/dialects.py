"""Read an auth request, in the dialect of each Ably SDK: query, body and headers."""

from __future__ import annotations

import ast
import base64
import re
import warnings
from collections.abc import Iterable, Mapping, Sized
from functools import lru_cache
from typing import TypeVar
from urllib.parse import parse_qsl, unquote

from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import istr
from yarl import URL

from ..capability import ALL, MAX_RESOURCES, NOTHING, Capability, strict_json
from ..errors import BadRequest, InvalidCapability, TooLarge
from ..tokens import MAX_TTL
from .auth_request import AuthRequest, Params

S = TypeVar("S", bound=Sized)
MAX_BODY = 128 * 1024
"""The longest body that an Ably SDK sends, in bytes."""
MAX_PARAMS = 4096

_CAPABILITY_HEADER = istr("Ably-Capability")
_CLIENT_ID_HEADER = istr("X-Ably-ClientId")
_PREFER = istr("Prefer")
_HANDLING = re.compile(r"(?:^|[,;\s])handling\s*=\s*\"?(strict|lenient)\b", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"
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


async def received_body(request: web.Request) -> bytes:
    """The body of `request`, of 128 KiB at most.

    Raises BadRequest when it did not arrive whole, and TooLarge when it is longer.
    """
    received = bytearray()
    try:
        if (request.content_length or 0) > MAX_BODY:
            raise _too_large()
        if request.content.at_eof():  # a middleware has read it already
            received += await request.read()
        else:
            async for chunk in request.content.iter_any():
                received += chunk
                if len(received) > MAX_BODY:
                    break
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except (ClientPayloadError, HttpProcessingError, web.RequestPayloadError):
        raise BadRequest("the body did not arrive whole, or is not encoded as its headers say") from None
    if len(received) > MAX_BODY:
        raise _too_large()
    return bytes(received)


def read_auth_request(request: web.Request, body: bytes) -> AuthRequest:
    """Read query, `body` and headers of `request`. A param in the body replaces the same in the query.

    Raises BadRequest when something is malformed.
    """
    params = read_query(request.rel_url)
    if body:
        params |= _in_body(request.headers.get(hdrs.CONTENT_TYPE, ""), body)
    auth = AuthRequest(request, sent=params)
    headers = request.headers
    if _CAPABILITY_HEADER in headers and last(params, "capability") in ABSENT:
        params = params | {"capability": [_header_capability(headers[_CAPABILITY_HEADER])]}
    auth.requested = read_capability(params)
    if "drop" in params:
        auth.drop = read_drop(params)
    if auth.drop and (both := sorted(set(auth.drop) & set(auth.requested))):
        raise BadRequest(f"{both[0][:100]!r} is requested and dropped in one request; send one of the two")
    if "ttl" in params:
        auth.ttl = read_ttl(params, seconds=_counts_in_seconds(params, headers))
    auth.requested_client_id = read_client_id(params, headers.get(_CLIENT_ID_HEADER))
    if (prefer := headers.get(_PREFER)) and (match := _HANDLING.search(prefer)):
        auth.strict = match[1].lower() == "strict"
    if accept := headers.get(hdrs.ACCEPT):
        auth.wants_jwt = "application/jwt" in accept and "application/json" not in accept
    return auth


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
        requested = Capability.parse(value)
        return NOTHING if requested == _NOTHING_IN_PARTICULAR else requested
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
    requested = Capability.parse(text if literal is None else literal)
    return NOTHING if "*" in text and requested == _NOTHING_IN_PARTICULAR else requested


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


def _in_body(content_type: str, body: bytes) -> Params:
    """The params in a POST body: a form or JSON, in UTF-8."""
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]+)", rest, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise BadRequest(f"charset {charset[1][:50]!r} is not accepted; send UTF-8")
    if kind == _FORM:
        return read_form(body)
    if kind == "application/json":
        return read_json(body)
    raise BadRequest(f"a body of type {kind[:100]!r} is not accepted; send {_FORM} or application/json")


def _too_large() -> TooLarge:
    return TooLarge(f"the body is over {MAX_BODY} bytes; request fewer resources at once")


def _header_capability(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("Ably-Capability is not percent-encoded UTF-8") from None


def _counts_in_seconds(params: Params, headers: Mapping[str, str]) -> bool:
    """Whether the SDK sends `ttl` in seconds: ably-ruby, and ably-cocoa, which also sends `format` on GET."""
    agent = headers.get("Ably-Agent") or headers.get(hdrs.USER_AGENT, "")
    return agent.startswith(("Ruby", "ably-ruby", "ably-cocoa")) or last(params, "format") in (
        "json",
        "msgpack",
    )
