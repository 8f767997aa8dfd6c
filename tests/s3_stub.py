"""An object store with bad habits, as small as a client bears. It asks for no key and keeps everything in memory."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

Habit = Literal["overlooks the condition", "honours the condition", "refuses the condition", "says nothing", "stops halfway"]


class Stub:
    """Listens on 127.0.0.1 until `close`.

    Attributes:
        habit: What is wrong with it.
        objects: By their keys.
        asked: Method and key of each request.
    """

    def __init__(self, habit: Habit) -> None:
        self.habit = habit
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.silent = threading.Event()
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                key, body = self._key(), self.rfile.read(int(self.headers["Content-Length"]))
                conditional = self.headers.get("If-None-Match") == "*"
                with stub._lock:
                    if conditional and stub.habit == "refuses the condition":
                        self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")
                    elif conditional and key in stub.objects and stub.habit != "overlooks the condition":
                        self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                    else:
                        stub.objects[key] = body
                        self._answer(200)

            def do_GET(self) -> None:
                body = stub.objects.get(self._key())
                if stub.habit == "says nothing":
                    stub.silent.wait(60)
                if body is None:
                    self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                elif stub.habit == "stops halfway":
                    self._answer(200, body[: len(body) // 2], length=len(body))
                    self.close_connection = True
                else:
                    self._answer(200, body)

            def do_POST(self) -> None:
                """The removal of many keys at once, which is the only one the client knows."""
                self._key()
                keys = re.findall(r"<Key>([^<]*)</Key>", self.rfile.read(int(self.headers["Content-Length"])).decode())
                for key in keys:
                    stub.objects.pop(key, None)
                gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
                self._answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())

            def log_message(self, format: str, *arguments: object) -> None:
                """Nobody reads it."""

            def _key(self) -> str:
                key = unquote(urlsplit(self.path).path).split("/", 2)[-1]
                stub.asked.append((self.command, key))
                return key

            def _answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
                self.send_response(status)
                self.send_header("ETag", '"one"')
                self.send_header("Last-Modified", "Mon, 08 Apr 2013 00:00:00 GMT")
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.silent.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
