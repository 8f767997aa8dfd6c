"""Outcomes that callers report: logged once before they are acknowledged, and only with the token."""

from pathlib import Path

import httpx
import pytest

from app_builders import BEARER, an_outcome, logged, with_service
from serving_builders import TOKEN, a_replica


class TestFeedback:
    def test_outcomes_are_logged_once_before_they_are_acknowledged(self, tmp_path: Path) -> None:
        replica = a_replica(tmp_path)

        async def story(client: httpx.AsyncClient) -> None:
            first = await client.post(
                "/v1/feedback", json={"items": [an_outcome("e1"), an_outcome("e2"), an_outcome("e1")]}, headers=BEARER
            )
            again = await client.post("/v1/feedback", json={"items": [an_outcome("e2"), an_outcome("e3")]}, headers=BEARER)
            assert (first.status_code, first.json()["accepted"], first.json()["known_already"]) == (202, 2, 1)
            assert (again.json()["accepted"], again.json()["known_already"]) == (1, 1)

        with_service(replica, story)
        frames = logged(replica)
        assert [[item["event_id"] for item in frame["items"]] for frame in frames] == [["e1", "e2"], ["e3"]]  # type: ignore[attr-defined]
        assert frames[0]["kind"] == "feedback"
        assert frames[0]["items"][0] == an_outcome("e1")  # type: ignore[index]

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe4"])
    def test_only_the_token_opens(self, tmp_path: Path, header: str | None) -> None:
        replica = a_replica(tmp_path)

        async def story(client: httpx.AsyncClient) -> None:
            headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
            reply = await client.post("/v1/feedback", json={"items": [an_outcome()]}, headers=headers)
            assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")

        with_service(replica, story)
        assert logged(replica) == []

    def test_a_malformed_outcome_refuses_the_request_and_names_the_field(self, tmp_path: Path) -> None:
        replica = a_replica(tmp_path)

        async def story(client: httpx.AsyncClient) -> None:
            items = [an_outcome("e1"), an_outcome("e2", outcome={"long": "yes"})]
            reply = await client.post("/v1/feedback", json={"items": items}, headers=BEARER)
            assert (reply.status_code, reply.json()["errors"][0]["field"]) == (422, "items[1].outcome.long")
            changed = [an_outcome("e1"), an_outcome("e1", outcome={"long": False})]
            reply = await client.post("/v1/feedback", json={"items": changed}, headers=BEARER)
            assert (reply.status_code, reply.json()["errors"][0]["field"]) == (422, "items[1].event_id")

        with_service(replica, story)
        assert logged(replica) == []
