"""The systems measured, one file each behind `systems.base.System`."""
