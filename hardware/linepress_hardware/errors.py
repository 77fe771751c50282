"""The errors of the hardware models; each message is one sentence that names the thing and how to mend it."""


class HardwareError(ValueError):
    """Base of every error raised by this package."""


class UnknownPartError(HardwareError):
    """A memory part, accelerator, rack, link or topology that no data file describes."""


class ConfigurationError(HardwareError):
    """Numbers that contradict each other or lie outside what the model covers."""
