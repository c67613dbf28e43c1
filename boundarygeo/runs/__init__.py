"""Long runs: any analysis part by part, on one process or many; re-running resumes it where it was killed."""

from boundarygeo.runs.local import LocalEngine
from boundarygeo.runs.plan import Job, Plan
from boundarygeo.runs.ray import RayEngine
from boundarygeo.runs.run import Engine, is_run, run, run_jobs
from boundarygeo.runs.status import RunStatus, run_status

__all__ = ["Engine", "Job", "LocalEngine", "Plan", "RayEngine", "RunStatus", "is_run", "run", "run_jobs", "run_status"]
