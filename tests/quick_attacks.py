"""The strongest attack in few steps, for tests that compare its numbers with each other, not with other attacks."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from boundarygeo.attacks import worst_case


@contextlib.contextmanager
def few_steps() -> Iterator[None]:
    """Inside, all parts of `strongest` with steps take a few of them."""

    def quick(attack: Callable[..., Any], steps: int) -> Callable[..., Any]:
        return lambda *given, **settings: attack(*given, **settings | {"steps": steps})

    with pytest.MonkeyPatch.context() as patch:
        for name, steps in (("apgd", 4), ("apgd_targeted", 4), ("minimal_norm", 8)):
            patch.setattr(worst_case, name, quick(getattr(worst_case, name), steps))
        yield
