"""Questions to endpoints other than Chat Completions: the context window, the tokenizer.

Where a window is reported, from each server's documentation: vLLM and SGLang `max_model_len`,
OpenRouter `context_length` and LM Studio `loaded_context_length`, in their lists of models;
llama.cpp `default_generation_settings.n_ctx` in /props; Ollama `context_length` in /api/ps, for
a model that is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.probe.question import Finding, ProbeRequest, Question, user
from proxy.probe.reply import Reply
from stages.backends.tokenizers import TOKENIZERS
from stages.chat_completions.json_values import as_array, as_count, as_object, as_string

MODELS = ProbeRequest(path="/models")
#: The paths that may report a context window, and whether each is next to `/v1`.
WINDOW_PLACES = {"/models": False, "/props": True, "/api/v0/models": True, "/api/ps": True}
_WINDOWS = ("max_model_len", "loaded_context_length", "context_length", "max_context_length")
# SGLang's has the same path as vLLM's.
_COUNTERS = [(kind, TOKENIZERS[kind]) for kind in ("llamacpp", "vllm")]


def models(reply: Reply) -> tuple[str, ...]:
    """Return the ids of the models in a list of models."""
    ids = (as_object(entry).get("id") for entry in as_array(reply.json.get("data")))
    return tuple(name for identity in ids if (name := as_string(identity)))


def window(reply: Reply, model: str) -> tuple[str, int]:
    """Return the member that reports the context window of `model`, and its tokens, or 0."""
    if tokens := as_count(as_object(reply.json.get("default_generation_settings")).get("n_ctx")):
        return "n_ctx", tokens
    listed = as_array(reply.json.get("data")) or as_array(reply.json.get("models"))
    entries = [as_object(entry) for entry in listed]
    names = (model, f"{model}:latest")  # Ollama adds the tag
    named = [e for e in entries if e.get("id") in names or e.get("name") in names]
    for entry in named:
        for name in _WINDOWS:
            if tokens := as_count(entry.get(name)):
                return name, tokens
    return "", 0


def endpoint_questions(model: str) -> tuple[Question, ...]:
    """Return the questions about `model` to other endpoints."""

    def found(replies: Sequence[Reply]) -> bool:
        return window(replies[-1], model)[1] > 0

    def judge(replies: Sequence[Reply]) -> Finding:
        member, tokens = window(replies[-1], model)
        if not tokens:
            return Finding("not reported in " + ", ".join(WINDOW_PLACES))
        place = list(WINDOW_PLACES)[len(replies) - 1]
        return Finding(f"`{member}` in {place}", {"context_window": tokens})

    body = {"model": model, "messages": user("Hello.")}
    requests = (ProbeRequest(body, path=t.path, outside_v1=t.at_root) for _, t in _COUNTERS)
    return (
        Question(
            "the context window",
            ("context_window",),
            tuple(
                ProbeRequest(path=path, outside_v1=outside)
                for path, outside in WINDOW_PLACES.items()
            ),
            judge,
            found,
        ),
        Question(
            "the tokenizer",
            ("tokenizer",),
            tuple(requests),
            _tokenizer,
            lambda replies: _tokenizer_kind(replies) != "none",
        ),
    )


def _tokenizer_kind(replies: Sequence[Reply]) -> str:
    """Return the kind of the first tokenizer endpoint that counted."""
    for (kind, tokenizer), reply in zip(_COUNTERS, replies, strict=False):
        if reply.accepted and as_count(reply.json.get(tokenizer.member)):
            return kind
    return "none"


def _tokenizer(replies: Sequence[Reply]) -> Finding:
    kind = _tokenizer_kind(replies)
    evidence = "no tokenizer endpoint" if kind == "none" else f"{TOKENIZERS[kind].path} counts"
    return Finding(evidence, {"tokenizer": kind})
