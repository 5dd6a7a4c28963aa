"""What each command does: settings and collaborators in, a frozen CommandResult out. Nothing here prints."""
