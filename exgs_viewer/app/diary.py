"""What this session writes down for the next one: settings that were changed, and what is remembered of scenes."""

from __future__ import annotations

from exgs_viewer.app.memory import Memory, changed_since, load_memory, save_memory
from exgs_viewer.app.notices import Notices
from exgs_viewer.settings import Settings, load_settings, save_settings


class Diary:
    """Begins with what the last session wrote. Where the session leaves no trace (`writes` is False), only it knows."""

    def __init__(self, given: Settings, notices: Notices, writes: bool = True):
        # Flags of the command line hold for this session only: what counts is how it ends against how it began.
        self._given, self._base = given, load_settings()
        self._stored = self._base
        self._notices, self._writes = notices, writes
        self.memory = load_memory()

    def note(self, memory: Memory) -> None:
        """Something new is remembered."""
        self.memory = memory
        if self._writes:
            self._notices.attempt(lambda: save_memory(memory))

    def store(self, now: Settings) -> None:
        """Write down the settings that were changed in this session, if they are not written already."""
        settings = changed_since(self._given, now, self._base)
        if self._writes and settings != self._stored:
            self._stored = settings
            self._notices.attempt(lambda: save_settings(settings))
