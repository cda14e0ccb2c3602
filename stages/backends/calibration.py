"""How far estimates of prompts are off on one backend, learned from the usage it tells."""

from __future__ import annotations

from collections import OrderedDict

from attrs import Factory, define, field

#: Of what was learned, each further answer leaves so much: after about ten, half.
_KEPT = 0.93
#: Before anything is learned, estimates are trusted as if so many tokens had confirmed them:
#: the few words a chat template puts around a short prompt say nothing of long ones.
_PRIOR = 500.0
#: A token has one byte at least and hardly more than eight; estimates take it for four. What is
#: told beyond that is not learned: it may be an answer of Ollama 0.30, whose usage leaves out
#: what was in its cache.
_LEAST, _MOST = 0.5, 4.0
#: Clients may name models freely, so the least recently used is forgotten.
_MODELS = 100


@define
class Calibration:
    """The ratio of told to estimated tokens, for each model.

    Long prompts count more, because it is a ratio of sums, and recent ones.
    """

    # By model: tokens estimated, tokens told.
    _sums: OrderedDict[str, tuple[float, float]] = field(default=Factory(OrderedDict), init=False)

    def ratio(self, model: str) -> float:
        """What to multiply an estimate with; 1 for a model not seen yet."""
        estimated, told = self._sums.get(model, (_PRIOR, _PRIOR))
        return told / estimated

    def learn(self, model: str, estimated: int, told: int) -> None:
        """A prompt estimated by its size alone had `told` tokens."""
        if not estimated * _LEAST <= told <= estimated * _MOST:
            return
        before = self._sums.pop(model, (_PRIOR, _PRIOR))
        self._sums[model] = (before[0] * _KEPT + estimated, before[1] * _KEPT + told)
        if len(self._sums) > _MODELS:
            self._sums.popitem(last=False)
