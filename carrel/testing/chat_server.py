"""A chat-completions server on loopback that does what a test tells it, however wrong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Exchange"], None]


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], number: int) -> None:
        self.handler, self.body, self.number = handler, body, number
        self.headers = {name.lower(): value for name, value in handler.headers.items()}

    def json(self, content: Any, status: int = 200, **headers: str) -> None:
        self.raw(json.dumps(content).encode(), status, **headers)

    def raw(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.handler.send_response(status)
        for name, value in {"content_length": str(len(content)), **headers}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(content)

    def begin(self) -> None:
        self.handler.send_response(200)
        self.handler.send_header("Content-Type", "text/event-stream")
        self.handler.send_header("Connection", "close")
        self.handler.end_headers()

    def line(self, text: str) -> None:
        self.handler.wfile.write(f"{text}\n\n".encode())
        self.handler.wfile.flush()

    def chunk(self, text: str | None = None, reason: str | None = None, **more: Any) -> None:
        delta = {} if text is None else {"content": text}
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        self.line("data: " + json.dumps({"model": "tiny", "choices": [choice], **more}))

    def reply(self, text: str, **more: Any) -> None:
        """A good reply, whole or as a stream, as it was asked for; no more words than it may have tokens."""
        words, most = text.split(" "), self.body.get("max_tokens", self.body.get("max_completion_tokens"))
        reason, text = "stop" if most is None or len(words) <= most else "length", " ".join(words[:most])
        tokens = 7 if most is None else min(7, most)
        usage = {"prompt_tokens": 21, "completion_tokens": tokens, "prompt_tokens_details": {"cached_tokens": 16}}
        if not self.body.get("stream"):
            choice = {"message": {"role": "assistant", "content": text, **more}, "finish_reason": reason}
            self.json({"model": "tiny", "choices": [choice], "usage": usage})
            return
        self.begin()
        first, *rest = text.split(" ")
        for piece in [first, *(f" {word}" for word in rest)]:
            self.chunk(piece)
        self.chunk(reason=reason)
        self.line("data: " + json.dumps({"choices": [], "usage": usage}))
        self.line("data: [DONE]")


class ChatServer:
    """The server: its address, what it was asked, and whether someone hung up on it."""

    def __init__(self) -> None:
        self.models: Any = {"data": [{"id": "tiny", "max_model_len": 1000}]}
        self.tokenize: Behaviour | None = None
        self.chat: Behaviour = lambda exchange: exchange.reply("The pier was built in 1894. [1]")
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.hung_up = threading.Event()
        self.running = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                behaviour = server.models if callable(server.models) else lambda exchange: exchange.json(server.models)
                self._run(behaviour, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.endswith("/tokenize"):
                    self._run(server.tokenize or (lambda exchange: exchange.json({"detail": "Not Found"}, 404)), body)
                    return
                server.asked.append(body)
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                self._run(server.chat, body)

            def _run(self, behaviour: Behaviour, body: dict[str, Any]) -> None:
                server.running += 1
                try:
                    behaviour(Exchange(self, body, len(server.asked)))
                except (BrokenPipeError, ConnectionResetError):
                    server.hung_up.set()
                    self.close_connection = True
                finally:
                    server.running -= 1

        return Handler

    def run(self) -> None:
        self._server.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A running server."""
    server = ChatServer()
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(5)


def words_as_tokens(exchange: Exchange) -> None:
    """``/tokenize`` as vLLM has it, for a model whose tokens are words; a chat has three more for each message."""
    if "messages" in exchange.body:
        around = ["<", ">", "/"]
        words = [word for message in exchange.body["messages"] for word in [*message["content"].split(), *around]]
    else:
        words = exchange.body["prompt"].split()
    exchange.json({"count": len(words), "max_model_len": 400, "tokens": list(range(len(words)))})


def endless(exchange: Exchange) -> None:
    """A stream that goes on until whoever reads it hangs up."""
    exchange.begin()
    while True:
        exchange.chunk("on and ")
        time.sleep(0.01)


def hanging(exchange: Exchange) -> None:
    """Says nothing for longer than any test waits; ends when the other side has gone."""
    connection = exchange.handler.connection
    connection.settimeout(20)
    if connection.recv(1) == b"":
        raise ConnectionResetError
