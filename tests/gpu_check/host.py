"""Doubles of the GPU's edge: everything else of the check runs as it does on one."""

from collections.abc import Callable

from engine.stand_in import PlainDevice

from gpu_check.report import Figure


class Host:
    """The CPU, said to be a GPU.  Satisfies `Accelerator`."""

    def describe(self) -> dict[str, Figure]:
        return {'name': 'a CPU', 'memory_bytes': 2**24}

    def device(self, graphs: bool) -> PlainDevice:
        return PlainDevice()

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    def free_bytes(self) -> int:
        return 2**24

    def used_bytes(self) -> int:
        return 2**24

    def peak_bytes(self) -> int:
        return 2**20


class Forgetful(Host):
    """What is captured with graphs does nothing when it is replayed."""

    def device(self, graphs: bool) -> PlainDevice:
        return _ForgetfulDevice() if graphs else PlainDevice()


class _ForgetfulDevice(PlainDevice):
    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        return lambda: None
