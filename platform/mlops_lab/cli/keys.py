"""`lab keys`: which keys vouch for models, a new one, and the end of an old one."""

from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import identity, open_lab, present
from mlops_lab.cli.output import Output
from mlops_lab.errors import ApprovalRefused, NotEnoughData, ScorerRefused, StoreUnreachable

if TYPE_CHECKING:
    from datetime import datetime

    from mlops_lab.bootstrap import Lab

_WHY = click.option("--why", metavar="TEXT", required=True, help="A sentence for the record.")
_AS = click.option("--as", "name", metavar="NAME", help="Whose token to use, from the home's keys. Default: operator.")


@click.group("keys", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """The keys whose signature makes a model package trusted. A service loads what one of its valid keys signed, and nothing else.

    Without a word behind it: list. A service whose LAB_SERVICE__VERIFYING_KEYS names another place than the home's keys needs the new
    public key there before the next model.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_keys)


@command.command("list")
@click.pass_obj
def list_keys(output: Output) -> None:
    """List the keys of the home: the one that signs, those still valid, those retired."""
    from mlops_lab.scoring.keys import known_keys

    keys = known_keys(open_lab().keys)
    output.table(["key", "state", "public half"], [[key.name, key.state, key.file.name] for key in keys])
    output.result({"keys": keys})


@command.command
@_WHY
@_AS
@click.pass_obj
def rotate(output: Output, why: str, name: str | None) -> None:
    """Make a new key that signs from now on. What the old one signed stays valid until `lab keys retire`.

    The packages of all registered versions are signed again with the new key, so that the old one can be retired at any time.
    """
    from mlops_lab.scoring import keys

    lab = open_lab()
    who, at = _operator(lab, name), _now(lab)
    before = keys.fingerprint(keys.signing_key(lab.keys).public_key())
    with lab.trail.recording(actor=who, action="SigningKeyRotated", subject=before, reason=why, at=at) as tx:
        old, new = keys.rotate(lab.keys)
        tx.digests |= {"replaced_key": old, "new_key": new}
    _share(lab)
    signed, left = _sign_again(lab)
    output.say(f"Key {new} signs from now on; {len(signed)} packages were signed again. Key {old} stays valid: `lab keys retire {old}`.")
    _say_left(output, left)
    output.result({"signs": new, "valid": old, "signed_again": signed, "not_signed": left})


@command.command
@click.argument("key")
@_WHY
@_AS
@click.pass_obj
def retire(output: Output, key: str, why: str, name: str | None) -> None:
    """Take the trust away from KEY. Nothing it signed is loaded any more, also from caches; what answers now goes on answering.

    Packages of registered versions that only this key signed are signed again first; what the ledger does not know is not.
    """
    from mlops_lab.scoring import keys

    lab = open_lab()
    who, at = _operator(lab, name), _now(lab)
    signed, left = _sign_again(lab)
    with lab.trail.recording(actor=who, action="SigningKeyRetired", subject=key, reason=why, at=at):
        keys.retire(lab.keys, key)
    _share(lab)
    output.say(f"Key {key} is retired: services that read the home's keys load nothing it signed from now on.")
    _say_left(output, left)
    output.result({"retired": key, "signed_again": signed, "not_signed": left})


def _operator(lab: "Lab", name: str | None) -> str:
    who, _ = identity(lab, name, "operator")
    if who.role != "operator":
        raise ApprovalRefused(f"'{who.name}' is {who.role}, not operator, and may not change keys.", "have an operator do it.")
    return who.name


def _share(lab: "Lab") -> None:
    """Where those who only verify have a folder of their own, they learn of it before anything is signed with a new key."""
    from mlops_lab.bootstrap.public_keys import PUBLIC, share_public

    if (lab.keys / PUBLIC).is_dir():
        share_public(lab.keys)


def _now(lab: "Lab") -> "datetime":
    from mlops_lab.bootstrap.founding import FOUNDED_AT

    try:
        return present(lab)
    except NotEnoughData:  # a home in which nothing has happened yet
        return FOUNDED_AT


def _sign_again(lab: "Lab") -> tuple[list[int], list[int]]:
    """Sign with the present key what a valid key has signed and the ledger vouches for; and the versions for which that cannot be done."""
    from mlops_lab.scoring.keys import KeyRing, signing_key
    from mlops_lab.scoring.manifest import check, sign

    key = signing_key(lab.keys)
    signed, left = [], []
    for version in lab.ledger.versions():
        try:
            package = lab.packages.get(version.scorer_sha256)
            manifest = check(*package, KeyRing(lab.keys))
        except (ScorerRefused, StoreUnreachable):
            left.append(version.number)
            continue
        if (manifest.model, manifest.scorer_sha256, manifest.data_sha256) != (version.model, version.scorer_sha256, version.data_sha256):
            left.append(version.number)
        elif package.signature != sign(manifest, key):  # Ed25519 gives one signature for one text
            lab.packages.put(package.scorer, package.manifest, sign(manifest, key))
            signed.append(version.number)
    return signed, left


def _say_left(output: Output, left: list[int]) -> None:
    if left:
        numbers = ", ".join(map(str, left))
        output.say(f"Not signed, since the package is missing, unsigned or not what the ledger says: version {numbers}. See `lab doctor`.")
