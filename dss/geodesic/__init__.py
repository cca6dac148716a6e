"""Pull a path tight inside its level set."""
