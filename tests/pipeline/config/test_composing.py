"""Large texts are read by libyaml, with the result of ruamel.yaml."""

from __future__ import annotations

from pipeline.config.composing import compose
from pipeline.config.parsing import parse
from tests.cases import for_each

ENTRY = """\
# a comment
name{n}:   # another
  sha256: "abc: # no comment"
  models: ['claude-*', "b\\tc", plain text, http://x.invalid:80/v1]
  limits: {{requests_per_minute: 1_000, cost_per_day: 1e3, timeout: 1.5}}
  numbers: [0x1F, 0o17, 017, 1:30, .inf, -0.0, +1, 1.0e-3, 12e03]
  others: [true, No, yes, ~, null, 2027-01-31, =, "", ''] # end
  tagged: [!!str 5, !!bool yes, ! 7, !!int "8"]
  empty:
  folded: >-
    two
    lines

    more
  literal: |
    ${{X:-a}} b
  variable: ${{X:-5}}
  quoted: "${{X:-5}}"
  multi: a plain
    scalar
  ? explicit
  : - one
    -
      - two
  anchor: &a{n} [1, {{b: c}}]
  alias: *a{n}
"""


PADDING = "\n" + ("# comment" * 1000 + "\n") * 12


def test_both_parsers_give_the_same_document() -> None:
    text = "".join(ENTRY.format(n=n) for n in range(3))
    assert type(compose(text, 1000)) is not type(compose(text + PADDING, 1000))
    small, large = parse(text, {}), parse(text + PADDING, {})
    assert small.problems == large.problems == ()
    assert large.value == small.value
    assert repr(large.value) == repr(small.value)
    assert large.keys == small.keys
    assert large.values == small.values
    assert large.names == small.names
    assert large.scalars == small.scalars


def test_the_version_of_a_large_text_counts() -> None:
    text = "%YAML 1.1\n---\na: yes\nb: 0o17\nc: 017\n"
    assert parse(text + PADDING, {}).value == parse(text, {}).value


@for_each(
    "text",
    ["a: [}", "a: *b", "a:\n\tb: 1", "a: 1\n---\nb: 2", "a: 'é", "", "- " * 2_000],
    ids=lambda text: text[:9],
)
def test_a_mistake_in_a_large_text_is_reported_by_ruamel(text: str) -> None:
    assert parse(text + PADDING, {}).problems == parse(text, {}).problems


def test_10_000_keys_with_limits_are_not_too_many() -> None:
    entry = "{sha256: 'x', models: [a, b], limits: {requests_per_minute: 5}, created: '2026-11-01'}"
    text = "".join(f"name{n}: {entry}\n" for n in range(10_000))
    assert parse(text, {}).problems == ()
