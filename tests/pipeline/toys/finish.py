from tests.pipeline.support import Finish

__all__ = ["Finish"]
