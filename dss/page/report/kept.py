"""Whether a run is still what was certified, in words."""

from dss.runs import Run
from dss.tasks import source_digest

SHOWN = 12
"""Digits of a digest."""


def changed(run: Run) -> tuple[str, str]:
    """The word and the sentence that stand in the place of the verdict where a run was changed."""
    return "failed", (
        f"Changed after its certificate: {' and '.join(run.changes)} in this folder are not what was judged, so nothing is known of "
        f"what is shown here. dss certify {run.folder} judges it anew."
    )


def kept(run: Run) -> list[tuple[str, str, str]]:
    """`(name, value, explanation)` of what the run keeps digests of: path, data and task."""
    if run.summary is None or "digests" not in run.summary:
        return []
    digests, data = run.summary["digests"], {kind: digest[:SHOWN] for kind, digest in run.data.items()}
    return [
        ("path", _path(run), f"digest {(digests.get('path') or 'not kept')[:SHOWN]}, kept with the certificate"),
        (
            "data",
            "as the task gave it",
            f"digests {data['train']} (training) and {data['judge']} (judge); a run refuses other data",
        ),
        ("task", _task(run, digests.get("task")), f"digest of its source {(digests.get('task') or 'not kept')[:SHOWN]}"),
    ]


def _path(run: Run) -> str:
    return "changed after its certificate" if run.changes else "unchanged since its certificate"


def _task(run: Run, before: str | None) -> str:
    now = source_digest(run.question.get("task", ""))
    if before is None or now is None:
        return "its source is not at hand"
    return "unchanged since the certificate" if now == before else "changed since: the verdict is about the task as it was"
