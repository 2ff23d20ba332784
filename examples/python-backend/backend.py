"""A small chat backend that keeps the agent event contract (docs/contract.md), in one file and in memory.

    pip install -r requirements.txt && python backend.py --port 8000

docs/your-backend.md goes through it step by step. Read it from top to bottom: words, reading, accounts, threads, runs,
connections, HTTP. Everything happens on one event loop, so what has no `await` in between happens at once: an event gets its
`seq`, enters the log and is queued for every follower in one step, and a resume takes its place in between in one step too.

LEAVE_OUT=tool_completed makes it forget events of that type, to see how the suite takes it.
"""

import argparse
import asyncio
import base64
import json
import os
import re
import secrets
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone

# A header line of the library ends at 8 KiB; sub-protocols with tokens are longer (AUTH-2). Read when it is imported.
os.environ["WEBSOCKETS_MAX_LINE_LENGTH"] = str(64 * 1024)

import argon2  # noqa: E402
import jwt  # noqa: E402
import uvicorn  # noqa: E402
from fastapi import FastAPI, Request, WebSocket  # noqa: E402
from fastapi.responses import JSONResponse  # noqa: E402
from starlette.exceptions import HTTPException  # noqa: E402
from starlette.websockets import WebSocketDisconnect, WebSocketState  # noqa: E402
from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: E402
from uvicorn.protocols.websockets.websockets_impl import WebSocketProtocol  # noqa: E402

# ---- words ------------------------------------------------------------------------------------------------------------

LEFT_OUT = os.environ.get("LEAVE_OUT")
HEARTBEAT_MS = 15_000
HANDSHAKE_DEADLINE_S = 10
RUN_DEADLINE_S = 30
TOKEN_LIFE_S = 900
LOCK_S = 900
FAILED_LOGINS_MAX = 5
DEPTH_MAX = 64
LIMITS = {
    "message_bytes_max": 5 * 1024 * 1024,
    "content_chars_max": 8_000,
    "connections_per_user_max": 10,
    "connections_per_address_max": 10_000,
    "messages_per_minute_max": 60,
    "messages_burst_max": 20,
    "frames_per_second_max": 1_000,
    "threads_per_user_max": 1_000,
    "queue_frames_max": 4_096,
    "queue_bytes_max": 8 * 1024 * 1024,
    "logins_per_minute_max": 100_000,
}
# Code: HTTP status, what a client does about it (contract §9).
ERRORS = {
    "AUTH_REQUIRED": (401, "reauthenticate"),
    "AUTH_TOKEN_INVALID": (401, "reauthenticate"),
    "AUTH_TOKEN_EXPIRED": (401, "reauthenticate"),
    "AUTH_TOKEN_REVOKED": (401, "reauthenticate"),
    "AUTH_INVALID_CREDENTIALS": (401, "fix_request"),
    "AUTH_FORBIDDEN": (403, "none"),
    "AUTH_LOCKED": (423, "retry_after"),
    "JSON_PARSE_ERROR": (400, "fix_request"),
    "VALIDATION_ERROR": (400, "fix_request"),
    "UNKNOWN_MESSAGE_TYPE": (400, "fix_request"),
    "HANDSHAKE_REQUIRED": (400, "fix_request"),
    "EMAIL_TAKEN": (409, "fix_request"),
    "CONFLICT": (409, "none"),
    "RATE_LIMITED": (429, "retry_after"),
    "CONNECTION_LIMIT": (429, "retry_after"),
    "SLOW_CONSUMER": (429, "reconnect"),
    "THREAD_NOT_FOUND": (404, "fix_request"),
    "RUN_NOT_FOUND": (404, "fix_request"),
    "NOT_FOUND": (404, "fix_request"),
    "METHOD_NOT_ALLOWED": (405, "fix_request"),
    "INTERNAL_ERROR": (500, "retry"),
}


class Refusal(Exception):
    """An error of the contract: a frame on a WebSocket, a body over HTTP."""

    def __init__(self, code, message, details=None, retry_after_s=None):
        super().__init__(message)
        self.code, self.message, self.details, self.retry_after_s = code, message, details or {}, retry_after_s

    def body(self, correlation_id=None):
        body = {
            "type": "error",
            "error_code": self.code,
            "message": self.message,
            "details": self.details,
            "recovery": ERRORS[self.code][1],
            "timestamp": now(),
        }
        if self.retry_after_s is not None:
            body["retry_after_ms"] = max(1, round(self.retry_after_s * 1000))
        if correlation_id is not None:
            body["correlation_id"] = correlation_id
        return body


def wrong(pointer, expected):
    return Refusal("VALIDATION_ERROR", f"Send {expected} at {pointer or 'the root'}.", {"pointer": pointer, "expected": expected})


def no_thread():
    return Refusal("THREAD_NOT_FOUND", "There is no such thread of yours; list your threads to see them.")


def no_run():
    return Refusal("RUN_NOT_FOUND", "There is no such run of yours; ask for the status of your runs.")


def new_id(prefix):
    """A prefix and a UUIDv7: time in the first 48 bits."""
    bits = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return f"{prefix}_{uuid.UUID(int=bits)}"


def stamp(moment_ms):
    moment = datetime.fromtimestamp(moment_ms / 1000, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment_ms % 1000:03d}Z"


def now_ms():
    return time.time_ns() // 1_000_000


def now():
    return stamp(now_ms())


