"""What the server answers, or does not: a refusal is told from a server that is out of reach."""

import socket
import threading

import pytest

from handing_over_builders import Server
from mlops_lab.errors import OrchestratorRefused, OrchestratorUnreachable, SettingsWrong
from mlops_lab.pipelines.prefect_api import PrefectApi


@pytest.mark.parametrize(("status", "error"), [(404, OrchestratorRefused), (429, OrchestratorUnreachable), (500, OrchestratorUnreachable)])
def test_a_refusal_is_told_from_a_server_that_cannot(server: Server, status: int, error: type[Exception]) -> None:
    server.refuses = status

    with pytest.raises(error):
        PrefectApi.of_environment(5).runs()


def test_a_proxy_of_the_environment_is_not_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # or one that was made before the proxy was named is used

    assert PrefectApi.of_environment(5).run_deployment("train/train", {}, "key") == "an-id"


def test_an_answer_that_is_no_http_is_a_server_out_of_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"what?\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OrchestratorUnreachable):
            PrefectApi(f"http://127.0.0.1:{listener.getsockname()[1]}/api", 5).runs()
        thread.join()


def test_a_server_that_nobody_named_is_a_setting_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    with pytest.raises(SettingsWrong, match="PREFECT_API_URL"):
        PrefectApi.of_environment()
