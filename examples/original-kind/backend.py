"""A small chat backend of the kind that the suite before this one talked to, in one file and in memory.

    pip install -r requirements.txt && python backend.py --port 8000

It knows nothing of docs/contract.md: no handshake, no acknowledgement of messages, events in the envelope of a bridge
(`type`, `run_id`, `agent_name`, `timestamp`, `payload`). profile.toml tells the suite how to read it and what it lacks.

LEAVE_OUT=tool_completed makes it forget events of that type, to see how the suite takes it.
"""

import argparse
import asyncio
import json
import os
import secrets
import time
import uuid
from datetime import datetime, timedelta, timezone

import jwt
import uvicorn
from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

LEFT_OUT = os.environ.get("LEAVE_OUT")
SECRET = os.environ.get("JWT_SECRET_KEY") or secrets.token_hex(32)
ISSUER, AUDIENCE = "auth-service", "chat-backend"
TOKEN_LIFE = timedelta(minutes=15)
SENSITIVE = ("password", "secret", "token", "api_key", "authorization", "credential")

app = FastAPI()


def now():
    return datetime.now(timezone.utc).isoformat()


# ---- accounts ---------------------------------------------------------------------------------------------------------


class Login(BaseModel):
    email: str


@app.post("/auth/dev/login")
def dev_login(login: Login):
    user_id = uuid.uuid5(uuid.NAMESPACE_URL, login.email).hex
    issued = datetime.now(timezone.utc)
    claims = {"sub": user_id, "email": login.email, "iss": ISSUER, "aud": AUDIENCE, "iat": issued, "exp": issued + TOKEN_LIFE}
    return {"access_token": jwt.encode(claims, SECRET, "HS256"), "token_type": "Bearer", "user": {"id": user_id}}


class Refused(Exception):
    """A code, and what to do."""


def user_of(websocket):
    """The user that the credential names, and the sub-protocol that carried it."""
    offered = [name.strip() for name in websocket.headers.get("sec-websocket-protocol", "").split(",")]
    protocol = next((name for name in offered if name.startswith("jwt.")), None)
    scheme, _, bearer = websocket.headers.get("authorization", "").partition(" ")
    token = protocol.removeprefix("jwt.") if protocol else bearer if scheme.lower() == "bearer" else ""
    if not token:
        raise Refused("AUTH_REQUIRED", "Log in, then connect with your token.")
    try:
        claims = jwt.decode(token, SECRET, ["HS256"], issuer=ISSUER, audience=AUDIENCE, options={"require": ["sub", "exp"]})
    except jwt.ExpiredSignatureError:
        raise Refused("AUTH_TOKEN_EXPIRED", "Your token has expired; log in again.") from None
    except jwt.InvalidTokenError:
        raise Refused("AUTH_TOKEN_INVALID", "Your token is not valid; log in again.") from None
    return claims["sub"], protocol


# ---- the bridge -------------------------------------------------------------------------------------------------------


class Bridge:
    """Brings what agents do to the connections of their user."""

    def __init__(self):
        self.connections = {}

    async def send(self, user_id, frame):
        for websocket in list(self.connections.get(user_id, ())):
            try:
                await websocket.send_text(json.dumps(frame, ensure_ascii=False))
            except (WebSocketDisconnect, RuntimeError):
                self.connections[user_id].discard(websocket)

    async def emit(self, run, event_type, payload, agent_name=None):
        if event_type == LEFT_OUT:
            return
        await self.send(
            run.user_id,
            {
                "type": event_type,
                "run_id": run.run_id,
                "agent_name": agent_name or run.agent_name,
                "timestamp": now(),
                "payload": payload,
            },
        )

    async def notify_agent_started(self, run, context):
        message = f"{run.agent_name} has started processing your request"
        await self.emit(run, "agent_started", {"status": "started", "context": context, "message": message})

    async def notify_agent_thinking(self, run, reasoning, step_number, progress_percentage):
        payload = {"reasoning": reasoning, "step_number": step_number, "progress_percentage": progress_percentage}
        await self.emit(run, "agent_thinking", {**payload, "status": "thinking"})

    async def notify_tool_executing(self, run, tool_name, parameters):
        message = f"{run.agent_name} is using {tool_name}"
        payload = {"tool_name": tool_name, "parameters": sanitized(parameters), "status": "executing", "message": message}
        await self.emit(run, "tool_executing", payload)

    async def notify_tool_completed(self, run, tool_name, result, began):
        payload = {"tool_name": tool_name, "result": sanitized(result), "execution_time_ms": since(began)}
        message = f"{run.agent_name} completed {tool_name}"
        await self.emit(run, "tool_completed", {**payload, "status": "completed", "message": message})

    async def notify_agent_completed(self, run, result):
        payload = {"status": "completed", "result": sanitized(result), "execution_time_ms": since(run.began)}
        message = f"{run.agent_name} has completed processing your request"
        await self.emit(run, "agent_completed", {**payload, "message": message})


