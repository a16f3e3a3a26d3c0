"""Ctrl-C while a command imports its modules.

A KeyboardInterrupt at that time gives a long stack trace, and is lost where an extension module or a weak reference's
callback does not pass it on, so that the command goes on.
"""

import os
import signal
import sys
import threading
from types import FrameType

_is_command = False


def exit_during_imports() -> None:
    """Lets Ctrl-C end the process with one line and status 130, if it is a command of flaxseg that is starting.

    For the first lines of the package, which `flaxseg COMMAND` and `python -m flaxseg.COMMAND` import before the
    command. Does nothing in other programs.
    """
    global _is_command
    # While Python imports the package of a module that is run with -m, its name is not yet in sys.argv.
    modules = (word.removeprefix("-m").partition(".")[0] for word in sys.orig_argv)
    is_module = sys.argv[:1] == ["-m"] and "flaxseg" in modules
    _is_command = is_module or os.path.splitext(os.path.basename((sys.argv or [""])[0]))[0] == "flaxseg"
    if _is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def raise_from_now_on() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again, so that what a command has begun to write is removed."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = _interrupt_again


def is_command() -> bool:
    """Returns whether this process is a command of flaxseg, so that nobody waits for its exceptions."""
    return _is_command


def exit_if_command(status: int) -> None:
    """Ends the process, if it is a command of flaxseg, without the interpreter's shutdown; otherwise returns.

    The shutdown may crash while a device is still working, and would then change the status.
    """
    if _is_command:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _interrupt_again(lost: "sys.UnraisableHookArgs") -> None:
    """Sends Ctrl-C again if Python ignored it, as it does in a callback or a `__del__`."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # A little later, because this function is called where exceptions are ignored.
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    os.write(2, b"\nstopped\n")
    # Skips the interpreter's shutdown, which may fail in a module that is half imported.
    os._exit(128 + number)
