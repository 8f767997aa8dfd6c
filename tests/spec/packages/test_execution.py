"""Nothing that a model file contains is executed, in a real serving process."""

from pathlib import Path

from hostile_packages import put, signed
from hostile_payloads import detonate, payloads
from mlops_lab.scoring import sha256
from mlops_lab.scoring.keys import signing_key
from mlops_lab.serving.prediction_log import read_frames
from package_builders import a_home, a_serving_process, promote, until


def test_the_payloads_are_payloads(tmp_path: Path) -> None:
    """Opened the way each hole opens it, every one of the twelve leaves its mark: what the next test refuses is dangerous."""
    (tmp_path / "marks").mkdir()
    twelve = payloads(tmp_path / "marks")
    assert len(twelve) == 12
    for name, payload in twelve.items():
        detonate(payload, tmp_path / name.replace(" ", "-"))
        assert payload.mark.exists(), f"{name} did nothing"


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def test_a_serving_process_executes_nothing_of_twelve_hostile_packages_signed_or_not(tmp_path: Path) -> None:
    """24 packages as champions of a real service: unsigned they are refused before they are parsed, signed by the reader. Version 1 stays.

    No mark is left, each is refused within 10 s of the ledger's line, and the process needs less than 48 MiB more at its peak.
    """
    (tmp_path / "marks").mkdir()
    lab = a_home(tmp_path / "home")
    with a_serving_process(lab.home) as (process, client):
        until(client, version=1)
        before, reasons = peak_mib(process.pid), {}
        for kind in ("unsigned", "signed"):
            for name, payload in payloads(tmp_path / "marks").items():
                content = payload.content + (b" " if kind == "signed" else b"")  # another digest
                package = signed(content, signing_key(lab.keys), lab.model)
                folder = tmp_path / "home/packages" / sha256(content)
                put(folder, package if kind == "signed" else package._replace(signature=bytes(64)))
                for file, inside in payload.beside.items():
                    (folder / file).write_bytes(inside)
                number = promote(lab, folder.name)
                said = until(client, trouble=f"Version {number} could not be put in place", seconds=10)
                assert said["version"] == 1, name
                reasons[kind, name] = " ".join(said["degraded"])
        assert client.get("/readyz").status_code == 200
        assert process.poll() is None
        grown = peak_mib(process.pid) - before
    assert list((tmp_path / "marks").iterdir()) == []
    frames = [frame for _, frame in read_frames(lab.home / "serving/replica-1/log")]
    told = [frame["digests"] for frame in frames if frame["kind"] == "incident" and frame["what"] == "package_refused"]
    assert {digests["scorer"] for digests in told} == {version.scorer_sha256 for version in lab.ledger.versions()[1:]}
    assert sum(digests.get("found_signature") == sha256(bytes(64)) for digests in told) >= 12, "with what was found in the place of it"
    assert len(reasons) == 24
    assert all("signature fits none" in why for (kind, _), why in reasons.items() if kind == "unsigned"), reasons
    assert all("The scorer file was refused" in why for (kind, _), why in reasons.items() if kind == "signed"), reasons
    assert grown < 48, f"{grown} MiB"
