"""How modules are run: batch sizes, memory, arithmetic, progress and cost. The one place that knows batches."""

from boundarygeo.evaluation.batches import BatchTuner, Counts, in_batches, progress_bar
from boundarygeo.evaluation.forms import (
    PRECISIONS,
    Form,
    analysis,
    build_form,
    fast_bfloat16,
    frozen_copy,
    precision_ladder,
)
from boundarygeo.evaluation.inspection import check_module, few_inputs, fingerprint
from boundarygeo.evaluation.operations import steady_size

__all__ = [
    "PRECISIONS",
    "BatchTuner",
    "Counts",
    "Form",
    "analysis",
    "build_form",
    "check_module",
    "fast_bfloat16",
    "few_inputs",
    "fingerprint",
    "frozen_copy",
    "in_batches",
    "precision_ladder",
    "progress_bar",
    "steady_size",
]