def to_json(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# ---- reading ----------------------------------------------------------------------------------------------------------


class Repeated(dict):
    """An object in which a key stood twice."""


def read_json(text):
    """A text as JSON, stricter than `json.loads` is by itself: no NaN, no repeated key, no lone surrogate, no abyss."""

    def object_of(pairs):
        made = dict(pairs)
        return made if len(made) == len(pairs) else Repeated(made)

    def no_constant(name):
        raise json.JSONDecodeError(f"no {name} in JSON", text, max(text.find(name), 0))

    try:
        return json.loads(
            text,
            object_pairs_hook=object_of,
            parse_constant=no_constant,
            parse_int=lambda digits: -0.0 if digits == "-0" else int(digits),
        )
    except RecursionError:
        raise wrong("", f"at most {DEPTH_MAX} levels") from None
    except json.JSONDecodeError as error:
        # Python points at the backslash of a bad escape, the fault is the character behind it.
        column = error.colno + (1 if error.msg.startswith("Invalid \\escape") else 0)
        details = {"line": error.lineno, "column": column}
        raise Refusal("JSON_PARSE_ERROR", f"Line {error.lineno}, column {column} is no JSON; send one object.", details) from None


def check_json(value, pointer="", depth=1):
    """What JSON allows and the contract does not (SEC-1)."""
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" or c == "\0" for c in value):
        raise wrong(pointer, "text without lone surrogates and U+0000")
    if not isinstance(value, (dict, list)):
        return
    if depth > DEPTH_MAX:
        raise wrong(pointer[:200], f"at most {DEPTH_MAX} levels")
    if isinstance(value, Repeated):
        raise wrong(pointer, "each key once")
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        check_json(key, pointer, depth)
        check_json(inner, f"{pointer}/{key}", depth + 1)


class Fields:
    """The fields of a client's object: at the root or in `payload`, null as if absent, pointers as the client wrote them."""

    def __init__(self, root):
        self.root = root
        self.payload = root.get("payload") or {}

    def find(self, *names):
        """The first of these names that has a value, and its pointer."""
        for name in names:
            for place, prefix in ((self.root, ""), (self.payload, "/payload")):
                if place.get(name) is not None:
                    return place[name], f"{prefix}/{name}"
        for name in names:
            if name in self.payload and name not in self.root:
                return None, f"/payload/{name}"
        return None, f"/{names[0]}"

    def get(self, kind, expected, *names, required=False, fits=lambda value: True):
        value, pointer = self.find(*names)
        if value is None and not required:
            return None
        # True is an int to Python and none to JSON.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)) or not fits(value):
            raise wrong(pointer, expected)
        return value

    def text(self, *names, most=None, least=0, required=False):
        expected = f"text of {least} to {most} characters" if most else "text"
        return self.get(str, expected, *names, required=required, fits=lambda text: least <= len(text) <= (most or len(text)))

    def count(self, name, least, most):
        return self.get(int, f"an integer from {least} to {most}", name, fits=lambda n: least <= n <= most)

    def object(self, name):
        return self.get(dict, "an object", name)


def envelope(message):
    """Judges what every message has in common; says its type and id."""
    if not isinstance(message, dict):
        raise wrong("", "an object")
    if not isinstance(message.get("type"), str):
        raise wrong("/type", "the message's type, text")
    if not isinstance(message.get("payload"), (dict, type(None))):
        raise wrong("/payload", "an object")
    fields = Fields(message)
    message_id = fields.text("message_id", least=1, most=128)
    fields.text("thread_id")
    timestamp = fields.text("timestamp")
    if timestamp is not None:
        try:
            datetime.fromisoformat(timestamp)
        except ValueError:
            raise wrong(fields.find("timestamp")[1], "a moment as in RFC 3339") from None
    return message["type"], message_id


def id_of(message):
    """The id of a message that is refused before it was read, where it has a good one."""
    with suppress(Refusal, UnicodeError):
        message_id = envelope(message)[1]
        message_id is None or message_id.encode()
        return message_id
    return None


class Bucket:
    """A token bucket: so many at once, so many a second."""

    def __init__(self, size, per_second):
        self.size, self.per_second = size, per_second
        self.level, self.at = size, time.monotonic()

    def take(self):
        """None where one was left, else the seconds until one is."""
        moment = time.monotonic()
        self.level = min(self.size, self.level + (moment - self.at) * self.per_second)
        self.at = moment
        if self.level >= 1:
            self.level -= 1
            return None
        return (1 - self.level) / self.per_second


# ---- accounts ---------------------------------------------------------------------------------------------------------

SECRET = os.environ.get("JWT_SECRET") or secrets.token_hex(32)
ISSUER = AUDIENCE = "python-backend"
HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
# An unknown address costs as much time as a wrong password.
NOBODYS_HASH = HASHER.hash(secrets.token_hex(16))


@dataclass
class User:
    email: str
    name: str | None
    password_hash: str
    id: str = field(default_factory=lambda: new_id("user"))
    failed_logins: int = 0
    locked_until: float = 0
    threads: dict = field(default_factory=dict)
    runs: dict = field(default_factory=dict)
    connections: set = field(default_factory=set)
    frames: Bucket = field(default_factory=lambda: Bucket(LIMITS["frames_per_second_max"], LIMITS["frames_per_second_max"]))
    messages: Bucket = field(default_factory=lambda: Bucket(LIMITS["messages_burst_max"], LIMITS["messages_per_minute_max"] / 60))


USERS = {}  # by id
EMAILS = {}  # by address in lower case
REFRESH = {}  # refresh token: (user, family, whether it was used)
REVOKED = set()  # families of tokens
TICKETS = {}  # ticket: (claims, monotonic moment of its end, whether it works once)


def issue(user, family=None):
    family = family or secrets.token_hex(8)
    refresh_token = "refresh_" + secrets.token_urlsafe(32)
    REFRESH[refresh_token] = [user, family, False]
    moment = int(time.time())
    claims = {
        "sub": user.id,
        "family": family,
        "jti": secrets.token_hex(8),
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": moment,
        "exp": moment + TOKEN_LIFE_S,
    }
    return {
        "user_id": user.id,
        "email": user.email,
        "access_token": jwt.encode(claims, SECRET, "HS256"),
        "refresh_token": refresh_token,
        "token_type": "Bearer",
        "expires_in_ms": TOKEN_LIFE_S * 1000,
    }


def claims_of(token):
    """The claims of a good token."""
    try:
        options = {"require": ["exp", "sub", "family"]}
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER, options=options)
    except jwt.ExpiredSignatureError:
        raise Refusal("AUTH_TOKEN_EXPIRED", "The token has expired; refresh it or log in again.") from None
    except (jwt.InvalidTokenError, UnicodeError):
        raise Refusal("AUTH_TOKEN_INVALID", "The token is not one of ours; log in again.") from None
    if claims["family"] in REVOKED:
        raise Refusal("AUTH_TOKEN_REVOKED", "The token was revoked; log in again.")
    if claims["sub"] not in USERS:
        raise Refusal("AUTH_TOKEN_INVALID", "The token is not one of ours; log in again.")
    return claims


