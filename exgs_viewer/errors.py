"""The mistakes of users and machines, each told in one sentence: what, which value, what to do."""


class ExgsError(Exception):
    """Base of every error this program raises on purpose. The CLI prints it and exits with code 2."""


class SceneError(ExgsError):
    """A scene, camera or picture file cannot be read or written."""


class BackendError(ExgsError):
    """A renderer, display or device cannot be used here."""


class WeightsError(ExgsError):
    """Network weights are missing, damaged or do not fit."""


class Cancelled(Exception):  # noqa: N818 - not an error, a change of mind
    """Raised by a progress callback when its job is no longer wanted; never shown to the user as an error."""
