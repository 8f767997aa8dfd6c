"""The service on uvicorn: a server whose connections are those of `on_uvicorn_protocol.py`."""

import errno
import logging
import socket
from functools import partial

import uvicorn

from mlops_lab.errors import PortInUse
from mlops_lab.serving.app import App
from mlops_lab.serving.on_uvicorn_protocol import FastProtocol

_log = logging.getLogger(__name__)


def run(app: App, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests that have begun are finished.

    Raises:
        PortInUse: Another program listens there.
    """
    listener = _listen(host, port)
    _log.info("serving.started", extra={"host": host, "port": listener.getsockname()[1]})
    server_of(app).run(sockets=[listener])


def server_of(app: App) -> uvicorn.Server:
    """The server of an app, still to be given its sockets."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(FastProtocol, turns=app.turns),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse.at(host, port) from error
        raise
    return listener