def revoke(family):
    REVOKED.add(family)
    for user in USERS.values():
        for connection in list(user.connections):
            if connection.claims["family"] == family:
                refusal = Refusal("AUTH_TOKEN_REVOKED", "The token was revoked; log in again.")
                connection.end(4401, refusal)


def bearer(headers):
    value = headers.get("authorization")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def of_protocol(offered):
    """The token in an offered sub-protocol; None where it is not meant to carry one."""
    for prefix in ("jwt.", "jwt-auth.", "bearer.", "staging-auth."):
        if offered.startswith(prefix):
            token = re.sub(r"^(local|development|staging|production)\.", "", offered[len(prefix) :])
            if token.count(".") == 2:
                return token
            with suppress(ValueError):
                return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii")
            return token
    return None


def credential(websocket):
    """Judges who asks for a WebSocket: the first carrier present decides. Says claims and sub-protocol."""
    header = ",".join(websocket.headers.getlist("sec-websocket-protocol"))
    for offered in header.replace(" ", "").split(","):
        token = of_protocol(offered)
        if token is not None:
            return claims_of(token), offered
    token = bearer(websocket.headers)
    if token is not None:
        return claims_of(token), None
    ticket = websocket.query_params.get("ticket")
    if ticket is not None:
        claims, ends, _ = TICKETS.get(ticket, (None, 0, True))
        if claims is None or time.monotonic() > ends or claims["family"] in REVOKED:
            raise Refusal("AUTH_TOKEN_INVALID", "The ticket is not one of ours or was used; get another.")
        return claims, None
    token = websocket.query_params.get("token")
    if token is not None:
        return claims_of(token), None
    raise Refusal("AUTH_REQUIRED", "Log in and bring the token.")


# ---- threads ----------------------------------------------------------------------------------------------------------


class Thread:
    """One conversation: a log of events, as the texts that were sent."""

    def __init__(self, user, title=None, metadata=None):
        self.id, self.user, self.title, self.metadata = new_id("thread"), user, title, metadata or {}
        self.epoch = secrets.token_hex(8)
        self.events = []
        self.messages = []
        self.by_message_id = {}
        self.followers = set()
        self.turn = asyncio.Lock()  # runs of a thread follow one another
        self.last_ms = 0
        self.is_listed = True  # the offered thread is, from its first use
        self.created = self.updated = now()

    def append(self, run, event_type, correlation_id=None, **fields):
        """Gives an event its place, stores it, sends it: in one step. Says its time."""
        self.last_ms = max(self.last_ms, now_ms())
        if event_type == LEFT_OUT:
            return self.last_ms
        event = {
            "type": event_type,
            "event_id": new_id("event"),
            "seq": len(self.events) + 1,
            "timestamp": stamp(self.last_ms),
            "user_id": self.user.id,
            "thread_id": self.id,
            "run_id": run.id,
            "agent_name": AGENT,
            "correlation_id": correlation_id or run.message_id,
        } | fields
        text = to_json(event)
        self.events.append(text)
        self.updated = event["timestamp"]
        for connection in list(self.followers):
            connection.send_text(text)
        return self.last_ms

    def position(self, resume):
        """Where a follower begins, and the events that it lacks."""
        last = len(self.events)
        recovered = resume is not None and resume[0] == self.epoch and resume[1] <= last
        position = {"thread_id": self.id, "epoch": self.epoch, "recovered": recovered, "oldest_seq": 1, "last_seq": last}
        return position, self.events[resume[1] :] if recovered else []

    def summary(self):
        return {
            "thread_id": self.id,
            "title": self.title,
            "metadata": self.metadata,
            "last_seq": len(self.events),
            "created_at": self.created,
            "updated_at": self.updated,
        }

    def history(self, limit, before):
        end = min(len(self.events), (before or len(self.events) + 1) - 1)
        start = max(0, end - (limit or 50))
        return {
            "thread_id": self.id,
            "events": [json.loads(text) for text in self.events[start:end]],
            "messages": self.messages,
            "has_more": start > 0,
            "timestamp": now(),
        }

    def said(self, message_id, role, content, metadata):
        entry = {"message_id": message_id, "role": role, "content": content, "metadata": metadata or {}, "timestamp": now()}
        self.messages.append(entry)


def create_thread(user, fields):
    title = fields.text("title", most=256)
    thread = Thread(user, title, fields.object("metadata"))
    user.threads[thread.id] = thread
    return thread


def thread_of(user, thread_id):
    thread = user.threads.get(thread_id)
    if thread is None:
        raise no_thread()
    return thread


def page_of_threads(user, limit, cursor, pointer):
    threads = [thread for thread in reversed(user.threads.values()) if thread.is_listed]
    start = 0
    if cursor is not None:
        ids = [thread.id for thread in threads]
        if cursor not in ids:
            raise wrong(pointer, "a cursor that we gave")
        start = ids.index(cursor) + 1
    page = threads[start : start + (limit or 50)]
    more = start + len(page) < len(threads)
    return {"threads": [thread.summary() for thread in page], "next_cursor": page[-1].id if more else None}


# ---- runs -------------------------------------------------------------------------------------------------------------

AGENT = "assistant"


class Stopped(Exception):
    """The user stopped the run."""


