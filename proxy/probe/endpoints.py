"""Questions to endpoints other than Chat Completions: the context window, the tokenizer.

Where a window is told, as seen in each server's documentation: vLLM and SGLang `max_model_len`,
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
_PLACES = {"/models": False, "/props": True, "/api/v0/models": True, "/api/ps": True}
_WINDOWS = ("max_model_len", "loaded_context_length", "context_length", "max_context_length")
# SGLang's has the same address as vLLM's.
_COUNTERS = [(kind, TOKENIZERS[kind]) for kind in ("llamacpp", "vllm")]


def models(reply: Reply) -> tuple[str, ...]:
    """The ids of the models it lists."""
    listed = (as_object(each).get("id") for each in as_array(reply.json.get("data")))
    return tuple(name for each in listed if (name := as_string(each)))


def window(reply: Reply, model: str) -> tuple[str, int]:
    """The context window of `model` in a reply, and the member that tells it; 0 if none does."""
    if tokens := as_count(as_object(reply.json.get("default_generation_settings")).get("n_ctx")):
        return "n_ctx", tokens
    listed = as_array(reply.json.get("data")) or as_array(reply.json.get("models"))
    entries = [as_object(each) for each in listed]
    names = (model, f"{model}:latest")  # as Ollama says it
    named = [each for each in entries if each.get("id") in names or each.get("name") in names]
    for entry in named:
        for name in _WINDOWS:
            if tokens := as_count(entry.get(name)):
                return name, tokens
    return "", 0


def endpoint_questions(model: str) -> tuple[Question, ...]:
    """What is asked about `model` elsewhere than at Chat Completions."""

    def told(replies: Sequence[Reply]) -> bool:
        return window(replies[-1], model)[1] > 0

    def judge(replies: Sequence[Reply]) -> Finding:
        member, tokens = window(replies[-1], model)
        if not tokens:
            return Finding("not told in " + ", ".join(_PLACES))
        place = list(_PLACES)[len(replies) - 1]
        return Finding(f"`{member}` in {place}", {"context_window": tokens})

    body = {"model": model, "messages": user("Hello.")}
    counts = (ProbeRequest(body, path=each.path, outside_v1=each.at_root) for _, each in _COUNTERS)
    return (
        Question(
            "the context window",
            ("context_window",),
            tuple(ProbeRequest(path=path, outside_v1=beside) for path, beside in _PLACES.items()),
            judge,
            told,
        ),
        Question(
            "the tokenizer",
            ("tokenizer",),
            tuple(counts),
            _tokenizer,
            lambda replies: _counted(replies) != "none",
        ),
    )


def _counted(replies: Sequence[Reply]) -> str:
    """Whose endpoint the last reply, or one before it, has counted with."""
    for (kind, tokenizer), reply in zip(_COUNTERS, replies, strict=False):
        if reply.accepted and as_count(reply.json.get(tokenizer.member)):
            return kind
    return "none"


def _tokenizer(replies: Sequence[Reply]) -> Finding:
    kind = _counted(replies)
    found = f"{TOKENIZERS[kind].path} counts" if kind != "none" else "no endpoint that counts"
    return Finding(found, {"tokenizer": kind})
