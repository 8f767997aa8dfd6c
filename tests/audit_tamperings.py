"""Ways to tamper with the audit of a home of twelve entries. Each returns the number of the entry that has to be named."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, text

from audit_builders import AT, KEY, record
from mlops_lab.audit import seal
from mlops_lab.audit.entry import hash_of
from mlops_lab.audit.on_sql import SqlAudit
from mlops_lab.clock import from_iso
from mlops_lab.events.on_sql import writing

ENTRIES = 12
Tampering = Callable[[Path, SqlAudit, random.Random], int]
"""Does harm, returns the seq that `verify` has to name."""


def rows(connection: Connection) -> list[dict[str, object]]:
    return [dict(row) for row in connection.execute(text("SELECT * FROM audit_entry ORDER BY seq")).mappings()]


def edit_a_field(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    seq = chance.randint(1, ENTRIES)
    column = chance.choice(["at", "recorded_at", "actor", "action", "subject", "reason", "digests", "previous", "hash", "seal"])
    with writing(trail.engine) as connection:
        old = str(rows(connection)[seq - 1][column])
        place = chance.randrange(len(old))
        new = old[:place] + chance.choice([each for each in "0123456789abcxyz -" if each != old[place]]) + old[place + 1 :]
        connection.execute(text(f'UPDATE audit_entry SET "{column}" = :new WHERE seq = :seq'), {"new": new, "seq": seq})
    return seq


def delete_an_entry(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    seq = chance.randint(1, ENTRIES)
    with writing(trail.engine) as connection:
        connection.execute(text("DELETE FROM audit_entry WHERE seq = :seq"), {"seq": seq})
    return seq


def delete_and_close_the_gap(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    seq = chance.randint(1, ENTRIES)
    with writing(trail.engine) as connection:
        connection.execute(text("DELETE FROM audit_entry WHERE seq = :seq"), {"seq": seq})
        for later in range(seq + 1, ENTRIES + 1):
            connection.execute(text("UPDATE audit_entry SET seq = :to WHERE seq = :seq"), {"to": later - 1, "seq": later})
    return seq


def swap_two_entries(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    first, second = sorted(chance.sample(range(1, ENTRIES + 1), 2))
    with writing(trail.engine) as connection:
        for seq, to in ((first, 1000), (second, first), (1000, second)):
            connection.execute(text("UPDATE audit_entry SET seq = :to WHERE seq = :seq"), {"to": to, "seq": seq})
    return first


def cut_the_tail(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    seq = chance.randint(1, ENTRIES)
    with writing(trail.engine) as connection:
        connection.execute(text("DELETE FROM audit_entry WHERE seq >= :seq"), {"seq": seq})
    return seq


def cut_the_tail_and_go_on(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    """The platform itself writes on top of what was cut, with its own key."""
    seq = cut_the_tail(home, trail, chance)
    for number in range(chance.randint(1, ENTRIES)):
        record(trail, 100 + number)
    return seq


def rewrite_from_an_entry_on(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    """Edit one entry, then compute every hash behind it anew, and seal it with a key of one's own."""
    seq = chance.randint(1, ENTRIES)
    with writing(trail.engine) as connection:
        found = rows(connection)
        found[seq - 1]["reason"] = "it was always like this"
        rewrite(connection, found[seq - 1 :], Ed25519PrivateKey.generate())
    return seq


def rewrite_with_the_key(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    """The same by somebody who stole the key, but cannot reach the second place."""
    seq = chance.randint(1, ENTRIES)
    with writing(trail.engine) as connection:
        found = rows(connection)
        found[seq - 1]["actor"] = "somebody else"
        rewrite(connection, found[seq - 1 :], KEY)
    return seq


def rewrite(connection: Connection, found: list[dict[str, object]], key: Ed25519PrivateKey) -> None:
    previous = str(found[0]["previous"])
    for row in found:
        seq, at, recorded_at = int(str(row["seq"])), from_iso(str(row["at"])), from_iso(str(row["recorded_at"]))
        told = [str(row[name]) for name in ("actor", "action", "subject", "reason")]
        digest = hash_of(seq, at, recorded_at, told[0], told[1], told[2], told[3], json.loads(str(row["digests"])), previous)
        values = {**row, "previous": previous, "hash": digest, "seal": seal(seq, digest, key).signature}
        connection.execute(
            text('UPDATE audit_entry SET actor=:actor, reason=:reason, previous=:previous, "hash"=:hash, seal=:seal WHERE seq=:seq'), values
        )
        previous = digest


def forge_an_entry(home: Path, trail: SqlAudit, chance: random.Random | None = None) -> int:
    """Append an entry whose hash is right, with the seal of the one before."""
    with writing(trail.engine) as connection:
        last = rows(connection)[-1]
        seq, previous = int(str(last["seq"])) + 1, str(last["hash"])
        told = ("mallory", "ModelPromoted", "flight-delay/66", "trust me")
        digest = hash_of(seq, AT, AT, *told, {}, previous)
        values = {**last, "seq": seq, "digests": "{}", "previous": previous, "hash": digest}
        values |= dict(zip(("actor", "action", "subject", "reason"), told, strict=True)) | {"at": "2013-04-08T00:00:00Z"}
        values["recorded_at"] = values["at"]
        names = list(values)
        columns, slots = ", ".join(f'"{name}"' for name in names), ", ".join(f":{name}" for name in names)
        connection.execute(text(f"INSERT INTO audit_entry ({columns}) VALUES ({slots})"), values)
    return seq


def heads_of(home: Path) -> tuple[Path, list[bytes]]:
    path = home / "second" / "heads.jsonl"
    return path, path.read_bytes().splitlines(keepends=True)


def edit_a_head(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    path, lines = heads_of(home)
    seq = chance.randint(1, ENTRIES)
    line = bytearray(lines[seq - 1])
    place = chance.randrange(len(line) - 1)
    line[place] = chance.choice([each for each in b"0123456789abcdef" if each != line[place]])
    lines[seq - 1] = bytes(line)
    path.write_bytes(b"".join(lines))
    return seq


def delete_a_head(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    path, lines = heads_of(home)
    seq = chance.randint(1, ENTRIES - 1)  # a cut tail of the second place alone is made good from the seals
    path.write_bytes(b"".join(lines[: seq - 1] + lines[seq:]))
    return seq


def swap_two_heads(home: Path, trail: SqlAudit, chance: random.Random) -> int:
    path, lines = heads_of(home)
    first, second = sorted(chance.sample(range(ENTRIES), 2))
    lines[first], lines[second] = lines[second], lines[first]
    path.write_bytes(b"".join(lines))
    return first + 1


TAMPERINGS: list[Tampering] = [
    edit_a_field,
    delete_an_entry,
    delete_and_close_the_gap,
    swap_two_entries,
    cut_the_tail,
    cut_the_tail_and_go_on,
    rewrite_from_an_entry_on,
    rewrite_with_the_key,
    forge_an_entry,
    edit_a_head,
    delete_a_head,
    swap_two_heads,
]
