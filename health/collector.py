"""Python's cycle collector in a process that makes many objects, and none in a cycle."""

import gc


def tune_collector() -> None:
    """Let it run rarely, and never over what is there now: call it when all is imported.

    With Python's thresholds it walked all objects of a batch again and again, a third of a worker's
    time and a seventh of the auditor's.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
