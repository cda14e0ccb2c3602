"""The section `limits`: whose limits there are, and the accounts of a request."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import Protocol

from attrs import Factory, define, field

from pipeline import option
from stages.exchange import Exchange
from stages.limits.config import Limits
from stages.limits.estimates import Estimates
from stages.limits.limit_set import Account, LimitSet
from stages.limits.lone_store import LoneStore
from stages.limits.memory import MemoryStore
from stages.limits.redis_store import RedisStore
from stages.limits.share_store import ShareStore
from stages.limits.store import LimitStore
from stages.shared_store.section import Store

#: Characters of the name of a session or agent. Clients choose them.
_MAX_NAME = 200
#: Sets of limits that are in memory. They have no counts.
_MAX_SETS = 1_000


class KeyOptions(Protocol):
    """An entry of the section `keys`."""

    @property
    def limits(self) -> Limits: ...


@define(eq=False)
class LimitsSection:
    """The section `limits`. A request counts against each account that it belongs to."""

    all: Limits = option(factory=Limits, help="limits of all requests together")
    keys: Limits = option(factory=Limits, help="limits of each key that has no limits of its own")
    models: dict[str, Limits] = option(
        factory=dict,
        help="limits by the names that clients use, or by patterns; each one that matches counts",
    )
    sessions: Limits = option(
        factory=Limits, help="limits of each session, from `x-claude-code-session-id`"
    )
    agents: Limits = option(
        factory=Limits, help="limits of each sub-agent, from `x-claude-code-agent-id`"
    )
    key_limits: Mapping[str, Limits] = field(default=Factory(dict), init=False)
    """The limits of keys that have their own, by the key's name."""
    store: LimitStore = field(factory=MemoryStore, init=False)
    estimates: Estimates = field(factory=Estimates, init=False)
    _patterns: list[tuple[re.Pattern[str], Account]] = field(init=False, repr=False)

    _sets: dict[tuple[str, ...], LimitSet] = field(factory=dict, init=False, repr=False)
    """By what the accounts of a request depend on."""

    @_patterns.default
    def _compile(self) -> list[tuple[re.Pattern[str], Account]]:
        return [
            (
                re.compile(fnmatch.translate(name)),
                Account(f"model:{name}", f"model `{name}`", f"limits.models.{name}", limits),
            )
            for name, limits in self.models.items()
        ]

    def set_key_limits(self, keys: Mapping[str, KeyOptions]) -> None:
        """Use the limits of keys that have their own, in place of `keys`."""
        self.key_limits = {name: key.limits for name, key in keys.items() if key.limits.active}

    def share(self, store: Store) -> None:
        """Count in the shared store, if there is one, unless the counts were carried over."""
        connection = store.connection
        if connection and isinstance(self.store, MemoryStore):
            self.store = RedisStore(connection, LoneStore(store.on_loss), store.lease)
            if store.mode == "approximate":
                self.store = ShareStore(self.store, store.max_error, lambda: connection.processes)

    def carry_over(self, running: LimitsSection) -> None:
        """Keep the counts and the estimates of `running`, for a reloaded config."""
        self.store, self.estimates = running.store, running.estimates

    def of(self, exchange: Exchange, model: str) -> LimitSet | None:
        """The limits of a request. `model` is the name that the client used."""
        session = exchange.session if self.sessions.active or self.agents.active else ""
        key = (exchange.client, model, session, exchange.agent if self.agents.active else "")
        limits = self._sets.get(key)
        if limits is None:
            if len(self._sets) >= _MAX_SETS:
                self._sets.clear()
            limits = self._sets[key] = LimitSet.of(self.accounts(exchange, model))
        return limits if limits.limits else None

    def accounts(self, exchange: Exchange, model: str) -> list[Account]:
        """The accounts of a request that have limits. `model` is the name that the client used."""
        accounts = [account for pattern, account in self._patterns if pattern.match(model)]
        if self.all.active:
            accounts.append(Account("all", "the proxy", "limits.all", self.all))
        client = exchange.client
        own = self.key_limits.get(client)
        limits = own or self.keys
        if limits.active:
            path = f"keys.{client}.limits" if own else "limits.keys"
            accounts.append(Account(f"key:{client}", f"key `{client}`", path, limits))
        session, agent = exchange.session[:_MAX_NAME], exchange.agent[:_MAX_NAME]
        if session and self.sessions.active:
            name = f"session:{client}/{session}"
            accounts.append(Account(name, "this session", "limits.sessions", self.sessions))
        if agent and self.agents.active:
            name = f"agent:{client}/{session}/{agent}"
            accounts.append(Account(name, "this agent", "limits.agents", self.agents))
        return accounts
