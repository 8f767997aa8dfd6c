"""The world outside a stack, without an Internet: a server on a network of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from stack.running import Stack, docker

SUBNET = "198.51.100"
"""Kept free for examples (RFC 5737), so nobody's."""
PORT = 8000


@contextmanager
def world(stack: Stack) -> Iterator[str]:
    """Address and port of the server, for a while.

    Like any machine that is far away it knows nothing of the stack's addresses: what it answers to them goes to a router that is not there.
    So it answers those whose addresses are translated on their way out, and no others. Wants Docker Engine 28.

    Raises:
        CommandFailed: The network cannot be made, for one because another run has it.
    """
    name = f"{stack.project}-world"
    _remove(name)  # of a run that was killed
    router_of_none = f"DefaultGatewayIPv4={SUBNET}.254"
    routed = "com.docker.network.bridge.gateway_mode_ipv4=routed"  # what is published there is open to packets from other networks
    network = ("--subnet", f"{SUBNET}.0/24", "--gateway", f"{SUBNET}.1", "--aux-address", router_of_none, "--opt", routed)
    try:
        docker("network", "create", *network, name)
        started = ("--detach", "--rm", "--name", name, "--network", name, "--ip", f"{SUBNET}.2", "--publish", str(PORT))
        docker("run", *started, f"{stack.project}:local", "python", "-m", "http.server", str(PORT))
        yield f"{SUBNET}.2:{PORT}"
    finally:
        _remove(name)


def _remove(name: str) -> None:
    docker("rm", "--force", name)
    if name in docker("network", "ls", "--format", "{{.Name}}").split():
        docker("network", "rm", name)
