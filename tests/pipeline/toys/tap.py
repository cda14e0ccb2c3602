from tests.pipeline.support import Tap

__all__ = ["Tap"]
