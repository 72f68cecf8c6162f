"""The commands, a file for each group: parse, build a settings object, call the library, say what was written."""