def since(began):
    return round((time.monotonic() - began) * 1000)


def sanitized(value):
    """Without credentials, and without texts that are too long for a frame."""
    if isinstance(value, dict):
        return {
            key: "[REDACTED]" if any(word in key.lower() for word in SENSITIVE) else sanitized(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [sanitized(inner) for inner in value]
    if isinstance(value, str) and len(value) > 2000:
        return f"{value[:2000]}... [{len(value) - 2000} more characters]"
    return value


bridge = Bridge()

# ---- agents -----------------------------------------------------------------------------------------------------------


class Run:
    def __init__(self, user_id, content):
        thread_id = f"thread_{uuid.uuid4().hex[:16]}"
        self.run_id = f"{thread_id}_run_{int(time.time() * 1000)}_{secrets.token_hex(4)}"
        self.user_id, self.content = user_id, content
        self.agent_name = "supervisor_agent"
        self.began = time.monotonic()

    async def execute(self):
        await bridge.notify_agent_started(self, {"user_query": self.content})
        await bridge.notify_agent_thinking(self, f"Analyzing the request: {self.content}", 1, 10)
        words = self.content.lower().split()
        if "search" in words:
            await self.use_tool("search", {"query": self.content, "api_key": "internal"})
        if "work" in words and "seconds" in words:
            seconds = int(words[words.index("seconds") - 1])
            for second in range(seconds):
                await asyncio.sleep(1)
                await bridge.notify_agent_thinking(self, f"Working: {second + 1} of {seconds} seconds", second + 2, 50)
        await bridge.notify_agent_completed(self, f"You said: {self.content}")

    async def use_tool(self, tool_name, parameters):
        await bridge.notify_tool_executing(self, tool_name, parameters)
        began = time.monotonic()
        await asyncio.sleep(0.02)
        await bridge.notify_tool_completed(self, tool_name, {"hits": 3}, began)


# ---- connections ------------------------------------------------------------------------------------------------------

RUNS = set()


@app.websocket("/ws")
async def connect(websocket: WebSocket):
    try:
        user_id, protocol = user_of(websocket)
    except Refused as refusal:
        code, message = refusal.args
        body = {"type": "error", "error_code": code, "message": message}
        return await websocket.send_denial_response(JSONResponse(body, 401))
    await websocket.accept(subprotocol=protocol)
    bridge.connections.setdefault(user_id, set()).add(websocket)
    try:
        while True:
            await handle(websocket, user_id, await websocket.receive_text())
    except (WebSocketDisconnect, RuntimeError, KeyError):
        pass
    finally:
        bridge.connections[user_id].discard(websocket)


async def handle(websocket, user_id, text):
    try:
        message = json.loads(text)
        kind, payload = message.get("type"), message.get("payload") or {}
    except (ValueError, AttributeError):
        return await refuse(websocket, "JSON_PARSE_ERROR", "This is no JSON object; send one.")
    if kind == "ping":
        return await websocket.send_text(json.dumps({"type": "pong", "timestamp": now()}))
    if kind not in ("user_message", "chat_message"):
        return await refuse(websocket, "UNKNOWN_MESSAGE_TYPE", f"Nothing is known of messages of type {kind}.")
    content = payload.get("content")
    if not isinstance(content, str) or not content.strip() or len(content) > 8000:
        return await refuse(websocket, "VALIDATION_ERROR", "Say something, in at most 8000 characters.")
    run = asyncio.create_task(Run(user_id, content).execute())
    RUNS.add(run)
    run.add_done_callback(RUNS.discard)


async def refuse(websocket, code, message):
    frame = {"type": "error", "timestamp": now(), "payload": {"error_code": code, "message": message}}
    await websocket.send_text(json.dumps(frame))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
