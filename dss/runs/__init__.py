"""Run folders: a search that is killed at any moment resumes, and a finished one can be read by any tool.

A folder holds `run.json` (the question), `buffers.safetensors` (the model's, if it has any), `steps.jsonl` and `snapshots/` (how the string grew), and at the end
`path.safetensors` and `summary.json`. Beads are stored once each, under a digest of their bytes.
"""

from dss.runs.files import parsed, read_json, read_text
from dss.runs.history import Snapshot, resumed
from dss.runs.layout import BOUNDS, PATH, PROFILE, QUESTION, REPORT, STEPS, SUMMARY
from dss.runs.lock import writing
from dss.runs.reading import Run, check_data, load_path, load_question, load_run
from dss.runs.recording import VARIES, RunRecorder, check_free, record_certificate
from dss.runs.schema import Kind, Record, Schema

__all__ = [
    "BOUNDS",
    "PATH",
    "PROFILE",
    "QUESTION",
    "REPORT",
    "STEPS",
    "SUMMARY",
    "VARIES",
    "Kind",
    "Record",
    "Run",
    "RunRecorder",
    "Schema",
    "Snapshot",
    "check_data",
    "check_free",
    "load_path",
    "load_question",
    "load_run",
    "parsed",
    "read_json",
    "read_text",
    "record_certificate",
    "resumed",
    "writing",
]
