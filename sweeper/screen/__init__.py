"""What a person sees and says while a command runs: messages, progress, redirected logs, interrupts."""
