//! Checkpoint files and directories on unusual file systems.
