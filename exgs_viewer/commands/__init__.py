"""The commands, one frozen dataclass each: its fields are flags, its docstring the help, `run` does it."""
