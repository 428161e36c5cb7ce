"""Which argument an error is about, for callers who know it by another name: a command's option."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def about(argument: str) -> Iterator[None]:
    """Around what checks an argument: a ValueError or an OSError of it is about that argument."""
    try:
        yield
    except (ValueError, OSError) as error:
        error.argument = argument
        raise


def argument_of(error: Exception) -> str | None:
    """The argument that an error is about; None if it is about none, see about()."""
    return getattr(error, "argument", None)
