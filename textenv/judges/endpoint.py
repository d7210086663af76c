"""A judge behind an OpenAI-compatible endpoint: POST {address}/chat/completions.

The key is read from the environment when a question is sent, goes into that request's header and
nowhere else. A question that fails does not stop the others; an endpoint that is not there does.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from textenv.errors import MissingExtraError
from textenv.judges.addresses import checked_address, key_for
from textenv.judges.backend import (
    AnswerError,
    EndpointError,
    JudgeError,
    Outcome,
    check_apart,
    shorten,
)
from textenv.judges.replies import log_probs_of
from textenv.judges.request import ConnectionFault, Reply, headers_with, post
from textenv.judges.retrying import PassingFault, persist
from textenv.judges.template import Template

_PASSING = frozenset((408, 409, 425, 429))  # and 5xx: another time it may go well
_REFUSED = frozenset((401, 403, 404))  # whoever asks, whatever is asked


class Endpoint:
    """A model that another program serves, by its address.

    Args:
        address: Up to and without /chat/completions, as in "http://localhost:8000/v1". To a host
            that is not this machine a key is sent by https only.
        model: What the endpoint calls the model.
        key_variable: The environment variable that holds the key; where it is not set none is
            sent. None: none is ever sent.
        concurrency: How many requests may be open at once, over all threads.
        retries: How often a question is sent again after 408, 409, 425, 429, 5xx, a timeout or a
            cut connection.
        timeout: Seconds for one request.
        deadline: Seconds for one question with all its requests and the waiting between them.
        wait: Seconds before the first retry, about; each next time twice as long, with chance
            added so that many askers do not come back together.
        longest_wait: Seconds; a `Retry-After` header is respected up to here.
        max_tokens: How much of an answer is asked for.
        logprobs: Ask for the probabilities of the likeliest tokens; False for endpoints that
            refuse the question.
        request: More fields of the request's body; None leaves out one of ours, as in
            {"max_tokens": None, "max_completion_tokens": 8}.

    Attributes:
        counts: "requests", "retries" and "failed" (questions), since it was made.

    Raises:
        ValueError: an address that is none, or numbers that make no sense.
        MissingExtraError: tenacity is not installed.
    """

    def __init__(
        self,
        address: str,
        model: str,
        key_variable: str | None = "OPENAI_API_KEY",
        *,
        concurrency: int = 8,
        retries: int = 5,
        timeout: float = 60.0,
        deadline: float = 180.0,
        wait: float = 0.5,
        longest_wait: float = 60.0,
        max_tokens: int = 8,
        logprobs: bool = True,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        if importlib.util.find_spec("tenacity") is None:
            raise MissingExtraError("tenacity", "a judge behind an endpoint")
        self.address = checked_address(address)
        if not isinstance(model, str) or not model:
            raise ValueError(f"model must be the endpoint's name of its model, got {model!r}")
        numbers = {"timeout": timeout, "deadline": deadline, "longest_wait": longest_wait}
        for name, number in {
            **numbers,
            "concurrency": concurrency,
            "max_tokens": max_tokens,
        }.items():
            if not number > 0:
                raise ValueError(f"{name} must be greater than 0, got {number!r}")
        if retries < 0 or wait < 0:
            raise ValueError(f"retries and wait must be 0 or more, got {retries!r} and {wait!r}")
        self.model = model
        self.name = f"{model} at {self.address}"
        self.key_variable = key_variable
        self.concurrency = concurrency
        self.retries = retries
        self.timeout = timeout
        self.deadline = deadline
        self.wait = wait
        self.longest_wait = longest_wait
        self.max_tokens = max_tokens
        self.logprobs = logprobs
        self.request = dict(request or {})
        self.counts = {"requests": 0, "retries": 0, "failed": 0}
        self._make_locks()

    def identity(self, template: Template) -> dict[str, Any]:
        """As `Backend.identity`."""
        return {"address": self.address, **self._body(template, "")}

    def ask(self, template: Template, questions: Sequence[str]) -> Iterator[dict[int, Outcome]]:
        """As `Backend.ask`.

        Raises:
            ValueError: the template is no chat's, or one answer begins another.
            EndpointError: the key may not be sent there.
        """
        if not template.chat:
            raise ValueError(
                f"the template {template.name!r} is for a model that goes on from a text "
                "(chat=False); an endpoint is asked in a chat: take another template, such as "
                '"sentiment", or a local model'
            )
        if self.logprobs:
            check_apart(list(template.answers), list(template.answers), self.name)
        self._key()  # a fault of the set-up is said before any question is sent
        stop = threading.Event()
        pool = ThreadPoolExecutor(max(1, min(self.concurrency, len(questions))))
        try:
            numbers = {
                pool.submit(self._outcome, template, question, stop): number
                for number, question in enumerate(questions)
            }
            for done in as_completed(numbers):
                yield {numbers[done]: done.result()}
        finally:  # also where the asker is interrupted: nothing more is sent
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _outcome(self, template: Template, question: str, stop: threading.Event) -> Outcome:
        try:
            if stop.is_set():
                raise EndpointError(f"{self.name} was not asked: it failed for another text before")
            reply = self._reply(json.dumps(self._body(template, question)).encode(), stop)
            return log_probs_of(reply.body, list(template.answers))
        except AnswerError as error:
            outcome: JudgeError = AnswerError(f"{self.name} {error}")
        except EndpointError as error:
            stop.set()
            outcome = error
        except JudgeError as error:
            outcome = error
        self._count("failed")
        return outcome

    def _reply(self, body: bytes, stop: threading.Event) -> Reply:
        """Send until a reply is final, or retries or time are used up."""
        try:
            return persist(
                functools.partial(self._send, body, time.monotonic() + self.deadline),
                retries=self.retries,
                deadline=self.deadline,
                wait=self.wait,
                longest_wait=self.longest_wait,
                stop=stop,
                count=lambda: self._count("retries"),
            )
        except PassingFault as fault:
            words = f"{self.name} {fault}"
            if fault.there:
                raise JudgeError(words) from fault
            raise EndpointError(
                f"{words}. Start the server, or correct the address (it ends before "
                "/chat/completions); offline=True replays what it said before"
            ) from fault

    def _send(self, body: bytes, ends: float) -> Reply:
        key = self._key()
        target = f"{self.address}/chat/completions"
        with self._places:
            self._count("requests")
            seconds = max(0.01, min(self.timeout, ends - time.monotonic()))
            try:
                reply = post(target, body, dict(headers_with(key)), seconds)
            except ConnectionFault as fault:
                words = str(fault) if key is None else str(fault).replace(key, "(the key)")
                raise PassingFault(words, there=fault.there) from None
        if key is not None:  # some servers repeat it
            reply = reply._replace(body=reply.body.replace(key.encode(), b"(the key)"))
        if reply.status == 200:
            return reply
        words = f"replied {reply.status}: {_text(reply)}"
        if reply.status in _PASSING or reply.status >= 500:
            raise PassingFault(words, retry_after=reply.retry_after)
        if reply.status in _REFUSED or 300 <= reply.status < 400:
            raise EndpointError(f"{self.name} {words}. {self._advice(reply.status)}")
        raise JudgeError(f"{self.name} {words}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _body(self, template: Template, question: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}]
        if template.system is not None:
            messages.insert(0, {"role": "system", "content": template.system})
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        if self.logprobs:
            body |= {"logprobs": True, "top_logprobs": 20}
        return {name: value for name, value in (body | self.request).items() if value is not None}

    def _key(self) -> str | None:
        return key_for(self.address, self.key_variable)

    def _advice(self, status: int) -> str:
        if status in (401, 403):
            held = "is not set" if self._key() is None else "is set, but not accepted"
            return f"The environment variable for the key, {self.key_variable}, {held}"
        if status == 404:
            return f"Is {self.model!r} a model there, and does {self.address!r} end rightly (/v1)?"
        return "A redirect is not followed, because it would carry the key on: give its address"

    def _make_locks(self) -> None:
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(self.concurrency)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_places")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_locks()


def _text(reply: Reply) -> str:
    return shorten(reply.body.decode("utf-8", "replace"), 200)
