"""Our calls of TensorRT have the types that each release asks for."""

from functools import cache
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import tempfile

import pytest

from .surface import RTX, VERSIONS, Surface

every_release = pytest.mark.parametrize('surface', VERSIONS, indirect=True)

ROOT = Path(__file__).resolve().parents[3]

# Every module that uses TensorRT.
OURS = (
    'kosmos_ros/engine/tensorrt/builder.py',
    'kosmos_ros/engine/tensorrt/flavours.py',
    'kosmos_ros/engine/tensorrt/log.py',
    'kosmos_ros/engine/tensorrt/program.py',
)

# Each line is wrong in some releases.
WRONG = """\
import tensorrt as trt

def wrong(
    builder: trt.Builder,
    config: trt.IBuilderConfig,
    network: trt.INetworkDefinition,
    engine: trt.ICudaEngine,
    context: trt.IExecutionContext,
) -> None:
    config.set_flag(trt.BuilderFlag.FP16)
    context.execute_async_v2([], 1)
    engine.get_aliased_input_tensor('present')
    config.set_flag(1)
    context.set_tensor_address('x', 1.5)
    builder.build_serialized_network(network, config).nbytes
"""

# Nothing here is wrong in any release.
RIGHT = """\
import tensorrt as trt

class Log(trt.ILogger):
    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        print(trt.__version__, severity.name, severity == trt.Logger.Severity.ERROR, msg)

class Monitor(trt.IProgressMonitor):
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        print(phase_name)

    def step_complete(self, phase_name: str, step: int) -> bool:
        return True

    def phase_finish(self, phase_name: str) -> None:
        print(phase_name)

def right(path: str, shape: list[int], stream: int) -> bytes | None:
    builder = trt.Builder(Log())
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    if network is None or config is None or profile is None:
        return None
    parser = trt.OnnxParser(network, Log())
    if not parser.parse_from_file(path):
        print([parser.get_error(index).desc() for index in range(parser.num_errors)])
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    config.builder_optimization_level = 3
    config.progress_monitor = Monitor()
    profile.set_shape('x', (1, 1), shape, tuple(shape))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return None
    engine = trt.Runtime(Log()).deserialize_cuda_engine(memoryview(plan))
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    context = engine.create_execution_context(strategy) if engine else None
    if context is None or not context.set_optimization_profile_async(0, stream):
        return None
    sizes = [size * 2 for size in context.get_tensor_shape('x')]
    ready = context.set_input_shape('x', tuple(sizes)) and not context.infer_shapes()
    return bytes(plan) if ready and context.execute_async_v3(stream) else None
"""


@cache
def complaints(stubs: Path) -> dict[str, list[str]]:
    """Lines that pyright has something against, by file."""
    with tempfile.TemporaryDirectory() as scratch:
        samples = {'wrong.py': WRONG, 'right.py': RIGHT}
        for name, text in samples.items():
            (Path(scratch) / name).write_text(text)
        settings = {
            'include': [*samples, *OURS],
            'stubPath': str(stubs),
            'typeCheckingMode': 'basic',
            'reportMissingModuleSource': False,
        }
        # Pyright looks at nothing outside of the project's directory.
        (Path(scratch) / 'kosmos_ros').symlink_to(ROOT / 'kosmos_ros')
        project = Path(scratch) / 'pyrightconfig.json'
        project.write_text(json.dumps(settings))
        # Pyright and Node.js come with their packages; nothing is downloaded, nor looked for.
        environment = {**os.environ, 'PYRIGHT_PYTHON_IGNORE_WARNINGS': '1'}
        command = [sys.executable, '-m', 'pyright', '--outputjson', '--project', str(project)]
        done = subprocess.run(
            [*command, '--pythonpath', sys.executable],
            capture_output=True,
            text=True,
            env=environment,
        )
    assert done.returncode in (0, 1), done.stderr + done.stdout
    report = json.loads(done.stdout)
    found: dict[str, list[str]] = {name: [] for name in (*samples, *OURS)}
    assert report['summary']['filesAnalyzed'] == len(found)
    for each in report['generalDiagnostics']:
        name = str(Path(each['file']).relative_to(scratch))
        found[name].append(f'{each["range"]["start"]["line"] + 1}: {each["message"]}')
    return found


def test_every_module_that_uses_tensorrt_is_here() -> None:
    users = re.compile(r'^\s*import tensorrt\b|^from .*flavours import .*\btrt\b', re.MULTILINE)
    paths = (ROOT / 'kosmos_ros').rglob('*.py')
    assert {str(p.relative_to(ROOT)) for p in paths if users.search(p.read_text())} == set(OURS)


@every_release
@pytest.mark.parametrize('path', OURS)
def test_our_calls_fit_every_release(surface: Surface, path: str) -> None:
    assert (ROOT / path).is_file()
    assert complaints(surface.stubs)[path] == []


@every_release
def test_right_calls_fit_every_release(surface: Surface) -> None:
    assert complaints(surface.stubs)['right.py'] == []


@every_release
def test_wrong_calls_are_seen(surface: Surface) -> None:
    wrong = ['execute_async_v2', 'set_flag(1)', '1.5', '.nbytes']
    if surface.version in ('11.4.0.106', RTX):
        wrong.append('FP16')
    if surface.version in ('10.3.0', '10.13.3.9'):
        wrong.append('get_aliased_input_tensor')
    lines = WRONG.splitlines()
    seen = {
        lines[int(each.partition(':')[0]) - 1] for each in complaints(surface.stubs)['wrong.py']
    }
    assert seen == {line for line in lines if any(word in line for word in wrong)}
