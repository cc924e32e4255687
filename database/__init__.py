"""What must outlive the process: intents, the state a restart begins with, and the optional trade log."""
