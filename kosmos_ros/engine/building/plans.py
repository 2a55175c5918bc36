"""Build an engine's TensorRT plans: on the machine that will run them, or, with TensorRT for RTX,
on any machine.
"""

from kosmos_ros.engine.base import Report
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.load import TORCH_CUDA_CURE, requiring
from kosmos_ros.engine.machine import plan_target


def build_plans(directory: EngineDirectory, report: Report) -> None:
    """Build the plans that the TensorRT here lacks; the next load checks and uses them.

    An engine that TensorRT does not run needs none.

    :param report: is told how far the build has come, in short lines.
    :raises RunnerUnavailable: when this machine has no TensorRT, or no GPU that it needs.
    :raises EngineFileError: when plans cannot be written.
    :raises EngineError: when they cannot be built, with TensorRT's own words.
    """
    if directory.recipe.runner != 'tensorrt':
        report('plans: this engine is not run by TensorRT, so it has none')
        return
    target = plan_target()
    # It imports TensorRT, which `plan_target` has found.
    from kosmos_ros.engine.tensorrt.build_plans import build_missing_plans

    if target.machine is None:
        build_missing_plans(directory, target, report)
        return
    with requiring(TORCH_CUDA_CURE):
        from kosmos_ros.engine.runners.cuda import enough_gpu_memory
    with enough_gpu_memory():
        build_missing_plans(directory, target, report)
