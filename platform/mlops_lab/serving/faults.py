"""Faults on purpose: what a model without code cannot do by itself, such as failing, so that a drill can see it happen."""

from hashlib import blake2b


class Faults:
    """The canary fails this share of the requests dealt to it: always the same ones, by their id.

    Args:
        canary_error_share: 0 to 1; 0 is off.
    """

    def __init__(self, canary_error_share: float = 0.0) -> None:
        self._below = round(canary_error_share * 2**32)

    def fails(self, request_id: str) -> bool:
        """Whether the canary is to fail at this request."""
        if not self._below:
            return False
        # Salted, so that who fails has nothing to do with who is dealt to the canary (`loaded.share_of`).
        digest = blake2b(request_id.encode(), digest_size=4, salt=b"canary-fails").digest()
        return int.from_bytes(digest, "little") < self._below
