"""The commands: functions that take settings and collaborators, and return a frozen CommandResult. Nothing here prints."""
