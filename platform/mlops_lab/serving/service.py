"""The service without a web framework: calls in, replies out, several at a time.

What came in together is worked on together: one reading of features, one evaluation, one write to the prediction log. A reply that speaks
of a logged record goes out after the record is as safe as `durability` says. Refusals are made by `refusals.py`, and what the service says
of itself by `condition.py`.
"""

import logging
import os
from collections.abc import Sequence
from time import perf_counter

import orjson

from mlops_lab.errors import LogUnwritable
from mlops_lab.serving.answered import Answered, Question
from mlops_lab.serving.bodies import Bodies
from mlops_lab.serving.call import FEEDBACK, PREDICT, Call, Reply
from mlops_lab.serving.condition import Condition
from mlops_lab.serving.contract import (
    BODY_LIMITS,
    UNUSABLE,
    BodyLimits,
    Refusal,
    check_content_encoding,
    check_content_type,
    read_idempotency_key,
    read_request_id,
)
from mlops_lab.serving.counts import Counts
from mlops_lab.serving.idempotency import digest_of_body, reply_body
from mlops_lab.serving.parts import ServingParts
from mlops_lab.serving.prediction_log import encode
from mlops_lab.serving.refusals import Refusals
from mlops_lab.serving.traced import Part, begin, end
from mlops_lab.telemetry import read_traceparent
from mlops_lab.telemetry.span import Attribute

_JSON = (b"content-type", b"application/json")
_REPLAYED = (b"idempotent-replayed", b"true")
_log = logging.getLogger(__name__)


