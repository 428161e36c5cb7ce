"""What several processes that open the same images tell one another."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Hosts(NamedTuple):
    """Which of the processes this is, and how they exchange values."""

    index: int
    count: int
    # A JSON value of each process -> those of all, in their order; all processes must call it.
    gather: Callable[[Any], list[Any]]


ALONE = Hosts(0, 1, lambda value: [value])


@contextlib.contextmanager
def together(hosts: Hosts) -> Iterator[None]:
    """Around work that every process does: an error of one of them is raised in all.

    Raises:
      ValueError, OSError: that of this process, or else of the first that failed; names it.
    """
    own = None
    try:
        yield
    except (ValueError, OSError) as error:
        own = error
    failures = hosts.gather(own and [isinstance(own, OSError), str(own)])
    if own:
        raise own
    for index, failure in enumerate(failures):
        if failure:
            is_disk, message = failure
            kind = OSError if is_disk else ValueError
            raise kind(f"process {index} of {hosts.count}: {message}")


def check_equal(hosts: Hosts, what: str, images: int, fingerprint: str) -> None:
    """Raises ValueError in all processes unless they see the same images.

    Args:
      what: where the images are from.
      images: their number.
      fingerprint: of their names, sizes and labels.
    """
    first, *others = hosts.gather([images, fingerprint])
    for index, other in enumerate(others, 1):
        if other[0] != first[0]:
            differ = f"{other[0]} images and process 0 has {first[0]}"
        elif other != first:
            differ = (
                f"as many images as process 0, {first[0]}, of other names, sizes or labels "
                f"(fingerprints {other[1][:12]} and {first[1][:12]})"
            )
        else:
            continue
        raise ValueError(
            f"{what}: process {index} has {differ}; every process must see the same files"
        )
