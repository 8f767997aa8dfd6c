"""Who may say yes: identities with a credential of their own, and approvals that nobody gives to their own request."""

import hashlib
import hmac
import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from mlops_lab.errors import ApprovalRefused, EvidenceMissing, UsageError
from mlops_lab.registry.ledger import Fact, identity_key
from mlops_lab.registry.port import Ledger

OPERATORS = "operators.json"
IDENTITY, REFUSED_APPROVAL = "identity", "refused_approval"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TOKEN_BYTES = 32


class Duty(StrEnum):
    """What an identity is there for."""

    TRAINER = "trainer"
    APPROVER = "approver"
    OPERATOR = "operator"
    REPORTER = "reporter"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody, or something, that the platform knows by a credential."""

    name: str
    role: Duty


class Approvals:
    """Approvals of the versions in a ledger.

    A token is 32 random bytes as text in `keys/<name>.token`, readable by its owner only; the ledger holds nothing but
    its SHA-256, as a fact of kind `identity`. Beside the tokens `operators.json` repeats the digests of the operators, for the day on which
    the ledger cannot be asked. Every approval that is refused is a fact too, of kind `refused_approval`.

    Args:
        ledger: Whose versions are approved.
        keys: Folder of the token files; made when the first identity is enrolled.
    """

    def __init__(self, ledger: Ledger, keys: Path) -> None:
        self._ledger = ledger
        self._keys = keys

    def enrol(self, name: str, role: Duty, *, at: datetime, by: str) -> Path:
        """Make an identity known, with a new token if there is no file yet; again changes nothing.

        Args:
            name: Lower-case letters, digits, dot, dash and underscore.
            role: What it is there for.
            at: Event time.
            by: Identity that enrols it.

        Returns:
            The file that holds the token.

        Raises:
            UsageError: The name is not allowed, or is enrolled with another role, or the policy asks for a token. An operator may become a
                reporter, who may do less.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"'{name}' is no name for an identity.", "use lower-case letters, digits, dot, dash and underscore.")
        if role == Duty.POLICY:
            raise UsageError("A policy has no credential.", "its approvals are recorded by `approve_by_policy`, with its digest.")
        known = self._known().get(name)
        if known and known[0].role != role and (known[0].role, role) != (Duty.OPERATOR, Duty.REPORTER):
            raise UsageError(f"'{name}' is enrolled as {known[0].role}.", "revoke it first, or choose another name.")
        path = self._keys / f"{name}.token"
        _make_token(path)
        digest = _digest(read_token(path))
        if known is None or known != (Identity(name, role), digest):
            body = {"role": str(role), "token_sha256": digest}
            self._ledger.record(IDENTITY, name, body, at=at, by=by, why=f"enrolled as {role}")
        self._list_operators()
        return path

    def revoke(self, name: str, *, at: datetime, by: str, why: str) -> None:
        """Make an identity's token worthless and remove its file; what it approved stands."""
        known = self._known().get(name)
        if known:
            self._ledger.record(IDENTITY, name, {"role": str(known[0].role), "token_sha256": ""}, at=at, by=by, why=why)
        (self._keys / f"{name}.token").unlink(missing_ok=True)
        self._list_operators()

    def authenticate(self, token: str) -> Identity:
        """Whose token it is. Takes as long for a near miss as for a far one.

        Raises:
            ApprovalRefused: Nobody's.
        """
        offered = _digest(token)
        found: Identity | None = None
        for identity, digest in self._known().values():
            if hmac.compare_digest(digest, offered):
                found = identity
        if found is None:
            raise ApprovalRefused("The token is nobody's.", f"use the content of a file in {self._keys}, or enrol the identity first.")
        return found

    def approve(self, version: int, token: str, why: str, at: datetime) -> Fact:
        """Approve a judged version with one's own credential.

        Raises:
            ApprovalRefused: The token is nobody's, its owner is no approver, ordered or registered the version, or the
                judge was not for it. The refusal is recorded.
            EvidenceMissing: Nobody judged the version. Recorded as well.
            UnknownVersion: No such version.
        """
        proposers = self._ledger.proposers(version)
        try:
            identity = self.authenticate(token)
        except ApprovalRefused as error:
            self._keep_refusal(version, error.what, at, "unknown")
            raise
        name = f"{self._ledger.model}/{version}"
        try:
            if identity.role != Duty.APPROVER:
                what = f"'{identity.name}' is {identity.role}, not approver."
                raise ApprovalRefused(what, "have an approver do it, with a token of their own.")
            if identity_key(identity.name) in proposers:
                raise ApprovalRefused.own(name, identity.name)
            self._require_judged(version, name)
        except (ApprovalRefused, EvidenceMissing) as error:
            self._keep_refusal(version, error.what, at, identity.name)
            raise
        return self._ledger.approve(version, why=why, at=at, by=identity.name, body={"role": str(identity.role)})

    def approve_by_policy(self, version: int, policy_digest: str, why: str, at: datetime) -> Fact:
        """Approve a judged version because a written policy says so; recorded as the policy's own, by its digest.

        Args:
            version: Number.
            policy_digest: SHA-256 of the policy that was applied.
            why: Which rule of it.
            at: Event time.

        Raises:
            ApprovalRefused: The judge was not for it. The refusal is recorded.
            EvidenceMissing: Nobody judged the version. Recorded as well.
            UnknownVersion: No such version.
        """
        identity = policy_identity(policy_digest)
        try:
            self._require_judged(version, f"{self._ledger.model}/{version}")
        except (ApprovalRefused, EvidenceMissing) as error:
            self._keep_refusal(version, error.what, at, identity.name)
            raise
        body = {"role": str(identity.role), "policy_sha256": policy_digest}
        return self._ledger.approve(version, why=why, at=at, by=identity.name, body=body)

    def _require_judged(self, version: int, name: str) -> None:
        judgement = self._ledger.judgement(version)
        if judgement is None:
            raise EvidenceMissing(f"Nobody judged {name}, so there is nothing to approve.", "have it judged against the champion first.")
        if judgement.get("outcome") != "promote":
            what = f"The judge was not for {name}: {judgement.get('because') or 'no reason given'}."
            raise ApprovalRefused(what, "train another one; an operator may force it with an override.")

    def _keep_refusal(self, version: int, why: str, at: datetime, by: str) -> None:
        # Numbered, so that a second try at the same event time is a second fact.
        attempt = len(self._ledger.facts(REFUSED_APPROVAL, str(version))) + 1
        self._ledger.record(REFUSED_APPROVAL, str(version), {"attempt": attempt, "version": version}, at=at, by=by, why=why)

    def _list_operators(self) -> None:
        found = {name: digest for name, (identity, digest) in sorted(self._known().items()) if identity.role == Duty.OPERATOR}
        path, content = self._keys / OPERATORS, json.dumps(found, indent=1) + "\n"
        if path.is_file() and path.read_text(encoding="ascii") == content:
            return
        self._keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        fresh.write_text(content, encoding="ascii")
        fresh.replace(path)

    def _known(self) -> dict[str, tuple[Identity, str]]:
        """Identities with the digest of their token, by name; revoked ones are left out."""
        newest = {fact.subject: fact.body for fact in self._ledger.facts(IDENTITY)}
        return {
            name: (Identity(name, Duty(body["role"])), str(body["token_sha256"])) for name, body in newest.items() if body["token_sha256"]
        }


def policy_identity(policy_digest: str) -> Identity:
    """The identity under which a policy approves: it changes when the policy does."""
    return Identity(f"policy:{policy_digest[:12]}", Duty.POLICY)


def read_token(path: Path) -> str:
    """The token in a file. Raises UsageError where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"There is no token in {path}.", "enrol the identity first, or name the file of another one.") from error


def is_listed_operator(keys: Path, name: str) -> bool:
    """Whether the token of a name is that of an operator, by the list beside it alone. The ledger knows better, where it can be asked."""
    try:
        listed = json.loads((keys / OPERATORS).read_text(encoding="ascii"))
        return hmac.compare_digest(str(listed.get(name, "")), _digest(read_token(keys / f"{name}.token")))
    except (OSError, ValueError, AttributeError, UsageError):
        return False


def _make_token(path: Path) -> None:
    """Write a new token, unless there is one: whole or not at all, for its owner's eyes only, also with racing writers."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its token counts
            os.link(fresh, path)
    finally:
        fresh.unlink()


def _digest(token: str) -> str:
    return hashlib.sha256(token.strip().encode()).hexdigest()
