"""Run folders: a search that is killed at any moment resumes, and a finished one can be read by any tool.

A folder holds `run.json` (the question), `buffers.safetensors` (the model's, if it has any), `steps.jsonl` and `snapshots/` (how the string grew), and at the end
`path.safetensors` and `summary.json`. Beads are stored once each, under a digest of their bytes.
"""

from dss.runs.layout import BOUNDS, PATH, PROFILE, QUESTION, REPORT, STEPS, SUMMARY
from dss.runs.reading import Run, Snapshot, check_data, load_path, load_run
from dss.runs.recording import RunRecorder, check_free, record_certificate

__all__ = [
    "PATH",
    "PROFILE",
    "QUESTION",
    "REPORT",
    "BOUNDS",
    "STEPS",
    "SUMMARY",
    "Run",
    "RunRecorder",
    "Snapshot",
    "check_data",
    "check_free",
    "load_path",
    "load_run",
    "record_certificate",
]
