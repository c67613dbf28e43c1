"""Long runs: any analysis in chunks, on one process or many, that is gone on with where it was killed."""

from boundarygeo.runs.cluster import RayEngine
from boundarygeo.runs.local import LocalEngine
from boundarygeo.runs.plan import Job, Plan
from boundarygeo.runs.runner import Engine, begun, run, run_jobs
from boundarygeo.runs.status import RunStatus, run_status

__all__ = ["Engine", "Job", "LocalEngine", "Plan", "RayEngine", "RunStatus", "begun", "run", "run_jobs", "run_status"]
