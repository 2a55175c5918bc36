"""The paths of an installation, and its Python interpreter."""

from dataclasses import dataclass
import json
from pathlib import Path
import subprocess
import sys
import sysconfig

_DESCRIBE = (
    'import json, sys, sysconfig;'
    'print(json.dumps([sys.version_info[0], sys.version_info[1], sysconfig.get_path("include")]))'
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A working Python: its program, its version, and the folder of its C headers."""

    program: Path
    version: tuple[int, int]
    include: Path

    @property
    def name(self) -> str:
        """Return its common name, such as ``python3.12``."""
        return f'python{self.version[0]}.{self.version[1]}'


@dataclass(frozen=True, slots=True)
class Installation:
    """The repository at ``root`` and the virtual environment inside it."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / '.venv'

    @property
    def python(self) -> Path:
        return self.venv / 'bin' / 'python'

    @property
    def log(self) -> Path:
        return self.venv / 'setup.log'

    @property
    def stamps(self) -> Path:
        return self.venv / 'setup-stamps.json'

    def interpreter(self) -> Interpreter | None:
        """Return the environment's Python; None if the environment is incomplete or was moved."""
        try:
            pip = (self.venv / 'bin' / 'pip').read_text(encoding='utf-8')
        except OSError:
            return None
        # Like all scripts of an environment, pip contains the path where it was created.
        return interpreter_at(self.python) if str(self.venv / 'bin') in pip else None

    def site_packages(self, interpreter: Interpreter) -> Path:
        return self.venv / 'lib' / interpreter.name / 'site-packages'

    def shown(self, path: Path) -> str:
        """Return a path for messages: relative to the repository."""
        return str(path.relative_to(self.root))


def running_interpreter() -> Interpreter:
    """Return the Python that runs this process."""
    include = Path(sysconfig.get_path('include'))
    return Interpreter(Path(sys.executable), sys.version_info[:2], include)


def interpreter_at(program: Path) -> Interpreter | None:
    """Return the Python at ``program``, or None if it does not start."""
    try:
        # -S disables the start-up hooks of packages that are installed there.
        command = [str(program), '-I', '-S', '-c', _DESCRIBE]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        major, minor, include = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(program, (int(major), int(minor)), Path(include))
