"""Long runs: any analysis part by part, on one process or many; re-running resumes it where it was killed."""

from typing import TYPE_CHECKING

from boundarygeo.lazy import importing

if TYPE_CHECKING:
    from boundarygeo.runs.job import Job
    from boundarygeo.runs.local import LocalEngine
    from boundarygeo.runs.plan import Plan
    from boundarygeo.runs.ray import RayEngine
    from boundarygeo.runs.runner import Engine, is_run, run, run_jobs
    from boundarygeo.runs.status import RunStatus, run_status

__all__ = ["Engine", "Job", "LocalEngine", "Plan", "RayEngine", "RunStatus", "is_run", "run", "run_jobs", "run_status"]
__getattr__ = importing(
    __name__,
    {
        "Engine": "runner",
        "Job": "job",
        "LocalEngine": "local",
        "Plan": "plan",
        "RayEngine": "ray",
        "RunStatus": "status",
        "is_run": "runner",
        "run": "runner",
        "run_jobs": "runner",
        "run_status": "status",
    },
)