class Service:
    """Answers requests from one thread."""

    def __init__(self, parts: ServingParts, limits: BodyLimits = BODY_LIMITS) -> None:
        self.parts = parts
        self.counts = Counts()
        self.bodies = Bodies(parts.use_case, limits)
        self.refuse = Refusals().refuse
        self.condition = Condition(parts, self.refuse)
        self._traces = parts.spans.on

    @property
    def waits_for_disk(self) -> bool:
        """Whether the log has to be flushed (`parts.log.sync`) between `work` and `settle`."""
        return self.parts.log.durability == "disk"

    def answer(self, call: Call) -> Reply:
        """One call from start to end, for callers that have no others to share the work with. Never raises."""
        self.work([call])
        error = None
        if call.logged and self.waits_for_disk:
            try:
                self.parts.log.sync()
            except LogUnwritable as failed:
                error = failed
        self.settle([call], error)
        assert call.reply is not None
        return call.reply

    def work(self, calls: Sequence[Call]) -> None:
        """Answer calls up to the point where their records are written. Never raises.

        Behind it, flush the log if `waits_for_disk`, then `settle`, then send the replies.
        """
        in_hand: dict[str, Call] = {}
        asked: list[Call] = []
        questions: list[Question] = []
        frames: list[bytes] = []
        for call in calls:
            try:
                if call.route == PREDICT:
                    question = self._question(call, in_hand)
                    if question is not None:
                        asked.append(call)
                        questions.append(question)
                else:
                    self._take_feedback(call, frames)
            except Exception as error:
                call.reply = self.refuse(call.route, error, call.request_id)
        began = scored = perf_counter() if self._traces else 0.0
        if questions:
            results: Sequence[Answered | Exception]
            try:
                results = self.parts.predictor.answer(questions)
            except Exception as error:
                results = [error] * len(questions)
            if self._traces:
                scored = perf_counter()
            for call, question, result in zip(asked, questions, results, strict=True):
                try:
                    if isinstance(result, Exception):
                        raise result
                    frames.append(encode(result.frame))
                    self._answer(call, question, result)
                except Exception as error:
                    call.reply = self.refuse(PREDICT, error, call.request_id)
        if frames:
            try:
                self.parts.log.write(frames)
                self.parts.keys.wrote(sum(map(len, frames)))
            except LogUnwritable as error:
                self._take_back([call for call in calls if call.answered is not None or call.route == FEEDBACK], error)
        if self._traces:
            self._note_parts(calls, began, scored)

    def settle(self, calls: Sequence[Call], error: LogUnwritable | None = None) -> None:
        """The log was flushed, or could not be: make every reply final, and count it."""
        if error is not None:
            self._take_back(calls, error)
        now = perf_counter()
        counts = self.counts
        for call in calls:
            if call.like is not None:
                self._copy(call, call.like)
            reply = call.reply
            assert reply is not None
            counts.replies[call.route, reply.status] += 1
            answered = call.answered
            if answered is not None:
                answers = answered.answers
                version = answered.loaded.version
                answerer = counts.answerer(answered.variant, version)
                counts.rows[answered.variant, answerer[1], str(answered.frame["purpose"])] += len(answers)
                counts.took(answerer, now - call.came)
                states = counts.states
                for answer in answers:
                    counts.scored(answerer, answer["probability"])
                    states[answer["feature_state"]] += 1
                counts.aged(answers[0]["feature_ages_s"])
            elif call.route == FEEDBACK and reply.status == 202:
                counts.took(None, now - call.came)
            if call.traced is not None:
                self._end_trace(call, reply.status, now)

    def _note_parts(self, calls: Sequence[Call], began: float, scored: float) -> None:
        until = None if self.waits_for_disk else perf_counter()
        for call in calls:
            if call.traced is not None:
                if call.answered is not None:
                    call.traced.parts.append(Part("read features, score", began, scored))
                if call.logged:
                    call.traced.parts.append(Part("write prediction log", scored, until))

    def _end_trace(self, call: Call, status: int, now: float) -> None:
        said: dict[str, Attribute] = {"lab.request_id": call.request_id or ""}
        if call.answered is not None:
            answers, frame = call.answered.answers, call.answered.frame
            said |= {
                "lab.prediction_id": answers[0]["prediction_id"],
                "lab.rows": len(answers),
                "lab.model_version": call.answered.loaded.version,
                "lab.variant": call.answered.variant,
                "lab.purpose": str(frame["purpose"]),
            }
        assert call.traced is not None
        end(self.parts.spans, call.traced, call.route, call.came, now, status, said)

    def _traced(self, call: Call, trace: str | None) -> str | None:
        """Decide whether a call is traced; returns what its frame is to carry on."""
        call.traced = begin(self.parts.spans, trace)
        return trace if call.traced is None else call.traced.context.traceparent

    def _question(self, call: Call, in_hand: dict[str, Call]) -> Question | None:
        """Read a call; None where its key was answered before, or is in hand. Raises Refusal."""
        content_type = key = trace = None
        for name, value in call.headers:
            if name == b"content-type":
                content_type = value
            elif name == b"x-request-id":
                call.request_id = read_request_id(value)
            elif name == b"idempotency-key":
                key = read_idempotency_key(value)
            elif name == b"traceparent":
                trace = read_traceparent(value)
            elif name == b"content-encoding":
                check_content_encoding(value)
        if call.request_id is None:
            call.request_id = os.urandom(16).hex()
        if self._traces:
            trace = self._traced(call, trace)
        check_content_type(content_type)
        request = self.bodies.predict(call.body)
        noted: dict[str, object] | None = None
        if key is not None:
            asked = digest_of_body(call.body)
            kept = self.parts.keys.find(key, asked)
            if kept is not None:
                call.reply = Reply(200, [_JSON, (b"x-request-id", kept.request_id.encode()), _REPLAYED], kept.content)
                call.logged = True  # its record may still be on its way to the disk
                self.counts.replayed += 1
                return None
            if key in in_hand:
                call.like = in_hand[key]
                return None
            in_hand[key] = call
            noted = {"key": key, "asked": asked, "single": request.single}
        if trace is not None:
            noted = (noted or {}) | {"trace": trace}
        return Question(request.asks, call.request_id, request.purpose, request.single, noted)

    def _answer(self, call: Call, question: Question, answered: Answered) -> None:
        request_id = question.request_id
        content = reply_body(answered.answers, request_id, single=question.single)
        call.reply = Reply(200, [_JSON, (b"x-request-id", request_id.encode())], content)
        call.answered = answered
        call.logged = True
        if question.noted is not None and "key" in question.noted:
            call.key = str(question.noted["key"])
            self.parts.keys.keep(call.key, str(question.noted["asked"]), content, request_id)

    def _copy(self, call: Call, like: Call) -> None:
        """The reply of a call whose key came twice at once."""
        assert like.reply is not None
        if digest_of_body(call.body) != digest_of_body(like.body):
            why = "is used with two bodies at once: a new question needs a new key"
            refusal = Refusal(422, UNUSABLE, f"Idempotency-Key {why}.", fields=(("Idempotency-Key", why),))
            call.reply = self.refuse(PREDICT, refusal, call.request_id)
        else:
            repeated = like.reply.status == 200
            self.counts.replayed += repeated
            call.reply = Reply(like.reply.status, [*like.reply.headers, _REPLAYED] if repeated else like.reply.headers, like.reply.body)

    def _take_feedback(self, call: Call, frames: list[bytes]) -> None:
        found = dict(call.headers)
        if b"x-request-id" in found:
            call.request_id = read_request_id(found[b"x-request-id"])
        else:
            call.request_id = os.urandom(16).hex()
        trace = read_traceparent(found[b"traceparent"]) if b"traceparent" in found else None
        trace = self._traced(call, trace)
        self.parts.tokens.require(found.get(b"authorization"), "feedback")
        check_content_type(found.get(b"content-type"))
        check_content_encoding(found.get(b"content-encoding", b""))
        outcomes = self.bodies.feedback(call.body)
        taken = self.parts.desk.take(outcomes, call.request_id)
        call.event_ids = taken.new
        if taken.frame is not None:
            frames.append(encode(taken.frame if trace is None else taken.frame | {"trace": trace}))
        call.logged = True
        content = orjson.dumps({"request_id": call.request_id, "accepted": taken.accepted, "known_already": taken.known_already})
        call.reply = Reply(202, [_JSON, (b"x-request-id", call.request_id.encode())], content)

    def _take_back(self, calls: Sequence[Call], error: LogUnwritable) -> None:
        """What these calls were to be answered is not in the log, so it is not answered."""
        for call in calls:
            if not call.logged:
                continue
            if call.key is not None:
                self.parts.keys.forget([call.key])
            self.parts.desk.forget(call.event_ids)
            call.answered, call.logged = None, False
            call.reply = self.refuse(call.route, error, call.request_id)

    def shadow(self) -> None:
        """Let the shadow score a slice of what waits for it, and log that. What cannot be logged is left out: nobody was promised it."""
        frame = self.parts.predictor.shadow.score()
        if frame is not None:
            try:
                content = encode(frame)
                self.parts.log.write([content])
                self.parts.keys.wrote(len(content))
            except LogUnwritable as error:
                _log.warning("serving.shadow_not_logged", extra={"why": error.what})
