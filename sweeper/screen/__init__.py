"""What users see and say while a command runs: messages, progress, redirected logs, interrupts."""
