"""What everything stands on: errors, files, digests, parameter spaces and paths."""
