"""The stages that come with llm-proxy, one module each, named as in YAML."""

from pipeline.config.registry import Registry

#: `translate-in` is `TranslateIn` in `stages.translate_in`, and so on.
REGISTRY = Registry(
    package="stages",
    builtin=(
        "authenticate",
        "account",
        "validate",
        "record",
        "resolve",
        "limit",
        "retry",
        "fallback",
        "translate-in",
        "extract-reasoning",
        "queue",
        "invoke",
        "repair-tools",
        "translate-out",
        "stream-encode",
        "count-tokens",
        "list-models",
        "metrics",
        "ui",
    ),
    group="llm_proxy.stages",
)
