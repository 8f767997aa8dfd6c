"""A network between a client and a server on this machine that can be cut, at a given word of the client."""

import socket
import threading
from contextlib import suppress


class CuttingProxy:
    """Passes everything on, until the client says the word.

    Attributes:
        word: What the client says when the connection is cut, once; None for never.
        after: Whether the server hears the word and answers it before its answer is lost; else it never hears it.
        cuts: How many connections were cut.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.word: bytes | None = None
        self.after = False
        self.cuts = 0
        self._answered = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut_at(self, word: bytes, *, after: bool) -> None:
        self.after, self.word = after, word

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(timeout=10)

    def _accept(self) -> None:
        with suppress(OSError):  # closed: no further connection
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                for job in (self._ask, self._answer):
                    self._threads.append(threading.Thread(target=job, args=(client, server), daemon=True))
                    self._threads[-1].start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), client, server:
            while said := client.recv(65536):
                if self.word is not None and self.word in said:
                    self.word = None
                    self.cuts += 1
                    if self.after:
                        self._answered.clear()
                        _shut(client, socket.SHUT_WR)  # what the server answers finds no way back
                        server.sendall(said)
                        self._answered.wait(timeout=10)
                    _shut(client, socket.SHUT_RDWR)
                    _shut(server, socket.SHUT_RDWR)
                    return
                server.sendall(said)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while said := server.recv(65536):
                self._answered.set()
                client.sendall(said)
            _shut(client, socket.SHUT_WR)


def _shut(end: socket.socket, how: int) -> None:
    with suppress(OSError):  # it is down already
        end.shutdown(how)
