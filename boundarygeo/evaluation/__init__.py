"""Running modules: batches, precision, memory, progress and cost. No other part of the package knows about these."""

from boundarygeo.evaluation.arithmetic import is_standard
from boundarygeo.evaluation.batches import BatchTuner, Counts, in_batches, progress_bar
from boundarygeo.evaluation.calls import current_call
from boundarygeo.evaluation.copies import (
    check_weights,
    dtypes_of,
    evaluating,
    frozen_copy,
    has_hooks,
    pointers,
    share_buffers,
    tensors_of,
    unwrapped,
)
from boundarygeo.evaluation.forms import (
    PRECISIONS,
    Form,
    build_form,
    compiled,
    fast_bfloat16,
    plain_form,
    precision_ladder,
)
from boundarygeo.evaluation.identity import code_digest, is_installed, is_library_file, state_digest, structure_digest
from boundarygeo.evaluation.inspection import check_finite, check_module, few_inputs
from boundarygeo.evaluation.memory import Memory
from boundarygeo.evaluation.operations import steady_size
from boundarygeo.evaluation.session import Session, open_session
from boundarygeo.evaluation.world import analysis, own_world

__all__ = [
    "PRECISIONS",
    "BatchTuner",
    "Counts",
    "Form",
    "Memory",
    "Session",
    "analysis",
    "build_form",
    "check_finite",
    "check_module",
    "check_weights",
    "code_digest",
    "compiled",
    "current_call",
    "dtypes_of",
    "evaluating",
    "fast_bfloat16",
    "few_inputs",
    "frozen_copy",
    "has_hooks",
    "in_batches",
    "is_installed",
    "is_library_file",
    "is_standard",
    "open_session",
    "own_world",
    "plain_form",
    "pointers",
    "precision_ladder",
    "progress_bar",
    "share_buffers",
    "state_digest",
    "steady_size",
    "structure_digest",
    "tensors_of",
    "unwrapped",
]