class Run:
    """One execution of the agent. Whatever happens to it, it ends in exactly one `agent_completed`."""

    def __init__(self, thread, message_id, content):
        self.id, self.thread, self.message_id, self.content = new_id("run"), thread, message_id, content
        self.status, self.accepted, self.ended, self.final_response = "queued", now(), None, None
        self.usage = {"input_tokens": 0, "output_tokens": 0, "cost_microusd": 0}
        self.stop = None  # (message_id, reason) of the request to stop
        self.stopping = asyncio.Event()
        self.task = asyncio.create_task(self.execute())

    @property
    def is_open(self):
        return self.status in ("queued", "running")

    def state(self):
        state = {
            "run_id": self.id,
            "thread_id": self.thread.id,
            "status": self.status,
            "agent_name": AGENT,
            "accepted_at": self.accepted,
            "usage": self.usage,
        }
        return state | ({"ended_at": self.ended} if self.ended else {})

    def say(self, event_type, **fields):
        return self.thread.append(self, event_type, **fields)

    async def execute(self):
        async with self.thread.turn:
            self.status = "running"
            context = {"agent_names": [AGENT], "input_chars": len(self.content)}
            if self.thread.title:
                context["thread_title"] = self.thread.title
            began = self.say("agent_started", status="started", message="I am on it.", context=context)
            quoted = " ".join(self.content.split())[:500]
            self.say("agent_thinking", reasoning=f"The user says “{quoted}”; I count its words.", step_number=1)
            answer, error = None, None
            try:
                async with asyncio.timeout(RUN_DEADLINE_S):
                    answer = await self.answer()
                status = "completed"
            except Stopped:
                status = "cancelled"
            except TimeoutError:
                status, error = "timed_out", {"error_code": "AGENT_TIMEOUT", "message": "The answer took too long; ask again."}
            except Exception:  # a fault of ours must not leave the run open
                status, error = "failed", {"error_code": "AGENT_FAILED", "message": "The agent failed; ask again."}
            self.finish(began, status, answer, error)

    def finish(self, began, status, answer, error):
        if self.stop is not None:  # whoever asked to stop is told, also where the answer was just ready
            status = "cancelled"
            message_id, reason = self.stop
            self.say("agent_stopped", correlation_id=message_id, reason=reason or "the user stopped it")
        self.status, self.ended = status, now()
        self.final_response = answer or "I could not finish this."
        self.usage = {"input_tokens": len(self.content) // 4 + 1, "output_tokens": len(self.final_response) // 4 + 1}
        self.usage["cost_microusd"] = self.usage["input_tokens"] + 4 * self.usage["output_tokens"]
        self.thread.said(new_id("message"), "assistant", self.final_response, None)
        self.say(
            "agent_completed",
            status=status,
            success=status == "completed",
            final_response=self.final_response,
            result={"answer": self.final_response},
            summary=self.final_response[:100],
            duration_ms=max(self.thread.last_ms, now_ms()) - began,
            usage=self.usage,
            **({"error": error} if error else {}),
        )

    async def answer(self):
        """What the agent does. A language model would stand here."""
        await self.pause(0)
        long = re.search(r"work for (\d{1,3}) seconds", self.content)
        if long:
            await self.tool("work", {"seconds": int(long[1])}, "Takes its time", lambda: self.work(int(long[1])))
        if "use a broken tool" in self.content:
            await self.tool("broken", {}, "Shows how a tool fails", self.broken)
        words = await self.tool("count_words", {"chars": len(self.content)}, "Counts the words of the message", self.count_words)
        return f"Your message has {words['words']} words." if words else "I could not count your words."

    async def tool(self, name, parameters, purpose, work):
        """Runs a tool between its two events, which come whatever happens. Says its results, None where it failed."""
        execution = {"execution_id": new_id("execution"), "tool_name": name}
        began = self.say("tool_executing", **execution, parameters=parameters, tool_purpose=purpose)
        results, code, message = None, "TOOL_FAILED", ""
        try:
            results = await work()
            status = "success"
            return results
        except Stopped:
            status, message = "cancelled", "The run was stopped."
            raise
        except asyncio.CancelledError:
            status, code, message = "timeout", "TOOL_TIMEOUT", "The run's time was over."
            raise
        except Exception as error:
            status, message = "error", str(error)
            return None
        finally:
            outcome = {"results": results} if results is not None else {"error": {"error_code": code, "message": message}}
            duration = max(self.thread.last_ms, now_ms()) - began
            self.say("tool_completed", **execution, success=results is not None, status=status, duration_ms=duration, **outcome)

    async def count_words(self):
        await self.pause(0.01)
        return {"words": len(self.content.split())}

    async def broken(self):
        await self.pause(0.01)
        raise RuntimeError("The tool is broken on purpose.")

    async def work(self, seconds):
        # No silence above 5 s in an open run (TIM-2).
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            await self.pause(min(left, 2))
            self.say("progress_update", message=f"{max(0, round(left - 2))} s are left.")
        return {"seconds": seconds}

    async def pause(self, seconds):
        """Waits, and ends at once where the user stops the run."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        if self.stop is not None:
            raise Stopped


def accept(user, thread, message_id, fields):
    """A `user_message`: stores it and starts its run; a repeated id names the first one, before any limit."""
    if message_id in thread.by_message_id:
        return thread.by_message_id[message_id]
    wait_s = user.messages.take()
    if wait_s is not None:
        raise Refusal("RATE_LIMITED", "Too many messages; wait and send it again.", retry_after_s=wait_s)
    content = fields.text("content", "text", "message", required=True)
    thread.said(message_id, "user", content, fields.object("metadata"))
    thread.is_listed = True
    run = Run(thread, message_id, content)
    thread.by_message_id[message_id] = user.runs[run.id] = run
    return run


def judge_user_message(fields):
    fields.text("content", "text", "message", least=1, most=LIMITS["content_chars_max"], required=True)
    fields.get(list, "a list", "references")
    fields.object("metadata")


# ---- connections ------------------------------------------------------------------------------------------------------

ALIASES = {
    "chat_message": "user_message",
    "chat": "user_message",
    "message": "user_message",
    "user_input": "user_message",
    "execute_agent": "start_agent",
    "agent_request": "start_agent",
}
BEFORE_HANDSHAKE = {"handshake_acknowledged", "ping", "pong", "heartbeat", "heartbeat_ack", "auth", "disconnect"}


class Connection:
    """One WebSocket. A task of its own writes what is queued, so that a slow reader delays no one else."""

    def __init__(self, websocket, user, claims):
        self.websocket, self.user, self.claims = websocket, user, claims
        self.id = new_id("connection")
        self.outbox = asyncio.Queue()
        self.queued_bytes = 0
        self.following = set()
        self.offered = Thread(user)
        self.offered.is_listed = False
        self.own = None  # the thread that messages without `thread_id` mean
        self.acknowledged = asyncio.Event()
        self.ending = None

    # -- sending --

    def send(self, frame_type, correlation_id=None, **fields):
        frame = {"type": frame_type, **fields}
        if correlation_id is not None:
            frame["correlation_id"] = correlation_id
        self.send_text(to_json(frame | {"timestamp": now()}))

    def send_text(self, text):
        if self.ending is not None:
            return
        self.queued_bytes += len(text)
        if self.outbox.qsize() >= LIMITS["queue_frames_max"] or self.queued_bytes > LIMITS["queue_bytes_max"]:
            self.end(4409, Refusal("SLOW_CONSUMER", "You read too slowly; connect again and resume."))
            return
        self.outbox.put_nowait(text)

    def end(self, code, refusal=None):
        """Closes with a code, after what is queued and an error where there is one."""
        if self.ending is None:
            if refusal is not None:
                self.outbox.put_nowait(to_json(refusal.body()))
            self.ending = code
            self.outbox.put_nowait(None)
            self.unfollow_all()

    async def write(self):
        while (text := await self.outbox.get()) is not None:
            self.queued_bytes -= len(text)
            await self.websocket.send_text(text)
        await self.websocket.close(self.ending)

    # -- life --

    async def run(self):
        self.send(
            "connection_established",
            connection_id=self.id,
            server_version="python-backend 1",
            protocol_version="1",
            heartbeat_interval_ms=HEARTBEAT_MS,
            limits=LIMITS,
        )
        self.send(
            "handshake_response",
            thread_id=self.offered.id,
            run_id=new_id("run"),
            request_id=new_id("request"),
            session_token=secrets.token_urlsafe(16),
            message="Acknowledge to begin.",
        )
        tasks = [asyncio.create_task(work()) for work in (self.write, self.read, self.watch_handshake, self.watch_token)]
        try:
            # Writing ends with the connection's close, reading with the peer's end; the two watches only ask for an end.
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.user.connections.discard(self)
            self.unfollow_all()
            self.ending = self.ending or 1000
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def watch_handshake(self):
        try:
            await asyncio.wait_for(self.acknowledged.wait(), HANDSHAKE_DEADLINE_S)
        except TimeoutError:
            self.end(4408)

    async def watch_token(self):
        while (left := self.claims["exp"] - time.time()) > 0:
            await asyncio.sleep(min(left, 1))
        self.end(4401, Refusal("AUTH_TOKEN_EXPIRED", "The token has expired; refresh it and connect again."))

    async def read(self):
        while True:
            frame = await self.websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return
            if self.ending is not None:
                continue
            if frame.get("text") is None:
                self.end(1003)
                continue
            message = None
            try:
                message = read_json(frame["text"])
                if isinstance(message, dict) and message.get("type") == "batch":
                    check_json({key: value for key, value in message.items() if key not in ("messages", "payload")})
                else:
                    check_json(message)
                self.handle(message)
            except Refusal as refusal:
                self.send_text(to_json(refusal.body(id_of(message))))
            # A flood of one connection gives the others their turn.
            await asyncio.sleep(0)

    # -- messages --

    def handle(self, message, in_batch=False):
        """One message, alone or in a batch; its answer or refusal is queued."""
        message_id = None
        try:
            kind, message_id = envelope(message)
            name = ALIASES.get(kind, kind)
            answer = getattr(self, f"on_{name}", None) if re.fullmatch("[a-z_]+", name) else None
            if answer is None:
                shown = kind[:200]
                raise Refusal("UNKNOWN_MESSAGE_TYPE", f"There is no message type {shown!r}; see the contract.", {"message_type": shown})
            if not self.acknowledged.is_set() and name not in BEFORE_HANDSHAKE:
                raise Refusal("HANDSHAKE_REQUIRED", "Send handshake_acknowledged before anything else.")
            if in_batch and name == "batch":
                raise wrong("/type", "no batch in a batch")
            fields = Fields(message)
            if name != "user_message" and (wait_s := self.user.frames.take()) is not None:
                raise Refusal("RATE_LIMITED", "Too many messages; wait and send it again.", retry_after_s=wait_s)
            answer(fields, message_id or new_id("message"))
        except Refusal as refusal:
            self.send_text(to_json(refusal.body(message_id)))
        except Exception:  # a fault of ours in one message must not end the connection
            self.send_text(to_json(Refusal("INTERNAL_ERROR", "Something broke on our side; try again.").body(message_id)))
            raise

    def thread(self, fields, required=False):
        """The thread that a message means: its own where none is named."""
        thread_id = fields.text("thread_id", required=required)
        if thread_id is not None:
            return thread_of(self.user, thread_id)
        if self.own is None:
            raise no_thread()
        return self.own

    def follow(self, thread):
        self.following.add(thread)
        thread.followers.add(self)

    def unfollow_all(self):
        for thread in self.following:
            thread.followers.discard(self)
        self.following.clear()

    def on_handshake_acknowledged(self, fields, message_id):
        thread_id = fields.text("thread_id")
        points = {}
        resume, pointer = fields.find("resume")
        if resume is not None and not isinstance(resume, list):
            raise wrong(pointer, "a list")
        for place, entry in enumerate(resume or []):
            here = f"{pointer}/{place}"
            if not isinstance(entry, dict) or not isinstance(entry.get("thread_id"), str):
                raise wrong(here if not isinstance(entry, dict) else f"{here}/thread_id", "a thread to go on with")
            if entry["thread_id"] in points:
                raise wrong(f"{here}/thread_id", "each thread once")
            points[entry["thread_id"]] = resume_point(entry, here)
        # The offered thread is found like any other from here on.
        self.user.threads.setdefault(self.offered.id, self.offered)
        own = self.offered if thread_id is None else thread_of(self.user, thread_id)
        threads = [own] + [thread_of(self.user, one) for one in points if one != own.id]
        self.own = own
        positions, lacking = [], []
        for thread in threads:
            position, events = thread.position(points.get(thread.id))
            positions.append(position)
            lacking += events
            self.follow(thread)
        self.acknowledged.set()
        self.send("handshake_complete", message_id, threads=positions)
        for text in lacking:
            self.send_text(text)

    def on_user_message(self, fields, message_id):
        judge_user_message(fields)
        thread = self.thread(fields)
        self.follow(thread)
        run = accept(self.user, thread, message_id, fields)
        self.send("message_received", message_id, message_id=message_id, run_id=run.id, thread_id=thread.id)

    def on_stop_agent(self, fields, message_id):
        run_id, reason = fields.text("run_id", required=True), fields.text("reason", most=1_000)
        run = self.user.runs.get(run_id)
        if run is None:
            raise no_run()
        if not run.is_open or run.stop is not None:
            raise Refusal("CONFLICT", "The run has ended or is being stopped already.")
        self.follow(run.thread)
        run.stop = (message_id, reason if reason and reason.strip() else None)
        run.stopping.set()

    def on_agent_status_request(self, fields, message_id):
        run_id = fields.text("run_id")
        if run_id is not None and run_id not in self.user.runs:
            raise no_run()
        runs = [self.user.runs[run_id]] if run_id else [run for run in self.user.runs.values() if run.is_open]
        self.send("agent_status_update", message_id, runs=[run.state() for run in runs])

    def on_confirmation(self, fields, message_id):
        fields.text("event_id", required=True)
        fields.get(str, "confirmed or failed", "status", required=True, fits=lambda status: status in ("confirmed", "failed"))

    def on_create_thread(self, fields, message_id):
        thread = create_thread(self.user, fields)
        self.follow(thread)
        self.own = thread
        told = {"thread_id": thread.id, "title": thread.title, "metadata": thread.metadata, "epoch": thread.epoch}
        self.send("thread_created", message_id, **told)

    def on_list_threads(self, fields, message_id):
        limit, cursor = fields.count("limit", 1, 100), fields.text("cursor")
        self.send("thread_list", message_id, **page_of_threads(self.user, limit, cursor, fields.find("cursor")[1]))

    def on_switch_thread(self, fields, message_id):
        fields.text("thread_id", required=True)
        resume = fields.object("resume")
        point = None if resume is None else resume_point(resume, fields.find("resume")[1])
        thread = self.thread(fields, required=True)
        position, lacking = thread.position(point)
        self.follow(thread)
        self.own = thread
        self.send("thread_switched", message_id, **position)
        for text in lacking:
            self.send_text(text)

    def on_rename_thread(self, fields, message_id):
        fields.text("thread_id", required=True)
        title = fields.text("title", least=1, most=256, required=True)
        thread = self.thread(fields, required=True)
        thread.title, thread.is_listed = title, True
        self.send("thread_renamed", message_id, thread_id=thread.id, title=title)

    def on_delete_thread(self, fields, message_id):
        thread = self.thread(fields, required=True)
        delete_thread(thread)
        self.send("thread_deleted", message_id, thread_id=thread.id)

    def on_get_thread_history(self, fields, message_id):
        limit = fields.count("limit", 1, 100)
        before = fields.get(int, "a seq", "before", fits=lambda seq: seq >= 0)
        self.send("thread_history", message_id, **self.thread(fields).history(limit, before))

    def on_ping(self, fields, message_id):
        self.send("pong", message_id)

    def on_heartbeat(self, fields, message_id):
        self.send("heartbeat_ack", message_id)

    def on_pong(self, fields, message_id):
        """Nothing to say."""

    on_heartbeat_ack = on_pong

    def on_auth(self, fields, message_id):
        claims = claims_of(fields.text("token", required=True))
        if claims["sub"] != self.user.id:
            raise Refusal("AUTH_FORBIDDEN", "That token is another user's; nothing was changed.")
        self.claims = claims
        self.send("auth_completed", message_id, expires_at=stamp(claims["exp"] * 1000))

    def on_typing_started(self, fields, message_id, frame_type="typing_started"):
        thread = self.thread(fields)
        self.relay(frame_type, message_id, {self}, thread_id=thread.id)

    def on_typing_stopped(self, fields, message_id):
        self.on_typing_started(fields, message_id, "typing_stopped")

    def on_broadcast(self, fields, message_id):
        content = fields.text("content", least=1, most=LIMITS["content_chars_max"], required=True)
        self.relay("broadcast", message_id, set(), content=content)

    def relay(self, frame_type, message_id, without, **told):
        for connection in self.user.connections - without:
            if connection.acknowledged.is_set():
                connection.send(frame_type, message_id, connection_id=self.id, **told)

    def on_example_message(self, fields, message_id):
        fields.text("content", least=1, most=LIMITS["content_chars_max"], required=True)
        fields.text("category", least=1, most=100, required=True)
        self.on_user_message(fields, message_id)

    def on_get_agent_context(self, fields, message_id):
        thread = self.thread(fields)
        self.send("agent_context", message_id, thread_id=thread.id, context={"messages": len(thread.messages)})

    def on_get_quality_metrics(self, fields, message_id):
        run = self.user.runs.get(fields.text("run_id", required=True))
        if run is None:
            raise no_run()
        types = [event["type"] for event in map(json.loads, run.thread.events) if event["run_id"] == run.id]
        metrics = {"events": len(types), "tools": types.count("tool_executing")}
        self.send("quality_metrics", message_id, run_id=run.id, metrics=metrics)

    def on_validate_content(self, fields, message_id):
        content, content_type = fields.text("content", required=True), fields.text("content_type", required=True)
        expected = None
        if content_type == "json":
            try:
                read_json(content)
            except Refusal:
                expected = "JSON"
        elif not content.strip() or len(content) > LIMITS["content_chars_max"]:
            expected = f"text of 1 to {LIMITS['content_chars_max']} characters"
        issues = [{"pointer": "/content", "expected": expected}] if expected else []
        told = {"valid": expected is None, "content_type": content_type, "issues": issues}
        self.send("content_validation_result", message_id, **told)

    def on_get_usage(self, fields, message_id):
        self.send("usage_report", message_id, **usage_of(self.user, fields.find("period")))

    def on_batch(self, fields, message_id):
        fits = lambda messages: 1 <= len(messages) <= 50  # noqa: E731
        for message in fields.get(list, "1 to 50 messages", "messages", required=True, fits=fits):
            if self.ending is not None:
                return
            try:
                check_json(message)
            except Refusal as refusal:
                self.send_text(to_json(refusal.body(id_of(message))))
                continue
            self.handle(message, in_batch=True)

    def on_disconnect(self, fields, message_id):
        fields.text("reason", most=1_000)
        self.end(1000)


def resume_point(entry, pointer):
    epoch, after = entry.get("epoch"), entry.get("after")
    if not isinstance(epoch, str):
        raise wrong(f"{pointer}/epoch", "an epoch, text")
    if not isinstance(after, int) or isinstance(after, bool) or after < 0:
        raise wrong(f"{pointer}/after", "a seq, an integer of at least 0")
    return epoch, after


def delete_thread(thread):
    thread.user.threads.pop(thread.id, None)
    for connection in list(thread.followers):
        connection.following.discard(thread)
        if connection.own is thread:
            connection.own = None
    thread.followers.clear()


def usage_of(user, found):
    period, pointer = found
    if period is not None and period not in ("day", "week", "month", "all"):
        raise wrong(pointer, "day, week, month or all")
    ended = [run.usage for run in user.runs.values() if not run.is_open]  # nothing here is older than a day
    usage = {name: sum(one[name] for one in ended) for name in ("input_tokens", "output_tokens", "cost_microusd")}
    return {"period": period or "month", "runs": len(ended), "usage": usage}


# ---- HTTP -------------------------------------------------------------------------------------------------------------

app = FastAPI(redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None)


def answer(status, body):
    return JSONResponse(body, status)


def refused(refusal):
    headers = {"WWW-Authenticate": "Bearer"} if ERRORS[refusal.code][0] == 401 else {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    return JSONResponse(refusal.body(), ERRORS[refusal.code][0], headers)


@app.exception_handler(Refusal)
async def on_refusal(request, refusal):
    return refused(refusal)


@app.exception_handler(HTTPException)
async def on_http_exception(request, error):
    # The framework's own bodies are not those of the contract.
    if error.status_code == 405:
        return refused(Refusal("METHOD_NOT_ALLOWED", "The path takes another method."))
    # An id with a slash or a line break in it fits no route, and is no other than one that never was (ISO-2).
    for prefix, unknown in (("/api/threads/", no_thread), ("/api/runs/", no_run)):
        if request.url.path.startswith(prefix) and request.url.path != prefix:
            try:
                caller(request)
            except Refusal as refusal:
                return refused(refusal)
            return refused(unknown())
    return refused(Refusal("NOT_FOUND", "There is nothing under this path."))


@app.exception_handler(Exception)
async def on_fault(request, error):
    return refused(Refusal("INTERNAL_ERROR", "Something broke on our side; try again."))


async def body_of(request):
    """The fields of a JSON body."""
    try:
        text = (await request.body()).decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("JSON_PARSE_ERROR", "The body is not UTF-8.", {"line": 1, "column": 1}) from None
    body = read_json(text)
    check_json(body)
    if not isinstance(body, dict):
        raise wrong("", "an object")
    if not isinstance(body.get("payload"), (dict, type(None))):
        raise wrong("/payload", "an object")
    return Fields(body)


def caller(request):
    token = bearer(request.headers)
    if not token:
        raise Refusal("AUTH_REQUIRED", "Log in and bring the token.")
    claims = claims_of(token)
    return USERS[claims["sub"]], claims


@app.post("/auth/register")
async def register(request: Request):
    fields = await body_of(request)
    email = fields.get(str, "an e-mail address", "email", required=True, fits=lambda text: re.fullmatch(r"[^@\s]+@[^@\s]+", text))
    password = fields.text("password", least=12, most=128, required=True)
    name = fields.text("name", most=256)
    password_hash = await asyncio.to_thread(HASHER.hash, password)
    if email.lower() in EMAILS:
        raise Refusal("EMAIL_TAKEN", "The address has an account; log in.")
    user = User(email, name, password_hash)
    USERS[user.id] = EMAILS[email.lower()] = user
    return answer(201, issue(user))


@app.post("/auth/login")
async def login(request: Request):
    fields = await body_of(request)
    email, password = fields.text("email", required=True), fields.text("password", required=True)
    user = EMAILS.get(email.lower())
    if user is not None and time.monotonic() < user.locked_until:
        wait_s = user.locked_until - time.monotonic()
        raise Refusal("AUTH_LOCKED", "Too many wrong passwords; wait and log in again.", retry_after_s=wait_s)
    try:
        await asyncio.to_thread(HASHER.verify, user.password_hash if user else NOBODYS_HASH, password)
    except argon2.exceptions.VerificationError:
        if user is not None:
            user.failed_logins += 1
            if user.failed_logins >= FAILED_LOGINS_MAX:
                user.failed_logins, user.locked_until = 0, time.monotonic() + LOCK_S
        raise Refusal("AUTH_INVALID_CREDENTIALS", "Address or password is wrong.") from None
    user.failed_logins = 0
    return answer(200, issue(user))


@app.post("/auth/refresh")
async def refresh(request: Request):
    token = (await body_of(request)).text("refresh_token", required=True)
    if token not in REFRESH:
        raise Refusal("AUTH_TOKEN_INVALID", "The refresh token is not one of ours; log in again.")
    user, family, was_used = REFRESH[token]
    if was_used:  # somebody has a copy: nobody may go on with this family
        revoke(family)
    if family in REVOKED:
        raise Refusal("AUTH_TOKEN_REVOKED", "The refresh token was revoked; log in again.")
    REFRESH[token][2] = True
    return answer(200, issue(user, family))


@app.post("/auth/logout")
async def logout(request: Request):
    _, claims = caller(request)
    revoke(claims["family"])
    return answer(200, {})


@app.get("/auth/me")
async def me(request: Request):
    user, _ = caller(request)
    return answer(200, {"user_id": user.id, "email": user.email} | ({"name": user.name} if user.name else {}))


@app.post("/api/websocket/ticket")
async def ticket(request: Request):
    _, claims = caller(request)
    fields = await body_of(request)
    ttl = fields.count("ttl_seconds", 30, 3_600) or 300
    once = fields.get(bool, "true or false", "single_use")
    once = True if once is None else once
    made = secrets.token_urlsafe(32)
    TICKETS[made] = (claims, time.monotonic() + ttl, once)
    told = {"ticket": made, "ttl_seconds": ttl, "single_use": once, "expires_at": stamp(now_ms() + ttl * 1000)}
    return answer(201, told | {"websocket_url": f"ws://{request.headers['host']}/ws?ticket={made}"})


@app.post("/api/threads")
async def make_thread(request: Request):
    user, _ = caller(request)
    return answer(201, create_thread(user, await body_of(request)).summary())


@app.get("/api/threads")
async def list_threads(request: Request):
    user, _ = caller(request)
    limit = number(request.query_params.get("limit"), "/limit", 1, 100)
    return answer(200, page_of_threads(user, limit, request.query_params.get("cursor"), "/cursor"))


@app.get("/api/threads/{thread_id}/messages")
async def read_messages(request: Request, thread_id: str):
    user, _ = caller(request)
    limit = number(request.query_params.get("limit"), "/limit", 1, 100)
    before = number(request.query_params.get("before"), "/before", 0, None)
    return answer(200, thread_of(user, thread_id).history(limit, before))


@app.api_route("/api/threads/{thread_id}", methods=["GET", "PATCH", "DELETE"])
async def one_thread(request: Request, thread_id: str):
    user, _ = caller(request)
    thread = thread_of(user, thread_id)
    if request.method == "DELETE":
        delete_thread(thread)
        return answer(200, {})
    if request.method == "PATCH":
        thread.title = (await body_of(request)).text("title", least=1, most=256, required=True)
    return answer(200, thread.summary())


@app.post("/api/chat/messages")
async def post_message(request: Request):
    user, _ = caller(request)
    fields = await body_of(request)
    message_id = fields.text("message_id", least=1, most=128) or new_id("message")
    thread_id = fields.text("thread_id")
    judge_user_message(fields)
    thread = create_thread(user, Fields({})) if thread_id is None else thread_of(user, thread_id)
    run = accept(user, thread, message_id, fields)
    return answer(202, {"message_id": message_id, "run_id": run.id, "thread_id": thread.id})


@app.get("/api/runs/{run_id}")
async def read_run(request: Request, run_id: str):
    user, _ = caller(request)
    if run_id not in user.runs:
        raise no_run()
    run = user.runs[run_id]
    return answer(200, run.state() | ({"final_response": run.final_response} if run.final_response else {}))


@app.get("/api/billing/usage")
async def read_usage(request: Request):
    user, _ = caller(request)
    return answer(200, usage_of(user, (request.query_params.get("period"), "/period")) | {"timestamp": now()})


@app.get("/ws")
async def not_upgraded(request: Request):
    return JSONResponse(wrong("", "an upgrade to a WebSocket").body(), 426, {"Sec-WebSocket-Version": "13", "Upgrade": "websocket"})


def number(text, pointer, least, most):
    if text is None:
        return None
    if not re.fullmatch(r"-?\d{1,30}", text) or int(text) < least or (most is not None and int(text) > most):
        raise wrong(pointer, f"an integer of at least {least}")
    return int(text)


@app.websocket("/ws")
async def connect(websocket: WebSocket):
    """Judges the request before it accepts it (AUTH-1): credential, version, limits."""
    try:
        claims, protocol = credential(websocket)
    except Refusal as refusal:
        return await websocket.send_denial_response(refused(refusal))
    if websocket.headers.get(ASKED_VERSION) != "13":
        refusal = wrong("", "version 13")
        return await websocket.send_denial_response(JSONResponse(refusal.body(), 426, {"Sec-WebSocket-Version": "13"}))
    user = USERS[claims["sub"]]
    # The end of an earlier connection may still be on its way through the event loop (CON-6).
    for _ in range(20):
        if len(user.connections) < LIMITS["connections_per_user_max"]:
            break
        await asyncio.sleep(0.01)
    else:
        refusal = Refusal("CONNECTION_LIMIT", "You have too many connections; close one.", retry_after_s=1)
        return await websocket.send_denial_response(refused(refusal))
    used = websocket.query_params.get("ticket") if protocol is None and bearer(websocket.headers) is None else None
    if used in TICKETS and TICKETS[used][2]:
        del TICKETS[used]
    connection = Connection(websocket, user, claims)
    user.connections.add(connection)
    websocket.scope["on_end"] = lambda: user.connections.discard(connection)
    try:
        await websocket.accept(subprotocol=protocol)
        await connection.run()
    except WebSocketDisconnect:
        pass
    finally:
        user.connections.discard(connection)
        if websocket.application_state == WebSocketState.CONNECTED and connection.ending == 1000:
            with suppress(RuntimeError):
                await websocket.close(1000)


ASKED_VERSION = "x-asked-version"


class WebSockets(WebSocketProtocol):
    """The library's protocol where the contract wants something else of it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.reader = asyncio.StreamReader(limit=128 * 1024, loop=self.loop)  # see WEBSOCKETS_MAX_LINE_LENGTH

    # A peer's place is free when its end arrives or goodbye was said, not when the library has waited for the rest (CON-6).
    def ended(self):
        getattr(self, "scope", {}).get("on_end", lambda: None)()

    def eof_received(self):
        self.ended()
        return super().eof_received()

    def connection_lost(self, error):
        self.ended()
        super().connection_lost(error)

    async def write_close_frame(self, *arguments):
        await super().write_close_frame(*arguments)
        self.ended()

    # The library judges the version before the application sees the request; the contract wants the credential first.
    async def process_request(self, path, request_headers):
        asked = ",".join(request_headers.get_all("Sec-WebSocket-Version"))
        for name in (ASKED_VERSION, "Sec-WebSocket-Version"):
            if name in request_headers:
                del request_headers[name]
        request_headers["Sec-WebSocket-Version"] = "13"
        request_headers[ASKED_VERSION] = asked
        return await super().process_request(path, request_headers)


class Http(H11Protocol):
    """Only a GET asks for a WebSocket; the library takes a POST for one, too."""

    def _should_upgrade(self):
        return self.scope["method"] == "GET" and super()._should_upgrade()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        access_log=False,  # it would hold the tokens of `?token=` and `?ticket=` (AUTH-8)
        http=Http,
        ws=WebSockets,
        ws_max_size=LIMITS["message_bytes_max"],
        ws_ping_interval=HEARTBEAT_MS / 1000,
        ws_ping_timeout=HEARTBEAT_MS / 1000,
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=64 * 1024,
    )


if __name__ == "__main__":
    main()
