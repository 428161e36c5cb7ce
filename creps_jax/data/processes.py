"""What worker processes have in common."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Ends this process when the one that spawned it is gone, even if that was killed.

    Does nothing in a process that was not spawned.
    """
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()
