from tests.pipeline.support import Begin

__all__ = ["Begin"]
