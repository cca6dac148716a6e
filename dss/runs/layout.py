"""Names of the files in a run folder."""

FORMAT = 1
QUESTION, BUFFERS, STEPS, SNAPSHOTS = "run.json", "buffers.safetensors", "steps.jsonl", "snapshots"
PATH, BOUNDS, SUMMARY = "path.safetensors", "stairs.safetensors", "summary.json"
REPORT, PROFILE, OPTIONS = "report.html", "profile.json", "options.toml"
